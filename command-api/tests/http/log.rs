//! What the routes log, for each test its own.

use std::cell::RefCell;
use std::io::{self, Write};
use std::sync::Once;

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

static STARTED: Once = Once::new();

// Each test has a thread of its own, and nothing of it runs on another.
thread_local! {
    static LINES: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

struct Lines;

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LINES.with_borrow_mut(|lines| lines.write(bytes))
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Starts to keep what is logged. It has to be done before the first request of all tests, and for the
/// whole process: a line that some thread without a subscriber comes to first is off for all the others.
pub(crate) fn start() {
    STARTED.call_once(|| {
        tracing_subscriber::registry()
            .with(tracing_subscriber::fmt::layer().with_ansi(false).with_writer(|| Lines))
            .with(Targets::new().with_target("command_api", LevelFilter::INFO))
            .init();
    });
}

/// What this test has logged since it asked last.
pub(crate) fn logged() -> String {
    String::from_utf8(LINES.take()).unwrap()
}
