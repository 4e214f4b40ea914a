//! What is said on the screen once everything is up.

use std::fmt;

use command_api::auth::AuthMode;

use crate::config::{Config, Database, Kafka, Mails, Redis, Role};
use crate::servers::Servers;

/// What was started and what to try.
pub(crate) struct Banner<'a> {
    pub(crate) config: &'a Config,
    /// Where the program is reached.
    pub(crate) address: &'a str,
    pub(crate) servers: &'a Servers,
}

impl fmt::Display for Banner<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { config, address: base, servers } = self;
        writeln!(f, "\nannuaire {} is up\n", env!("CARGO_PKG_VERSION"))?;
        writeln!(f, "  HTTP        {base}   (health: /health, figures: /metrics)")?;
        let data = config.data_dir.display();
        match (&servers.postgres, &config.database) {
            (Some(server), _) => {
                writeln!(f, "  PostgreSQL  a private one in {data}, ends with this program")?;
                writeln!(f, "              psql '{}'", server.url())?;
            }
            (None, Database::Url(url)) => writeln!(f, "  PostgreSQL  {}", url.masked())?,
            (None, Database::Private) => {}
        }
        match (&servers.redis, &config.redis) {
            (Some(server), _) => {
                writeln!(
                    f,
                    "  Redis       {}   (a private one in {data}, ends with this program)",
                    server.url()
                )?;
            }
            (None, Redis::Url(url)) => writeln!(f, "  Redis       {}", url.masked())?,
            (None, Redis::Private) => {}
        }
        match (&servers.broker, &config.kafka) {
            (Some(broker), _) => {
                writeln!(
                    f,
                    "  Kafka       {}   (in this program's memory: a window on the last messages,",
                    broker.bootstrap()
                )?;
                writeln!(f, "              empty at each start; `make run-kafka` has a real one)")?;
            }
            (None, Kafka::Cluster(cluster)) => writeln!(f, "  Kafka       {}", cluster.brokers)?,
            (None, Kafka::Embedded) => {}
        }
        match &config.mail.to {
            _ if !config.roles.contains(Role::Outbox) => {}
            Mails::Server(url) => writeln!(f, "  Mail        {}", url.masked())?,
            Mails::Files => writeln!(f, "  Mail        written to {data}/mail/, since there is no SMTP_URL")?,
            Mails::None => writeln!(f, "  Mail        none: there is no SMTP_URL")?,
        }
        writeln!(f, "  Roles       {}", config.roles)?;
        if config.auth.mode == AuthMode::Open {
            writeln!(f, "  Access      open: no authentication, every caller is an administrator")?;
        } else {
            writeln!(f, "  Access      with a token of POST /login, as Authorization: Bearer")?;
        }
        if config.roles.contains(Role::Api) {
            writeln!(
                f,
                r#"
Try it, in another terminal (each answer names the user's id):

  curl -iw '\n' -X POST {base}/ -H 'Content-Type: application/json' \
       -d '{{"matricule":"TEST123","nom":"Test","prenom":"User","ministere":"IT","sexe":"M"}}'
  curl -iw '\n' -X PUT {base}/TEST123 -H 'Content-Type: application/json' -d '{{"nom":"UpdatedName"}}'
  curl -iw '\n' {base}/TEST123"#
            )?;
            self.profile(f)?;
            writeln!(f, "  curl -iw '\\n' -X DELETE {base}/TEST123")?;
            if let Some(server) = &servers.postgres {
                writeln!(f, "  psql '{}' -c 'SELECT * FROM events_readable'", server.url())?;
            }
            self.sinks(f)?;
        }
        write!(f, "\nCtrl-C stops it.")
    }
}

impl Banner<'_> {
    /// How to look at the cached profile.
    fn profile(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.redis_cli().filter(|_| self.config.roles.contains(Role::Projections)) {
            Some(cli) => writeln!(f, "  {cli} HGETALL user:profile:TEST123"),
            None => Ok(()),
        }
    }

    fn redis_cli(&self) -> Option<String> {
        let url = match (&self.servers.redis, &self.config.redis) {
            (Some(server), _) => server.url(),
            // With a password it is better not on the screen.
            (None, Redis::Url(url)) if url.masked() == url.expose() => url.masked(),
            (None, Redis::Url(_)) => "\"$REDIS_URL\"".to_owned(),
            (None, Redis::Private) => return None,
        };
        // Everyone has the port that redis-cli takes by itself.
        let is_usual = url == "redis://127.0.0.1:6379";
        Some(if is_usual { "redis-cli".to_owned() } else { format!("redis-cli -u {url}") })
    }

    /// How to look at what is written for others.
    fn sinks(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { config, servers, .. } = self;
        if let Some(cli) = self.redis_cli().filter(|_| config.roles.contains(Role::Outbox)) {
            writeln!(f, "  {cli} XREAD COUNT 10 STREAMS {} 0", config.users_stream.name)?;
        }
        let brokers = match (&servers.broker, &config.kafka) {
            (Some(broker), _) => Some(broker.bootstrap()),
            (None, Kafka::Cluster(cluster)) => Some(cluster.brokers.as_str()),
            (None, Kafka::Embedded) => None,
        };
        if let Some(brokers) = brokers.filter(|_| config.roles.contains(Role::Outbox)) {
            writeln!(f, "  kcat -C -b {brokers} -t user.events -o beginning -e -f '%k %h %s\\n'")?;
        }
        Ok(())
    }
}
