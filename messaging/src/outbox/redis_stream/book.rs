//! What we keep beside the stream: how far it has come, and our last entry's id.

use std::fmt;
use std::num::ParseIntError;

use event_store::{Checkpoint, LogId, Position};
use uuid::Uuid;

/// The id of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct EntryId {
    /// Milliseconds since 1970.
    pub(super) ms: u64,
    /// In ours: the position.
    pub(super) seq: u64,
}

impl EntryId {
    /// Reads `<ms>-<seq>`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (ms, seq) = text.split_once('-')?;
        Some(Self { ms: ms.parse().ok()?, seq: seq.parse().ok()? })
    }

    /// The position, if this is an id of ours.
    pub(super) fn position(self) -> Option<Position> {
        i64::try_from(self.seq).ok().filter(|seq| *seq > 0).map(Position::new)
    }
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.ms, self.seq)
    }
}

/// A page of the book.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Book {
    /// How far the stream has come.
    pub(super) at: Checkpoint,
    /// Our last entry; none where the stream holds none of ours yet.
    pub(super) last: Option<EntryId>,
    /// How many entries the stream had been given with it; older versions of Redis don't count.
    pub(super) given: Option<u64>,
}

impl Book {
    /// As it stands in Redis, but for the last word, which the script adds: log, generation, position,
    /// event id, last entry, entries given; `-` for none.
    pub(super) fn text(&self) -> String {
        let Checkpoint { log, position, event_id } = self.at;
        let event = event_id.map_or_else(|| "-".to_owned(), |id| id.to_string());
        let last = self.last.map_or_else(|| "-".to_owned(), |id| id.to_string());
        format!("{} {} {position} {event} {last}", log.id, log.generation)
    }

    /// Reads what the script wrote.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("our book on it is unreadable: {text:?}");
        let [log, generation, position, event, last, given] =
            <[&str; 6]>::try_from(text.split(' ').collect::<Vec<_>>()).map_err(|_| wrong())?;
        let number = |text: &str| text.parse::<i64>().map_err(|_: ParseIntError| wrong());
        let id = |text: &str| Uuid::parse_str(text).map_err(|_| wrong());
        let generation = generation.parse().map_err(|_: ParseIntError| wrong())?;
        Ok(Self {
            at: Checkpoint {
                log: LogId { id: id(log)?, generation },
                position: Position::new(number(position)?),
                event_id: if event == "-" { None } else { Some(id(event)?) },
            },
            last: if last == "-" { None } else { Some(EntryId::parse(last).ok_or_else(wrong)?) },
            given: if given == "-" { None } else { Some(given.parse().map_err(|_: ParseIntError| wrong())?) },
        })
    }
}

/// What the script found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// All as we knew it: the batch is in.
    AsKnown {
        /// The book as it stands now.
        book: String,
    },
    /// Someone else has written a later id than our first.
    Above {
        /// That id.
        top: EntryId,
    },
    /// Something else, in words: open again and look.
    Otherwise(String),
}

impl Found {
    pub(super) fn read(verdict: &str, what: &str, book: String) -> Self {
        match (verdict, EntryId::parse(what)) {
            ("done", _) => Self::AsKnown { book },
            ("above", Some(top)) => Self::Above { top },
            ("moved", _) if what.is_empty() => {
                Self::Otherwise("Redis has lost our book on the stream".to_owned())
            }
            ("moved", _) => {
                Self::Otherwise(format!("our book on the stream is not what we wrote, but {what:?}"))
            }
            ("lost", _) => Self::Otherwise("our last entry is not in the stream any more".to_owned()),
            _ => Self::Otherwise(format!("the script answered {verdict} {what}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_book_survives_its_text() {
        let log = LogId { id: Uuid::from_u128(7), generation: 2 };
        let empty = Book { at: Checkpoint::start(log), last: None, given: None };
        let at = Checkpoint { log, position: Position::new(42), event_id: Some(Uuid::from_u128(9)) };
        let full = Book { at, last: Some(EntryId { ms: 1_737_022_800_000, seq: 41 }), given: Some(40) };
        for (book, given) in [(empty, "-"), (full, "40")] {
            assert_eq!(Book::parse(&format!("{} {given}", book.text())), Ok(book));
        }
        assert!(full.text().ends_with(" 1737022800000-41"));
        for text in ["", "x", "a b c d e f", &full.text(), &format!("{} 1 2", full.text())] {
            assert!(Book::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_the_script_found_is_read() {
        let id = EntryId { ms: 5, seq: 1 };
        let read = |verdict, what| Found::read(verdict, what, "book".to_owned());
        assert_eq!(read("done", "-"), Found::AsKnown { book: "book".to_owned() });
        assert_eq!(read("above", "5-1"), Found::Above { top: id });
        assert!(matches!(read("moved", "…"), Found::Otherwise(_)));
        assert!(matches!(read("above", "-"), Found::Otherwise(_)));
    }
}
