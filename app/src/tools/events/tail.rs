//! `annuaire events tail`.

use std::time::Duration;

use sqlx::PgConnection;

use super::{Event, Tail, head, print, read_after};
use crate::fatal::Fatal;
use crate::tools::print::{Written, nobody_reads};
use crate::tools::{Tools, unreadable};

/// How often the log is asked for more.
const ASK_EVERY: Duration = Duration::from_millis(100);

/// Prints what was asked for, and follows the log until a signal or until nobody reads.
pub(super) async fn run(tools: &Tools, options: &Tail) -> Result<(), Fatal> {
    if options.no_follow {
        return follow(tools, options).await;
    }
    tokio::select! {
        // However far a query is: this is how it ends.
        biased;
        () = tools.interrupted.cancelled() => Ok(()),
        followed = follow(tools, options) => followed,
    }
}

async fn follow(tools: &Tools, options: &Tail) -> Result<(), Fatal> {
    let mut log = tools.log().await?;
    // What comes from now on is none of the last events.
    let head = head(&mut log).await?;
    let end = options.no_follow.then_some(head);
    let mut after = start(&mut log, options, head).await?;
    loop {
        let events = read_after(&mut log, after).await?;
        let wanted = events.iter().filter(|event| end.is_none_or(|end| event.position <= end));
        if print(wanted.filter(|event| is_wanted(event, options)), options.json)? == Written::NobodyReads {
            return Ok(());
        }
        after = events.last().map_or(after, |last| last.position);
        if end.is_some_and(|end| after >= end) {
            return Ok(());
        }
        if !events.is_empty() {
            continue;
        }
        tokio::time::sleep(ASK_EVERY).await;
        if nobody_reads() {
            return Ok(());
        }
    }
}

fn is_wanted(event: &Event, options: &Tail) -> bool {
    options.types.is_empty() || options.types.contains(&event.type_name)
}

/// The position behind which to begin, so that the last events up to `head` are printed.
async fn start(log: &mut PgConnection, options: &Tail, head: i64) -> Result<i64, Fatal> {
    if let Some(after) = options.after {
        return Ok(after);
    }
    let first: Option<i64> = sqlx::query_scalar(
        "SELECT min(position) FROM (
             SELECT position FROM events
             WHERE position <= $3 AND (cardinality($1::text[]) = 0 OR type = ANY ($1))
             ORDER BY position DESC LIMIT $2) last",
    )
    .bind(&options.types)
    .bind(options.last)
    .bind(head)
    .fetch_one(&mut *log)
    .await
    .map_err(unreadable)?;
    Ok(first.map_or(head, |first| first - 1))
}
