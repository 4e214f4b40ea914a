//! The profile cache: what the read model says must be in it, and what is.

use std::collections::{BTreeMap, HashMap};

use redis::aio::MultiplexedConnection;
use sqlx::{PgPool, Row};

const PREFIX: &str = "user:profile:";
const FIELDS: [&str; 9] =
    ["id", "matricule", "nom", "prenom", "fullName", "avatar", "ministere", "sexe", "updatedAt"];

type Hash = BTreeMap<String, String>;

/// The hash of each id and each matricule.
async fn expected(pool: &PgPool) -> BTreeMap<String, Hash> {
    let rows = sqlx::query(
        "SELECT id, coalesce(matricule, id), nom, coalesce(prenom, ''), concat_ws(' ', prenom, nom),
                coalesce(avatar, ''), coalesce(ministere, ''), coalesce(sexe, ''),
                floor(extract(epoch FROM updated_at) * 1000)::bigint::text
         FROM users_v1",
    )
    .fetch_all(pool)
    .await
    .unwrap();
    let mut hashes = BTreeMap::new();
    for row in rows {
        let mut hash: Hash = (0..).zip(FIELDS).map(|(i, field)| (field.to_owned(), row.get(i))).collect();
        hashes.insert(hash["id"].clone(), hash.clone());
        let matricule = hash["matricule"].clone();
        hash.insert("id".to_owned(), matricule.clone());
        hashes.insert(matricule, hash);
    }
    hashes
}

/// Returns how many there are.
pub(super) async fn compare(redis: &mut MultiplexedConnection, pool: &PgPool) -> Result<usize, String> {
    let must = expected(pool).await;
    let keys: Vec<String> = redis::cmd("KEYS").arg(format!("{PREFIX}*")).query_async(redis).await.unwrap();
    for key in &keys {
        if !must.contains_key(&key[PREFIX.len()..]) {
            return Err(format!("{key} is there, and nobody has that id or matricule"));
        }
    }
    if must.is_empty() {
        return Ok(0);
    }
    let mut ask = redis::pipe();
    for name in must.keys() {
        let key = format!("{PREFIX}{name}");
        ask.hgetall(&key).ttl(&key);
    }
    let answers: Vec<(HashMap<String, String>, i64)> = ask.query_async(redis).await.unwrap();
    for ((name, must), (found, ttl)) in must.iter().zip(answers) {
        let found: Hash = found.into_iter().collect();
        if found.is_empty() {
            return Err(format!("{PREFIX}{name} is missing, must be {must:?}"));
        }
        if found != *must {
            return Err(format!("{PREFIX}{name} is {found:?}, must be {must:?}"));
        }
        if ttl <= 0 {
            return Err(format!("{PREFIX}{name} has the TTL {ttl}"));
        }
    }
    Ok(keys.len())
}
