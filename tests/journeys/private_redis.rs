//! A Redis of a test's own, what the log says must stand in it, and what does.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Duration;

use annuaire::local::RedisOptions;
use domain::user::User;
use domain::values::{AvatarUrl, Sexe, Text};
use event_store::reader::{Progress, Reader, Witness};
use event_store::{EventStore, SystemClock};
use messaging::outbox::{RedisStream, RedisStreamOptions};
use messaging::routes::{Message, of_user};
use projections::profile_cache::ProfileCache;
use redis::AsyncTypedCommands;
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::streams::StreamRangeReply;
use tempfile::TempDir;

use crate::log::{Log, Running};
use crate::server::eventually;

pub(crate) const STREAM: &str = "events:users";
pub(crate) const BOOK: &str = "annuaire:{events:users}:outbox";
pub(crate) const TTL: Duration = Duration::from_hours(1);

/// Id and payload.
pub(crate) type Entry = (String, String);

pub(crate) struct Redis {
    server: annuaire::local::Redis,
    pub(crate) client: ConnectionManager,
    folder: TempDir,
}

impl Redis {
    pub(crate) async fn start() -> Self {
        // Started by root, the server runs as another user, who must be able to pass.
        let passable = std::fs::Permissions::from_mode(0o711);
        let folder = tempfile::Builder::new().permissions(passable).tempdir().unwrap();
        let any_port = RedisOptions { port: Some(0) };
        let server = annuaire::local::Redis::start_with(folder.path(), any_port).await.unwrap();
        let settings = ConnectionManagerConfig::new()
            .set_connection_timeout(Some(Duration::from_secs(1)))
            .set_response_timeout(Some(Duration::from_secs(5)))
            .set_min_delay(Duration::from_millis(50))
            .set_max_delay(Duration::from_millis(500))
            .set_number_of_retries(2);
        let client = redis::Client::open(server.url()).unwrap();
        let client = ConnectionManager::new_lazy_with_config(client, settings).unwrap();
        Self { server, client, folder }
    }

    pub(crate) fn url(&self) -> String {
        self.server.url()
    }

    pub(crate) async fn halt(&mut self) {
        self.server.halt().await;
    }

    /// Starts it again, and takes the error that tells a client of its broken connection: someone
    /// else may always be the one who gets that.
    pub(crate) async fn resume(&mut self) {
        self.server.resume().await.unwrap();
        eventually("the client is connected again", async || self.client.clone().ping().await.is_ok()).await;
    }

    /// Keeps a copy of its data; with [`Redis::put_back`] it forgets what came since.
    pub(crate) async fn keep_copy(&mut self) {
        self.halt().await;
        self.copy("redis", "kept");
        self.resume().await;
    }

    pub(crate) async fn put_back(&mut self) {
        self.halt().await;
        std::fs::remove_dir_all(self.folder.path().join("redis")).unwrap();
        self.copy("kept", "redis");
        self.resume().await;
    }

    // With their owners: root's server is another user's.
    fn copy(&self, from: &str, to: &str) {
        let folder = self.folder.path();
        let done = Command::new("cp").arg("-a").args([folder.join(from), folder.join(to)]).status().unwrap();
        assert!(done.success());
    }

    pub(crate) async fn command<T: redis::FromRedisValue>(&self, words: &[&str]) -> T {
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]);
        command.query_async(&mut self.client.clone()).await.unwrap()
    }

    pub(crate) async fn entries(&self) -> Vec<Entry> {
        let reply: StreamRangeReply = self.command(&["XRANGE", STREAM, "-", "+"]).await;
        reply.ids.iter().map(|entry| (entry.id.clone(), entry.get("payload").unwrap_or_default())).collect()
    }

    /// Every profile there is, by the name behind `user:profile:`.
    pub(crate) async fn profiles(&self) -> BTreeMap<String, BTreeMap<String, String>> {
        let keys: Vec<String> = self.command(&["KEYS", "user:profile:*"]).await;
        let mut profiles = BTreeMap::new();
        for key in keys {
            let fields = self.client.clone().hgetall(&key).await.unwrap();
            profiles.insert(key["user:profile:".len()..].to_owned(), fields.into_iter().collect());
        }
        profiles
    }

    /// Every key with all it holds.
    pub(crate) async fn everything(&self) -> BTreeMap<String, Vec<u8>> {
        let keys: Vec<String> = self.command(&["KEYS", "*"]).await;
        let mut all = BTreeMap::new();
        for key in keys {
            let dump: Vec<u8> = self.command(&["DUMP", &key]).await;
            all.insert(key, dump);
        }
        all
    }
}

/// The cache and the stream, kept up with the log as the program does it.
pub(crate) struct Sinks {
    pub(crate) cache: Running,
    pub(crate) stream: Running,
}

impl Sinks {
    pub(crate) fn start(log: &Log, redis: &Redis) -> Self {
        Self::with_length(log, redis, 1_000_000)
    }

    pub(crate) fn with_length(log: &Log, redis: &Redis, max_len: u64) -> Self {
        let (client, store, pool) = (&redis.client, &log.store, &log.pool);
        let cache = ProfileCache::new(client.clone(), store.clone(), pool.clone(), SystemClock, TTL);
        let cache = log.run_reader(cache, ProfileCache::progress(client.clone(), store.log()));
        let witness = Witness::new(pool.clone(), RedisStream::NAME);
        let stream = stream(log, redis, cache.progress.clone(), max_len);
        let stream = log.run_reader(stream, Progress::new(RedisStream::NAME, witness));
        Self { cache, stream }
    }

    pub(crate) async fn catch_up(&self, log: &Log) {
        let head = log.head().await;
        for sink in [&self.cache, &self.stream] {
            // Before that it only knows how far an earlier leader had come.
            sink.leads().await;
            sink.reaches(head).await;
        }
    }

    pub(crate) async fn end(self) {
        self.cache.end().await;
        self.stream.end().await;
    }
}

/// The stream's sink, which waits for the cache.
pub(crate) fn stream(log: &Log, redis: &Redis, cache: Progress, max_len: u64) -> RedisStream {
    let options = RedisStreamOptions { key: STREAM.into(), max_len };
    RedisStream::new(redis.client.clone(), log.store.clone(), log.pool.clone(), cache, options)
}

/// The entries of the whole log, under ids as they are where nobody else writes.
pub(crate) async fn entries_of(log: &Log) -> Vec<Entry> {
    let mut entries = Vec::new();
    for step in log.steps().await {
        let recorded = &step.recorded;
        let id = format!("{}-{}", recorded.recorded_at.timestamp_millis(), recorded.position);
        for message in of_user(&step) {
            match message {
                Message::Stream(entry) => entries.push((id.clone(), serde_json::to_string(&entry).unwrap())),
                Message::UserEvents(_) | Message::Topic(_) => {}
            }
        }
    }
    entries
}

/// The profiles that the whole log leaves, under ids and matricules.
pub(crate) async fn profiles_of(log: &Log) -> BTreeMap<String, BTreeMap<String, String>> {
    let mut last = BTreeMap::new();
    for step in log.steps().await {
        last.insert(step.recorded.stream.clone(), step);
    }
    let mut profiles = BTreeMap::new();
    for step in last.values() {
        let User::Living(profile) = &*step.after else { continue };
        let text = |it: Option<&str>| it.unwrap_or_default().to_owned();
        let id = profile.id.as_str().to_owned();
        let matricule = profile.matricule.as_ref().map_or(id.clone(), |it| it.as_str().to_owned());
        for name in [&id, &matricule] {
            let fields = [
                ("id", name.clone()),
                ("nom", profile.nom.as_str().to_owned()),
                ("prenom", text(profile.prenom.as_ref().map(Text::as_str))),
                ("fullName", profile.full_name()),
                ("avatar", text(profile.avatar.as_ref().map(AvatarUrl::as_str))),
                ("matricule", matricule.clone()),
                ("ministere", text(profile.ministere.as_ref().map(Text::as_str))),
                ("sexe", text(profile.sexe.map(Sexe::as_str))),
                ("updatedAt", step.recorded.recorded_at.timestamp_millis().to_string()),
            ];
            profiles.insert(name.clone(), fields.map(|(field, value)| (field.to_owned(), value)).into());
        }
    }
    profiles
}
