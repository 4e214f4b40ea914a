//! How far a command is, on stderr, while it works.

use std::io::{IsTerminal, Write, stderr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How often it is told: to a terminal, to a file.
const TELL_EVERY: [Duration; 2] = [Duration::from_millis(250), Duration::from_secs(5)];

/// Things done of those to do.
pub(super) struct Progress {
    what: &'static str,
    all: i64,
    begin: Instant,
    now: Mutex<Now>,
    terminal: bool,
}

struct Now {
    done: i64,
    told: Instant,
}

impl Progress {
    /// Of so many events.
    pub(super) fn new(all: i64) -> Self {
        Self::of("events", all)
    }

    /// Of so many of something.
    pub(super) fn of(what: &'static str, all: i64) -> Self {
        let begin = Instant::now();
        let now = Mutex::new(Now { done: 0, told: begin });
        Self { what, all: all.max(0), begin, now, terminal: stderr().is_terminal() }
    }

    /// So many are done.
    pub(super) fn at(&self, done: i64) {
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        now.done = done;
        let [terminal, file] = TELL_EVERY;
        if now.told.elapsed() >= if self.terminal { terminal } else { file } {
            now.told = Instant::now();
            self.tell(done, if self.terminal { "\r" } else { "\n" });
        }
    }

    /// There is no more to do.
    pub(super) fn finish(&self) {
        let done = self.now.lock().unwrap_or_else(PoisonError::into_inner).done;
        self.tell(done, "\n");
    }

    /// Says something else meanwhile.
    pub(super) fn say(&self, text: &str) {
        // The blanks cover the line that is there.
        let (begin, width) = if self.terminal { ("\r", 64) } else { ("", 0) };
        // Nobody has to see it.
        let _ = writeln!(stderr(), "{begin}{text:<width$}");
    }

    fn tell(&self, done: i64, end: &str) {
        // Some came meanwhile.
        let line = line(self.what, done, self.all.max(done), self.begin.elapsed());
        // The blanks cover a longer line before. Nobody has to see it.
        let _ = write!(stderr(), "{line}{:<8}{end}", "");
    }
}

#[expect(clippy::cast_precision_loss, reason = "a rate for people")]
fn line(what: &str, done: i64, all: i64, time: Duration) -> String {
    let rate = done as f64 / time.as_secs_f64().max(0.001);
    let left = (all - done) as f64 / rate.max(1.0);
    let rest = if done == all { String::new() } else { format!(", {left:.0} s left") };
    format!("{done} of {all} {what}, {rate:.0} {what}/s{rest}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_progress_tells_rate_and_time_left() {
        let two = Duration::from_secs(2);
        assert_eq!(line("events", 1_000, 4_000, two), "1000 of 4000 events, 500 events/s, 6 s left");
        assert_eq!(line("lines", 4_000, 4_000, two), "4000 of 4000 lines, 2000 lines/s");
    }
}
