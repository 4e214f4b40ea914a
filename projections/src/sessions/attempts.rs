//! How often logins are tried: counted before a password is looked at, so that tries side by side don't
//! beat the limit.

use chrono::{DateTime, Utc};
use sqlx::PgPool;

/// What became of an attempt to log in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// It may go on. It counts as failed until it is [given back](give_back).
    Taken(DateTime<Utc>),
    /// There were too many; the next may come after so many seconds.
    TooMany(u32),
}

/// Takes one of `most` tries a minute under each of these keys, or of none.
pub async fn try_login(pool: &PgPool, keys: &[Vec<u8>], most: i32) -> Result<Attempt, sqlx::Error> {
    let answer =
        sqlx::query!("SELECT taken, retry_after FROM try_login($1, $2)", keys, most).fetch_one(pool).await?;
    Ok(match answer.taken {
        Some(taken) => Attempt::Taken(taken),
        None => Attempt::TooMany(answer.retry_after.and_then(|it| it.try_into().ok()).unwrap_or(60)),
    })
}

/// After how many seconds the next try may come, if it could not be taken now.
pub async fn too_many(pool: &PgPool, keys: &[Vec<u8>], most: i32) -> Result<Option<u32>, sqlx::Error> {
    let seconds = sqlx::query_scalar!(
        r#"
        SELECT max(ceil(extract(epoch FROM recent[cardinality(recent) - $2 + 1] + interval '1 minute'
                                           - clock_timestamp())))::int4 AS "seconds"
        FROM login_attempts,
             LATERAL (SELECT ARRAY(SELECT t FROM unnest(tries) t WHERE t > clock_timestamp() - interval '1 minute'
                                   ORDER BY t) AS recent) r
        WHERE key = ANY($1) AND cardinality(recent) >= $2
        "#,
        keys,
        most
    )
    .fetch_one(pool)
    .await?;
    Ok(seconds.map(|it| it.clamp(1, 60).unsigned_abs()))
}

/// Gives a try back that did not fail.
pub async fn give_back(pool: &PgPool, keys: &[Vec<u8>], taken: DateTime<Utc>) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "UPDATE login_attempts SET tries = array_remove(tries, $2)
         WHERE key IN (SELECT key FROM login_attempts WHERE key = ANY($1) ORDER BY key FOR UPDATE)",
        keys,
        taken
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Failed logins of users that there are not, from one address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownLogins {
    /// The address.
    pub address: String,
    /// How many since they were last noted.
    pub count: i32,
    /// Who the last was to be, as JSON.
    pub name: Option<String>,
    /// What the last client calls itself.
    pub user_agent: Option<String>,
}

/// Counts a failed login of a user that there is not.
pub async fn count_unknown(
    pool: &PgPool,
    address: &str,
    name: Option<&str>,
    user_agent: Option<&str>,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "INSERT INTO unknown_logins (address, count, name, user_agent) VALUES ($1, 1, $2, $3)
         ON CONFLICT (address) DO UPDATE SET count = unknown_logins.count + 1, name = $2, user_agent = $3",
        address,
        name,
        user_agent
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Takes some of those that are to be noted in the log now, at most once a minute and address. What was noted
/// is to be [taken off](noted_unknown) afterwards.
pub async fn note_unknown(pool: &PgPool, limit: i64) -> Result<Vec<UnknownLogins>, sqlx::Error> {
    sqlx::query_as!(
        UnknownLogins,
        "UPDATE unknown_logins SET noted_at = clock_timestamp()
         WHERE address IN (SELECT address FROM unknown_logins
                           WHERE count > 0 AND noted_at < clock_timestamp() - interval '1 minute'
                           ORDER BY noted_at LIMIT $1 FOR UPDATE SKIP LOCKED)
         RETURNING address, count, name, user_agent",
        limit
    )
    .fetch_all(pool)
    .await
}

/// So many failures of an address are in the log.
pub async fn noted_unknown(pool: &PgPool, address: &str, count: i32) -> Result<(), sqlx::Error> {
    sqlx::query!("UPDATE unknown_logins SET count = count - $2 WHERE address = $1", address, count)
        .execute(pool)
        .await?;
    Ok(())
}
