//! How the parts do, as `/health` asks them.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use command_api::{Condition, Probe};
use event_store::EventStore;
use event_store::postgres::PostgresStore;
use event_store::reader::{Progress, State};
use messaging::inbound;
use projections::operations::{Standing, Stop};
use redis::InfoDict;
use redis::aio::ConnectionManager;
use tokio::sync::watch;

/// Without the log no command is carried out.
pub(crate) struct EventLog(pub(crate) Arc<PostgresStore>);

#[async_trait]
impl Probe for EventLog {
    fn name(&self) -> &'static str {
        "eventLog"
    }

    fn is_essential(&self) -> bool {
        true
    }

    async fn check(&self) -> Condition {
        if self.0.head().await.is_ok() { Condition::Ok } else { Condition::Down }
    }
}

/// What follows the log. A read model that stands still answers with what it last had; of what is
/// written for others nothing is lost meanwhile.
pub(crate) struct Follower {
    progress: Progress,
    essential: bool,
    /// What it counts as when it does not follow.
    otherwise: Condition,
    /// Of a read model: what all processes see of it.
    standing: Option<watch::Receiver<Standing>>,
}

impl Follower {
    pub(crate) fn of_read_model(progress: Progress, standing: watch::Receiver<Standing>) -> Self {
        Self { progress, essential: false, otherwise: Condition::Degraded, standing: Some(standing) }
    }

    pub(crate) fn of_sink(progress: Progress, essential: bool) -> Self {
        Self { progress, essential, otherwise: Condition::Down, standing: None }
    }

    /// Where a read model has stopped, and why it pauses, in whatever process that is.
    fn standing(&self) -> Standing {
        self.standing.as_ref().map(|it| it.borrow().clone()).unwrap_or_default()
    }
}

#[async_trait]
impl Probe for Follower {
    fn name(&self) -> &'static str {
        self.progress.name()
    }

    fn is_essential(&self) -> bool {
        self.essential
    }

    async fn check(&self) -> Condition {
        let Standing { stop, pause, .. } = self.standing();
        match self.progress.state() {
            State::Paused(_) | State::Failing(_) | State::Stopped(_) => self.otherwise,
            // What was seen a moment ago of the process that leads.
            State::Leading | State::Standby if stop.is_some() || pause.is_some() => self.otherwise,
            State::Leading | State::Standby => Condition::Ok,
        }
    }

    fn reason(&self) -> Option<Cow<'static, str>> {
        let own = self.progress.state().trouble().map(|trouble| trouble.code.into());
        own.or_else(|| {
            let Standing { stop, pause, .. } = self.standing();
            pause.map(|_| "paused".into()).or_else(|| stop.map(|stop| stop.code.into()))
        })
    }

    /// Without the error, which may repeat what an event holds.
    fn detail(&self) -> Option<String> {
        let Stop { position, type_name, event_id, .. } = self.standing().stop?;
        Some(match (type_name, event_id) {
            (Some(name), Some(id)) => format!("stopped at position {position}: {name}, event {id}"),
            _ => format!("stopped at position {position}"),
        })
    }
}

/// The server behind the cache and the stream.
pub(crate) struct RedisServer {
    redis: ConnectionManager,
    essential: bool,
    /// Whether it throws away any key when its memory is full: the stream, for example.
    evicts: AtomicBool,
}

impl RedisServer {
    pub(crate) fn new(redis: ConnectionManager, essential: bool) -> Self {
        Self { redis, essential, evicts: AtomicBool::new(false) }
    }
}

#[async_trait]
impl Probe for RedisServer {
    fn name(&self) -> &'static str {
        "redis"
    }

    fn is_essential(&self) -> bool {
        self.essential
    }

    async fn check(&self) -> Condition {
        let memory = redis::cmd("INFO").arg("memory").query_async::<InfoDict>(&mut self.redis.clone()).await;
        self.evicts.store(false, Ordering::Relaxed);
        let Ok(memory) = memory else { return Condition::Down };
        let limited = memory.get::<u64>("maxmemory").is_some_and(|limit| limit > 0);
        let policy = memory.get::<String>("maxmemory_policy").unwrap_or_default();
        let evicts = limited && policy.starts_with("allkeys-");
        self.evicts.store(evicts, Ordering::Relaxed);
        if evicts { Condition::Degraded } else { Condition::Ok }
    }

    fn reason(&self) -> Option<Cow<'static, str>> {
        Some(if self.evicts.load(Ordering::Relaxed) { "evicts_any_key" } else { "unavailable" }.into())
    }
}

/// What other services say. Messages that can't be read now wait where they are.
pub(crate) struct Consumer {
    pub(crate) status: inbound::Status,
    pub(crate) essential: bool,
}

#[async_trait]
impl Probe for Consumer {
    fn name(&self) -> &'static str {
        "inbound"
    }

    fn is_essential(&self) -> bool {
        self.essential
    }

    async fn check(&self) -> Condition {
        if self.status.now().is_well { Condition::Ok } else { Condition::Down }
    }

    fn reason(&self) -> Option<Cow<'static, str>> {
        Some("not_consuming".into())
    }
}
