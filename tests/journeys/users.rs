//! A user's life over HTTP, and a server's end.

use event_store::MIGRATOR;
use serde_json::json;
use sqlx::PgPool;

use crate::server::{Server, answer, assert_log_is_whole, assert_read_model_follows, error, header, text};

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_user_is_created_changed_and_deleted(pool: PgPool) {
    let server = Server::on(&pool).await;
    let new =
        json!({ "matricule": "TEST123", "nom": "Test", "prenom": "User", "ministere": "IT", "sexe": "M" });
    let created = server.post("/", &new).send().await.unwrap();
    assert_eq!(created.status(), 201);
    assert_eq!(
        (header(&created, "etag"), header(&created, "x-event-position")),
        ("\"1\"".into(), "1".into())
    );
    assert_eq!(header(&created, "x-projection-lag"), "");
    let location = header(&created, "location");
    let user: serde_json::Value = created.json().await.unwrap();
    let id = text(&user, "id");
    assert_eq!(location, format!("/{id}"));
    assert_eq!(
        (&user["_id"], &user["fullName"], &user["avatar"]),
        (&json!(id), &json!("User Test"), &json!(null))
    );
    assert_eq!((&user["status"], &user["version"]), (&json!("active"), &json!(1)));

    let (status, changed) = answer(server.put(&format!("/{id}"), &json!({ "nom": "UpdatedName" }))).await;
    assert_eq!((status, &changed["nom"], &changed["version"]), (200, &json!("UpdatedName"), &json!(2)));
    let (_, again) = answer(server.put("/TEST123", &json!({ "nom": "UpdatedName" }))).await;
    assert_eq!(again, changed, "nothing changed, no event");
    for path in [format!("/{id}"), "/TEST123".into(), "/matricule/TEST123".into()] {
        assert_eq!(answer(server.get(&path)).await, (200, changed.clone()), "{path}");
    }
    assert_eq!(answer(server.get("/all")).await, (200, json!([changed])));
    let (_, batch) = answer(server.get("/batch?ids=nobody,TEST123")).await;
    assert_eq!(batch, json!({ "users": [changed], "count": 1 }));

    let gone = answer(server.delete(&format!("/{id}"))).await;
    assert_eq!(gone, (200, json!({ "success": true, "userId": id })));
    assert_eq!(error(server.delete(&format!("/{id}"))).await, (404, "USER_NOT_FOUND".into()));
    assert_eq!(error(server.get(&format!("/{id}"))).await, (404, "USER_NOT_FOUND".into()));
    // The matricule is free at once, the id never again.
    let next = server.create("TEST123").await;
    assert_ne!(next, id);
    let same_id = json!({ "id": id, "matricule": "OTHER", "nom": "X" });
    assert_eq!(error(server.post("/", &same_id)).await, (409, "ID_TAKEN".into()));
    assert_eq!(assert_log_is_whole(&pool).await, 4);
    assert_read_model_follows(&pool).await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn sigterm_finishes_what_is_in_flight(pool: PgPool) {
    let server = Server::on(&pool).await;
    let requests: Vec<_> = (0..32)
        .map(|i| {
            tokio::spawn(server.post("/", &json!({ "matricule": format!("M{i}"), "nom": "Dupont" })).send())
        })
        .collect();
    // Some are answered, the others on their way.
    crate::server::eventually("an event is stored", async || {
        sqlx::query_scalar::<_, i64>("SELECT count(*) FROM events").fetch_one(&pool).await.unwrap() > 0
    })
    .await;
    let (code, log) = server.stop().await;
    assert_eq!(code, Some(0), "{log}");
    let mut acknowledged = 0;
    for request in requests {
        // A connection that was not accepted any more is refused, which a client may try again.
        match request.await.unwrap() {
            Ok(response) => {
                assert_eq!(response.status(), 201);
                acknowledged += 1;
            }
            Err(error) => assert!(error.is_connect() || error.is_request(), "{error:?}"),
        }
    }
    assert!(acknowledged <= assert_log_is_whole(&pool).await);
    assert!(!log.contains("panicked"), "{log}");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn health_and_figures_are_there(pool: PgPool) {
    let server = Server::on(&pool).await;
    server.create("M1").await;
    assert_eq!(server.get("/health/live").send().await.unwrap().status(), 200);
    let (status, health) = answer(server.get("/health")).await;
    assert_eq!((status, &health["status"]), (200, &json!("ok")), "{health}");
    let figures = server.get("/metrics").send().await.unwrap().text().await.unwrap();
    for name in [
        "annuaire_http_seconds_bucket{route=\"/\",status=\"201\"",
        "annuaire_append_seconds_count",
        "annuaire_append_batch_size_bucket",
        "annuaire_lag_positions{reader=\"users_v1\"}",
        "annuaire_lag_seconds{reader=\"users_v1\"}",
    ] {
        assert!(figures.contains(name), "{name} is not in\n{figures}");
    }
}
