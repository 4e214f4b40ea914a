use serde_json::json;
use sqlx::PgPool;

use crate::{JSON, service, service_without_projection};

pub(crate) async fn events(pool: &PgPool) -> i64 {
    sqlx::query_scalar("SELECT count(*) FROM events").fetch_one(pool).await.unwrap()
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn a_creation_answers_the_whole_profile_and_where_it_is(pool: PgPool) {
    let service = service(&pool).await;
    let created = service
        .post(
            "/",
            &json!({ "matricule": "570479H", "nom": "Kabila", "prenom": " Joseph ", "profile_pic": "https://a.cd/p.png",
                     "email": "J.Kabila@a.cd", "sexe": "M", "preferences": { "lang": "fr" }, "unknown": 1 }),
        )
        .await;
    assert_eq!(created.status, 201, "{}", created.text);
    let body = created.json();
    let id = body["id"].as_str().unwrap();
    assert_eq!(id.len(), 36);
    assert_eq!(&id[14..15], "7");
    assert_eq!(created.header("location"), Some(&*format!("/{id}")));
    assert_eq!(created.header("etag"), Some("\"1\""));
    assert_eq!(created.header("x-event-position"), Some("1"));
    assert_eq!(created.header("x-projection-lag"), None);
    assert_eq!(created.header("cache-control"), Some("no-store"));
    let time = body["createdAt"].as_str().unwrap();
    assert_eq!(
        created.text,
        format!(
            concat!(
                r#"{{"_id":"{id}","id":"{id}","matricule":"570479H","nom":"Kabila","prenom":"Joseph","#,
                r#""fullName":"Joseph Kabila","profile_pic":"https://a.cd/p.png","avatar":"https://a.cd/p.png","#,
                r#""email":"J.Kabila@a.cd","username":null,"telephone":null,"ministere":null,"sexe":"M","#,
                r#""preferences":{{"lang":"fr"}},"status":"active","roles":[],"emailVerified":false,"#,
                r#""mfaEnabled":false,"userType":null,"customerId":null,"isCompanyOwner":false,"#,
                r#""createdAt":"{time}","updatedAt":"{time}","version":1}}"#
            ),
            id = id,
            time = time
        )
    );
    assert_eq!(service.get(&format!("/{id}")).await.text, created.text);
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn the_location_of_an_id_of_another_service_is_percent_encoded(pool: PgPool) {
    let service = service(&pool).await;
    let created = service.create("auth0|a@b.cd:1+2").await;
    let location = created.header("location").unwrap();
    assert_eq!(location, "/auth0%7Ca%40b.cd%3A1%2B2");
    assert_eq!(service.get(location).await.json()["id"], "auth0|a@b.cd:1+2");
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn ids_and_matricules_are_one_namespace(pool: PgPool) {
    let service = service(&pool).await;
    service.create("u1").await;
    for (body, code) in [
        (json!({ "id": "u1", "matricule": "x", "nom": "a" }), "ID_TAKEN"),
        (json!({ "id": "M-u1", "matricule": "x", "nom": "a" }), "ID_TAKEN"),
        (json!({ "matricule": "M-u1", "nom": "a" }), "MATRICULE_TAKEN"),
        (json!({ "matricule": "u1", "nom": "a" }), "MATRICULE_TAKEN"),
    ] {
        assert_eq!(service.post("/", &body).await.refusal(), (409, code.into()), "{body}");
    }
    let same = service.post("/", &json!({ "id": "u2", "matricule": "u2", "nom": "a" })).await;
    assert_eq!(same.status, 201, "{}", same.text);
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn an_email_and_a_username_belong_to_one_user(pool: PgPool) {
    let service = service(&pool).await;
    service.create("u1").await;
    service.create("u2").await;
    assert_eq!(service.put("/u1", &json!({ "email": "A@b.cd", "username": "a" })).await.status, 200);
    let taken = service.put("/u2", &json!({ "email": "a@B.cd" })).await;
    assert_eq!(taken.refusal(), (409, "EMAIL_TAKEN".into()));
    assert_eq!(
        taken.text,
        r#"{"success":false,"message":"Cette adresse e-mail est déjà utilisée","code":"EMAIL_TAKEN"}"#
    );
    assert_eq!(
        service.put("/u2", &json!({ "username": "a" })).await.refusal(),
        (409, "USERNAME_TAKEN".into())
    );
    assert_eq!(
        service.put("/u2", &json!({ "matricule": "M-u1" })).await.refusal(),
        (409, "MATRICULE_TAKEN".into())
    );
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn a_change_names_its_user_by_id_or_matricule_even_before_the_read_model_knows(pool: PgPool) {
    let service = service_without_projection(&pool).await;
    let now = [JSON, ("prefer", "respond-async")];
    let body = json!({ "id": "u1", "matricule": "m1", "nom": "a" }).to_string();
    let created = service.send("POST", "/", &now, body).await;
    assert_eq!((created.status, created.header("x-projection-lag")), (201, Some("true")));
    for (path, version) in [("/u1", 2), ("/m1", 3)] {
        let body = json!({ "prenom": format!("p{version}"), "matricule": "m1" }).to_string();
        let changed = service.send("PUT", path, &now, body).await;
        assert_eq!(changed.status, 200, "{}", changed.text);
        assert_eq!(changed.json()["version"], version);
        assert_eq!(changed.json()["id"], "u1");
    }
    let deleted = service.send("DELETE", "/m1", &now, "").await;
    assert_eq!((deleted.status, &*deleted.text), (200, r#"{"success":true,"userId":"u1"}"#));
    assert_eq!(deleted.header("etag"), Some("\"4\""));
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn a_command_whose_read_model_lags_is_answered_in_full_and_says_so(pool: PgPool) {
    let service = service_without_projection(&pool).await;
    let created = service.create("u1").await;
    assert_eq!(created.header("x-projection-lag"), Some("true"));
    assert_eq!(created.json()["version"], 1);
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn a_change_that_changes_nothing_appends_nothing(pool: PgPool) {
    let service = service(&pool).await;
    let created = service.create("u1").await;
    let same = service.put("/u1", &json!({ "nom": " u1 ", "prenom": null, "ministere": "" })).await;
    assert_eq!((same.status, &same.text), (200, &created.text));
    assert_eq!(same.header("etag"), Some("\"1\""));
    assert_eq!(same.header("x-event-position"), Some("1"));
    assert_eq!(events(&pool).await, 1);
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn null_and_empty_clear_an_optional_field(pool: PgPool) {
    let service = service(&pool).await;
    service.create("u1").await;
    service.put("/u1", &json!({ "prenom": "a", "email": "a@b.cd", "preferences": { "a": 1 } })).await;
    let cleared =
        service.put("/u1", &json!({ "prenom": null, "email": "", "preferences": null })).await.json();
    assert_eq!(
        (&cleared["prenom"], &cleared["email"], &cleared["preferences"]),
        (&json!(null), &json!(null), &json!({}))
    );
    assert_eq!(cleared["fullName"], "u1");
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn a_deleted_user_is_gone_and_its_id_never_comes_back(pool: PgPool) {
    let service = service(&pool).await;
    service.create("u1").await;
    assert_eq!(service.delete("/u1").await.text, r#"{"success":true,"userId":"u1"}"#);
    let gone = r#"{"success":false,"message":"Utilisateur non trouvé","code":"USER_NOT_FOUND"}"#;
    for answer in [
        service.delete("/u1").await,
        service.delete("/M-u1").await,
        service.put("/u1", &json!({ "nom": "a" })).await,
        service.get("/u1").await,
        service.get("/M-u1").await,
        service.get("/matricule/M-u1").await,
    ] {
        assert_eq!((answer.status, &*answer.text), (404, gone));
    }
    let again = service.post("/", &json!({ "id": "u1", "matricule": "x", "nom": "a" })).await;
    assert_eq!(again.refusal(), (409, "ID_TAKEN".into()));
    let matricule = service.post("/", &json!({ "matricule": "M-u1", "nom": "a" })).await;
    assert_eq!(matricule.status, 201, "{}", matricule.text);
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn an_event_keeps_the_request_that_caused_it(pool: PgPool) {
    let service = service(&pool).await;
    let body = json!({ "matricule": "m1", "nom": "a" }).to_string();
    let created = service.send("POST", "/", &[JSON, ("x-request-id", "r-1")], body).await;
    assert_eq!(created.header("x-request-id"), Some("r-1"));
    let meta: serde_json::Value =
        sqlx::query_scalar("SELECT meta FROM events_readable").fetch_one(&pool).await.unwrap();
    assert_eq!(meta, json!({ "actor": "anonymous", "correlationId": "r-1" }));
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn of_many_creations_with_one_matricule_one_succeeds(pool: PgPool) {
    let service = service(&pool).await;
    let body = json!({ "matricule": "m1", "nom": "a" });
    let answers = futures::future::join_all((0..20).map(|_| service.post("/", &body))).await;
    let mut statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
    statuses.sort_unstable();
    assert_eq!((statuses[0], &statuses[1..]), (201, &[409; 19][..]));
}
