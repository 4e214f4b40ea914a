//! What each figure in `/metrics` means, and those that belong to the process as a whole.
//!
//! A figure stands there from the start, at 0 where nothing has happened: an alert that compares needs
//! something to compare with.

use std::time::{Duration, Instant};

use event_store::Position;
use metrics::{Gauge, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use projections::operations::Standing;
use sqlx::PgPool;
use tokio::sync::watch;

/// How often dead letters are counted.
const COUNT_EVERY: Duration = Duration::from_secs(1);
/// How often a pool is asked for a connection, to see how long that takes.
const ASK_POOL_EVERY: Duration = Duration::from_secs(1);

/// Says for each figure what it is; a new one has its line here.
pub(crate) fn describe() {
    describe_histogram!(
        "annuaire_http_seconds",
        "Time from a request to its answer, by route and status; 499: the client went away"
    );
    describe_counter!(
        "annuaire_commands_total",
        "What became of commands: done, refused by a rule or condition, failed for want of the log. One that \
         names a user by matricule is first refused under that name as an id"
    );
    describe_histogram!("annuaire_append_seconds", "Time a batch of commands took to be on disk, or to fail");
    describe_histogram!("annuaire_append_batch_size", "Commands in a batch");
    describe_gauge!(
        "annuaire_head_position",
        "Position of the last event in the log, as this process knows it"
    );
    describe_gauge!("annuaire_lag_positions", "Events that a reader of the log has still to take in");
    describe_gauge!("annuaire_lag_seconds", "Age of the oldest event that a reader has still to take in");
    describe_gauge!(
        "annuaire_reader_state",
        "1 for the state that a reader is in: leading, standby, paused, failing or stopped"
    );
    describe_gauge!(
        "annuaire_projection_stopped",
        "1 for a read model that has stopped, in whatever process, until someone has looked"
    );
    describe_gauge!(
        "annuaire_projection_stopped_position",
        "Position of the event that a read model has stopped at; 0 while it goes on"
    );
    describe_gauge!("annuaire_projection_paused", "1 for a read model that an operator has told to pause");
    describe_gauge!(
        "annuaire_projection_incomplete",
        "Streams that differ between a read model and the log, as of the last comparison"
    );
    describe_gauge!(
        "annuaire_projection_checked_timestamp_seconds",
        "When a read model was last compared with the log; 0 before the first time"
    );
    describe_counter!(
        "annuaire_outbox_messages_total",
        "Messages that a sink has taken, by topic, stream or purpose"
    );
    describe_counter!(
        "annuaire_inbound_messages_total",
        "Messages of other services, by what became of them: applied, answered, skipped or dead_letter, and why"
    );
    describe_histogram!(
        "annuaire_inbound_seconds",
        "Time from when a message was polled until its outcome was stored"
    );
    describe_gauge!(
        "annuaire_inbound_lag_messages",
        "Messages of other services that have no outcome yet, on the partitions that this process reads"
    );
    describe_gauge!("annuaire_inbound_members", "Members of the consumer group, as Kafka says");
    describe_gauge!("annuaire_inbound_partitions", "Partitions that this process reads");
    describe_counter!("annuaire_sink_heals_total", "Losses that a sink found and made good by itself");
    describe_gauge!(
        "annuaire_dead_letters",
        "Messages put aside: Kafka refuses them for good, or one before them of the same key; mails of the last \
         week that a server refused"
    );
    describe_gauge!("annuaire_mails_put_off", "Mails that the mail server put off, and that are tried again");
    describe_counter!(
        "annuaire_profile_cache_total",
        "Profiles that were read, by whether the cache had them"
    );
    describe_counter!(
        "annuaire_subscriptions_advanced_total",
        "What became of subscriptions that had come due: done, overtaken by somebody else or done before the rows \
         showed it, refused by a rule, failed for want of the log"
    );
    describe_gauge!(
        "annuaire_subscriptions_due",
        "Subscriptions of which something was due as was last looked"
    );
    describe_gauge!("annuaire_pool_connections", "Connections of a pool to PostgreSQL, busy or idle");
    describe_histogram!(
        "annuaire_pool_wait_seconds",
        "Time that one asking for a connection of a pool waits, tried once a second"
    );
}

/// Of a process that carries out commands.
pub(crate) fn begin_commands() {
    for outcome in ["done", "refused", "failed"] {
        counter!("annuaire_commands_total", "outcome" => outcome).increment(0);
    }
    // Being named is enough for a histogram to be there.
    let _ = (histogram!("annuaire_append_seconds"), histogram!("annuaire_append_batch_size"));
}

/// Of a process that may be the one to do what comes due of subscriptions.
pub(crate) fn begin_subscriptions() {
    for outcome in ["done", "overtaken", "refused", "failed"] {
        counter!("annuaire_subscriptions_advanced_total", "outcome" => outcome).increment(0);
    }
    gauge!("annuaire_subscriptions_due").set(0.0);
}

/// Of a process that looks after the profiles it reads.
pub(crate) fn begin_profile_cache() {
    for result in ["hit", "miss", "error"] {
        counter!("annuaire_profile_cache_total", "result" => result).increment(0);
    }
}

/// Of a sink and what it fills.
pub(crate) fn begin_sink(sink: &'static str, topic: &str) {
    counter!("annuaire_outbox_messages_total", "sink" => sink, "topic" => topic.to_owned()).increment(0);
}

/// Of something that makes good what it lost, for one of these reasons.
pub(crate) fn begin_heals(sink: &'static str, reasons: &[&'static str]) {
    for &reason in reasons {
        counter!("annuaire_sink_heals_total", "sink" => sink, "reason" => reason).increment(0);
    }
}

/// Shows how many messages are put aside. Runs until it is dropped.
pub(crate) async fn count_dead_letters(pool: PgPool) {
    let shown = gauge!("annuaire_dead_letters", "queue" => "outbox");
    count(shown, "SELECT count(*) FROM outbox_dead_letters", pool).await;
}

/// Of a process that reads what other services say.
pub(crate) fn begin_inbound<'a>(topics: impl Iterator<Item = &'a str>) {
    for topic in topics {
        let _ = histogram!("annuaire_inbound_seconds", "topic" => topic.to_owned());
        gauge!("annuaire_inbound_lag_messages", "topic" => topic.to_owned()).set(0.0);
    }
    gauge!("annuaire_inbound_members").set(0.0);
    gauge!("annuaire_inbound_partitions").set(0.0);
}

/// Shows how many messages of other services could not be carried out and wait. Runs until it is dropped.
pub(crate) async fn count_inbound_letters(pool: PgPool) {
    let shown = gauge!("annuaire_dead_letters", "queue" => "inbound");
    count(shown, "SELECT count(*) FROM inbound_dead_letters WHERE state = 'waiting'", pool).await;
}

/// Shows how many mails of the last week were refused. Runs until it is dropped.
pub(crate) async fn count_refused_mails(pool: PgPool) {
    let shown = gauge!("annuaire_dead_letters", "queue" => "mail");
    count(shown, "SELECT count(*) FROM mails WHERE outcome = 'refused'", pool).await;
}

/// Shows how many mails wait to be tried again. Runs until it is dropped.
pub(crate) async fn count_mails_put_off(pool: PgPool) {
    let waiting = "SELECT count(*) FROM mails WHERE outcome IS NULL AND next_try IS NOT NULL";
    count(gauge!("annuaire_mails_put_off"), waiting, pool).await;
}

async fn count(shown: Gauge, query: &'static str, pool: PgPool) {
    shown.set(0.0);
    loop {
        // Unknown while PostgreSQL is away: then it is what it was.
        let count = sqlx::query_scalar::<_, i64>(query);
        if let Ok(count) = count.fetch_one(&pool).await {
            #[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
            shown.set(count as f64);
        }
        tokio::time::sleep(COUNT_EVERY).await;
    }
}

/// Shows how a read model stands, whichever process keeps it.
#[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
pub(crate) fn show_standing(reader: &'static str, standing: &Standing) {
    let Standing { stop, pause, skipped: _, check, unfinished: _ } = standing;
    let show = |shown: Gauge, value: f64| shown.set(value);
    show(gauge!("annuaire_projection_stopped", "reader" => reader), f64::from(u8::from(stop.is_some())));
    let position = stop.as_ref().map_or(0, |stop| stop.position) as f64;
    show(gauge!("annuaire_projection_stopped_position", "reader" => reader), position);
    show(gauge!("annuaire_projection_paused", "reader" => reader), f64::from(u8::from(pause.is_some())));
    let incomplete = check.as_ref().map_or(0, |check| check.incomplete) as f64;
    show(gauge!("annuaire_projection_incomplete", "reader" => reader), incomplete);
    let at = check.as_ref().map_or(0.0, |check| check.checked_at.timestamp_millis() as f64 / 1e3);
    show(gauge!("annuaire_projection_checked_timestamp_seconds", "reader" => reader), at);
}

/// Shows the log's head. Runs until it is dropped.
pub(crate) async fn follow_head(mut head: watch::Receiver<Position>) {
    let shown = gauge!("annuaire_head_position");
    loop {
        let position = head.borrow_and_update().get();
        #[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
        shown.set(position as f64);
        if head.changed().await.is_err() {
            return;
        }
    }
}

/// Shows how many connections a pool has, and how long one waits who asks for one. Runs until it is dropped.
pub(crate) async fn sample_pool(name: &'static str, pool: PgPool) {
    let [busy, idle] =
        ["busy", "idle"].map(|state| gauge!("annuaire_pool_connections", "pool" => name, "state" => state));
    let wait = histogram!("annuaire_pool_wait_seconds", "pool" => name);
    loop {
        let (size, resting) = (pool.size(), u32::try_from(pool.num_idle()).unwrap_or(u32::MAX));
        busy.set(size.saturating_sub(resting));
        idle.set(resting);
        let asked = Instant::now();
        // One who waited in vain has waited, too; one whom PostgreSQL refused has not.
        if matches!(pool.acquire().await, Ok(_) | Err(sqlx::Error::PoolTimedOut)) {
            wait.record(asked.elapsed());
        }
        tokio::time::sleep(ASK_POOL_EVERY).await;
    }
}
