//! The file, line by line, read ahead by a thread of its own.

use std::fs::{File, Metadata};
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use command_api::import::{Kind, Line, Names, Reason, Unreadable};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::fatal::Fatal;

/// The longest line.
const LONGEST: usize = 1 << 20;
/// How many bytes of lines are under way at most, and how many lines are read ahead.
const ROOM: usize = 64 << 20;
const AHEAD: usize = 1_024;
/// The byte order mark.
const MARK: &[u8] = "\u{feff}".as_bytes();

/// Where lines come from.
pub(super) struct Source {
    reader: Box<dyn Read + Send>,
    /// How many lines there are, if it can be told before.
    pub(super) count: Option<i64>,
    /// What it is, unless it is standard input.
    pub(super) file: Option<Metadata>,
}

/// A line.
pub(super) struct Item {
    /// Which, from 1.
    pub(super) number: u64,
    /// As it stands in the file, if that is wanted and it is not too long.
    pub(super) text: Option<Vec<u8>>,
    pub(super) line: Result<Line, Unreadable>,
    /// Given back once it is done.
    pub(super) room: Option<OwnedSemaphorePermit>,
}

impl Source {
    pub(super) fn open(path: &Path) -> Result<Self, Fatal> {
        if path == Path::new("-") {
            return Ok(Self { reader: Box::new(io::stdin()), count: None, file: None });
        }
        let failed = |e| Fatal::new(format!("can't read {}", path.display()), e);
        let file = File::open(path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        // A pipe is read once.
        let count = if metadata.is_file() { Some(lines(path).map_err(failed)?) } else { None };
        Ok(Self { reader: Box::new(file), count, file: Some(metadata) })
    }

    /// Begins to read, by a thread that ends with the file.
    pub(super) fn lines(
        self,
        kind: Kind,
        keep_text: bool,
    ) -> (mpsc::Receiver<io::Result<Item>>, JoinHandle<()>) {
        let (items, receiver) = mpsc::channel(AHEAD);
        let runtime = Handle::current();
        // No task: a runtime waits for those that block when it ends, and standard input may never say anything.
        let thread = std::thread::spawn(move || {
            let (mut names, room) = (Names::default(), Arc::new(Semaphore::new(ROOM)));
            let mut reader = BufReader::with_capacity(1 << 16, self.reader);
            for number in 1.. {
                let item = match next(&mut reader) {
                    Ok(None) => return,
                    Ok(Some(Text::Blank)) => continue,
                    Ok(Some(Text::TooLong)) => Ok(too_long(number)),
                    Ok(Some(Text::Line(text))) => {
                        let size = u32::try_from(text.len()).unwrap_or(u32::MAX);
                        let room = runtime.block_on(room.clone().acquire_many_owned(size)).ok();
                        let line = kind.read(&text).and_then(|line| {
                            let id = || Some(line.id().to_owned());
                            match names.take(&line, number) {
                                Ok(()) => Ok(line),
                                Err(reasons) => Err(Unreadable { id: id(), reasons }),
                            }
                        });
                        Ok(Item { number, text: keep_text.then_some(text), line, room })
                    }
                    Err(error) => Err(error),
                };
                let is_last = item.is_err();
                if items.blocking_send(item).is_err() || is_last {
                    return;
                }
            }
        });
        (receiver, thread)
    }
}

fn too_long(number: u64) -> Item {
    let reasons = vec![Reason { field: "line", message: "ligne de 1 Mio au plus attendue".to_owned() }];
    Item { number, text: None, line: Err(Unreadable { id: None, reasons }), room: None }
}

fn lines(path: &Path) -> io::Result<i64> {
    let (mut reader, mut count, mut is_open) =
        (BufReader::with_capacity(1 << 16, File::open(path)?), 0, false);
    loop {
        let bytes = reader.fill_buf()?;
        if bytes.is_empty() {
            return Ok(count + i64::from(is_open));
        }
        // A hundred million in a second would still fit.
        count += bytes.iter().map(|byte| i64::from(*byte == b'\n')).sum::<i64>();
        is_open = bytes.last() != Some(&b'\n');
        let read = bytes.len();
        reader.consume(read);
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Text {
    Blank,
    Line(Vec<u8>),
    TooLong,
}

/// The next line, never more of it in memory than a line may have; nothing at the end.
fn next(reader: &mut impl BufRead) -> io::Result<Option<Text>> {
    let mut text = Vec::new();
    let limit = u64::try_from(LONGEST).unwrap_or(u64::MAX) + 1;
    if reader.by_ref().take(limit).read_until(b'\n', &mut text)? == 0 {
        return Ok(None);
    }
    let is_whole = text.last() == Some(&b'\n');
    if is_whole {
        text.pop();
    }
    if text.len() > LONGEST {
        if !is_whole {
            reader.skip_until(b'\n')?;
        }
        return Ok(Some(Text::TooLong));
    }
    // Some editors put it at the beginning of a file.
    if text.starts_with(MARK) {
        text.drain(..MARK.len());
    }
    Ok(Some(if text.trim_ascii().is_empty() { Text::Blank } else { Text::Line(text) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &[u8]) -> Vec<Text> {
        let mut reader = BufReader::with_capacity(7, text);
        std::iter::from_fn(|| next(&mut reader).unwrap()).collect()
    }

    #[test]
    fn lines_end_with_the_file_or_a_line_feed_and_may_be_empty() {
        let line = |text: &str| Text::Line(text.as_bytes().to_vec());
        assert_eq!(all(b"a\n\n \r\nb"), [line("a"), Text::Blank, Text::Blank, line("b")]);
        assert_eq!(all(b""), []);
        assert_eq!(all("\u{feff}{}\n".as_bytes()), [line("{}")]);
    }

    #[test]
    fn a_line_that_is_too_long_is_skipped_and_the_next_one_read() {
        let fits = "x".repeat(LONGEST);
        let file = format!("{fits}\n{fits}y\nz\n{fits}yy");
        let read = all(file.as_bytes());
        assert_eq!(read.len(), 4);
        assert_eq!(read[0], Text::Line(fits.into_bytes()));
        assert_eq!(read[1..], [Text::TooLong, Text::Line(b"z".to_vec()), Text::TooLong]);
    }

    #[test]
    fn lines_are_counted_as_they_are_read() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for (text, count) in [("", 0), ("a", 1), ("a\n", 1), ("a\n\nb", 3)] {
            std::fs::write(file.path(), text).unwrap();
            assert_eq!(lines(file.path()).unwrap(), count, "{text:?}");
        }
    }
}
