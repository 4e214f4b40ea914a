//! Wires the parts: everything that runs is made here, and nothing is started.

use std::sync::Arc;
use std::time::Duration;

use command_api::{Api, Probe, Readiness, Transport};
use event_store::postgres::{self, PostgresStore};
use event_store::reader::{Progress, Reader, Runner, Witness};
use event_store::{Appender, Commands, EventStore, LogId, SystemClock, UuidV7};
use futures::FutureExt;
use futures::future::BoxFuture;
use messaging::outbox::kafka::{self, Kafka, KafkaOptions, TopicSettings};
use messaging::outbox::{RedisStream, RedisStreamOptions};
use messaging::routes;
use metrics_exporter_prometheus::PrometheusHandle;
use projections::Projection;
use projections::customers::Customers;
use projections::operations::Standing;
use projections::profile_cache::{ProfileCache, Warmer};
use projections::users::{Finder, Users};
use rdkafka::ClientConfig;
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use sqlx::PgPool;
use sqlx::postgres::PgConnectOptions;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::auth;
use crate::config::{self, Config, Role};
use crate::contract;
use crate::fatal::Fatal;
use crate::figures;
use crate::inbound;
use crate::local::{self, Broker};
use crate::mail;
use crate::probes::{Consumer, EventLog, Follower, RedisServer};
use crate::processes::{Completeness, Renewals};
use crate::servers::Servers;
use crate::standings;
use crate::urls::Urls;

/// Connections for queries.
const QUERY_CONNECTIONS: u32 = 16;
/// The embedded broker is given so many of the last events.
const WINDOW: i64 = 10_000;

/// A reader of the log that runs until it is told to stop.
pub(crate) type Started = Box<dyn FnOnce(CancellationToken) -> BoxFuture<'static, ()> + Send>;

/// What runs, made but not started.
pub(crate) struct Parts {
    pub(crate) api: Api,
    /// Those that follow the log in this process's roles.
    pub(crate) readers: Vec<Started>,
    /// What runs beside them and may be dropped at any time.
    pub(crate) background: Vec<BoxFuture<'static, ()>>,
    /// What goes by the rows of read models: begun once these are filled.
    pub(crate) asking: Vec<Started>,
    pub(crate) models: [&'static str; 2],
}

impl Parts {
    pub(crate) async fn wire(
        config: &Config,
        servers: &Servers,
        urls: &Urls,
        store: &Arc<PostgresStore>,
        metrics: PrometheusHandle,
        transport: Transport,
        own_address: &str,
    ) -> Result<Self, Fatal> {
        let log: Arc<dyn EventStore> = store.clone();
        let pool = postgres::pool(postgres::probing(urls.read_models.clone()), QUERY_CONNECTIONS);
        let leaders = || urls.read_models.clone();
        let has = |role| config.roles.contains(role);
        // Who has nothing else to do is of no use without what it writes to.
        let essential = !has(Role::Api);
        let (mut readers, mut sinks) = (Vec::<Started>::new(), Vec::new());
        let mut asking = Vec::<Started>::new();
        let mut background = measurements(store, &pool);
        let mut probes: Vec<Box<dyn Probe>> =
            vec![Box::new(EventLog(store.clone())), Box::new(command_api::Postgres(pool.clone()))];

        let users = projections::runner::<Users>(log.clone(), leaders(), pool.clone());
        let users_progress = users.progress();
        let customers = projections::runner::<Customers>(log.clone(), leaders(), pool.clone());
        let customers_progress = customers.progress();
        let models = [users_progress.clone(), customers_progress.clone()];
        for progress in &models {
            background.extend(read_model(progress, &log, &pool, &mut probes));
        }
        if has(Role::Projections) {
            background.extend(completeness(config, urls, store, &pool, models.clone()));
            readers.extend([started(users), started(customers)]);
        }

        let mut cache = None;
        let private_redis = servers.redis.as_ref().map(local::Redis::url);
        if let Some(redis) = redis_of(config, private_redis.as_deref())? {
            probes.push(Box::new(RedisServer::new(redis.clone(), essential)));
            let (warmer, work) =
                Warmer::new(redis.clone(), pool.clone(), log.log(), config.profile_cache_ttl);
            if has(Role::Api) {
                figures::begin_profile_cache();
                cache = Some(warmer);
                background.push(work.boxed());
            }
            let progress = ProfileCache::progress(redis.clone(), log.log());
            if has(Role::Projections) {
                figures::begin_heals(ProfileCache::NAME, &["cache_lost", "set_back"]);
                let ttl = config.profile_cache_ttl;
                let reader = ProfileCache::new(redis.clone(), log.clone(), pool.clone(), SystemClock, ttl);
                sinks.push(sink(reader, progress.clone(), &log, leaders()));
            } else {
                background.push(measured(&progress, &log));
            }
            if has(Role::Outbox) {
                // A connection of its own: a long batch of one must not hold up the other.
                let redis = redis_of(config, private_redis.as_deref())?.unwrap_or(redis);
                let reader = users_stream(config, redis, &log, &pool, progress);
                let progress = witnessed(RedisStream::NAME, &pool);
                sinks.push(sink(reader, progress, &log, leaders()));
            }
        }
        make_topics(config, servers, store.log()).await?;
        if has(Role::Outbox) {
            let (more, work) = outbox(config, servers, own_address, store, &pool, &leaders).await?;
            sinks.extend(more);
            background.extend(work);
        }
        if has(Role::Inbound) {
            let (reader, status) = inbound::wire(config, servers, store, &pool, models);
            probes.push(Box::new(Consumer { status, essential }));
            background.push(figures::count_inbound_letters(store.pool().clone()).boxed());
            asking.push(reader);
        }
        for Sink { progress, reader } in sinks {
            background.push(measured(&progress, &log));
            probes.push(Box::new(Follower::of_sink(progress, essential)));
            readers.push(reader);
        }

        let appender = Appender::start(log.clone(), SystemClock, UuidV7);
        if has(Role::Projections) {
            readers.push(renewals(&log, &appender, &pool, customers_progress.clone(), leaders()));
        }
        let api = Api {
            auth: auth::wire(&config.auth, Commands::new(log.clone(), appender.clone()), store.pool(), &pool)
                .await?,
            users: Commands::new(log.clone(), appender.clone()),
            administrators: Commands::new(log.clone(), appender.clone()),
            customers: Commands::new(log.clone(), appender.clone()),
            subscriptions: Commands::new(log.clone(), appender.clone()),
            token_accounts: Commands::new(log.clone(), appender),
            store: log,
            self_registration: config.auth.self_registration,
            finder: Finder::new(pool.clone()),
            pool,
            progress: users_progress,
            customers_progress,
            cache,
            ids: Arc::new(UuidV7),
            clock: Arc::new(SystemClock),
            readiness: Readiness::new(probes),
            published: contract::published(),
            metrics,
            transport,
            mails: config.mail.is_possible(),
        };
        if has(Role::Api) {
            figures::begin_commands();
            asking.extend(auth::work(&config.auth, &api).into_iter().map(until_stopped));
        }
        Ok(Self { api, readers, background, asking, models: [Users::NAME, Customers::NAME] })
    }
}

/// Work that may be dropped at any time.
pub(crate) fn until_stopped(work: BoxFuture<'static, ()>) -> Started {
    Box::new(|stop| stop.run_until_cancelled_owned(work).map(|_| ()).boxed())
}

/// What is looked at again and again for the figures.
fn measurements(store: &PostgresStore, pool: &PgPool) -> Vec<BoxFuture<'static, ()>> {
    vec![
        figures::follow_head(store.watch_head()).boxed(),
        figures::sample_pool("log", store.pool().clone()).boxed(),
        figures::sample_pool("queries", pool.clone()).boxed(),
    ]
}

/// What finds out how far a read model is and how it stands, in whatever process.
fn read_model(
    progress: &Progress,
    log: &Arc<dyn EventStore>,
    pool: &PgPool,
    probes: &mut Vec<Box<dyn Probe>>,
) -> [BoxFuture<'static, ()>; 2] {
    let (seen, standing) = watch::channel(Standing::default());
    probes.push(Box::new(Follower::of_read_model(progress.clone(), standing)));
    [measured(progress, log), standings::follow(progress.name(), pool.clone(), seen).boxed()]
}

/// The sink of the stream of users; `cache` is how far the hashes have come.
fn users_stream(
    config: &Config,
    redis: ConnectionManager,
    log: &Arc<dyn EventStore>,
    pool: &PgPool,
    cache: Progress,
) -> RedisStream {
    let config::UsersStream { name: key, max_len } = config.users_stream.clone();
    let options = RedisStreamOptions { key, max_len };
    figures::begin_sink(RedisStream::NAME, &options.key);
    let heals = ["stream_lost", "book_lost", "set_back", "foreign_entry"];
    figures::begin_heals(RedisStream::NAME, &heals);
    RedisStream::new(redis, log.clone(), pool.clone(), cache, options)
}

/// What is sent to others but for the stream of users: mails and Kafka's topics.
async fn outbox(
    config: &Config,
    servers: &Servers,
    own_address: &str,
    store: &Arc<PostgresStore>,
    pool: &PgPool,
    leaders: &impl Fn() -> PgConnectOptions,
) -> Result<(Vec<Sink>, Vec<BoxFuture<'static, ()>>), Fatal> {
    let log: Arc<dyn EventStore> = store.clone();
    let (mut sinks, mut work) = (Vec::new(), vec![figures::count_dead_letters(store.pool().clone()).boxed()]);
    if let Some((reader, progress)) = mail::wire(config, own_address, store, pool).await? {
        work.extend(mail::work(pool));
        sinks.push(sink(reader, progress, &log, leaders()));
    }
    let reader = topics(config, servers, store, pool);
    sinks.push(sink(reader, witnessed(Kafka::NAME, pool), &log, leaders()));
    Ok((sinks, work))
}

/// What comes due of subscriptions.
fn renewals(
    log: &Arc<dyn EventStore>,
    appender: &Appender,
    pool: &PgPool,
    progress: Progress,
    leaders: PgConnectOptions,
) -> Started {
    figures::begin_subscriptions();
    let renewals = Renewals {
        subscriptions: Commands::new(log.clone(), appender.clone()),
        accounts: Commands::new(log.clone(), appender.clone()),
        pool: pool.clone(),
        progress,
        leaders,
    };
    Box::new(|stop| renewals.run(stop).boxed())
}

/// What compares read models with the log, if that is wanted.
fn completeness(
    config: &Config,
    urls: &Urls,
    store: &PostgresStore,
    pool: &PgPool,
    models: [Progress; 2],
) -> Option<BoxFuture<'static, ()>> {
    let every = config.projections_check_every?;
    let completeness = Completeness {
        models,
        pool: pool.clone(),
        read_models: urls.read_models.clone(),
        log: urls.log().clone(),
        id: store.log(),
        every,
    };
    Some(completeness.run().boxed())
}

/// The sink of the Kafka topics.
fn topics(config: &Config, servers: &Servers, store: &Arc<PostgresStore>, pool: &PgPool) -> Kafka {
    for topic in routes::topics() {
        figures::begin_sink(Kafka::NAME, topic);
    }
    figures::begin_heals(Kafka::NAME, &["checkpoint_lost"]);
    let options = kafka_of(config, servers.broker.as_ref());
    Kafka::new(options, store.clone(), store.pool().clone(), pool.clone())
}

/// Those of the embedded broker, which nobody else can make.
async fn make_topics(config: &Config, servers: &Servers, log: LogId) -> Result<(), Fatal> {
    let Some(broker) = &servers.broker else { return Ok(()) };
    let rules = inbound::rules(config);
    let partitions = config.topics.partitions.into();
    let made = async {
        let consumed = rules.topics().filter(|name| !routes::is_topic(name));
        for topic in routes::topics().map(str::to_owned).chain(consumed) {
            broker.create_topic(&topic, partitions).await?;
        }
        broker.create_topic(&kafka::checkpoint_topic(log), 1).await
    };
    made.await.map_err(|e| Fatal::new("can't make the embedded broker's topics", e))
}

/// Something that is written to for others.
struct Sink {
    progress: Progress,
    reader: Started,
}

/// How far a sink has come, as its witness knows it.
fn witnessed(name: &'static str, pool: &PgPool) -> Progress {
    Progress::new(name, Witness::new(pool.clone(), name))
}

fn sink<R: Reader>(
    reader: R,
    progress: Progress,
    log: &Arc<dyn EventStore>,
    leaders: PgConnectOptions,
) -> Sink {
    let runner = Runner::new(reader, log.clone(), leaders, progress.clone());
    Sink { progress, reader: started(runner) }
}

fn started<R: Reader>(runner: Runner<R>) -> Started {
    Box::new(|stop| runner.run(stop).boxed())
}

fn measured(progress: &Progress, log: &Arc<dyn EventStore>) -> BoxFuture<'static, ()> {
    let (progress, log) = (progress.clone(), log.clone());
    async move { progress.measure(log, SystemClock).await }.boxed()
}

/// A connection to Redis, made when it is used; `private` is the URL of our own. [`None`] where there is
/// neither.
pub(crate) fn redis_of(config: &Config, private: Option<&str>) -> Result<Option<ConnectionManager>, Fatal> {
    let url = match (&config.redis, private) {
        (config::Redis::Url(url), _) => url.expose(),
        (config::Redis::Private, Some(url)) => url,
        (config::Redis::Private, None) => return Ok(None),
    };
    let unusable = |e| Fatal::new("can't use REDIS_URL", e);
    let settings = ConnectionManagerConfig::new()
        .set_connection_timeout(Some(Duration::from_secs(1)))
        .set_response_timeout(Some(Duration::from_secs(5)))
        .set_min_delay(Duration::from_millis(50))
        .set_max_delay(Duration::from_millis(500))
        .set_number_of_retries(2);
    let client = redis::Client::open(url).map_err(unusable)?;
    ConnectionManager::new_lazy_with_config(client, settings).map(Some).map_err(unusable)
}

/// How to speak to Kafka; `broker` is the embedded one, where there is one.
pub(crate) fn kafka_of(config: &Config, broker: Option<&Broker>) -> KafkaOptions {
    let mut client = ClientConfig::new();
    client.set("client.id", "annuaire");
    // Soon back when Kafka is.
    client.set("reconnect.backoff.max.ms", "1000");
    match &config.kafka {
        config::Kafka::Cluster(cluster) => {
            for (property, value) in cluster.options.expose() {
                client.set(property, value);
            }
            client.set("bootstrap.servers", &cluster.brokers);
        }
        config::Kafka::Embedded => {
            let bootstrap = broker.map_or("", Broker::bootstrap);
            client.set("bootstrap.servers", bootstrap);
        }
    }
    KafkaOptions {
        client,
        compression: config.topics.compression.codec(),
        topics: TopicSettings {
            partitions: config.topics.partitions.into(),
            replication: config.topics.replication.map(Into::into),
        },
        signing_key: config.signing_key.clone(),
        window: broker.is_some().then_some(WINDOW),
    }
}
