//! Mails whose links prove something, and who forgot a password: rows beside the log, since what proves is
//! secret and short-lived. The sink of mails writes the first, requests write the second.

use domain::mail::Purpose;
use sqlx::PgPool;
use uuid::Uuid;

/// What a link stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The user.
    pub user_id: String,
    /// What the event that asked for the mail calls it. Whether it is still good, the user's streams know.
    pub request: Uuid,
}

/// The link whose text has this SHA-256, unless it is too old.
pub async fn find(pool: &PgPool, purpose: Purpose, token_hash: &[u8]) -> Result<Option<Link>, sqlx::Error> {
    sqlx::query_as!(
        Link,
        "SELECT user_id, request FROM mails
         WHERE token_hash = $1 AND purpose = $2 AND requested_at > clock_timestamp() - make_interval(mins => $3)",
        token_hash,
        purpose.name(),
        purpose.minutes()
    )
    .fetch_optional(pool)
    .await
}

/// Who forgot a password, as it was entered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forgotten {
    /// What tells it from others.
    pub id: Uuid,
    /// The name, as JSON.
    pub name: String,
    /// The client's address.
    pub ip_address: String,
    /// What the client calls itself.
    pub user_agent: Option<String>,
    /// What the log is to keep of the request, as JSON.
    pub metadata: String,
}

/// Puts it down, alike whether there is such a user or not.
pub async fn put_down(pool: &PgPool, forgotten: &Forgotten) -> Result<(), sqlx::Error> {
    let Forgotten { id, name, ip_address, user_agent, metadata } = forgotten;
    sqlx::query!(
        "INSERT INTO forgotten_passwords (id, name, ip_address, user_agent, metadata)
         VALUES ($1, $2, $3, $4, $5)",
        id,
        name,
        ip_address,
        user_agent.as_deref(),
        metadata
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// The `limit` oldest of those that nobody has seen to.
pub async fn to_see_to(pool: &PgPool, limit: usize) -> Result<Vec<Forgotten>, sqlx::Error> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    sqlx::query_as!(
        Forgotten,
        "SELECT id, name, ip_address, user_agent, metadata FROM forgotten_passwords ORDER BY asked_at LIMIT $1",
        limit
    )
    .fetch_all(pool)
    .await
}

/// It was seen to.
pub async fn seen_to(pool: &PgPool, id: Uuid) -> Result<(), sqlx::Error> {
    sqlx::query!("DELETE FROM forgotten_passwords WHERE id = $1", id).execute(pool).await?;
    Ok(())
}
