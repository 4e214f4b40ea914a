//! A log that has a past: events of users, ten each, in the log and in the table it is compared with.

use sqlx::PgPool;

use crate::{Failure, reference};

/// Users of a log that was not filled.
const FEW: i64 = 1_000;
const EVENTS_EACH: i64 = 10;
const CHUNK: i64 = 100_000;

/// The streams that updates are spread over.
#[derive(Clone, Copy)]
pub struct Streams {
    count: i64,
    filled: bool,
}

impl Streams {
    /// Of a log that was filled with so many events.
    #[must_use]
    pub fn of(events: i64) -> Self {
        let users = events / EVENTS_EACH;
        if users == 0 { Self { count: FEW, filled: false } } else { Self { count: users, filled: true } }
    }

    /// How many there are.
    #[must_use]
    pub fn count(self) -> usize {
        usize::try_from(self.count).unwrap_or_default()
    }

    /// Their numbers.
    #[must_use]
    pub const fn numbers(self) -> std::ops::Range<i64> {
        0..self.count
    }

    /// How many of them are not there yet.
    #[must_use]
    pub fn to_create(self) -> i64 {
        if self.filled { 0 } else { self.count }
    }

    /// The user with this number.
    #[must_use]
    pub fn id(number: i64) -> String {
        format!("0192f3c0-0000-7000-8000-{number:012}")
    }

    /// One of them.
    #[must_use]
    pub fn any(self) -> String {
        Self::id(fastrand::i64(0..self.count))
    }
}

/// Fills both tables, the first events of all users first. Claims are left out: nobody asks for them.
pub async fn fill(pool: &PgPool, events: i64) -> Result<Streams, Failure> {
    let streams = Streams::of(events);
    let events = events / EVENTS_EACH * EVENTS_EACH;
    if events > 0 {
        fill_over(pool, &["events", "reference"], events, streams.count).await?;
        sqlx::query("SELECT setval('reference_position_seq', $1)").bind(events).execute(pool).await?;
    }
    Ok(streams)
}

/// Fills these tables with events of so many users, the first events of all users first.
pub async fn fill_over(pool: &PgPool, tables: &[&str], events: i64, users: i64) -> Result<Streams, Failure> {
    let streams = Streams { count: users, filled: true };
    let mut from = 0;
    while from < events {
        let to = (from + CHUNK).min(events);
        for table in tables {
            sqlx::query(sqlx::AssertSqlSafe(format!(
                r#"INSERT INTO {table}
                SELECT n + 1, now(), gen_random_uuid(), n / $3 + 1, 1, 0,
                       'user-0192f3c0-0000-7000-8000-' || lpad((n % $3)::text, 12, '0'),
                       CASE WHEN n < $3 THEN 'user.created' ELSE 'user.changed' END, NULL,
                       convert_to(CASE WHEN n < $3 THEN
                           '{{"id":"0192f3c0-0000-7000-8000-' || lpad((n % $3)::text, 12, '0') || '","matricule":"M'
                           || lpad((n % $3)::text, 32, '0') || '","nom":"Dupont","prenom":"Jean","ministere":"Santé",'
                           || '"avatar":"https://example.com/avatars/dupont.png","sexe":"M","isCompanyOwner":false}}'
                       ELSE $4 END, 'UTF8'),
                       convert_to('{{"actor":"anonymous","correlationId":"' || gen_random_uuid() || '"}}', 'UTF8')
                FROM generate_series($1, $2 - 1) n"#
            )))
            .bind(from)
            .bind(to)
            .bind(streams.count)
            .bind(reference::CHANGED)
            .execute(pool)
            .await?;
        }
        from = to;
    }
    // What was filled is on disk before anything is measured.
    sqlx::raw_sql("CHECKPOINT").execute(pool).await?;
    Ok(streams)
}
