//! Configuration: what the environment says, checked once, then plain values.

mod auth;
pub mod effective;
mod inbound;
mod kafka;
mod mail;
mod postgres_url;
mod reader;
mod redis;
mod secret_url;
pub mod settings;
mod sources;
mod transport;
mod values;

use std::path::PathBuf;
use std::time::Duration;

use messaging::signing::SigningKey;

pub use self::auth::{Administrator, Auth};
pub use self::effective::Effective;
pub use self::inbound::Inbound;
pub use self::kafka::{Compression, Kafka, KafkaCluster, KafkaOptions, Topics};
pub use self::mail::{Mail, Mails, SmtpUrl};
pub use self::postgres_url::PostgresUrl;
pub use self::reader::{Invalid, Problem};
pub use self::redis::{Redis, RedisUrl};
pub use self::sources::{Origin, Sources};
pub use self::transport::Transport;
pub use self::values::{Host, Http, LogFormat, Role, Roles, UsersStream};

use self::postgres_url::Parts;
use self::reader::Reader;
use self::settings as s;

/// Everything the program was told.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where HTTP is served.
    pub http: Http,
    /// How requests come in.
    pub transport: Transport,
    /// Where the log and the read models are.
    pub database: Database,
    /// The schema owner's URL; `None`: that of `database`.
    pub migration_url: Option<PostgresUrl>,
    /// The event log's URL; `None`: that of `database`.
    pub event_store_url: Option<PostgresUrl>,
    /// Where the profile cache and the stream are.
    pub redis: Redis,
    /// The stream that says what became of profiles.
    pub users_stream: UsersStream,
    /// How long a profile stays in Redis after it was last written.
    pub profile_cache_ttl: Duration,
    /// How often the read models are compared with the log; `None`: never.
    pub projections_check_every: Option<Duration>,
    /// Where messages go.
    pub kafka: Kafka,
    /// How topics are made and written.
    pub topics: Topics,
    /// How messages of other services are read.
    pub inbound: Inbound,
    /// What messages are signed with.
    pub signing_key: Option<SigningKey>,
    /// Where mails go.
    pub mail: Mail,
    /// Whether `serve` migrates before it starts.
    pub auto_migrate: bool,
    /// What this process does.
    pub roles: Roles,
    /// Who may do what.
    pub auth: Auth,
    /// Log lines.
    pub log: Log,
    /// The folder of the private servers.
    pub data_dir: PathBuf,
    /// Every setting as `annuaire config` shows it.
    pub effective: Vec<Effective>,
}

/// The `PostgreSQL` to use.
#[derive(Debug, Clone)]
pub enum Database {
    /// One of our own, started and stopped with the program.
    Private,
    /// A server that others run.
    Url(PostgresUrl),
}

/// How log lines are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// `None`: text on a terminal, JSON otherwise.
    pub format: Option<LogFormat>,
    /// Directives of `tracing_subscriber::EnvFilter`.
    pub filter: String,
}

impl Config {
    /// From the environment of this process and its `.env` file.
    pub fn from_env() -> Result<Self, Invalid> {
        Self::from_sources(&Sources::from_process()?)
    }

    /// From these variables alone.
    pub fn from_vars(vars: impl IntoIterator<Item = (String, String)>) -> Result<Self, Invalid> {
        Self::from_sources(&Sources::from_vars(vars))
    }

    /// The form of log lines, whatever is wrong with other settings.
    #[must_use]
    pub fn log_format(sources: &Sources) -> Option<LogFormat> {
        let given = sources.find(&s::LOG_FORMAT).ok().flatten()?;
        LogFormat::parse(&given.value).ok()
    }

    /// From anything; all that is wrong is in the error.
    pub fn from_sources(sources: &Sources) -> Result<Self, Invalid> {
        let mut read = Reader::new(sources);
        let config = Self::read(&mut read);
        match config {
            Some(config) if read.problems.is_empty() => Ok(Self { effective: read.effective, ..config }),
            _ => Err(Invalid { problems: read.problems }),
        }
    }

    // Reads every setting before the first `?`, so that no problem hides another.
    fn read(read: &mut Reader<'_>) -> Option<Self> {
        let port = read.value(&s::PORT, values::port);
        let host = read.value(&s::HTTP_HOST, values::host);
        let transport = transport::transport(read, host);
        let roles = read.value(&s::ROLES, Roles::parse);
        let database = database(read);
        let migration_url = read.optional(&s::MIGRATION_DATABASE_URL, PostgresUrl::parse);
        let private = matches!(database, Some(Database::Private));
        if private && migration_url.is_some() {
            read.refuse(
                &s::MIGRATION_DATABASE_URL,
                "none without DATABASE_URL: the private PostgreSQL migrates itself",
            );
        }
        let auto_migrate =
            read.value_or(&s::AUTO_MIGRATE, if private { "true" } else { "false" }, values::boolean);
        let event_store_url = read.optional(&s::EVENT_STORE_URL, values::event_store_url);
        let redis = redis::redis(read);
        let stream = read.value(&s::USERS_STREAM, values::users_stream);
        let max_len = read.value(&s::USERS_STREAM_MAXLEN, values::number(1..=1_000_000_000_000));
        let profile_cache_ttl = read.value(&s::PROFILE_CACHE_TTL, values::profile_cache_ttl);
        let check_every = read.value(&s::PROJECTIONS_CHECK_EVERY, values::check_every);
        let kafka = kafka::kafka(read);
        let topics = kafka::topics(read);
        let inbound = inbound::inbound(read);
        let signing_key =
            read.optional(&s::EVENT_SIGNING_KEY, |text| SigningKey::parse(text).map_err(str::to_owned));
        let mail = mail::mail(read, host);
        let auth = auth::auth(read, host);
        let format = read.optional(&s::LOG_FORMAT, LogFormat::parse);
        let filter = read.value(&s::RUST_LOG, values::log_filter);
        Some(Self {
            http: Http { host: host?, port: port? },
            transport: transport?,
            database: database?,
            migration_url,
            event_store_url,
            redis: redis?,
            users_stream: UsersStream { name: stream?, max_len: max_len? },
            profile_cache_ttl: profile_cache_ttl?,
            projections_check_every: check_every?,
            kafka: kafka?,
            topics: topics?,
            inbound: inbound?,
            signing_key,
            mail: mail?,
            auto_migrate: auto_migrate?,
            roles: roles?,
            auth: auth?,
            log: Log { format, filter: filter? },
            data_dir: PathBuf::from(".data"),
            effective: Vec::new(),
        })
    }
}

fn database(read: &mut Reader<'_>) -> Option<Database> {
    let before = read.problems.len();
    let url = read.optional(&s::DATABASE_URL, PostgresUrl::parse);
    let text = |value: &str| Ok(value.to_owned());
    let host = read.optional(&s::DB_HOST, values::host_name);
    let port = read.optional(&s::DB_PORT, values::server_port);
    let database = read.optional(&s::DB_DATABASE, text);
    let user = read.optional(&s::DB_USER, text);
    let password = read.optional(&s::DB_PASSWORD, text);
    if read.problems.len() > before {
        return None;
    }
    let no_part =
        host.is_none() && port.is_none() && database.is_none() && user.is_none() && password.is_none();
    if url.is_some() || no_part {
        for part in [&s::DB_HOST, &s::DB_PORT, &s::DB_DATABASE, &s::DB_USER] {
            read.show_default(part, "none");
        }
        return Some(url.map_or(Database::Private, Database::Url));
    }
    let or_default =
        |value: Option<String>, setting: &s::Setting<'_>| value.unwrap_or_else(|| setting.default.to_owned());
    let parts = Parts {
        host: or_default(host, &s::DB_HOST),
        port: port.or_else(|| values::server_port(s::DB_PORT.default).ok())?,
        database: or_default(database, &s::DB_DATABASE),
        user: or_default(user, &s::DB_USER),
        password,
    };
    let url = PostgresUrl::parse(&parts.url()).ok();
    match &url {
        Some(url) => read.show_default(&s::DATABASE_URL, &url.masked()),
        None => read.refuse(&s::DB_HOST, values::HOST_NAME),
    }
    url.map(Database::Url)
}

#[cfg(test)]
mod tests;
