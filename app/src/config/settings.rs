//! The one table of settings: what parsing, `annuaire config` and `annuaire serve --help` share.

use std::fmt::Write;

/// How a value may be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// As it is.
    Plain,
    /// Never; may be given as `<NAME>_FILE`.
    Secret,
    /// Without its password; may be given as `<NAME>_FILE`.
    Url,
}

/// One setting. Only one of a family, such as `KAFKA_OPT_<KEY>`, has a name that is not `'static`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setting<'a> {
    /// The environment variable.
    pub name: &'a str,
    /// Another name for it, read when the first is not set.
    pub alias: Option<&'static str>,
    /// The default: a value where it is fixed, words where it depends on other settings.
    pub default: &'static str,
    /// What it does.
    pub meaning: &'static str,
    /// How its value may be shown.
    pub kind: Kind,
}

impl Setting<'_> {
    /// The variable that names a file holding the value.
    #[must_use]
    pub fn file_variable(&self) -> Option<String> {
        match self.kind {
            Kind::Plain => None,
            Kind::Secret | Kind::Url => Some(format!("{}_FILE", self.name)),
        }
    }
}

// A constant each, so that parsing names them, and a list of all, so that none is left out of it.
macro_rules! settings {
    ($($constant:ident = $name:literal $(or $alias:literal)?, $kind:ident, $default:literal, $meaning:literal;)*) => {
        $(
            #[doc = concat!("`", $name, "`")]
            pub const $constant: Setting<'static> = Setting {
                name: $name,
                alias: settings!(@alias $($alias)?),
                default: $default,
                meaning: $meaning,
                kind: Kind::$kind,
            };
        )*
        /// Every setting, in the order of the help.
        pub const ALL: &[Setting<'static>] = &[$($constant),*];
    };
    (@alias) => { None };
    (@alias $alias:literal) => { Some($alias) };
}

settings! {
    PORT = "AUTH_USER_SERVICE_PORT", Plain, "8001", "HTTP port; 0 = any free one, printed at start";
    HTTP_HOST = "HTTP_HOST", Plain, "localhost", "address to listen on: localhost (127.0.0.1 and ::1) or an IP address";
    TLS_CERT = "TLS_CERT", Plain, "none", "PEM file with the certificate of HTTPS, and those it stands on; with TLS_KEY";
    TLS_KEY = "TLS_KEY", Plain, "none", "PEM file with the certificate's key";
    TRUST_PROXY = "TRUST_PROXY", Plain, "none", "networks of proxies, comma-separated (10.0.0.0/8,::1), whose X-Forwarded-For and X-Forwarded-Proto count";
    CORS_ORIGINS = "CORS_ORIGINS", Plain, "http://localhost:*,http://127.0.0.1:* on loopback, else none", "origins whose pages may ask, with cookies, comma-separated; :* is any port";
    RATE_LIMIT = "RATE_LIMIT", Plain, "off", "requests a second from one address, beyond which it gets 429";
    ROLES = "ROLES", Plain, "api,projections,outbox,inbound", "what this process does, comma-separated";
    DATABASE_URL = "DATABASE_URL", Url, "a private PostgreSQL under .data/", "postgres://… with the log and the read models; wins over DB_*";
    DB_HOST = "DB_HOST", Plain, "localhost", "PostgreSQL's host, or the folder of its socket";
    DB_PORT = "DB_PORT", Plain, "5432", "PostgreSQL's port";
    DB_DATABASE = "DB_DATABASE" or "DB_NAME", Plain, "annuaire", "PostgreSQL's database";
    DB_USER = "DB_USER", Plain, "annuaire", "PostgreSQL's user";
    DB_PASSWORD = "DB_PASSWORD", Secret, "none", "PostgreSQL's password";
    MIGRATION_DATABASE_URL = "MIGRATION_DATABASE_URL", Url, "DATABASE_URL", "the schema owner's URL, for migrations and for rows that are made again";
    AUTO_MIGRATE = "AUTO_MIGRATE", Plain, "true with the private PostgreSQL, else false", "migrate at start";
    EVENT_STORE_URL = "EVENT_STORE_URL", Url, "DATABASE_URL", "postgres://… of the event log";
    REDIS_URL = "REDIS_URL", Url, "a private Redis under .data/", "redis://… or rediss://… for the profile cache and the stream; wins over REDIS_*";
    REDIS_HOST = "REDIS_HOST", Plain, "localhost", "Redis's host";
    REDIS_PORT = "REDIS_PORT", Plain, "6379", "Redis's port";
    REDIS_USERNAME = "REDIS_USERNAME", Plain, "none", "Redis's user";
    REDIS_PASSWORD = "REDIS_PASSWORD", Secret, "none", "Redis's password";
    USERS_STREAM = "USERS_STREAM", Plain, "events:users", "key of the Redis stream that says what became of profiles";
    USERS_STREAM_MAXLEN = "USERS_STREAM_MAXLEN", Plain, "1000000", "entries that the stream keeps";
    PROFILE_CACHE_TTL = "PROFILE_CACHE_TTL", Plain, "604800", "seconds that a profile stays in Redis after it was last written";
    PROJECTIONS_CHECK_EVERY = "PROJECTIONS_CHECK_EVERY", Plain, "300", "seconds between two comparisons of the read models' versions with the log's; 0 = never";
    KAFKA_BROKERS = "KAFKA_BROKERS", Plain, "an embedded broker", "Kafka's brokers, host[:port] with commas";
    KAFKA_SECURITY_PROTOCOL = "KAFKA_SECURITY_PROTOCOL", Plain, "plaintext", "plaintext, ssl, sasl_plaintext or sasl_ssl";
    KAFKA_SASL_MECHANISM = "KAFKA_SASL_MECHANISM", Plain, "none", "PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512";
    KAFKA_SASL_USERNAME = "KAFKA_SASL_USERNAME", Plain, "none", "Kafka's user";
    KAFKA_SASL_PASSWORD = "KAFKA_SASL_PASSWORD", Secret, "none", "Kafka's password";
    KAFKA_OPT = "KAFKA_OPT_<KEY>", Plain, "none", "a property of librdkafka, in upper case with _ for . (KAFKA_OPT_SSL_CA_LOCATION is ssl.ca.location); one that holds a secret also as KAFKA_OPT_<KEY>_FILE";
    KAFKA_COMPRESSION = "KAFKA_COMPRESSION", Plain, "none", "none or gzip, as KafkaJS reads no other";
    KAFKA_TOPIC_PARTITIONS = "KAFKA_TOPIC_PARTITIONS", Plain, "6", "partitions of a topic that is made";
    KAFKA_TOPIC_REPLICATION = "KAFKA_TOPIC_REPLICATION", Plain, "the broker's default", "copies of each partition of a topic that is made";
    KAFKA_GROUP_ID = "KAFKA_GROUP_ID", Plain, "customer-service-group", "consumer group that reads what other services say";
    KAFKA_CLIENT_ID = "KAFKA_CLIENT_ID", Plain, "customer-service-consumer", "name of that consumer, for Kafka's logs and quotas";
    INBOUND_START = "INBOUND_START", Plain, "earliest", "where reading begins on a partition that was never read: earliest, latest, or a time such as 2026-11-23T10:00:00Z";
    SERVICE_KEYS = "SERVICE_KEYS", Secret, "none", "keys that other services sign with, name:hex with commas, at least 64 hexadecimal digits each; one that has a key must sign, one that has several may use any";
    INBOUND_TOPICS = "INBOUND_TOPICS", Plain, "none", "topics of other services that are called otherwise, topic=other with commas";
    RESPONSE_TOPICS = "RESPONSE_TOPICS", Plain, "customer.response.*,*.response,*.reply", "topics that answers may go to, with commas; * is any characters";
    EVENT_SIGNING_KEY = "EVENT_SIGNING_KEY", Secret, "none", "key that Kafka messages are signed with, at least 64 hexadecimal digits";
    SMTP_URL = "SMTP_URL", Url, "none: on loopback mails are written to .data/mail/, else there are none", "smtp://user:password@host:port (STARTTLS; 587) or smtps://… (TLS; 465): the server that mails go through";
    MAIL_FROM = "MAIL_FROM", Plain, "annuaire@localhost; needed with SMTP_URL", "who mails are from: annuaire@example.org, or Annuaire <annuaire@example.org>";
    MAIL_LINK_BASE = "MAIL_LINK_BASE", Plain, "our own address", "what links in mails begin with: pages under /password/reset and /email/verify that send their token by POST";
    JWT_SECRET = "JWT_SECRET", Secret, "another at each start", "secret that tokens are signed with (HS256), at least 32 bytes; shared with the services that verify them";
    JWT_SECRET_PREVIOUS = "JWT_SECRET_PREVIOUS", Secret, "none", "secrets of before, comma-separated: tokens signed with them are still good";
    AUTH_MODE = "AUTH_MODE", Plain, "required when JWT_SECRET is set, else open", "open: a request without a token acts as an administrator; required: it does not";
    PROFILE_READS = "PROFILE_READS", Plain, "open on a loopback address, else authenticated", "open: GET /:id, /matricule/:m, /all, and /batch need no token; authenticated: they do";
    SELF_REGISTRATION = "SELF_REGISTRATION", Plain, "false", "whether people may register by themselves, which takes mails";
    COOKIE_SECURE = "COOKIE_SECURE", Plain, "auto", "whether browsers send our cookies over HTTPS only: true, false, or auto (unless the client came by HTTP from this machine)";
    ADMIN_MATRICULE = "ADMIN_MATRICULE", Plain, "none", "matricule of the administrator that is created where there is none";
    ADMIN_PASSWORD = "ADMIN_PASSWORD", Secret, "none", "that administrator's password";
    ALLOW_OPEN = "ALLOW_OPEN", Plain, "false", "true: AUTH_MODE=open on more than the loopback address";
    LOG_FORMAT = "LOG_FORMAT", Plain, "text on a terminal, else json", "log lines: text or json";
    RUST_LOG = "RUST_LOG", Plain, "info,sqlx=warn", "which log lines are written";
}

/// The table as text for the help.
#[must_use]
pub fn help() -> String {
    let mut text = String::from(
        "Settings, from the environment or a .env file in the working folder (the environment wins):\n",
    );
    for setting in ALL {
        let Setting { name, alias, default, meaning, kind: _ } = setting;
        let alias = alias.map(|alias| format!(" (or {alias})")).unwrap_or_default();
        // Writing to a String can't fail.
        let _ = write!(text, "\n  {name}{alias}\n      {meaning}\n      [default: {default}]");
        if let Some(file) = setting.file_variable() {
            let _ = write!(text, " [{file}: a file that holds it]");
        }
    }
    text.push_str("\n\nAn empty value counts as not set. `annuaire config` prints what is in effect.");
    text
}
