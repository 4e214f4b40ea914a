//! The figures that operators watch: they are there from the start, they move, and the dashboard, the
//! alerts and their runbooks speak of nothing else.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use event_store::MIGRATOR;
use serde_json::{Value, json};
use sqlx::PgPool;
use tokio::task::JoinSet;

use crate::load::Load;
use crate::log::Log;
use crate::server::{Server, eventually};
use crate::sinks::{Sinks, own_redis, shared_kafka};

const READERS: [&str; 6] = ["users_v1", "customers_v1", "profile_cache", "redis_stream", "kafka", "mail"];
const CLIENTS: usize = 4;

/// What `/metrics` showed at some time.
struct Figures(String);

impl Figures {
    async fn of(server: &Server) -> Self {
        Self(server.get("/metrics").send().await.unwrap().text().await.unwrap())
    }

    /// The figure with exactly this name and these labels, as it is written.
    fn find(&self, series: &str) -> Option<&str> {
        self.0.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))
    }

    fn text(&self, series: &str) -> &str {
        self.find(series).unwrap_or_else(|| panic!("{series} is not in\n{}", self.0))
    }

    fn value(&self, series: &str) -> f64 {
        self.text(series).parse().unwrap()
    }

    /// The names of all series.
    fn names(&self) -> BTreeSet<&str> {
        let series = self.0.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
        series.map(|line| line.split(['{', ' ']).next().unwrap()).collect()
    }

    /// What is said with `# HELP` or `# TYPE` of which name.
    fn said(&self, what: &str) -> BTreeSet<&str> {
        let said = self.0.lines().filter_map(|line| line.strip_prefix("# ")?.strip_prefix(what));
        said.map(|line| line.split_whitespace().next().unwrap()).collect()
    }
}

/// Counters and histograms that grow under load.
const GROWING: [&str; 10] = [
    r#"annuaire_commands_total{outcome="done"}"#,
    "annuaire_append_seconds_count",
    "annuaire_append_seconds_sum",
    "annuaire_append_batch_size_sum",
    "annuaire_head_position",
    r#"annuaire_outbox_messages_total{sink="redis_stream",topic="events:users"}"#,
    r#"annuaire_outbox_messages_total{sink="kafka",topic="user.events"}"#,
    r#"annuaire_pool_wait_seconds_count{pool="log"}"#,
    r#"annuaire_pool_wait_seconds_count{pool="queries"}"#,
    r#"annuaire_sink_heals_total{sink="redis_stream",reason="stream_lost"}"#,
];

#[sqlx::test(migrator = "MIGRATOR")]
async fn every_figure_is_there_from_the_start_and_moves(pool: PgPool) {
    let folder = tempfile::tempdir().unwrap();
    let redis = own_redis(folder.path()).await;
    let sinks = Sinks::new(&pool, redis.url(), shared_kafka()).await;
    let server = Arc::new(sinks.server(&[]).await);
    for reader in READERS {
        let state = format!(r#"annuaire_reader_state{{reader="{reader}",state="leading"}}"#);
        eventually(&format!("{reader} leads"), async || Figures::of(&server).await.find(&state) == Some("1"))
            .await;
    }
    let start = Figures::of(&server).await;
    for reader in READERS {
        for state in ["standby", "paused", "failing", "stopped"] {
            let series = format!(r#"annuaire_reader_state{{reader="{reader}",state="{state}"}}"#);
            assert_eq!(start.text(&series), "0", "{series}");
        }
        for lag in ["positions", "seconds"] {
            assert_eq!(start.text(&format!(r#"annuaire_lag_{lag}{{reader="{reader}"}}"#)), "0", "{lag}");
        }
    }
    for series in [
        r#"annuaire_commands_total{outcome="refused"}"#,
        r#"annuaire_commands_total{outcome="failed"}"#,
        r#"annuaire_profile_cache_total{result="hit"}"#,
        r#"annuaire_profile_cache_total{result="error"}"#,
        r#"annuaire_sink_heals_total{sink="kafka",reason="checkpoint_lost"}"#,
        r#"annuaire_sink_heals_total{sink="profile_cache",reason="cache_lost"}"#,
        r#"annuaire_dead_letters{queue="outbox"}"#,
        r#"annuaire_dead_letters{queue="mail"}"#,
        "annuaire_mails_put_off",
        r#"annuaire_outbox_messages_total{sink="mail",topic="password_reset"}"#,
        r#"annuaire_subscriptions_advanced_total{outcome="done"}"#,
        "annuaire_subscriptions_due",
    ] {
        assert_eq!(start.text(series), "0", "{series}");
    }
    for pool in ["log", "queries"] {
        let of =
            |state| start.value(&format!(r#"annuaire_pool_connections{{pool="{pool}",state="{state}"}}"#));
        assert!((0.0..=16.0).contains(&(of("busy") + of("idle"))), "{pool}");
    }
    assert_eq!(start.said("HELP"), start.said("TYPE"), "each is explained");

    let load = Load::start(&server, CLIENTS, "m");
    eventually("the log grows", async || sinks.head().await > 100).await;
    assert!(load.stop_unharmed().await > 0);
    sinks.reach(sinks.head().await).await;
    let mut redis_client = sinks.redis().await;
    redis::cmd("FLUSHALL").exec_async(&mut redis_client).await.unwrap();
    let id = server.create("M1").await;
    let missed = r#"annuaire_profile_cache_total{result="miss"}"#;
    eventually("a profile is missed", async || {
        let mut redis = redis_client.clone();
        redis::cmd("DEL").arg(format!("user:profile:{id}")).exec_async(&mut redis).await.unwrap();
        assert_eq!(server.get(&format!("/{id}")).send().await.unwrap().status(), 200);
        Figures::of(&server).await.value(missed) > 0.0
    })
    .await;
    for series in GROWING {
        let before = start.value(series);
        eventually(&format!("{series} grows"), async || Figures::of(&server).await.value(series) > before)
            .await;
    }
    let http = r#"annuaire_http_seconds_count{route="/",status="201"}"#;
    assert!(Figures::of(&server).await.value(http) > 0.0);
    redis.stop().await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_reader_that_stopped_and_a_command_that_failed_are_seen(pool: PgPool) {
    let server = Server::on(&pool).await;
    server.create("M1").await;
    Log::of(&pool).await.event_of_tomorrow("u1").await;
    for series in [
        r#"annuaire_reader_state{reader="users_v1",state="stopped"}"#,
        r#"annuaire_lag_positions{reader="users_v1"}"#,
        r#"annuaire_lag_seconds{reader="users_v1"}"#,
    ] {
        eventually(&format!("{series} rises"), async || Figures::of(&server).await.value(series) > 0.0).await;
    }
    let failed = r#"annuaire_commands_total{outcome="failed"}"#;
    assert_eq!(Figures::of(&server).await.text(failed), "0");
    sqlx::query("ALTER TABLE events RENAME TO away").execute(&pool).await.unwrap();
    let body = json!({ "matricule": "M2", "nom": "Dupont" });
    assert!(server.post("/", &body).send().await.unwrap().status().is_server_error());
    assert_eq!(Figures::of(&server).await.text(failed), "1");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_pool_that_is_used_up_is_seen(pool: PgPool) {
    let server = Arc::new(Server::on(&pool).await);
    let waited = r#"annuaire_pool_wait_seconds_sum{pool="queries"}"#;
    eventually("it is measured", async || Figures::of(&server).await.find(waited).is_some()).await;
    let before = Figures::of(&server).await.value(waited);
    let mut lock = pool.begin().await.unwrap();
    sqlx::query("LOCK TABLE users_v1").execute(&mut *lock).await.unwrap();
    let clients: JoinSet<()> = (0..64)
        .map(|_| {
            let server = server.clone();
            // Not by id: those who ask for one user share a connection.
            async move { while server.get("/matricule/nobody").send().await.unwrap().status() == 503 {} }
        })
        .collect();
    eventually("one who asks for a connection waits", async || {
        let figures = Figures::of(&server).await;
        figures.text(r#"annuaire_pool_connections{pool="queries",state="busy"}"#) == "16"
            && figures.value(waited) - before > 0.5
    })
    .await;
    lock.rollback().await.unwrap();
    clients.join_all().await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn the_dashboard_and_the_alerts_use_figures_that_exist(pool: PgPool) {
    let folder = tempfile::tempdir().unwrap();
    let redis = own_redis(folder.path()).await;
    let sinks = Sinks::new(&pool, redis.url(), shared_kafka()).await;
    let group = format!("figures-{}", std::process::id());
    let roles = ("ROLES", "api,projections,outbox,inbound");
    let server = sinks.server(&[roles, ("KAFKA_GROUP_ID", &group)]).await;
    server.create("M1").await;
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    let read = |name: &str| std::fs::read_to_string(docs.join(name)).unwrap();
    let (dashboard, rules) =
        (read("monitoring/grafana-dashboard.json"), read("monitoring/prometheus-rules.yml"));
    let dashboard: Value = serde_json::from_str(&dashboard).unwrap();
    let targets =
        dashboard["panels"].as_array().unwrap().iter().flat_map(|it| it["targets"].as_array().unwrap());
    let expressions: Vec<&str> = targets.map(|it| it["expr"].as_str().unwrap()).collect();
    assert!(expressions.len() > 10, "{expressions:?}");
    let wanted: BTreeSet<&str> = expressions.into_iter().chain([&*rules]).flat_map(figures_in).collect();
    let figures = async || Figures::of(&server).await;
    eventually("all figures are there", async || wanted.is_subset(&figures().await.names())).await;

    let operations = read("operations.md");
    let anchors: BTreeSet<String> = operations.lines().filter_map(anchor).collect();
    let runbooks: Vec<&str> =
        rules.lines().filter_map(|line| line.trim().strip_prefix("runbook: ")).collect();
    assert_eq!((rules.matches("- alert:").count(), runbooks.len()), (9, 9));
    for runbook in runbooks {
        let heading = runbook.strip_prefix("docs/operations.md#").unwrap();
        assert!(anchors.contains(heading), "no heading {heading} among {anchors:?}");
    }
    redis.stop().await;
}

/// The names of figures in a text.
fn figures_in(text: &str) -> impl Iterator<Item = &str> {
    let is_part = |c: char| c.is_ascii_lowercase() || c == '_';
    text.split(move |c| !is_part(c)).filter(|word| word.starts_with("annuaire_"))
}

/// What a link to this line, if it is a heading, ends with.
fn anchor(line: &str) -> Option<String> {
    let title = line.strip_prefix('#')?.trim_start_matches('#').trim().to_lowercase();
    Some(
        title
            .chars()
            .filter(|c| c.is_alphanumeric() || " -_".contains(*c))
            .collect::<String>()
            .replace(' ', "-"),
    )
}
