//! Where the log and the read models are, and who owns their schemas.

use sqlx::postgres::PgConnectOptions;

use crate::config::{Config, Database, PostgresUrl};

/// How to connect to each database.
pub(crate) struct Urls {
    /// The read models, and the log too unless it has a database of its own.
    pub(crate) read_models: PgConnectOptions,
    // The same database as the owner of its schema.
    owner: PgConnectOptions,
    // The log's own database, whose schema its user owns.
    other_log: Option<PgConnectOptions>,
}

impl Urls {
    /// As configured; `private` leads to our own running server where none was named.
    pub(crate) fn of(config: &Config, private: Option<PgConnectOptions>) -> Self {
        let read_models = match (&config.database, private) {
            (Database::Url(url), _) => url.connect_options(),
            (Database::Private, Some(server)) => server,
            (Database::Private, None) => PgConnectOptions::new(),
        };
        let owner = config.migration_url.as_ref().map(PostgresUrl::connect_options);
        Self {
            owner: owner.unwrap_or_else(|| read_models.clone()),
            read_models,
            other_log: config.event_store_url.as_ref().map(PostgresUrl::connect_options),
        }
    }

    /// The read models, as the owner of their schema.
    pub(crate) const fn owner(&self) -> &PgConnectOptions {
        &self.owner
    }

    /// The log.
    pub(crate) fn log(&self) -> &PgConnectOptions {
        self.other_log.as_ref().unwrap_or(&self.read_models)
    }

    /// The log, if it has a database of its own.
    pub(crate) const fn other_log(&self) -> Option<&PgConnectOptions> {
        self.other_log.as_ref()
    }

    /// Every database with a schema of ours.
    pub(crate) fn schemas(&self) -> impl Iterator<Item = &PgConnectOptions> {
        [Some(&self.read_models), self.other_log.as_ref()].into_iter().flatten()
    }

    /// The same, each as the owner of its schema.
    pub(crate) fn owners(&self) -> impl Iterator<Item = &PgConnectOptions> {
        [Some(&self.owner), self.other_log.as_ref()].into_iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn urls(vars: &[(&str, &str)]) -> Urls {
        let vars = vars.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Urls::of(&Config::from_vars(vars).expect("a good configuration"), None)
    }

    fn hosts<'a>(of: impl Iterator<Item = &'a PgConnectOptions>) -> Vec<&'a str> {
        of.map(PgConnectOptions::get_host).collect()
    }

    #[test]
    fn one_database_holds_all_unless_the_log_has_its_own() {
        let one = urls(&[("DATABASE_URL", "postgres://h/d")]);
        assert_eq!(one.log().get_host(), "h");
        assert_eq!((hosts(one.schemas()), hosts(one.owners())), (vec!["h"], vec!["h"]));

        let two = urls(&[
            ("DATABASE_URL", "postgres://h/d"),
            ("MIGRATION_DATABASE_URL", "postgres://owner/d"),
            ("EVENT_STORE_URL", "postgres://log/d"),
        ]);
        assert_eq!((two.read_models.get_host(), two.log().get_host()), ("h", "log"));
        assert_eq!((hosts(two.schemas()), hosts(two.owners())), (vec!["h", "log"], vec!["owner", "log"]));
    }

    #[test]
    fn a_log_elsewhere_is_migrated_beside_a_private_server_too() {
        let urls = urls(&[("EVENT_STORE_URL", "postgres://log/d")]);
        assert_eq!(hosts(urls.owners()).last(), Some(&"log"));
        assert_eq!(urls.owners().count(), 2);
    }
}
