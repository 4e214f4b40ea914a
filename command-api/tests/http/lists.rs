use serde_json::json;
use sqlx::PgPool;

use crate::{Answer, service, service_without_projection};

fn ids(answer: &Answer) -> Vec<String> {
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json().as_array().unwrap().iter().map(|user| user["id"].as_str().unwrap().to_owned()).collect()
}

/// Fills the read model alone; a list does not ask the log.
async fn fill(pool: &PgPool, count: i32) {
    sqlx::query(
        "INSERT INTO users_v1 (id, nom, status, roles, email_verified, mfa_enabled, is_company_owner,
                               created_at, updated_at, version)
         SELECT 'u' || lpad(n::text, 5, '0'), 'nom', 'active', '{}', false, false, false, now(), now(), 1
         FROM generate_series(1, $1) AS n",
    )
    .bind(count)
    .execute(pool)
    .await
    .unwrap();
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn without_a_limit_everyone_is_in_one_array(pool: PgPool) {
    let service = service_without_projection(&pool).await;
    assert_eq!(service.get("/all").await.text, "[]");
    let mut there = 0;
    for more in [1, 999, 1_000, 500] {
        sqlx::query("TRUNCATE users_v1").execute(&pool).await.unwrap();
        there += more;
        fill(&pool, there).await;
        let all = service.get("/all").await;
        let found = ids(&all);
        assert_eq!(found.len(), usize::try_from(there).unwrap());
        assert!(found.is_sorted());
        assert_eq!((all.header("link"), all.header("x-total-count")), (None, None));
        assert_eq!(service.get("/alls").await.text, all.text);
    }
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn pages_follow_each_other_to_the_end(pool: PgPool) {
    let service = service_without_projection(&pool).await;
    fill(&pool, 5).await;
    let (mut path, mut found) = ("/alls?limit=2&unknown=1".to_owned(), Vec::new());
    let mut pages = 0;
    loop {
        let page = service.get(&path).await;
        found.extend(ids(&page));
        assert_eq!((page.header("x-total-count"), page.header("x-total-count-exact")), (Some("5"), None));
        pages += 1;
        let Some(link) = page.header("link") else {
            break;
        };
        let (next, rel) = link.split_once(">; ").unwrap();
        assert_eq!(rel, "rel=\"next\"");
        next.strip_prefix('<').unwrap().clone_into(&mut path);
        assert!(path.starts_with("/alls?limit=2&after="), "{path}");
    }
    assert_eq!(
        (pages, found),
        (3, vec!["u00001", "u00002", "u00003", "u00004", "u00005"].into_iter().map(str::to_owned).collect())
    );
    assert_eq!(service.get("/all?limit=5").await.header("link"), None);
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn a_list_is_filtered_and_its_next_page_too(pool: PgPool) {
    let service = service(&pool).await;
    for (id, prenom, ministere, sexe) in [
        ("auth0|1", "Chloé", "Santé & Hygiène", "F"),
        ("auth0|2", "Chloé", "Santé & Hygiène", "F"),
        ("auth0|3", "Chloé", "Mines", "F"),
        ("auth0|4", "Paul", "Santé & Hygiène", "M"),
    ] {
        let body = json!({ "id": id, "matricule": id, "nom": "K", "prenom": prenom, "ministere": ministere, "sexe": sexe });
        assert_eq!(service.post("/", &body).await.status, 201);
    }
    let filters = "q=chlo%C3%A9&ministere=Sant%C3%A9%20%26%20Hygi%C3%A8ne&sexe=F&status=active";
    let first = service.get(&format!("/all?limit=1&{filters}")).await;
    assert_eq!(ids(&first), ["auth0|1"]);
    assert_eq!(first.header("x-total-count"), Some("2"));
    assert_eq!(
        first.header("link"),
        Some(&*format!("</all?limit=1&after=auth0%7C1&{filters}>; rel=\"next\""))
    );
    assert_eq!(ids(&service.get(&format!("/all?limit=1&after=auth0%7C1&{filters}")).await), ["auth0|2"]);
    assert_eq!(ids(&service.get("/all?sexe=M").await), ["auth0|4"]);
    assert_eq!(ids(&service.get("/all?q=&sexe=&after=auth0%7C3").await), ["auth0|4"]);
    assert_eq!(ids(&service.get("/all?limit=10&status=banned").await), Vec::<String>::new());
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn a_large_total_is_marked_as_an_estimate(pool: PgPool) {
    let service = service_without_projection(&pool).await;
    fill(&pool, 10_001).await;
    let page = service.get("/all?limit=1").await;
    assert_eq!(page.header("x-total-count-exact"), Some("false"));
    assert!(page.header("x-total-count").unwrap().parse::<i64>().unwrap() > 10_000);
}
