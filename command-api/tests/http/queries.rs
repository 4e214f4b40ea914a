use serde_json::json;
use sqlx::PgPool;

use crate::{service, service_without_projection};

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn a_user_is_found_by_id_and_by_matricule(pool: PgPool) {
    let service = service(&pool).await;
    let created = service.create("u1").await;
    for path in ["/u1", "/M-u1", "/matricule/M-u1"] {
        let found = service.get(path).await;
        assert_eq!((found.status, &found.text), (200, &created.text), "{path}");
        assert_eq!(found.header("etag"), Some("\"1\""));
        assert_eq!(found.header("cache-control"), Some("private, no-cache"));
    }
    for path in ["/nobody", "/matricule/u1", "/U1"] {
        assert_eq!(service.get(path).await.refusal(), (404, "USER_NOT_FOUND".into()), "{path}");
    }
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn who_has_the_version_already_is_spared_the_body(pool: PgPool) {
    let service = service(&pool).await;
    service.create("u1").await;
    for tags in ["\"1\"", "W/\"1\"", "\"0\", \"1\"", "*"] {
        for path in ["/u1", "/matricule/M-u1"] {
            let answer = service.get_with(path, &[("if-none-match", tags)]).await;
            assert_eq!(
                (answer.status, &*answer.text, answer.header("etag")),
                (304, "", Some("\"1\"")),
                "{tags}"
            );
        }
    }
    service.put("/u1", &json!({ "nom": "b" })).await;
    assert_eq!(service.get_with("/u1", &[("if-none-match", "\"1\"")]).await.status, 200);
    assert_eq!(service.get_with("/nobody", &[("if-none-match", "*")]).await.status, 404);
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn head_answers_like_get_without_the_body(pool: PgPool) {
    let service = service(&pool).await;
    let created = service.create("u1").await;
    let head = service.send("HEAD", "/u1", &[], "").await;
    assert_eq!((head.status, &*head.text, head.header("etag")), (200, "", Some("\"1\"")));
    assert_eq!(head.header("content-length"), Some(&*created.text.len().to_string()));
    assert_eq!(service.send("HEAD", "/all", &[], "").await.status, 200);
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn a_query_waits_for_the_position_it_asks_for(pool: PgPool) {
    let service = service(&pool).await;
    service.create("u1").await;
    for path in ["/u1", "/matricule/M-u1", "/all", "/all?limit=1", "/batch?ids=u1"] {
        let answer = service.get_with(path, &[("x-min-position", "1")]).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text);
    }
    let early = service.get_with("/u1", &[("x-min-position", "2")]).await;
    assert_eq!(early.refusal(), (503, "UNAVAILABLE".into()));
    assert_eq!(early.header("retry-after"), Some("1"));
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn a_query_does_not_answer_from_a_read_model_that_is_behind(pool: PgPool) {
    let service = service_without_projection(&pool).await;
    service.create("u1").await;
    assert_eq!(service.get("/u1").await.status, 404);
    assert_eq!(
        service.get_with("/u1", &[("x-min-position", "1")]).await.refusal(),
        (503, "UNAVAILABLE".into())
    );
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn a_batch_answers_in_the_order_asked_and_leaves_unknown_ones_out(pool: PgPool) {
    let service = service(&pool).await;
    for id in ["u1", "u2", "u3"] {
        service.create(id).await;
    }
    let by_path = service.get("/batch?ids=u3,%20nobody%20,M-u1,,u2,not%20an%20id").await;
    let body = by_path.json();
    let ids: Vec<_> =
        body["users"].as_array().unwrap().iter().map(|user| user["id"].as_str().unwrap()).collect();
    assert_eq!((ids, &body["count"]), (vec!["u3", "u1", "u2"], &json!(3)));
    let by_body =
        service.post("/batch", &json!({ "ids": ["u3", "nobody", "M-u1", "", "u2", "not an id"] })).await;
    assert_eq!((by_body.status, &by_body.text), (200, &by_path.text));
    assert_eq!(by_path.json()["users"][0], service.get("/u3").await.json());
}
