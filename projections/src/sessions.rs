//! Who is logged in. Sessions are rows and not made from events: they are short-lived, secret, and asked
//! for with each request.
//!
//! A session has one refresh token at a time. Its tokens are numbered; number `n` is derived from the
//! session's id and `n` under a key of this log, so that a client that lost an answer gets the same one
//! again, while only its hash is kept.

mod attempts;
mod endings;
mod own;
mod rotation;

use std::sync::Arc;

use event_store::Gather;
use sqlx::{PgConnection, PgExecutor, PgPool};
use uuid::Uuid;

pub use attempts::{
    Attempt, UnknownLogins, count_unknown, give_back, note_unknown, noted_unknown, too_many, try_login,
};
pub(crate) use endings::follow;
pub use own::{LiveSession, began_within, is_of_user, of_user};
pub use rotation::{Refreshed, refresh};

/// How long a session lasts, however often it is refreshed (days).
pub const FAMILY_DAYS: i32 = 30;
/// How long a refresh token can be used (days).
pub const TOKEN_DAYS: i32 = 7;

/// Whose a live session is, as of now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// A user who may log in.
    User(SessionUser),
    /// A service, by name.
    Service(String),
}

/// A user as far as it matters what they may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionUser {
    /// The id.
    pub id: String,
    /// The matricule.
    pub matricule: Option<String>,
    /// The roles.
    pub roles: Vec<String>,
    /// The customer the user acts for.
    pub customer_id: Option<String>,
}

/// Finds whose sessions are, those that are asked for at the same moment with one query.
pub struct Sessions(Gather<Uuid, Option<Holder>, sqlx::Error>);

impl Sessions {
    /// Through these connections.
    #[must_use]
    pub fn new(pool: PgPool) -> Self {
        Self(Gather::start(move |ids| {
            let pool = pool.clone();
            async move { holders(&pool, &ids).await }
        }))
    }

    /// Whose session this is; [`None`] if it is not alive. As of a moment after the call.
    pub async fn holder(&self, sid: Uuid) -> Result<Option<Holder>, Arc<sqlx::Error>> {
        self.0.ask(sid).await.unwrap_or_else(|| Err(Arc::new(sqlx::Error::WorkerCrashed)))
    }
}

async fn holders(pool: &PgPool, ids: &[Uuid]) -> Result<Vec<Option<Holder>>, sqlx::Error> {
    let rows = sqlx::query!(
        r#"
        SELECT s.sid, s.service, u.id AS "id?", u.matricule, u.roles AS "roles?", u.customer_id
        FROM sessions s
        LEFT JOIN users_v1 u ON u.id = s.user_id AND u.status = 'active'
        WHERE s.sid = ANY($1) AND s.ended_at IS NULL AND s.expires_at > clock_timestamp()
        "#,
        ids
    )
    .fetch_all(pool)
    .await?;
    let mut holders: std::collections::HashMap<Uuid, Holder> = rows
        .into_iter()
        .filter_map(|row| {
            let holder = match (row.service, row.id) {
                (Some(service), _) => Holder::Service(service),
                (None, Some(id)) => Holder::User(SessionUser {
                    id,
                    matricule: row.matricule,
                    roles: row.roles.unwrap_or_default(),
                    customer_id: row.customer_id,
                }),
                (None, None) => return None,
            };
            Some((row.sid, holder))
        })
        .collect();
    // The same session may be asked for by several requests at once.
    let last = |at: usize| !ids[at + 1..].contains(&ids[at]);
    Ok((0..ids.len())
        .map(|at| if last(at) { holders.remove(&ids[at]) } else { holders.get(&ids[at]).cloned() })
        .collect())
}

/// A session about to begin.
#[derive(Clone, Copy, Debug)]
pub struct NewSession<'a> {
    /// Its id.
    pub sid: Uuid,
    /// Whose it is.
    pub user_id: &'a str,
    /// The version of the user that was seen to be allowed to log in.
    pub user_version: i32,
    /// The version of the login in the stream of the user's logins.
    pub access_version: i32,
    /// The hash of its first refresh token.
    pub token_hash: &'a [u8],
    /// From where it was begun.
    pub ip_address: &'a str,
    /// What the client calls itself.
    pub user_agent: Option<&'a str>,
}

/// Begins a session, unless sessions of a later version were [ended](end_below) already.
pub async fn begin(pool: &PgPool, new: &NewSession<'_>) -> Result<bool, sqlx::Error> {
    sqlx::query!("INSERT INTO session_owners (user_id) VALUES ($1) ON CONFLICT DO NOTHING", new.user_id)
        .execute(pool)
        .await?;
    // Waits for who is about to raise a floor, and makes wait who comes after.
    let done = sqlx::query!(
        r#"
        INSERT INTO sessions (sid, user_id, user_version, access_version, expires_at, token_hash, token_expires_at,
                              ip_address, user_agent)
        SELECT $1, user_id, $3, $4, clock_timestamp() + make_interval(days => $8),
               $5, clock_timestamp() + make_interval(days => $9), $6, $7
        FROM session_owners WHERE user_id = $2 AND user_floor <= $3 AND access_floor <= $4
        FOR SHARE
        "#,
        new.sid,
        new.user_id,
        new.user_version,
        new.access_version,
        new.token_hash,
        new.ip_address,
        new.user_agent,
        FAMILY_DAYS,
        TOKEN_DAYS,
    )
    .execute(pool)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Begins the session of a service.
pub async fn begin_of_service(
    database: impl PgExecutor<'_>,
    sid: Uuid,
    service: &str,
    days: i32,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "INSERT INTO sessions (sid, service, expires_at)
         VALUES ($1, $2, clock_timestamp() + make_interval(days => $3))",
        sid,
        service,
        days
    )
    .execute(database)
    .await?;
    Ok(())
}

/// Ends a session; answers whose it was, nothing if it was not alive.
pub async fn end(database: impl PgExecutor<'_>, sid: Uuid) -> Result<Option<Ended>, sqlx::Error> {
    sqlx::query_as!(
        Ended,
        "UPDATE sessions SET ended_at = clock_timestamp()
         WHERE sid = $1 AND ended_at IS NULL AND expires_at > clock_timestamp()
         RETURNING user_id, service",
        sid
    )
    .fetch_optional(database)
    .await
}

/// Whose a session was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// A user's.
    pub user_id: Option<String>,
    /// Or a service's.
    pub service: Option<String>,
}

/// Which sessions of a user end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Floor {
    /// Those that began before this version of the user, who may not log in at it.
    User(i32),
    /// Those whose login came before this version of the stream of logins, which changed the password.
    Password {
        /// The version.
        version: i32,
        /// The session that goes on.
        kept: Option<Uuid>,
    },
}

/// Ends the sessions of a user below a floor, and those of logins that are under way. Done again it changes
/// nothing.
pub async fn end_below(
    connection: &mut PgConnection,
    user_id: &str,
    floor: Floor,
) -> Result<(), sqlx::Error> {
    let (user, access, kept) = match floor {
        Floor::User(version) => (version, 0, None),
        Floor::Password { version, kept } => (0, version, kept),
    };
    // First, and in a statement of its own: whoever begins a session is done then, or will not be.
    sqlx::query!(
        "INSERT INTO session_owners (user_id, user_floor, access_floor) VALUES ($1, $2, $3)
         ON CONFLICT (user_id) DO UPDATE SET user_floor = greatest(session_owners.user_floor, $2),
                                             access_floor = greatest(session_owners.access_floor, $3)",
        user_id,
        user,
        access
    )
    .execute(&mut *connection)
    .await?;
    sqlx::query!(
        "UPDATE sessions SET ended_at = clock_timestamp()
         WHERE user_id = $1 AND ended_at IS NULL AND sid IS DISTINCT FROM $4
           AND (user_version < $2 OR access_version < $3)",
        user_id,
        user,
        access,
        kept
    )
    .execute(&mut *connection)
    .await?;
    Ok(())
}

/// The key that refresh tokens of this log are derived from, where the log is.
pub async fn refresh_key(log: &PgPool) -> Result<[u8; 32], sqlx::Error> {
    key(log, "refresh").await
}

/// The key that the secrets of second factors of this log are derived from, where the log is.
pub async fn mfa_key(log: &PgPool) -> Result<[u8; 32], sqlx::Error> {
    key(log, "mfa").await
}

async fn key(log: &PgPool, name: &str) -> Result<[u8; 32], sqlx::Error> {
    let key =
        sqlx::query_scalar!("SELECT key FROM keyring.log_keys WHERE name = $1", name).fetch_one(log).await?;
    key.try_into().map_err(|_| sqlx::Error::Decode("a key has 32 bytes".into()))
}

/// Clears away, once a minute, what is over.
pub async fn keep_clear(pool: PgPool) {
    let mut minutes = tokio::time::interval(std::time::Duration::from_mins(1));
    minutes.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        minutes.tick().await;
        if let Err(error) = clear(&pool).await {
            tracing::debug!("Could not clear away old sessions, will try again: {error}");
        }
    }
}

/// Clears away what is over, and tries that count no more.
async fn clear(pool: &PgPool) -> Result<(), sqlx::Error> {
    sqlx::query!("DELETE FROM sessions WHERE expires_at < clock_timestamp() - interval '1 day'")
        .execute(pool)
        .await?;
    // Past rows that somebody is about to use: nobody waits for this.
    sqlx::query!(
        "DELETE FROM login_attempts WHERE key IN (
             SELECT key FROM login_attempts
             WHERE coalesce(tries[cardinality(tries)], '-infinity') < clock_timestamp() - interval '1 minute'
             FOR UPDATE SKIP LOCKED)"
    )
    .execute(pool)
    .await?;
    sqlx::query!(
        "DELETE FROM unknown_logins WHERE count <= 0 AND noted_at < clock_timestamp() - interval '1 minute'"
    )
    .execute(pool)
    .await?;
    Ok(())
}
