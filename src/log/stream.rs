//! The log as a stream: tick after tick, in each the entries in the order of writing. For one record that is the order in
//! which things happened to it, since whoever changes a row waits for whoever changed it before.
//!
//! A page is read through a portal, a few entries at a time: memory follows the page's length, not the tick's.

use std::ops::{ControlFlow, Range};
use std::rc::Rc;

use pgrx::datum::{Array, DatumWithOid, TimestampWithTimeZone, UnboxDatum};
use pgrx::{FromDatum, pg_sys};

use super::cursor::{Cursor, Within};
use super::snapshot::Snapshot;
use super::tick;
use crate::backend::identity::acting_as;
use crate::backend::query::Statement;
use crate::backend::relation::keeper;
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

struct Statements {
    open: Statement,
    first: Statement,
    page: Statement,
}

/// Entries fetched at once. Their arrays are read one entry at a time, and of each what the page has room for.
const FETCH: i64 = 64;

thread_local! {
    static STATEMENTS: &'static Statements = Box::leak(Box::new(Statements::new()));
}

impl Statements {
    fn new() -> Self {
        use pg_sys::*;
        Statements {
            // Those of the formerly open transactions that have written anything.
            open: Statement::new(
                "SELECT DISTINCT xid::text FROM tombstone.event WHERE managed = ANY ($1) AND xid = ANY ($2::xid8[])",
                [INT4ARRAYOID, TEXTOID],
            )
            .planned_each_time(),
            // OFFSET 0 keeps min() from walking the log along seq until it meets something new.
            first: Statement::new(
                "SELECT min(seq) FROM (SELECT seq FROM tombstone.event WHERE managed = ANY ($1) AND xid >= $2::xid8 OFFSET 0) news",
                [INT4ARRAYOID, TEXTOID],
            )
            .planned_each_time(),
            // Two kinds of news: of transactions that were open before, looked up by their number; and of all later ones,
            // in one scan along seq.
            page: Statement::new(
                "SELECT seq, at, managed, op, deletion_type, restored, deletion, ids, versions, kinds, deleted_at, cause, actor
                 FROM (SELECT e.*
                       FROM unnest($1) AS m (managed) CROSS JOIN unnest($2::xid8[]) AS o (xid)
                       CROSS JOIN LATERAL (
                           SELECT * FROM tombstone.event e
                           WHERE e.managed = m.managed AND e.xid = o.xid AND e.seq >= $4
                             AND pg_visible_in_snapshot(e.xid, $6::pg_snapshot)
                           ORDER BY e.seq LIMIT $7
                       ) e
                       UNION ALL
                       (SELECT * FROM tombstone.event
                        WHERE seq >= $5 AND xid >= $3::xid8 AND managed = ANY ($1)
                          AND pg_visible_in_snapshot(xid, $6::pg_snapshot)
                        ORDER BY seq LIMIT $7)) news
                 ORDER BY seq LIMIT $7",
                [INT4ARRAYOID, TEXTOID, TEXTOID, INT8OID, INT8OID, TEXTOID, INT8OID],
            )
            .planned_each_time(),
        }
    }
}

fn with<T>(act: impl FnOnce(&Statements) -> Result<T>) -> Result<T> {
    acting_as(keeper(), || STATEMENTS.with(|statements| act(statements)))
}

/// A reader under way.
pub struct Stream {
    /// The tables whose events are wanted, by number.
    tables: Vec<i32>,
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
        Ok(Stream { tables, until: now.clone(), now, cursor, next: None, trimmed })
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
        Ok(Stream { tables, now, cursor: Cursor { seen, position, ..here }, until, next, trimmed })
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

    /// Goes on to the tick that leads to `until`.
    fn begin(&mut self, until: Snapshot) {
        self.cursor.seen = self.cursor.seen.with(&self.until);
        (self.until, self.next, self.trimmed) = (until, None, 0);
    }

    /// What is left of this tick, at most `most` events.
    fn read(&mut self, most: usize) -> Result<Page> {
        let places = self.cursor.in_tick(&self.until, self.trimmed);
        let mut events = Vec::new();
        let Some(arguments) = self.scan(most)? else { return Ok(Page { events, end: String::new() }) };
        let next = self.next;
        let whole = with(|statements| {
            statements.page.scan(&arguments, FETCH, |row| {
                // Of the entry that was read in part before, what is left.
                let first = next.filter(|(seq, _)| Some(*seq) == seq_of(row)).map_or(0, |(_, ordinal)| ordinal);
                let wanted = first..first.saturating_add(most - events.len());
                // SAFETY: a row of this statement.
                let entry = Rc::new(unsafe { logged(row, wanted) });
                for ordinal in first..entry.records() {
                    if events.len() == most {
                        return Ok(ControlFlow::Break(()));
                    }
                    let (seq, next) = entry.after(ordinal);
                    events.push(Event { cursor: places.at(seq, next), entry: Rc::clone(&entry), ordinal });
                }
                Ok(ControlFlow::Continue(()))
            })
        })?;
        let Some(last) = events.last() else { return Ok(Page { events, end: String::new() }) };
        self.next = Some(last.entry.after(last.ordinal));
        // The scan asks for as many entries as events were wanted, so one that ends with fewer events has seen all.
        let end = if whole && events.len() < most {
            self.begin(self.until.with(&self.now));
            Cursor { within: None, ..self.cursor.clone() }.to_string()
        } else {
            last.cursor.clone()
        };
        Ok(Page { events, end })
    }

    /// The arguments of the page's statement; `None` where nothing can be found.
    fn scan<'a>(&self, most: usize) -> Result<Option<Vec<DatumWithOid<'a>>>> {
        let seen = &self.cursor.seen;
        let formerly_open: Vec<u64> = seen.open().iter().copied().filter(|number| self.until.sees(*number)).collect();
        let written = self.writers_among(&formerly_open)?;
        let first = match self.next {
            Some((seq, _)) => Some(seq),
            None => self.first_from(seen.end())?,
        };
        if written.is_empty() && first.is_none() {
            return Ok(None);
        }
        let from = self.next.map_or(0, |(seq, _)| seq);
        // One more than wanted: the entry that was read in part before counts as well.
        let limit = most as i64 + 1;
        Ok(Some(vec![
            self.tables.clone().into(),
            array_of(&written).into(),
            seen.end().to_string().into(),
            from.into(),
            first.unwrap_or(i64::MAX).into(),
            self.until.to_pg().into(),
            limit.into(),
        ]))
    }

    fn writers_among(&self, numbers: &[u64]) -> Result<Vec<u64>> {
        if numbers.is_empty() {
            return Ok(Vec::new());
        }
        let arguments = [self.tables.clone().into(), array_of(numbers).into()];
        let mut written = Vec::new();
        with(|statements| {
            statements.open.scan(&arguments, FETCH, |row| {
                // SAFETY: one column, of type text.
                let number = unsafe { read::<String>(row[0]) };
                written.extend(number.and_then(|number| number.parse::<u64>().ok()));
                Ok(ControlFlow::Continue(()))
            })
        })?;
        Ok(written)
    }

    fn first_from(&self, number: u64) -> Result<Option<i64>> {
        let arguments = [self.tables.clone().into(), number.to_string().into()];
        let mut first = None;
        with(|statements| {
            statements.first.scan(&arguments, FETCH, |row| {
                first = seq_of(row);
                Ok(ControlFlow::Continue(()))
            })
        })?;
        Ok(first)
    }
}

fn array_of(numbers: &[u64]) -> String {
    format!("{{{}}}", numbers.iter().map(u64::to_string).collect::<Vec<_>>().join(","))
}

fn seq_of(row: &[Option<pg_sys::Datum>]) -> Option<i64> {
    row.first().copied().flatten().map(|seq| seq.value().cast_signed() as i64)
}

/// # Safety
/// `value` is of the type that goes with `T`.
unsafe fn read<T: FromDatum>(value: Option<pg_sys::Datum>) -> Option<T> {
    // SAFETY: by contract of this function.
    unsafe { T::from_datum(value?, false) }
}

/// # Safety
/// `row` is one of the statement `page`.
unsafe fn logged(row: &[Option<pg_sys::Datum>], wanted: Range<usize>) -> Logged {
    let beginning = || TimestampWithTimeZone::try_from(0).unwrap_or(TimestampWithTimeZone::positive_infinity());
    // SAFETY: by contract of this function; the types are those of the columns that the statement names.
    unsafe {
        Logged {
            seq: seq_of(row).unwrap_or_default(),
            at: read(row[1]).unwrap_or_else(beginning),
            managed: read(row[2]).unwrap_or_default(),
            op: read(row[3]).unwrap_or_default(),
            deletion_type: read(row[4]),
            restored: read(row[5]).unwrap_or_default(),
            deletion: read(row[6]),
            ids: Part::of::<&str>(row[7], wanted.clone(), str::to_string),
            versions: Part::of::<i64>(row[8], wanted.clone(), |version| version),
            kinds: Part::of::<&str>(row[9], wanted, str::to_string),
            deleted_at: read(row[10]),
            cause: read(row[11]).unwrap_or_default(),
            actor: read(row[12]).unwrap_or_default(),
        }
    }
}
