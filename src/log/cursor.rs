//! A consumer's place in the log, as text that is opaque to it. Pure.
//!
//! It holds all there is to know: which log, how far that log's server had come, what the consumer has seen, and, in the
//! midst of a tick, how far into it. So nothing is stored for a consumer, and reading the log writes nothing.

use std::fmt::{self, Write};

use super::snapshot::Snapshot;
use crate::backend::wal::Position;

/// The first letters of every cursor of this form.
const FORM: &str = "ts1";

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    /// The log it is of.
    pub incarnation: u64,
    /// How far the server had come: a server restored to an earlier moment has another future.
    pub position: Position,
    /// All that was committed here has been delivered.
    pub seen: Snapshot,
    /// Of the tick after that, what has been delivered.
    pub within: Option<Within>,
}

/// A place inside a tick: of what is new in `until`, all before record `ordinal` of entry `seq` is delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Within {
    pub until: Snapshot,
    pub seq: i64,
    pub ordinal: usize,
    /// What had been trimmed of the log when a reader began at its beginning; 0 of any other reader.
    pub trimmed: i64,
}

impl Cursor {
    /// The places inside the tick that leads to `until`: all but their last part is written once.
    pub fn in_tick(&self, until: &Snapshot, trimmed: i64) -> Places {
        let head = format!("{}.{until}.{trimmed}", Cursor { within: None, ..self.clone() }.head());
        let mut sum = crc32fast::Hasher::new();
        sum.update(head.as_bytes());
        Places { head, sum }
    }

    fn head(&self) -> String {
        let Position { timeline, lsn } = self.position;
        format!("{FORM}.{:016x}.{timeline}.{lsn:x}.{}", self.incarnation, self.seen)
    }

    /// Reads a cursor; `None` where the text is none, or not whole.
    pub fn read(text: &str) -> Option<Cursor> {
        let (body, sum) = text.rsplit_once('~')?;
        if sum != format!("{:08x}", crc32fast::hash(body.as_bytes())) {
            return None;
        }
        let parts: Vec<&str> = body.split('.').collect();
        let (head, within) = parts.split_at_checked(5)?;
        let [FORM, incarnation, timeline, lsn, seen] = *head else { return None };
        let within = match *within {
            [] => None,
            [until, trimmed, seq, ordinal] => Some(Within {
                until: until.parse().ok()?,
                trimmed: trimmed.parse().ok()?,
                seq: seq.parse().ok()?,
                ordinal: ordinal.parse().ok()?,
            }),
            _ => return None,
        };
        let position = Position { timeline: timeline.parse().ok()?, lsn: u64::from_str_radix(lsn, 16).ok()? };
        Some(Cursor { incarnation: u64::from_str_radix(incarnation, 16).ok()?, position, seen: seen.parse().ok()?, within })
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.within {
            Some(within) => f.write_str(&self.in_tick(&within.until, within.trimmed).at(within.seq, within.ordinal)),
            None => {
                let head = self.head();
                write!(f, "{head}~{:08x}", crc32fast::hash(head.as_bytes()))
            }
        }
    }
}

/// Writes the cursors of one tick.
pub struct Places {
    head: String,
    sum: crc32fast::Hasher,
}

impl Places {
    /// The cursor of a consumer who has got what comes before record `ordinal` of entry `seq`.
    pub fn at(&self, seq: i64, ordinal: usize) -> String {
        let mut cursor = String::with_capacity(self.head.len() + 32);
        cursor.push_str(&self.head);
        let _ = write!(cursor, ".{seq}.{ordinal}"); // writing to a String does not fail
        let mut sum = self.sum.clone();
        sum.update(&cursor.as_bytes()[self.head.len()..]);
        let _ = write!(cursor, "~{:08x}", sum.finalize());
        cursor
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::snapshot::tests::snapshots;
    use proptest::prelude::*;

    prop_compose! {
        fn cursors()(
            incarnation: u64, timeline: u32, lsn: u64, seen in snapshots(),
            within in proptest::option::of((snapshots(), any::<i64>(), any::<usize>(), any::<i64>())),
        ) -> Cursor {
            let within = within.map(|(until, seq, ordinal, trimmed)| Within { until, seq, ordinal, trimmed });
            Cursor { incarnation, position: Position { timeline, lsn }, seen, within }
        }
    }

    proptest! {
        #[test]
        fn text_comes_back(cursor in cursors()) {
            prop_assert_eq!(Cursor::read(&cursor.to_string()), Some(cursor));
        }

        /// Cut short or with one letter changed it is no cursor, rather than another one.
        #[test]
        fn damage_is_noticed(cursor in cursors(), at: proptest::sample::Index, letter in "[ -~]") {
            let text = cursor.to_string();
            let at = at.index(text.len());
            prop_assert_eq!(Cursor::read(&text[..at]), None);
            let changed = format!("{}{letter}{}", &text[..at], &text[at + 1..]);
            if changed != text {
                prop_assert_eq!(Cursor::read(&changed), None);
            }
        }

        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,60}") {
            let _ = Cursor::read(&text);
        }
    }
}
