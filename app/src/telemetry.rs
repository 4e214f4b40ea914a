//! Log lines on stderr, text for people and JSON for collectors, and the recorder of figures.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::{IsTerminal, Write, stderr};
use std::panic::PanicHookInfo;
use std::sync::OnceLock;
use std::time::Duration;

use chrono::SecondsFormat;
use event_store::{Clock, SystemClock};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use serde::Serialize;
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

/// Whether log lines are JSON, as soon as that is known.
static JSON: OnceLock<bool> = OnceLock::new();

/// Chooses the form of every line to come; the first choice counts.
pub(crate) fn choose(format: Option<LogFormat>) -> bool {
    *JSON.get_or_init(|| match format {
        Some(LogFormat::Json) => true,
        Some(LogFormat::Text) => false,
        None => !stderr().is_terminal(),
    })
}

/// Starts logging. A second call changes nothing, so that tests may call it freely.
pub fn init(log: &Log) {
    let json = choose(log.format);
    if json {
        std::panic::set_hook(Box::new(|panic| write(&Line::of_panic(panic).json())));
    }
    let filtered = tracing_subscriber::registry().with(EnvFilter::new(&log.filter));
    let lines = tracing_subscriber::fmt::layer().with_writer(stderr);
    let started: Result<(), TryInitError> = if json {
        filtered.with(lines.json().flatten_event(true).with_current_span(false)).try_init()
    } else {
        filtered.with(lines.with_target(false).with_ansi(stderr().is_terminal())).try_init()
    };
    drop(started);
}

/// Says why the program ends early, whatever the filter of log lines.
pub fn tell(fatal: &Fatal) {
    if choose(None) {
        write(&Line::error("annuaire", fatal.one_line()).json());
    } else {
        write(&fatal.report());
    }
}

/// A log line that is written past the filter, in the form of all others.
#[derive(Serialize)]
struct Line {
    timestamp: String,
    level: &'static str,
    message: String,
    target: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    backtrace: Option<String>,
}

impl Line {
    fn error(target: &'static str, message: String) -> Self {
        let timestamp = SystemClock.now().to_rfc3339_opts(SecondsFormat::Micros, true);
        Self { timestamp, level: "ERROR", message, target, backtrace: None }
    }

    fn of_panic(panic: &PanicHookInfo<'_>) -> Self {
        let place = panic.location().map_or_else(String::new, |place| format!(" at {place}"));
        let why = panic.payload_as_str().unwrap_or("without a message");
        // As RUST_BACKTRACE says.
        let backtrace = Backtrace::capture();
        let backtrace = (backtrace.status() == BacktraceStatus::Captured).then(|| backtrace.to_string());
        Self { backtrace, ..Self::error("panic", format!("Panicked{place}: {why}")) }
    }

    fn json(&self) -> String {
        // Texts always are.
        serde_json::to_string(self).unwrap_or_default()
    }
}

fn write(line: &str) {
    // In one piece, for others write too; nobody has to read it.
    let _ = stderr().write_all(format!("{line}\n").as_bytes());
}
