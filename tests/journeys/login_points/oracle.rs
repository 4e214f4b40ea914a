//! What must hold of sessions, whatever was killed.

use std::fmt;

use sqlx::PgPool;

use super::clients::Seen;
use crate::server::assert_log_is_whole;
use crate::sessions::heads;

#[derive(Default)]
pub(crate) struct Oracle {
    pub(crate) findings: Vec<String>,
    pub(crate) logins: u64,
    pub(crate) refreshes: u64,
    pub(crate) unknown: u64,
    unknown_logins: u64,
    too_late: u64,
    /// Logins in the log whose session never began, and sessions that nobody was told of.
    half: i64,
    untold: u64,
}

impl fmt::Display for Oracle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { findings, logins, refreshes, unknown, half, untold, too_late, .. } = self;
        write!(
            f,
            "{logins} logins and {refreshes} refreshes answered, {unknown} sendings without an answer, {half} \
             logins noted whose session never began, {untold} sessions that nobody was told of, {too_late} sent \
             again too late; {} findings",
            findings.len()
        )
    }
}

impl Oracle {
    /// Judges what clients saw, who are silent now.
    pub(crate) async fn judge(&mut self, seen: Vec<Seen>, pool: &PgPool) {
        assert_log_is_whole(pool).await;
        for seen in seen {
            self.logins += seen.logins;
            self.refreshes += seen.refreshes;
            self.unknown += seen.unknown_logins + seen.unknown_refreshes;
            self.unknown_logins += seen.unknown_logins;
            self.too_late += seen.too_late;
            self.findings.extend(seen.findings);
            for session in seen.sessions {
                let heads = heads(pool, &session.tokens.refresh).await;
                if heads != [session.refreshes] {
                    let refreshes = session.refreshes;
                    self.findings.push(format!("I11: {heads:?} sessions live behind {refreshes} refreshes"));
                }
            }
        }
        self.log_and_sessions_agree(pool).await;
    }

    async fn log_and_sessions_agree(&mut self, pool: &PgPool) {
        let (unnoted, half, sessions, ended, noted_ends): (i64, i64, i64, i64, i64) = sqlx::query_as(
            "WITH noted AS (SELECT (convert_from(data, 'UTF8')::jsonb ->> 'session')::uuid AS sid, substr(stream, 8) AS id
                            FROM events WHERE type = 'access.logged.in')
             SELECT (SELECT count(*) FROM sessions s
                     WHERE 1 <> (SELECT count(*) FROM noted n WHERE n.sid = s.sid AND n.id = s.user_id)),
                    (SELECT count(*) FROM noted WHERE sid NOT IN (SELECT sid FROM sessions)),
                    (SELECT count(*) FROM sessions), (SELECT count(*) FROM sessions WHERE ended_at IS NOT NULL),
                    (SELECT count(*) FROM events WHERE type = 'access.session.ended')",
        )
        .fetch_one(pool)
        .await
        .unwrap();
        self.half = half;
        if unnoted > 0 {
            self.findings.push(format!("{unnoted} sessions without their one login in the log"));
        }
        // Who came too late was taken for a thief.
        if ended != noted_ends || u64::try_from(ended).unwrap() > self.too_late {
            self.findings.push(format!("{ended} sessions have ended, {noted_ends} ends are in the log"));
        }
        match u64::try_from(sessions).unwrap().checked_sub(self.logins) {
            Some(untold) if untold + u64::try_from(half).unwrap() <= self.unknown_logins => {
                self.untold = untold;
            }
            _ => self.findings.push(format!("{sessions} sessions, {} logins answered", self.logins)),
        }
    }
}
