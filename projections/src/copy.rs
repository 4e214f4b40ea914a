//! Rows as `COPY … FROM STDIN (FORMAT binary)` takes them.
//!
//! The format: <https://www.postgresql.org/docs/15/sql-copy.html>, "Binary Format"; all numbers in it are
//! big-endian.

use chrono::{DateTime, Utc};
use event_store::postgres::copy::{EPOCH, SIGNATURE};

/// The object id of the type `text`.
const TEXT: u32 = 25;

/// A row whose columns come in the order of its table's.
pub(crate) trait CopyRow {
    /// How many there are.
    const COLUMNS: i16;

    /// Writes each.
    fn write(&self, columns: &mut Columns<'_>);
}

/// What is sent first.
pub(crate) fn header(out: &mut Vec<u8>) {
    out.extend_from_slice(SIGNATURE);
    // No flags, no extension.
    out.extend_from_slice(&[0; 8]);
}

/// What is sent last.
pub(crate) fn trailer(out: &mut Vec<u8>) {
    out.extend_from_slice(&(-1_i16).to_be_bytes());
}

pub(crate) fn row<R: CopyRow>(row: &R, out: &mut Vec<u8>) {
    out.extend_from_slice(&R::COLUMNS.to_be_bytes());
    row.write(&mut Columns(out));
}

/// Takes the columns of a row, one after the other.
pub(crate) struct Columns<'a>(&'a mut Vec<u8>);

impl Columns<'_> {
    pub(crate) fn text(&mut self, value: &str) {
        self.bytes(value.as_bytes());
    }

    pub(crate) fn maybe(&mut self, value: Option<&str>) {
        match value {
            Some(value) => self.text(value),
            None => self.size(-1),
        }
    }

    pub(crate) fn texts(&mut self, values: &[String]) {
        self.sized(|out| {
            let dimensions = i32::from(!values.is_empty());
            out.extend_from_slice(&dimensions.to_be_bytes());
            // Nothing in it is NULL.
            out.extend_from_slice(&0_i32.to_be_bytes());
            out.extend_from_slice(&TEXT.to_be_bytes());
            if dimensions > 0 {
                out.extend_from_slice(&length(values.len()).to_be_bytes());
                // Counted from one.
                out.extend_from_slice(&1_i32.to_be_bytes());
            }
            for value in values {
                Columns(out).text(value);
            }
        });
    }

    pub(crate) fn boolean(&mut self, value: bool) {
        self.bytes(&[u8::from(value)]);
    }

    pub(crate) fn integer(&mut self, value: i32) {
        self.bytes(&value.to_be_bytes());
    }

    pub(crate) fn time(&mut self, value: DateTime<Utc>) {
        self.bytes(&(value.timestamp_micros() - EPOCH).to_be_bytes());
    }

    /// As it is written: a column `json` keeps that.
    pub(crate) fn json(&mut self, value: Option<&serde_json::Value>) {
        match value {
            Some(value) => self.text(&value.to_string()),
            None => self.size(-1),
        }
    }

    fn bytes(&mut self, value: &[u8]) {
        self.size(length(value.len()));
        self.0.extend_from_slice(value);
    }

    fn size(&mut self, size: i32) {
        self.0.extend_from_slice(&size.to_be_bytes());
    }

    /// A column whose size is known when it is written.
    fn sized(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let at = self.0.len();
        self.size(0);
        write(self.0);
        let size = length(self.0.len() - at - size_of::<i32>());
        self.0[at..at + size_of::<i32>()].copy_from_slice(&size.to_be_bytes());
    }
}

/// No column is as large as that: an event has some megabytes at most.
fn length(length: usize) -> i32 {
    i32::try_from(length).unwrap_or(i32::MAX)
}
