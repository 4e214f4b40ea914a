//! `annuaire projections verify` and `rebuild` of the profile cache.

use std::sync::Arc;
use std::time::Instant;

use event_store::reader::Failure;
use event_store::{EventStore, SystemClock};
use projections::profile_cache::{Comparison, Maintenance};
use projections::users::{self, Filter};
use serde_json::json;

use super::super::Tools;
use super::super::print::write;
use super::super::progress::Progress;
use super::{Name, Verified, tell};
use crate::fatal::Fatal;

const NAME: &str = Name::ProfileCache.as_str();

/// Compares it with the rows of users.
pub(super) async fn verify(tools: &Tools, as_json: bool, heal: bool) -> Result<(), Fatal> {
    let Cache { store, maintenance, progress } = Cache::find(tools).await?;
    let seen = |rows: usize| progress.at(rows.try_into().unwrap_or(i64::MAX));
    let compared = maintenance.verify(&store, &SystemClock, heal, &seen).await;
    let Comparison { position, differences, evicted } =
        compared.map_err(|e: Failure| Fatal::new(format!("can't verify {NAME}"), e))?;
    progress.finish();
    if evicted > 0 {
        progress.say(&format!("{evicted} hashes are absent, as Redis's maxmemory-policy permits"));
    }
    let differing = differences.len().try_into().unwrap_or(i64::MAX);
    let verified = Verified { name: Name::ProfileCache, position, differing, differences, is_healed: heal };
    tell(&verified, as_json, &[("evicted", evicted.into())])
}

/// Writes its hashes again.
pub(super) async fn rebuild(tools: &Tools, as_json: bool, cancel: bool) -> Result<(), Fatal> {
    if cancel {
        let why = "a rebuild of the cache leaves nothing behind when it is broken off";
        return Err(Fatal::new(format!("nothing of {NAME} to cancel"), why));
    }
    let Cache { store, maintenance, progress } = Cache::find(tools).await?;
    let begin = Instant::now();
    let seen = |rows: usize| progress.at(rows.try_into().unwrap_or(i64::MAX));
    let written = maintenance.rebuild(&store, &SystemClock, &seen).await;
    let count = written.map_err(|e: Failure| Fatal::new(format!("can't rebuild {NAME}"), e))?;
    progress.finish();
    let seconds = begin.elapsed().as_secs_f64();
    let text = if as_json {
        format!("{:#}\n", json!({ "name": NAME, "hashes": count, "seconds": seconds }))
    } else {
        format!("{NAME}: {count} hashes, in {seconds:.1} s\n")
    };
    write(&text).map(drop)
}

/// The cache beside its log, and what tells how far one has come.
struct Cache {
    store: Arc<dyn EventStore>,
    maintenance: Maintenance,
    progress: Progress,
}

impl Cache {
    async fn find(tools: &Tools) -> Result<Self, Fatal> {
        let store: Arc<dyn EventStore> = Arc::new(tools.store().await?);
        let redis = tools.redis().await?.ok_or_else(|| {
            Fatal::new(
                "there is no cache to look at",
                "the private Redis is not running, and REDIS_URL names none",
            )
        })?;
        let count = users::count(&tools.pool, &Filter::default()).await;
        let (users, _) = count.map_err(|e| Fatal::new("can't count the users", e))?;
        let ttl = tools.config.profile_cache_ttl;
        let maintenance = Maintenance::new(redis, tools.pool.clone(), store.log(), ttl);
        Ok(Self { store, maintenance, progress: Progress::of("users", users) })
    }
}
