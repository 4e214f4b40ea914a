use std::io::Write;

use command_api::auth::AuthMode;

use super::*;

mod inbound;
mod kafka;
mod transport;

fn from(vars: &[(&str, &str)]) -> Result<Config, Invalid> {
    Config::from_vars(vars.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())))
}

fn ok(vars: &[(&str, &str)]) -> Config {
    from(vars).expect("a good configuration")
}

fn refused(vars: &[(&str, &str)]) -> Vec<String> {
    from(vars).expect_err("a bad configuration").problems.into_iter().map(|problem| problem.name).collect()
}

fn sentence(vars: &[(&str, &str)]) -> String {
    let problems = from(vars).expect_err("a bad configuration").problems;
    let [problem] = &problems[..] else { panic!("more than one problem: {problems:?}") };
    problem.accepted.clone()
}

fn shown(config: &Config, name: &str) -> String {
    config.effective.iter().find(|it| it.setting == name).expect("it is shown").value.clone()
}

fn url(config: &Config) -> &str {
    match &config.database {
        Database::Url(url) => url.expose(),
        Database::Private => "private",
    }
}

fn redis(config: &Config) -> &str {
    match &config.redis {
        Redis::Url(url) => url.expose(),
        Redis::Private => "private",
    }
}

#[test]
fn nothing_set_means_private_servers_on_loopback_with_every_role() {
    let config = ok(&[("HOME", "/somewhere")]);
    assert_eq!(config.http, Http { host: Host::Localhost, port: 8001 });
    assert!(matches!(config.database, Database::Private));
    assert!(config.auto_migrate);
    assert_eq!(redis(&config), "private");
    assert_eq!(config.users_stream, UsersStream { name: "events:users".into(), max_len: 1_000_000 });
    assert_eq!(config.profile_cache_ttl, Duration::from_hours(7 * 24));
    assert_eq!(config.projections_check_every, Some(Duration::from_mins(5)));
    assert_eq!(ok(&[("PROJECTIONS_CHECK_EVERY", "0")]).projections_check_every, None);
    assert_eq!(config.kafka, Kafka::Embedded);
    assert_eq!(config.topics, Topics { partitions: 6, replication: None, compression: Compression::None });
    assert_eq!(config.roles.to_string(), "api,projections,outbox,inbound");
    assert_eq!(config.auth.mode, AuthMode::Open);
    assert!(config.effective.iter().all(|it| it.origin == Origin::Default));
}

#[test]
fn every_setting_is_shown_once() {
    let config = ok(&[]);
    let mut shown: Vec<_> = config.effective.iter().map(|it| it.setting.as_str()).collect();
    let mut all: Vec<_> = settings::ALL.iter().map(|it| it.name).collect();
    shown.sort_unstable();
    all.sort_unstable();
    assert_eq!(shown, all);
}

#[test]
fn an_empty_value_counts_as_not_set() {
    assert!(matches!(ok(&[("DATABASE_URL", ""), ("DB_HOST", "")]).database, Database::Private));
}

#[test]
fn a_url_wins_over_parts_and_turns_migration_at_start_off() {
    let config = ok(&[("DATABASE_URL", "postgresql://u:p@h/d"), ("DB_HOST", "elsewhere")]);
    assert_eq!(url(&config), "postgresql://u:p@h/d");
    assert!(!config.auto_migrate);
}

#[test]
fn parts_make_a_url_and_the_alias_of_the_database_works() {
    let config = ok(&[("DB_HOST", "h"), ("DB_NAME", "d"), ("DB_USER", "u"), ("DB_PASSWORD", "p@")]);
    assert_eq!(url(&config), "postgres://u:p%40@h:5432/d");
    assert!(effective::text(&config).contains("postgres://u:***@h:5432/d"));
}

#[test]
fn all_bad_values_are_told_at_once() {
    let bad = [
        ("AUTH_USER_SERVICE_PORT", "70000"),
        ("HTTP_HOST", "example.org"),
        ("TLS_CERT", "cert.pem"),
        ("TRUST_PROXY", "proxy"),
        ("CORS_ORIGINS", "*"),
        ("RATE_LIMIT", "0"),
        ("ROLES", "api,everything"),
        ("DATABASE_URL", "mysql://u:p@h/d"),
        ("AUTO_MIGRATE", "yes"),
        ("EVENT_STORE_URL", "esdb://h:2113"),
        ("REDIS_URL", "http://h"),
        ("REDIS_PORT", "0"),
        ("USERS_STREAM", "events users"),
        ("USERS_STREAM_MAXLEN", "0"),
        ("PROFILE_CACHE_TTL", "1w"),
        ("PROJECTIONS_CHECK_EVERY", "5m"),
        ("KAFKA_BROKERS", "kafka://h"),
        ("KAFKA_SECURITY_PROTOCOL", "tls"),
        ("KAFKA_SASL_MECHANISM", "GSSAPI"),
        ("KAFKA_OPT_ACKS", "1"),
        ("KAFKA_COMPRESSION", "zstd"),
        ("KAFKA_TOPIC_PARTITIONS", "0"),
        ("KAFKA_TOPIC_REPLICATION", "17"),
        ("KAFKA_GROUP_ID", "a group"),
        ("KAFKA_CLIENT_ID", "a client"),
        ("INBOUND_START", "yesterday"),
        ("SERVICE_KEYS", "admin-service"),
        ("INBOUND_TOPICS", "user.created"),
        ("RESPONSE_TOPICS", "a topic"),
        ("SMTP_URL", "http://h"),
        ("MAIL_FROM", "annuaire"),
        ("MAIL_LINK_BASE", "annuaire.example.org"),
        ("JWT_SECRET", "short"),
        ("ALLOW_OPEN", "1"),
        ("AUTH_MODE", "none"),
        ("PROFILE_READS", "closed"),
        ("COOKIE_SECURE", "yes"),
        ("SELF_REGISTRATION", "maybe"),
        ("LOG_FORMAT", "xml"),
        ("RUST_LOG", "annuaire=loud"),
    ];
    assert_eq!(refused(&bad), bad.map(|(name, _)| name));
}

#[test]
fn messages_are_signed_with_a_key_of_many_digits_that_is_never_shown() {
    assert!(ok(&[]).signing_key.is_none());
    let digits = "0a".repeat(32);
    let config = ok(&[("EVENT_SIGNING_KEY", &digits)]);
    assert!(config.signing_key.is_some());
    assert_eq!(shown(&config, "EVENT_SIGNING_KEY"), "***");
    assert!(!format!("{config:?}").contains(&digits));
    assert!(sentence(&[("EVENT_SIGNING_KEY", "0a")]).contains("at least 64"));
}

#[test]
fn an_error_shows_no_secret() {
    let vars = [
        ("JWT_SECRET", "hunter2"),
        ("EVENT_SIGNING_KEY", "hunter2"),
        ("SERVICE_KEYS", "admin-service:hunter2"),
        ("DATABASE_URL", "mysql://u:hunter2@h/d"),
        ("DB_PASSWORD", "hunter2"),
        ("REDIS_URL", "http://u:hunter2@h"),
        ("SMTP_URL", "smtp://u:hunter2@h/x"),
        ("KAFKA_SASL_PASSWORD", "hunter2"),
        ("KAFKA_OPT_SASL_PASSWORD", "hunter2"),
        ("KAFKA_OPT_ssl_key_pem", "hunter2"),
    ];
    let error = from(&vars).expect_err("a bad configuration");
    assert!(!error.to_string().contains("hunter2"), "{error}");
    assert!(!format!("{error:?}").contains("hunter2"));
}

#[test]
fn printing_the_configuration_shows_no_secret() {
    let config = ok(&[
        ("DATABASE_URL", "postgres://u:hunter2@h/d"),
        ("MIGRATION_DATABASE_URL", "postgres://o:hunter2@h/d"),
        ("JWT_SECRET", "hunter2hunter2hunter2hunter2hunter2"),
        ("JWT_SECRET_PREVIOUS", "hunter2hunter2hunter2hunter2hunter2"),
        ("ADMIN_MATRICULE", "570479H"),
        ("ADMIN_PASSWORD", "hunter2 et la mer"),
        ("AUTH_MODE", "open"),
        ("REDIS_URL", "redis://:hunter2@h"),
        ("REDIS_PASSWORD", "hunter2"),
        ("SMTP_URL", "smtps://u:hunter2@h"),
        ("MAIL_FROM", "annuaire@example.org"),
        ("KAFKA_BROKERS", "h"),
        ("KAFKA_SECURITY_PROTOCOL", "sasl_ssl"),
        ("KAFKA_SASL_MECHANISM", "PLAIN"),
        ("KAFKA_SASL_USERNAME", "u"),
        ("KAFKA_SASL_PASSWORD", "hunter2"),
        ("KAFKA_OPT_SSL_KEY_PASSWORD", "hunter2"),
        ("KAFKA_OPT_SSL_CERTIFICATE_PEM", "hunter2"),
    ]);
    for text in [effective::text(&config), effective::json(&config), format!("{config:?}")] {
        assert!(!text.contains("hunter2"), "{text}");
    }
}

#[test]
fn an_open_server_is_not_offered_to_the_network_unasked() {
    assert_eq!(refused(&[("HTTP_HOST", "0.0.0.0")]), ["AUTH_MODE"]);
    assert_eq!(refused(&[("HTTP_HOST", "::")]), ["AUTH_MODE"]);
    assert!(from(&[("HTTP_HOST", "0.0.0.0"), ("ALLOW_OPEN", "true")]).is_ok());
    assert!(from(&[("HTTP_HOST", "127.0.0.2")]).is_ok());
    assert!(from(&[("HTTP_HOST", "::1")]).is_ok());
}

#[test]
fn a_token_secret_asks_for_tokens() {
    let secret = ("JWT_SECRET", "0123456789abcdef0123456789abcdef");
    let mode = |vars: &[(&str, &str)]| ok(vars).auth.mode;
    assert_eq!(mode(&[]), AuthMode::Open);
    assert_eq!(mode(&[secret]), AuthMode::Required);
    assert_eq!(mode(&[("AUTH_MODE", "required")]), AuthMode::Required);
    assert_eq!(mode(&[secret, ("AUTH_MODE", "open")]), AuthMode::Open);
    assert!(from(&[secret, ("HTTP_HOST", "0.0.0.0")]).is_ok());
}

#[test]
fn each_secret_of_before_is_as_long_as_that_of_now() {
    let long = "0123456789abcdef0123456789abcdef";
    let two = format!("{long}, {long}x");
    assert_eq!(ok(&[("JWT_SECRET_PREVIOUS", &two)]).auth.previous.len(), 2);
    assert_eq!(refused(&[("JWT_SECRET_PREVIOUS", &format!("{long},short"))]), ["JWT_SECRET_PREVIOUS"]);
}

#[test]
fn profiles_are_open_on_this_machine_only_unless_it_is_said() {
    let secret = ("JWT_SECRET", "0123456789abcdef0123456789abcdef");
    let open = |vars: &[(&str, &str)]| ok(vars).auth.open_profiles;
    assert!(open(&[]));
    assert!(!open(&[secret, ("HTTP_HOST", "0.0.0.0")]));
    assert!(open(&[secret, ("HTTP_HOST", "0.0.0.0"), ("PROFILE_READS", "open")]));
    assert!(!open(&[("PROFILE_READS", "authenticated")]));
}

#[test]
fn the_first_administrator_has_a_matricule_and_a_password_that_would_be_accepted() {
    let (name, password) = (("ADMIN_MATRICULE", "570479H"), ("ADMIN_PASSWORD", "corridor-vers-la-mer"));
    assert!(ok(&[name, password]).auth.administrator.is_some());
    assert_eq!(refused(&[name]), ["ADMIN_PASSWORD"]);
    assert_eq!(refused(&[password]), ["ADMIN_MATRICULE"]);
    assert_eq!(refused(&[name, ("ADMIN_PASSWORD", "password1234")]), ["ADMIN_PASSWORD"]);
    assert!(!format!("{:?}", ok(&[name, password])).contains("corridor"));
}

#[test]
fn an_owner_url_needs_a_server_of_others() {
    assert_eq!(refused(&[("MIGRATION_DATABASE_URL", "postgres://h/d")]), ["MIGRATION_DATABASE_URL"]);
}

#[test]
fn a_secret_may_stand_in_a_file_but_not_in_both_places() {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    writeln!(file, "postgres://u:p@h/d").expect("to write");
    let path = file.path().to_str().expect("a readable path");
    let config = ok(&[("DATABASE_URL_FILE", path)]);
    assert_eq!(url(&config), "postgres://u:p@h/d");
    assert!(config.effective.iter().any(|it| it.setting == "DATABASE_URL" && it.origin == Origin::File));

    let both = [("DATABASE_URL", "postgres://h/d"), ("DATABASE_URL_FILE", path)];
    assert_eq!(refused(&both), ["DATABASE_URL_FILE"]);
    assert_eq!(refused(&[("DB_PASSWORD_FILE", "/nowhere/at/all")]), ["DB_PASSWORD_FILE"]);
}

#[test]
fn the_command_line_wins_over_the_environment_and_that_over_the_file() {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    writeln!(file, "# ours\nROLES=api\nLOG_FORMAT=json\nRUST_LOG=debug\nUNKNOWN=x").expect("to write");
    let vars = [("ROLES", "projections"), ("RUST_LOG", "")];
    let environment = vars.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let mut sources = Sources::from_vars(environment).dot_env(file.path()).expect("a good file");

    let config = Config::from_sources(&sources).expect("a good configuration");
    assert_eq!(config.roles.to_string(), "projections");
    assert_eq!(
        config.log,
        Log { format: Some(LogFormat::Json), filter: settings::RUST_LOG.default.to_owned() }
    );

    sources.command_line(&settings::ROLES, "api".to_owned());
    assert_eq!(Config::from_sources(&sources).expect("still good").roles.to_string(), "api");
}

#[test]
fn a_broken_line_of_the_file_is_named_without_its_content() {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    writeln!(file, "ROLES=api\nDB_PASSWORD=it is hunter2 'oh").expect("to write");
    let error = Sources::default().dot_env(file.path()).expect_err("a bad line");
    assert!(error.to_string().contains("the line after ROLES"), "{error}");
    assert!(!error.to_string().contains("hunter2"), "{error}");
}

#[test]
fn a_process_has_the_roles_it_is_given() {
    let roles = ok(&[("ROLES", "outbox, api")]).roles;
    assert_eq!(roles.to_string(), "api,outbox");
    assert!(roles.contains(Role::Outbox) && !roles.contains(Role::Inbound));
    assert!(ok(&[("ROLES", "inbound")]).roles.contains(Role::Inbound));
    assert_eq!(
        sentence(&[("ROLES", "inbound,inbox")]),
        "api, projections, outbox, inbound, or several of them with commas"
    );
}

#[test]
fn redis_comes_from_a_url_or_from_parts_and_the_url_wins() {
    let parts = [("REDIS_HOST", "localhost"), ("REDIS_PORT", "6379")];
    assert_eq!(redis(&ok(&parts)), "redis://localhost:6379");
    assert_eq!(redis(&ok(&[("REDIS_HOST", "::1")])), "redis://[::1]:6379");
    let config = ok(&[("REDIS_USERNAME", "u"), ("REDIS_PASSWORD", "p@")]);
    assert_eq!(redis(&config), "redis://u:p%40@localhost:6379");
    assert_eq!(shown(&config, "REDIS_URL"), "redis://u:***@localhost:6379");

    let config = ok(&[("REDIS_URL", "rediss://h/1"), ("REDIS_HOST", "elsewhere")]);
    assert_eq!(redis(&config), "rediss://h/1");
    assert_eq!(shown(&config, "REDIS_PORT"), "none");
}

#[test]
fn parts_of_redis_that_make_no_url_are_named() {
    assert_eq!(sentence(&[("REDIS_HOST", "/run/redis")]), "a host name or an IP address");
    assert_eq!(sentence(&[("REDIS_USERNAME", "u")]), "none without REDIS_PASSWORD");
    assert_eq!(
        sentence(&[("REDIS_URL", "redis://h/users")]),
        "redis://user:password@host:port/db or rediss://…, special characters percent-encoded, db a number"
    );
}

#[test]
fn mails_go_through_a_server_or_to_files_on_this_machine_or_nowhere() {
    let anywhere = [("HTTP_HOST", "0.0.0.0"), ("ALLOW_OPEN", "true")];
    let files = ok(&[]);
    assert!(matches!(files.mail.to, Mails::Files) && files.mail.is_possible());
    assert_eq!(shown(&files, "MAIL_FROM"), "annuaire@localhost");
    assert!(!ok(&anywhere).mail.is_possible());

    let (smtp, sender) = (("SMTP_URL", "smtp://u:p@h:25"), ("MAIL_FROM", "annuaire@example.org"));
    let config = ok(&[smtp, sender]);
    assert!(matches!(&config.mail.to, Mails::Server(url) if url.masked() == "smtp://u:***@h:25"));
    assert_eq!((shown(&config, "SMTP_URL").as_str(), config.mail.link_base), ("smtp://u:***@h:25", None));
    assert_eq!(refused(&[smtp]), ["MAIL_FROM"]);
    // Nobody is reached at 0.0.0.0.
    assert_eq!(refused(&[&anywhere[..], &[smtp, sender]].concat()), ["MAIL_LINK_BASE"]);
    let base = ("MAIL_LINK_BASE", "https://annuaire.example.org/");
    let config = ok(&[&anywhere[..], &[smtp, sender, base]].concat());
    assert_eq!(config.mail.link_base.as_deref(), Some("https://annuaire.example.org"));
}

#[test]
fn the_stream_has_a_key_of_its_own() {
    let long = "é".repeat(512);
    assert_eq!(ok(&[("USERS_STREAM", &long)]).users_stream.name, long);
    for bad in ["a b", "a\u{7}", "{users}", "a}", &"x".repeat(513)] {
        let accepted = "1 to 512 visible characters without spaces, { or }";
        assert_eq!(sentence(&[("USERS_STREAM", bad)]), accepted, "{bad}");
    }
    for bad in ["annuaire:users", "user:profile:"] {
        let accepted = "a key that doesn't begin with annuaire: or user:profile:, which hold other things";
        assert_eq!(sentence(&[("USERS_STREAM", bad)]), accepted);
    }
}

#[test]
fn numbers_have_bounds() {
    for (name, least, most, beyond, accepted) in [
        ("USERS_STREAM_MAXLEN", "1", "1000000000000", "1000000000001", "a whole number, 1 to 1000000000000"),
        ("PROFILE_CACHE_TTL", "1", "315360000", "315360001", "seconds, 1 to 315360000 (ten years)"),
        ("KAFKA_TOPIC_PARTITIONS", "1", "1000", "1001", "a whole number, 1 to 1000"),
        ("KAFKA_TOPIC_REPLICATION", "1", "16", "17", "a whole number, 1 to 16"),
    ] {
        for good in [least, most] {
            assert!(from(&[(name, good)]).is_ok(), "{name}={good}");
        }
        for bad in ["0", "-1", "1.5", "many", beyond] {
            assert_eq!(sentence(&[(name, bad)]), accepted, "{name}={bad}");
        }
    }
}
