//! A panic in a program whose log lines are JSON.

use std::process::Command;

use annuaire::config::{Log, LogFormat};
use annuaire::telemetry;
use serde_json::Value;

#[test]
fn with_json_lines_a_panic_is_one_too() {
    let ended = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "panic", "--nocapture"])
        .env("PANIC", "as \"asked\"\nfor")
        .env_remove("RUST_BACKTRACE")
        .output()
        .expect("a second program");
    let said = String::from_utf8(ended.stderr).expect("text");
    let line: Value = serde_json::from_str(said.trim_end()).unwrap_or_else(|error| panic!("{error}: {said}"));
    assert_eq!((&line["level"], &line["target"]), (&"ERROR".into(), &"panic".into()));
    let message = line["message"].as_str().expect("a message");
    assert!(message.starts_with("Panicked at ") && message.ends_with(": as \"asked\"\nfor"), "{message}");
}

/// The second program of the test above; nothing by itself.
#[test]
fn panic() {
    let Ok(why) = std::env::var("PANIC") else { return };
    telemetry::init(&Log { format: Some(LogFormat::Json), filter: "off".to_owned() });
    panic!("{why}");
}
