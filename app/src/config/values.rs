//! The accepted form of each value. An error is the sentence that says it.

use std::collections::BTreeSet;
use std::fmt::{self, Display};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use secrecy::SecretString;
use tracing_subscriber::EnvFilter;

use super::PostgresUrl;

/// Where HTTP is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Http {
    /// The address to listen on.
    pub host: Host,
    /// The port; 0: any free one.
    pub port: u16,
}

/// An address to listen on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Host {
    /// Both 127.0.0.1 and, where the machine has it, `::1`.
    Localhost,
    /// This one.
    Address(IpAddr),
}

impl Host {
    /// Whether only this machine can reach it.
    #[must_use]
    pub fn is_loopback(self) -> bool {
        match self {
            Self::Localhost => true,
            Self::Address(address) => address.to_canonical().is_loopback(),
        }
    }

    /// The sockets to bind, the first of which must work.
    #[must_use]
    pub fn sockets(self, port: u16) -> Vec<SocketAddr> {
        match self {
            Self::Localhost => vec![(Ipv4Addr::LOCALHOST, port).into(), (Ipv6Addr::LOCALHOST, port).into()],
            Self::Address(address) => vec![(address, port).into()],
        }
    }
}

/// Something that a process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Serves HTTP.
    Api,
    /// Keeps the read models up to date.
    Projections,
    /// Tells others, over Redis, Kafka and mail, what happened.
    Outbox,
    /// Does what other services ask over Kafka.
    Inbound,
}

const ROLES: &str = "api, projections, outbox, inbound, or several of them with commas";

/// What this process does; never nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roles(BTreeSet<Role>);

impl Roles {
    /// Whether this process has the role.
    #[must_use]
    pub fn contains(&self, role: Role) -> bool {
        self.0.contains(&role)
    }

    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let roles = text.split(',').map(|name| match name.trim() {
            "api" => Ok(Role::Api),
            "projections" => Ok(Role::Projections),
            "outbox" => Ok(Role::Outbox),
            "inbound" => Ok(Role::Inbound),
            _ => Err(ROLES.to_owned()),
        });
        roles.collect::<Result<_, _>>().map(Self)
    }
}

impl Display for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self
            .0
            .iter()
            .map(|role| match role {
                Role::Api => "api",
                Role::Projections => "projections",
                Role::Outbox => "outbox",
                Role::Inbound => "inbound",
            })
            .collect();
        f.write_str(&names.join(","))
    }
}

/// The form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For collectors.
    Json,
}

impl LogFormat {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err("text or json".to_owned()),
        }
    }
}

/// The stream that says what became of profiles.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsersStream {
    /// Its key.
    pub name: String,
    /// How many entries it keeps.
    pub max_len: u64,
}

pub(super) fn users_stream(text: &str) -> Result<String, String> {
    // Braces would put the stream and our own keys beside it in other slots of a cluster.
    let is_usable = |it: char| !it.is_whitespace() && !it.is_control() && !matches!(it, '{' | '}');
    if text.chars().count() > 512 || !text.chars().all(is_usable) {
        return Err("1 to 512 visible characters without spaces, { or }".to_owned());
    }
    if text.starts_with("annuaire:") || text.starts_with("user:profile:") {
        return Err(
            "a key that doesn't begin with annuaire: or user:profile:, which hold other things".to_owned()
        );
    }
    Ok(text.to_owned())
}

pub(super) fn profile_cache_ttl(text: &str) -> Result<Duration, String> {
    const TEN_YEARS: u64 = 10 * 365 * 86_400;
    number(1..=TEN_YEARS)(text)
        .map(Duration::from_secs)
        .map_err(|_| format!("seconds, 1 to {TEN_YEARS} (ten years)"))
}

pub(super) fn check_every(text: &str) -> Result<Option<Duration>, String> {
    const A_WEEK: u64 = 7 * 86_400;
    number(0..=A_WEEK)(text)
        .map(|seconds| (seconds > 0).then(|| Duration::from_secs(seconds)))
        .map_err(|_| format!("seconds, 1 to {A_WEEK} (a week), or 0 for never"))
}

pub(super) fn number<T>(range: RangeInclusive<T>) -> impl Fn(&str) -> Result<T, String>
where
    T: FromStr + PartialOrd + Display,
{
    move |text| {
        let number = text.parse().ok().filter(|number| range.contains(number));
        number.ok_or_else(|| format!("a whole number, {} to {}", range.start(), range.end()))
    }
}

pub(super) fn port(text: &str) -> Result<u16, String> {
    text.parse().map_err(|_| "a port, 0 to 65535 (0: any free one)".to_owned())
}

pub(super) fn server_port(text: &str) -> Result<u16, String> {
    text.parse().ok().filter(|port| *port > 0).ok_or_else(|| "a port, 1 to 65535".to_owned())
}

pub(super) fn host(text: &str) -> Result<Host, String> {
    match text {
        "localhost" => Ok(Host::Localhost),
        _ => text
            .trim_start_matches('[')
            .trim_end_matches(']')
            .parse()
            .map(Host::Address)
            .map_err(|_| "localhost, or an IP address such as 127.0.0.1, 0.0.0.0 or ::".to_owned()),
    }
}

pub(super) const HOST_NAME: &str = "a host name, an IP address or the folder of a socket";

pub(super) fn host_name(text: &str) -> Result<String, String> {
    // These would end the host and turn the rest of a URL into something else.
    if text.contains(['@', '?', '#', ' ']) {
        return Err(HOST_NAME.to_owned());
    }
    Ok(text.to_owned())
}

pub(super) fn boolean(text: &str) -> Result<bool, String> {
    text.parse().map_err(|_| "true or false".to_owned())
}

pub(super) fn jwt_secret(text: &str) -> Result<SecretString, String> {
    if text.len() < 32 {
        return Err("at least 32 bytes".to_owned());
    }
    Ok(text.into())
}

pub(super) fn event_store_url(text: &str) -> Result<PostgresUrl, String> {
    if text.starts_with("esdb:") {
        return Err("postgres://…; EventStoreDB (esdb://) comes in a later release".to_owned());
    }
    PostgresUrl::parse(text)
}

pub(super) fn log_filter(text: &str) -> Result<String, String> {
    EnvFilter::try_new(text)
        .map(|_| text.to_owned())
        .map_err(|error| format!("directives such as info,sqlx=warn ({error})"))
}
