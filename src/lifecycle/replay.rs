//! replay: the log joined with the truth. The log says what happened; the tables say what has become of it since, to the
//! reader's own eyes. What was purged has left the stream, but for the purge itself.

use std::collections::{BTreeMap, HashMap, VecDeque};

use pgrx::datum::{AnyElement, TimestampWithTimeZone};
use pgrx::iter::TableIterator;
use pgrx::pg_sys;
use pgrx::pg_sys::panic::{ErrorReport, ErrorReportable};
use pgrx::prelude::*;

use super::layout::{self, Standing};
use super::readable_keys;
use super::rows::Rows;
use crate::backend::identity::{may_read, row_security_binds};
use crate::backend::owned::Owned;
use crate::backend::relation::{LockFor, lock};
use crate::error::{Error, Result};
use crate::log::retention::{self, Floor};
use crate::log::stream::{Event, Stream};
use crate::log::tick::{self, Cursor};
use crate::table::key::Key;
use crate::table::{Managed, Table, all_managed, by_oid, name_of, not_managed, title};

/// Tables by number, in which order they are locked.
type Tables = BTreeMap<i32, pg_sys::Oid>;

/// One event, as replay returns it.
struct Line {
    event: Event,
    relation: pg_sys::Oid,
    deleted_at: Option<TimestampWithTimeZone>,
    data: Option<Owned>,
}

/// The log's end now (DESIGN §4).
#[pg_extern(sql = false)]
fn cursor() -> Result<String, ErrorReport> {
    let cursor = || -> Result<String> {
        let cursor = tick::cursor_at(tick::now())?;
        tick::secure(&cursor);
        Ok(cursor.to_string())
    };
    cursor().map_err(Into::into)
}

/// The events after a cursor, in order, at most `lim` (DESIGN §3, §4).
#[pg_extern(sql = false)]
#[allow(clippy::type_complexity, reason = "pgrx reads the columns' names and types from it")]
fn replay(
    after: Option<String>,
    lim: Option<i32>,
    relations: Option<Vec<Option<pg_sys::Oid>>>,
    with_data: Option<bool>,
) -> Result<
    TableIterator<
        'static,
        (
            name!(cursor, String),
            name!(at, TimestampWithTimeZone),
            name!(relation, pg_sys::Oid),
            name!(id, String),
            name!(kind, Option<String>),
            name!(op, String),
            name!(deletion_type, Option<String>),
            name!(version, Option<i64>),
            name!(deleted_at, Option<TimestampWithTimeZone>),
            name!(cause, String),
            name!(actor, String),
            name!(data, Option<AnyElement>),
            name!(restored, bool),
            name!(deletion, Option<i64>),
            name!(app_actor, Option<String>),
            name!(reason, Option<String>),
        ),
    >,
    ErrorReport,
> {
    let replay = || -> Result<Lines> {
        let wanted = usize::try_from(lim.unwrap_or_default()).ok().filter(|lim| *lim > 0).ok_or_else(|| {
            Error::invalid("lim must be at least 1").hint("lim is the most events that one call returns; 1000 by default.")
        })?;
        let after = after.as_deref().map(tick::read).transpose()?;
        let tables = readable(relations)?;
        let numbers: Vec<i32> = tables.keys().copied().collect();
        let floors = retention::floors(numbers.clone())?;
        let stream = match after {
            Some(after) => {
                refuse_below_floor(&floors, &tables, &after)?;
                Stream::after(after, numbers)?
            }
            None => Stream::from_beginning(numbers, floors.iter().map(|(_, floor)| floor.raised).max().unwrap_or_default())?,
        };
        Ok(Lines { stream, tables, wanted, with_data: with_data.unwrap_or(false), ready: VecDeque::new() })
    };
    let row = |line: Line| {
        let Line { event, relation, deleted_at, data } = line;
        let (id, kind, version) = (event.id().to_string(), event.kind().map(str::to_string), event.version());
        let entry = &event.entry;
        (
            event.cursor,
            entry.at,
            relation,
            id,
            kind,
            entry.op.clone(),
            entry.deletion_type.clone(),
            version,
            deleted_at,
            entry.cause.clone(),
            entry.actor.clone(),
            // SAFETY: a value of the type it says.
            data.and_then(|data| unsafe { AnyElement::from_polymorphic_datum(data.to_datum(), false, pg_sys::JSONBOID) }),
            entry.restored,
            entry.deletion,
            entry.app_actor.clone(),
            entry.reason.clone(),
        )
    };
    let mut lines = replay().map_err(ErrorReport::from)?;
    let next = move || lines.next().map_err(ErrorReport::from).unwrap_or_report();
    Ok(TableIterator::new(std::iter::from_fn(next).map(row)))
}

/// The tables whose events the caller may know of, by number: those it may SELECT from, unless row security filters what it
/// sees there. Of tables named by the caller, all, or an error.
///
/// None is locked yet: somebody may be at work on a table that has nothing to tell.
fn readable(relations: Option<Vec<Option<pg_sys::Oid>>>) -> Result<Tables> {
    let all = all_managed()?;
    let tables: Vec<Managed> = match relations {
        Some(relations) => relations.into_iter().map(|relation| named(&all, relation)).collect::<Result<_>>()?,
        None => all.into_iter().filter(|table| may_read(table.relation) && !row_security_binds(table.relation)).collect(),
    };
    Ok(tables.into_iter().map(|table| (table.number, table.relation)).collect())
}

fn named(all: &[Managed], relation: Option<pg_sys::Oid>) -> Result<Managed> {
    let relation = relation.ok_or_else(|| Error::invalid("relations must not contain NULL"))?;
    let table = *all.iter().find(|table| table.relation == relation).ok_or_else(|| not_managed(relation))?;
    if !may_read(relation) {
        return Err(Error::denied(format!("permission denied for table {}", title(relation)))
            .hint("Its events are for those who have the SELECT privilege on it."));
    }
    if row_security_binds(relation) {
        return Err(Error::denied(format!("row security filters what you may see of table {}", title(relation)))
            .detail("The log cannot tell which of its events you could have seen.")
            .hint("Replay as a role that row security does not bind, such as the table's owner."));
    }
    Ok(table)
}

/// 55000 where a table's events after the cursor have been trimmed in part.
fn refuse_below_floor(floors: &[(i32, Floor)], tables: &Tables, after: &Cursor) -> Result<()> {
    let Some((number, _)) = floors.iter().find(|(_, floor)| floor.is_above(after)) else { return Ok(()) };
    Err(tick::too_old(format!("the cursor is too old: events of table {} after it are gone", title(tables[number])))
        .detail("They had been kept for the table's event_retention."))
}

/// The lines of one call, read some at a time: memory does not grow with `lim`.
struct Lines {
    stream: Stream,
    tables: Tables,
    /// How many more may be read.
    wanted: usize,
    with_data: bool,
    ready: VecDeque<Line>,
}

/// Events read at once, at least and at most: a page may hold but few that are still in the stream.
const AT_ONCE: (usize, usize) = (256, 16_384);

impl Lines {
    fn next(&mut self) -> Result<Option<Line>> {
        // The last line waits for its cursor, until it is known what comes after it.
        while self.ready.len() < 2 && self.wanted > 0 {
            self.read()?;
        }
        Ok(self.ready.pop_front())
    }

    /// One more page, which may hold events that have left the stream, and nothing else.
    fn read(&mut self) -> Result<()> {
        let (least, most) = AT_ONCE;
        let Some(page) = self.stream.next(self.wanted.clamp(least, most))? else {
            self.wanted = 0;
            return Ok(());
        };
        let mut lines = in_truth(page.events, &self.tables, self.with_data)?;
        let whole = lines.len() <= self.wanted;
        lines.truncate(self.wanted);
        self.wanted -= lines.len();
        self.ready.extend(lines);
        // What the page holds after its last line has left the stream: nobody needs to read it again.
        if whole && let Some(last) = self.ready.back_mut() {
            last.event.cursor = page.end;
        }
        Ok(())
    }
}

/// The events with what the tables say of their records now; without those whose records are gone.
fn in_truth(events: Vec<Event>, tables: &Tables, with_data: bool) -> Result<Vec<Line>> {
    let mut truths: HashMap<i32, Truth> = HashMap::new();
    for (number, relation) in tables {
        let of_table = |event: &&Event| event.entry.managed == *number && !event.is_purge();
        let named: Vec<(&str, Option<i64>)> =
            events.iter().filter(of_table).map(|event| (event.id(), event.version())).collect();
        if !named.is_empty() {
            lock(*relation, LockFor::Reading);
            if name_of(*relation).1.is_empty() {
                continue; // dropped meanwhile, and its records with it
            }
            truths.insert(*number, Truth::of(&*by_oid(*relation)?, &named, with_data)?);
        }
    }
    let line = |event: Event| -> Option<Line> {
        let relation = *tables.get(&event.entry.managed)?;
        if event.is_purge() {
            return Some(Line { event, relation, deleted_at: None, data: None });
        }
        let truth = truths.get_mut(&event.entry.managed)?;
        let (standing, data) = truth.next();
        // A delete says when it was; anything else, whether the record has been deleted since.
        let deleted_at = match (event.entry.op.as_str(), standing) {
            ("delete", None) if !truth.purges_are_told => event.entry.deleted_at,
            (_, None) => return None,
            ("delete", _) => event.entry.deleted_at,
            (_, Some(Standing::Deleted(stamp))) => TimestampWithTimeZone::try_from(stamp).ok(),
            (_, Some(Standing::Live)) => None,
        };
        Some(Line { event, relation, deleted_at, data })
    };
    Ok(events.into_iter().filter_map(line).collect())
}

/// How the records of some events of one table stand, in the events' order: `None` of one that is gone.
struct Truth {
    standings: std::vec::IntoIter<Option<Standing>>,
    data: HashMap<usize, Owned>,
    next: usize,
    /// Whether each purge is an event. Where some are not, a delete stays in the stream: nothing else says that the record is gone.
    purges_are_told: bool,
}

impl Truth {
    fn of(table: &Table, named: &[(&str, Option<i64>)], with_data: bool) -> Result<Truth> {
        // An id that cannot be read any more names nothing: the key is of another type now, or of other columns.
        let ids: Vec<&str> = named.iter().map(|(id, _)| *id).collect();
        let (places, keys): (Vec<usize>, Vec<Key>) = readable_keys(table, &ids)?.into_iter().unzip();
        let versions: Vec<i64> = places.iter().filter_map(|place| named[*place].1).collect();
        let rows = if versions.len() == keys.len() { Rows::Pairs(&keys, &versions) } else { Rows::Records(&keys) };
        let layout = layout::of(table);
        let mut standings: Vec<Option<Standing>> = vec![None; named.len()];
        for (place, standing) in places.iter().zip(table.evaluating(|| layout.standings(&rows))?) {
            standings[*place] = standing;
        }
        // The caller may read the whole table. But to make JSON of a row is to run what its owner may have written, as a cast
        // of a type: that has the owner's rights, not the caller's.
        let data = if with_data { table.evaluating(|| layout.data(&rows))? } else { HashMap::new() };
        let data = data.into_iter().map(|(key, data)| (places[key], data)).collect();
        Ok(Truth { standings: standings.into_iter(), data, next: 0, purges_are_told: table.logs_maintenance })
    }

    /// Of the next event; no standing where its record is gone.
    fn next(&mut self) -> (Option<Standing>, Option<Owned>) {
        let (standing, data) = (self.standings.next().flatten(), self.data.remove(&self.next));
        self.next += 1;
        (standing, data)
    }
}
