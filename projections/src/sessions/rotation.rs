//! One refresh token after the other.

use sqlx::PgPool;
use uuid::Uuid;

use super::TOKEN_DAYS;

/// How long a token that was used is answered with the same successor (seconds): the answer may have
/// been lost, or two tabs may have asked at once.
const WINDOW_SECONDS: f64 = 10.0;
/// How many uses are kept; more than a client that behaves makes within the window.
const KEPT_USES: i32 = 32;

/// What became of a refresh token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refreshed {
    /// The token that follows it is the live one, or was not long ago. Of this user.
    Successor(String),
    /// It had been used before, and not just now: the session has ended because of it, if it had not
    /// ended already.
    Reused(Option<super::Ended>),
    /// The session is over, or there is none.
    Over,
}

/// Uses token `number` of a session, whose hash this is, if it is the live one: `next` is then the hash
/// of its successor. One statement decides between those who come at the same time.
pub async fn refresh(
    pool: &PgPool,
    sid: Uuid,
    number: i32,
    hash: &[u8],
    next: &[u8],
) -> Result<Refreshed, sqlx::Error> {
    let rotated = sqlx::query_scalar!(
        r#"
        UPDATE sessions
        SET counter = counter + 1, token_hash = $4,
            token_expires_at = least(clock_timestamp() + make_interval(days => $5), expires_at),
            used = used[greatest(1, cardinality(used) + 2 - $6):] || clock_timestamp()
        WHERE sid = $1 AND counter = $2 AND token_hash = $3
          AND ended_at IS NULL AND token_expires_at > clock_timestamp() AND expires_at > clock_timestamp()
        RETURNING user_id
        "#,
        sid,
        number,
        hash,
        next,
        TOKEN_DAYS,
        KEPT_USES,
    )
    .fetch_optional(pool)
    .await?;
    if let Some(user_id) = rotated {
        return Ok(user_id.map_or(Refreshed::Over, Refreshed::Successor));
    }
    // The last use is that of the token before the live one.
    let used = sqlx::query!(
        r#"
        SELECT counter, user_id,
               coalesce(extract(epoch FROM clock_timestamp() - used[cardinality(used) + 1 - (counter - $2)])::float8
                        < $3, false) AS "just_now!"
        FROM sessions
        WHERE sid = $1 AND ended_at IS NULL AND expires_at > clock_timestamp()
        "#,
        sid,
        number,
        WINDOW_SECONDS,
    )
    .fetch_optional(pool)
    .await?;
    match used {
        Some(session) if session.counter > number && session.just_now => {
            Ok(session.user_id.map_or(Refreshed::Over, Refreshed::Successor))
        }
        Some(session) if session.counter > number => Ok(Refreshed::Reused(super::end(pool, sid).await?)),
        Some(_) | None => Ok(Refreshed::Over),
    }
}
