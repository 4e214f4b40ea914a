//! Log lines on stderr, text for people and JSON for collectors, and the recorder of figures.

use std::io::{IsTerminal, stderr};
use std::time::Duration;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

use crate::config::{Log, LogFormat};
use crate::fatal::Fatal;
use crate::figures;

/// Bounds of the buckets of durations, in seconds.
const SECONDS: [f64; 14] =
    [0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0];
/// Bounds of the buckets of batch sizes.
const BATCH_SIZES: [f64; 10] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0];
/// How often the recorder tidies up.
const TIDY_EVERY: Duration = Duration::from_secs(5);

/// Starts recording figures.
pub fn metrics() -> Result<PrometheusHandle, Fatal> {
    let failed = |e| Fatal::new("can't record metrics", e);
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &SECONDS)
        .and_then(|builder| {
            builder.set_buckets_for_metric(Matcher::Full("annuaire_append_batch_size".into()), &BATCH_SIZES)
        })
        .map_err(failed)?
        .install_recorder()
        .map_err(failed)?;
    figures::describe();
    Ok(handle)
}

/// Lets the recorder fold what it gathered, so that it stays small between scrapes.
pub async fn keep_up(metrics: PrometheusHandle) {
    loop {
        tokio::time::sleep(TIDY_EVERY).await;
        metrics.run_upkeep();
    }
}

/// Starts logging. A second call changes nothing, so that tests may call it freely.
pub fn init(log: &Log) {
    let json = match log.format {
        Some(LogFormat::Json) => true,
        Some(LogFormat::Text) => false,
        None => !stderr().is_terminal(),
    };
    let filtered = tracing_subscriber::registry().with(EnvFilter::new(&log.filter));
    let lines = tracing_subscriber::fmt::layer().with_writer(stderr);
    let started: Result<(), TryInitError> = if json {
        filtered.with(lines.json().flatten_event(true).with_current_span(false)).try_init()
    } else {
        filtered.with(lines.with_target(false).with_ansi(stderr().is_terminal())).try_init()
    };
    drop(started);
}
