use std::io::Write;

use super::*;

fn from(vars: &[(&str, &str)]) -> Result<Config, Invalid> {
    Config::from_vars(vars.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())))
}

fn ok(vars: &[(&str, &str)]) -> Config {
    from(vars).expect("a good configuration")
}

fn refused(vars: &[(&str, &str)]) -> Vec<String> {
    from(vars).expect_err("a bad configuration").problems.into_iter().map(|problem| problem.name).collect()
}

fn url(config: &Config) -> &str {
    match &config.database {
        Database::Url(url) => url.expose(),
        Database::Private => "private",
    }
}

#[test]
fn nothing_set_means_a_private_server_on_loopback_with_every_role() {
    let config = ok(&[("HOME", "/somewhere")]);
    assert_eq!(config.http, Http { host: Host::Localhost, port: 8001 });
    assert!(matches!(config.database, Database::Private));
    assert!(config.auto_migrate);
    assert_eq!(config.roles.to_string(), "api,projections");
    assert_eq!(config.auth_mode, AuthMode::Open);
    assert!(config.effective.iter().all(|it| it.origin == Origin::Default));
}

#[test]
fn every_setting_is_shown_once() {
    let mut shown: Vec<_> = ok(&[]).effective.iter().map(|it| it.setting).collect();
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
        ("ROLES", "api,outbox"),
        ("DATABASE_URL", "mysql://u:p@h/d"),
        ("AUTO_MIGRATE", "yes"),
        ("EVENT_STORE_URL", "esdb://h:2113"),
        ("JWT_SECRET", "short"),
        ("ALLOW_OPEN", "1"),
        ("AUTH_MODE", "none"),
        ("LOG_FORMAT", "xml"),
        ("RUST_LOG", "annuaire=loud"),
    ];
    assert_eq!(refused(&bad), bad.map(|(name, _)| name));
}

#[test]
fn an_error_shows_no_secret() {
    let vars =
        [("JWT_SECRET", "hunter2"), ("DATABASE_URL", "mysql://u:hunter2@h/d"), ("DB_PASSWORD", "hunter2")];
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
        ("AUTH_MODE", "open"),
    ]);
    for text in [effective::text(&config), effective::json(&config), format!("{:?}", config.migration_url)] {
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
fn a_token_secret_asks_for_authentication_which_this_release_lacks() {
    let secret = ("JWT_SECRET", "0123456789abcdef0123456789abcdef");
    assert_eq!(refused(&[secret]), ["AUTH_MODE"]);
    assert_eq!(refused(&[("AUTH_MODE", "required")]), ["AUTH_MODE"]);
    assert!(from(&[secret, ("AUTH_MODE", "open")]).is_ok());
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
