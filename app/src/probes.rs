//! How the parts do, as `/health` asks them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use command_api::{Condition, Probe};
use event_store::EventStore;
use event_store::postgres::PostgresStore;
use event_store::reader::{Progress, State};
use messaging::inbound;
use redis::InfoDict;
use redis::aio::ConnectionManager;

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
    pub(crate) progress: Progress,
    pub(crate) essential: bool,
    /// What it counts as when it does not follow.
    pub(crate) otherwise: Condition,
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
        match self.progress.state() {
            State::Leading | State::Standby => Condition::Ok,
            State::Failing(_) | State::Stopped(_) => self.otherwise,
        }
    }

    fn reason(&self) -> Option<&'static str> {
        self.progress.state().trouble().map(|trouble| trouble.code)
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

    fn reason(&self) -> Option<&'static str> {
        Some(if self.evicts.load(Ordering::Relaxed) { "evicts_any_key" } else { "unavailable" })
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

    fn reason(&self) -> Option<&'static str> {
        Some("not_consuming")
    }
}
