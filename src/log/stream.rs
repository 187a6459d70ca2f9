//! The log as a stream: tick after tick, in each the entries in the order of writing. For one record that is the order in
//! which things happened to it, since whoever changes a row waits for whoever changed it before.
//!
//! A page is read entry by entry along the log's indexes: memory follows the page's length, not the tick's.

use std::ops::{ControlFlow, Range};
use std::rc::Rc;

use pgrx::datum::{Array, TimestampWithTimeZone, UnboxDatum};
use pgrx::{FromDatum, pg_sys};

use super::cursor::{Cursor, Within};
use super::snapshot::Snapshot;
use super::tick;
use crate::backend::scan::{Bound, along};
use crate::error::Result;

/// An entry of the log, for its readers.
#[derive(Debug)]
pub struct Logged {
    pub managed: i32,
    pub at: TimestampWithTimeZone,
    pub op: String,
    pub deletion_type: Option<String>,
    pub restored: bool,
    pub deletion: Option<i64>,
    pub deleted_at: Option<TimestampWithTimeZone>,
    pub cause: String,
    pub actor: String,
    pub reason: Option<String>,
    /// Where the relay is to announce it, if that is the relay's to do, and whether in arrays.
    pub channel: Option<String>,
    pub batched: bool,
    /// For whom the application acted, as it said.
    pub app_actor: Option<String>,
    /// Whether the relay is to say who did it, why and when.
    pub full: bool,
    seq: i64,
    ids: Part<String>,
    versions: Part<i64>,
    kinds: Part<String>,
}

impl Logged {
    /// Where a reader goes on who has got record `ordinal`: there, or with the next entry.
    fn after(&self, ordinal: usize) -> (i64, usize) {
        if ordinal + 1 < self.records() { (self.seq, ordinal + 1) } else { (self.seq + 1, 0) }
    }

    fn records(&self) -> usize {
        self.ids.whole.max(self.versions.whole)
    }
}

/// What a page needs of an array of the log, which is parallel to the entry's records or has one value for all of them.
#[derive(Debug)]
struct Part<T> {
    /// How many values the array has.
    whole: usize,
    /// Those from the place `first` on.
    values: Vec<Option<T>>,
    first: usize,
}

impl<T> Part<T> {
    /// # Safety
    /// `array` is one of the type that goes with `A`.
    unsafe fn of<A>(array: Option<pg_sys::Datum>, wanted: Range<usize>, own: impl Fn(A::As<'_>) -> T) -> Self
    where
        A: UnboxDatum,
    {
        // SAFETY: by contract of this function.
        let array = array.and_then(|array| unsafe { Array::<A>::from_datum(array, false) });
        let Some(array) = array else { return Part { whole: 0, values: Vec::new(), first: 0 } };
        let whole = array.len();
        let wanted = if whole == 1 { 0..1 } else { wanted };
        let values = array.iter().skip(wanted.start).take(wanted.len()).map(|value| value.map(&own)).collect();
        Part { whole, values, first: wanted.start }
    }

    fn get(&self, ordinal: usize) -> Option<&T> {
        let place = if self.whole == 1 { 0 } else { ordinal - self.first };
        self.values.get(place).and_then(Option::as_ref)
    }
}

/// What happened to one record, and where that leaves a consumer.
#[derive(Debug, Clone)]
pub struct Event {
    pub entry: Rc<Logged>,
    ordinal: usize,
    pub cursor: String,
}

impl Event {
    pub fn id(&self) -> &str {
        self.entry.ids.get(self.ordinal).map_or("", String::as_str)
    }

    pub fn version(&self) -> Option<i64> {
        self.entry.versions.get(self.ordinal).copied()
    }

    pub fn kind(&self) -> Option<&str> {
        self.entry.kinds.get(self.ordinal).map(String::as_str)
    }

    /// Whether the record, or this version of it, went for ever.
    pub fn is_purge(&self) -> bool {
        self.entry.deletion_type.as_deref() == Some("hard")
    }
}

/// Some events, one after the other, and the cursor of who has got them all.
pub struct Page {
    pub events: Vec<Event>,
    pub end: String,
}

/// The columns of `tombstone.event`, by number.
mod column {
    pub const SEQ: i16 = 1;
    pub const XID: i16 = 2;
    pub const AT: i16 = 3;
    pub const MANAGED: i16 = 4;
    pub const OP: i16 = 5;
    pub const DELETION_TYPE: i16 = 6;
    pub const RESTORED: i16 = 7;
    pub const DELETION: i16 = 8;
    pub const IDS: i16 = 9;
    pub const VERSIONS: i16 = 10;
    pub const KINDS: i16 = 11;
    pub const DELETED_AT: i16 = 12;
    pub const CAUSE: i16 = 14;
    pub const ACTOR: i16 = 15;
    pub const REASON: i16 = 16;
    pub const CHANNEL: i16 = 17;
    pub const BATCHED: i16 = 18;
    pub const APP_ACTOR: i16 = 19;
    pub const FULL_PAYLOAD: i16 = 20;
}

/// A row of the log.
struct EventRow<'a>(&'a [Option<pg_sys::Datum>]);

impl EventRow<'_> {
    fn raw(&self, column: i16) -> Option<pg_sys::Datum> {
        self.0.get(column.unsigned_abs() as usize - 1).copied().flatten()
    }

    /// # Safety
    /// The column is of the type that goes with `T`.
    unsafe fn get<T: FromDatum>(&self, column: i16) -> Option<T> {
        // SAFETY: by contract of this function.
        unsafe { T::from_datum(self.raw(column)?, false) }
    }

    fn seq(&self) -> i64 {
        self.raw(column::SEQ).map_or(0, |seq| seq.value().cast_signed() as i64)
    }

    fn xid(&self) -> u64 {
        self.raw(column::XID).map_or(0, |xid| xid.value() as u64)
    }

    fn managed(&self) -> i32 {
        self.raw(column::MANAGED).map_or(0, |managed| managed.value() as i32)
    }

    /// The entry, with what is wanted of its records.
    fn entry(&self, wanted: Range<usize>) -> Logged {
        use column::*;
        let beginning = || TimestampWithTimeZone::try_from(0).unwrap_or(TimestampWithTimeZone::positive_infinity());
        // SAFETY: the types are those of the columns of that name.
        unsafe {
            Logged {
                seq: self.seq(),
                at: self.get(AT).unwrap_or_else(beginning),
                managed: self.managed(),
                op: self.get(OP).unwrap_or_default(),
                deletion_type: self.get(DELETION_TYPE),
                restored: self.get(RESTORED).unwrap_or_default(),
                deletion: self.get(DELETION),
                ids: Part::of::<&str>(self.raw(IDS), wanted.clone(), str::to_string),
                versions: Part::of::<i64>(self.raw(VERSIONS), wanted.clone(), |version| version),
                kinds: Part::of::<&str>(self.raw(KINDS), wanted, str::to_string),
                deleted_at: self.get(DELETED_AT),
                cause: self.get(CAUSE).unwrap_or_default(),
                actor: self.get(ACTOR).unwrap_or_default(),
                reason: self.get(REASON),
                channel: self.get(CHANNEL),
                batched: self.get(BATCHED).unwrap_or_default(),
                app_actor: self.get(APP_ACTOR),
                full: self.get(FULL_PAYLOAD).unwrap_or_default(),
            }
        }
    }
}

/// Reads entries in the order of writing, from number `seq` on.
fn in_order(seq: i64, mut read: impl FnMut(EventRow) -> ControlFlow<()>) -> Result<bool> {
    along(c"event", c"event_pkey", &[Bound::Int8From(column::SEQ, seq)], |row| Ok(read(EventRow(row))))
}

/// Reads the entry of that number.
fn numbered(seq: i64, mut read: impl FnMut(EventRow) -> ControlFlow<()>) -> Result<bool> {
    along(c"event", c"event_pkey", &[Bound::Int8Is(column::SEQ, seq)], |row| Ok(read(EventRow(row))))
}

/// Reads the entries of a table that fit `key`, which is of the writing transaction.
fn of_table(table: i32, key: Bound, mut read: impl FnMut(EventRow) -> ControlFlow<()>) -> Result<bool> {
    along(c"event", c"event_news", &[Bound::Int4Is(column::MANAGED, table), key], |row| Ok(read(EventRow(row))))
}

/// Every table that the log has an entry of, by number.
pub fn tables() -> Result<Vec<i32>> {
    let mut tables = Vec::new();
    loop {
        let after = tables.last().copied().unwrap_or(i32::MIN);
        let whole = along(c"event", c"event_news", &[Bound::Int4Above(column::MANAGED, after)], |row| {
            tables.push(EventRow(row).managed());
            Ok(ControlFlow::Break(()))
        })?;
        if whole {
            return Ok(tables);
        }
    }
}

/// A reader under way.
pub struct Stream {
    /// The tables whose events are wanted, by number, in its order.
    tables: Vec<i32>,
    /// Whether all their entries are, or only those left to the relay.
    all: bool,
    /// Whether there was anything to read yet, wanted or not.
    pub met_any: bool,
    now: Snapshot,
    cursor: Cursor,
    /// The tick being read: what is new in here.
    until: Snapshot,
    /// How far into it: the entry and the record in it that come next.
    next: Option<(i64, usize)>,
    /// Up to which act of trimming the reader misses nothing: of one who began at the log's beginning as it was then.
    trimmed: i64,
}

impl Stream {
    /// Reads these tables' events from the oldest one on that there is; what was trimmed up to `trimmed` is not missed.
    pub fn from_beginning(tables: Vec<i32>, trimmed: i64) -> Result<Stream> {
        let (now, cursor) = (tick::now(), tick::cursor_at(Snapshot::nothing())?);
        Ok(Stream { tables, all: true, met_any: false, until: now.clone(), now, cursor, next: None, trimmed })
    }

    /// Reads what comes after `after`, of these tables.
    pub fn after(after: Cursor, tables: Vec<i32>) -> Result<Stream> {
        let (now, here) = (tick::now(), tick::cursor_at(Snapshot::nothing())?);
        let Cursor { position, seen, within, .. } = after;
        let (until, next, trimmed) = match within {
            Some(Within { until, seq, ordinal, trimmed }) => (until, Some((seq, ordinal)), trimmed),
            None => (seen.with(&now), None, 0),
        };
        let position = here.position.latest(position);
        let cursor = Cursor { seen, position, ..here };
        Ok(Stream { tables, all: true, met_any: false, now, cursor, until, next, trimmed })
    }

    /// Reads of it only what was left to the relay.
    pub fn left_to_relay(mut self) -> Stream {
        self.all = false;
        self
    }

    /// The next events, at most `most`; `None` where there are none yet.
    pub fn next(&mut self, most: usize) -> Result<Option<Page>> {
        // At a standby, or under an old snapshot, a tick that began elsewhere may not be all here yet.
        if !self.cursor.seen.with(&self.now).covers(&self.until) {
            return Ok(None);
        }
        loop {
            let page = self.read(most)?;
            if !page.events.is_empty() {
                tick::secure(&self.cursor);
                return Ok(Some(page));
            }
            let latest = self.until.with(&self.now);
            if latest == self.until {
                return Ok(None);
            }
            self.begin(latest);
        }
    }

    /// Whether all has been read that could be when the stream began.
    pub fn is_done(&self) -> bool {
        self.next.is_none() && self.cursor.seen.covers(&self.now)
    }

    /// The cursor of who has got all there was, when `next` has said that there is no more.
    pub fn end(&self) -> String {
        Cursor { seen: self.cursor.seen.with(&self.until), within: None, ..self.cursor.clone() }.to_string()
    }

    /// Goes on to the tick that leads to `until`.
    fn begin(&mut self, until: Snapshot) {
        self.cursor.seen = self.cursor.seen.with(&self.until);
        (self.until, self.next, self.trimmed) = (until, None, 0);
    }

    /// What is left of this tick, at most `most` events.
    fn read(&mut self, most: usize) -> Result<Page> {
        let places = self.cursor.in_tick(&self.until, self.trimmed);
        let mut events = Vec::new();
        let Some(news) = self.find(most)? else { return Ok(Page { events, end: String::new() }) };
        self.met_any = true;
        let take = |row: EventRow| {
            if !self.is_wanted(&row) {
                return ControlFlow::Continue(());
            }
            // Of the entry that was read in part before, what is left.
            let first = self.next.filter(|(seq, _)| *seq == row.seq()).map_or(0, |(_, ordinal)| ordinal);
            let entry = Rc::new(row.entry(first..first.saturating_add(most - events.len())));
            for ordinal in first..entry.records() {
                if events.len() == most {
                    return ControlFlow::Break(());
                }
                let (seq, next) = entry.after(ordinal);
                events.push(Event { cursor: places.at(seq, next), entry: Rc::clone(&entry), ordinal });
            }
            ControlFlow::Continue(())
        };
        let whole = news.read(take)?;
        let Some(last) = events.last() else { return Ok(Page { events, end: String::new() }) };
        self.next = Some(last.entry.after(last.ordinal));
        let end = if whole {
            self.begin(self.until.with(&self.now));
            Cursor { within: None, ..self.cursor.clone() }.to_string()
        } else {
            last.cursor.clone()
        };
        Ok(Page { events, end })
    }

    /// Where the next `most` events of this tick are to be found; `None` where there are none left. Two kinds of news: of
    /// transactions that were open before, looked up by their number; and of all later ones, from the first entry on.
    fn find(&self, most: usize) -> Result<Option<News>> {
        if let Some((seq, _)) = self.next {
            return Ok(Some(News { before: Vec::new(), from: Some(seq) }));
        }
        let (seen, mut from) = (&self.cursor.seen, None);
        for table in &self.tables {
            of_table(*table, Bound::Xid8From(column::XID, seen.end()), |row| {
                from = Some(from.map_or(row.seq(), |from: i64| from.min(row.seq())));
                ControlFlow::Continue(())
            })?;
        }
        let mut before = Vec::new();
        for number in seen.open().iter().filter(|number| self.until.sees(**number)) {
            for table in &self.tables {
                // One more than wanted: what is not looked for here comes after them.
                let mut left = most + 1;
                of_table(*table, Bound::Xid8Is(column::XID, *number), |row| {
                    if left == 0 || from.is_some_and(|from| row.seq() >= from) {
                        return ControlFlow::Break(());
                    }
                    if self.is_wanted(&row) {
                        before.push(row.seq());
                        left -= 1;
                    }
                    ControlFlow::Continue(())
                })?;
            }
        }
        before.sort_unstable();
        Ok(Some(News { before, from }).filter(|news| !news.before.is_empty() || news.from.is_some()))
    }

    fn is_wanted(&self, row: &EventRow) -> bool {
        let (number, seen) = (row.xid(), &self.cursor.seen);
        (self.all || row.raw(column::CHANNEL).is_some())
            && !seen.sees(number)
            && self.until.sees(number)
            && self.tables.binary_search(&row.managed()).is_ok()
    }
}

/// Where entries are to be looked for: single ones by number, in their order, and then all from a number on.
struct News {
    before: Vec<i64>,
    from: Option<i64>,
}

impl News {
    /// Reads them until `read` breaks off or they end; whether they ended.
    fn read(&self, mut read: impl FnMut(EventRow) -> ControlFlow<()>) -> Result<bool> {
        for number in &self.before {
            if !numbered(*number, &mut read)? {
                return Ok(false);
            }
        }
        self.from.map_or(Ok(true), |from| in_order(from, read))
    }
}
