//! Standard output as a reader that may leave: `annuaire events tail | head` is no failure.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{ErrorKind, Stdout, Write, stdout};

use chrono::{DateTime, SecondsFormat, Utc};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::fatal::Fatal;

/// What came of writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Written {
    /// Someone may read on.
    Yes,
    /// Nobody reads any more: there is no more to do.
    NobodyReads,
}

/// Writes to standard output what may hold texts of others.
pub(super) fn write(text: &str) -> Result<Written, Fatal> {
    print(&harmless(text))
}

/// Writes to standard output.
pub(crate) fn print(text: &str) -> Result<Written, Fatal> {
    let mut out = stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(Written::Yes),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(Written::NobodyReads),
        Err(error) => Err(Fatal::new("can't print", error)),
    }
}

/// Without what a terminal obeys or shows in another order: texts come from whoever sends requests.
/// What stands inside JSON means the same as before.
fn harmless(text: &str) -> Cow<'_, str> {
    let is_harmful = |it: char| {
        (it.is_control() && it != '\n')
            || matches!(it, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    if !text.contains(is_harmful) {
        return Cow::Borrowed(text);
    }
    let mut harmless = String::with_capacity(text.len() + 16);
    for it in text.chars() {
        if is_harmful(it) {
            // Writing to a text does not fail.
            let _ = write!(harmless, "\\u{:04x}", u32::from(it));
        } else {
            harmless.push(it);
        }
    }
    Cow::Owned(harmless)
}

/// Whether the reader has left; a writer that has nothing to write would never learn it.
pub(super) fn nobody_reads() -> bool {
    let out: Stdout = stdout();
    let mut ends = [PollFd::new(&out, PollFlags::empty())];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    let asked = poll(&mut ends, Some(&at_once));
    asked.is_ok() && ends[0].revents().intersects(PollFlags::ERR | PollFlags::HUP)
}

/// A moment as people and JSON get it, to the millisecond.
pub(super) fn time(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// A table: columns as wide as what they hold, numbers to the right.
pub(super) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            let is_number = cell.parse::<f64>().is_ok();
            let padded = if is_number { format!("{cell:>width$}") } else { format!("{cell:<width$}") };
            line.push_str(&padded);
            line.push_str("  ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_of_others_commands_the_terminal() {
        assert_eq!(harmless("é\n{\"a\":1}"), "é\n{\"a\":1}");
        assert_eq!(harmless("\u{9b}2J \u{1b}[0m \u{202e}x"), r"\u009b2J \u001b[0m \u202ex");
    }
}
