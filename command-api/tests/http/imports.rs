//! Logins of users who bring the hash of their password from another service.

use std::sync::Arc;

use command_api::import::{Importer, Kind, Outcome};
use event_store::postgres::PostgresStore;
use event_store::{Appender, EventStore, SystemClock, UuidV7};
use serde_json::json;
use sqlx::PgPool;

use crate::guarded_service;

const PASSWORD: &str = "correct horse battery";
/// Made by libxcrypt, as the next one: of the password, at cost 10.
const HASH: &str = "$2y$10$abcdefghijklmnopqrstuuCj7fyLDJytXL.TfOiOeiv0fQvSOK1/2";
/// Of 72 times `x` and `staple`.
const OF_A_LONG_ONE: &str = "$2b$04$abcdefghijklmnopqrstuubzadhGtS2zEF.gu0yd0opP6cVzb.e0i";

/// Takes in a user who has this id and that hash.
async fn import(pool: &PgPool, id: &str, hash: &str) {
    let store = PostgresStore::connect((*pool.connect_options()).clone()).await.unwrap();
    let store: Arc<dyn EventStore> = Arc::new(store);
    let appender = Appender::start(store.clone(), SystemClock, UuidV7);
    let importer = Importer::new(store, &appender, Arc::new(UuidV7));
    let line = json!({ "id": id, "matricule": format!("M-{id}"), "nom": id, "passwordHash": hash });
    let line = Kind::Users.read(line.to_string().as_bytes()).unwrap();
    assert_eq!(importer.carry_out(&line, true).await.unwrap(), Outcome::Imported);
    assert_eq!(importer.carry_out(&line, false).await.unwrap(), Outcome::Imported);
    assert_eq!(importer.carry_out(&line, false).await.unwrap(), Outcome::Present);
}

/// The kinds of hashes that a user has had.
async fn hashes(pool: &PgPool, id: &str) -> Vec<String> {
    sqlx::query_scalar(
        "SELECT split_part(data->>'hash', '$', 2) FROM events_readable
         WHERE stream = 'access-' || $1 AND data ? 'hash' ORDER BY position",
    )
    .bind(id)
    .fetch_all(pool)
    .await
    .unwrap()
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn a_user_with_a_hash_of_bcrypt_logs_in_and_has_one_of_ours_from_then_on(pool: PgPool) {
    import(&pool, "u1", HASH).await;
    let service = guarded_service(&pool).await;
    for wrong in ["correct horse", "correct horse battery!", ""] {
        assert_ne!(service.log_in("matricule", "M-u1", wrong).await.status, 200, "{wrong}");
    }
    assert_eq!(hashes(&pool, "u1").await, ["2y"]);
    let answer = service.log_in("matricule", "M-u1", PASSWORD).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    // The new hash is kept behind the answer.
    while hashes(&pool, "u1").await.len() < 2 {
        tokio::task::yield_now().await;
    }
    assert_eq!(hashes(&pool, "u1").await, ["2y", "argon2id"]);
    assert_eq!(service.log_in("matricule", "M-u1", PASSWORD).await.status, 200);
    assert_eq!(service.log_in("matricule", "M-u1", "correct horse").await.status, 401);
    assert_eq!(hashes(&pool, "u1").await.len(), 2, "and it stays");
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn a_password_of_which_bcrypt_has_not_seen_the_end_keeps_its_hash(pool: PgPool) {
    import(&pool, "u1", OF_A_LONG_ONE).await;
    let service = guarded_service(&pool).await;
    for end in ["staple", "another"] {
        let entered = "x".repeat(72) + end;
        assert_eq!(service.log_in("matricule", "M-u1", &entered).await.status, 200);
    }
    assert_eq!(service.log_in("matricule", "M-u1", &"x".repeat(71)).await.status, 401);
    assert_eq!(hashes(&pool, "u1").await, ["2b"]);
}
