//! The partitions of a bin, whose number follows use. Rows land in the open one, which takes whatever no other does; once its oldest
//! row is a width old it is closed: it becomes a partition of its own, and an empty one is open. No DELETE waits for a partition to
//! be made. What is due as a whole is dropped as a whole.

use std::ffi::CStr;

use pgrx::datum::{DatumWithOid, Interval, TimestampWithTimeZone};
use pgrx::{Spi, pg_sys};

use super::altering;
use crate::backend::ident::{ident, literal, qualified};
use crate::backend::identity::with_settings;
use crate::backend::query::Statement;
use crate::backend::relation::{LockFor, lock};
use crate::backend::stamp::stamp_argument;
use crate::backend::subtransaction::attempt;
use crate::error::Result;
use crate::lifecycle::hold;
use crate::lifecycle::rows::{Clause, Rows};
use crate::lifecycle::whole;
use crate::log::account;
use crate::log::event::Change;
use crate::log::notify;
use crate::table::catalog::{self, Relation};
use crate::table::{Bin, Table, derived_name, identifiable, name_of};

/// Whoever deletes waits no longer than this for a partition to be closed or dropped; else it is done another time.
const SHORT: [(&CStr, &CStr); 1] = [(c"lock_timeout", c"100ms")];

/// A retention is told apart in so many partitions.
const PARTS_IN_A_RETENTION: i64 = 30;
const HOUR: i64 = 3_600_000_000;
const DAY: i64 = 24 * HOUR;

/// How old the oldest row of the open partition may become, in microseconds: an hour at least, a month at most.
pub fn width(retention: &Interval) -> i64 {
    let days = i64::from(retention.months()) * 30 + i64::from(retention.days());
    let whole = days.saturating_mul(DAY).saturating_add(retention.micros());
    (whole / PARTS_IN_A_RETENTION).clamp(HOUR, 30 * DAY)
}

thread_local! {
    static NOW: &'static Statement = Box::leak(Box::new(Statement::new(
        "SELECT pg_catalog.clock_timestamp(), pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) LEAST($1, '4000 years'::pg_catalog.interval)",
        [pg_sys::INTERVALOID],
    )));
    static SUMMARISE: &'static Statement = Box::leak(Box::new(Statement::new(
        "SELECT pg_catalog.brin_summarize_new_values(i.indexrelid) FROM pg_catalog.pg_index i
         JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) i.indexrelid
         JOIN pg_catalog.pg_am m ON m.oid OPERATOR(pg_catalog.=) c.relam
         WHERE i.indrelid OPERATOR(pg_catalog.=) $1 AND m.amname OPERATOR(pg_catalog.=) 'brin'",
        [pg_sys::OIDOID],
    )));
}

/// The moment that is now, and the one before which what was deleted is due.
fn now_and_limit(retention: &Interval) -> Result<(i64, i64)> {
    let stamp = |at: Option<TimestampWithTimeZone>| at.map_or(i64::MIN, |at| at.into_inner());
    let found =
        NOW.with(|statement| statement.rows(&[(*retention).into()], |row| Ok((stamp(row.get(1)?), stamp(row.get(2)?)))))?;
    Ok(found.into_iter().next().unwrap_or((i64::MIN, i64::MIN)))
}

/// Closes the open partition where its oldest row is a width old; whether it did. With the rights of the table's owner.
pub fn close(bin: &Bin, retention: &Interval) -> Result<bool> {
    let Some(open) = bin.parts.iter().find(|part| part.bounds.is_none()) else { return Ok(false) };
    let (now, _) = now_and_limit(retention)?;
    let (schema, name) = name_of(open.oid);
    let (part, stamp) = (qualified(&schema, &name), bin.own.deleted_at.sql());
    summarise(open.oid);
    if !holds_older(&part, &stamp, now.saturating_sub(width(retention)))? {
        return Ok(false);
    }
    with_settings(&SHORT, || {
        lock(bin.oid, LockFor::Ending);
        summarise(open.oid); // what has come since: nothing more will
        let (now, _) = now_and_limit(retention)?;
        let from = bin.parts.iter().filter_map(|part| part.bounds.map(|(_, until)| until)).max();
        let (oldest, has_others) = content(&part, &stamp, now)?;
        // A row that is older than what was closed before is of a transaction that began before: it is due first.
        let Some(oldest) = oldest.filter(|oldest| *oldest < now && from.is_none_or(|from| *oldest >= from)) else {
            return Ok(false);
        };
        let stays = format!("{stamp} OPERATOR(pg_catalog.=) '-infinity' OR {stamp} OPERATOR(pg_catalog.>=) $1");
        let staying = has_others.then_some(stays.as_str());
        reattach(bin, (&schema, &name), (from.unwrap_or(oldest), now), staying)?;
        Ok(true)
    })
}

/// Has the index by deletion and age know of the rows that came since it was last told: until then whoever looks for a deletion reads
/// them all. Who has the table locked, VACUUM above all, does the same, or it is done another time.
fn summarise(part: pg_sys::Oid) {
    let arguments = [DatumWithOid::from(part)];
    let summarise = || SUMMARISE.with(|statement| statement.execute(&arguments));
    let _ = with_settings(&SHORT, || attempt(summarise));
}

/// Whether a row of the partition is of `limit` or older, and of a moment at all.
fn holds_older(part: &str, stamp: &str, limit: i64) -> Result<bool> {
    let sql = format!(
        "SELECT 1 FROM {part} WHERE {stamp} OPERATOR(pg_catalog.<=) $1 AND {stamp} OPERATOR(pg_catalog.>) '-infinity' LIMIT 1"
    );
    let statement = Statement::new(sql, [pg_sys::TIMESTAMPTZOID]);
    Ok(by_index(|| statement.execute(&[stamp_argument(Some(limit))]))? > 0)
}

/// Runs `act`, whose statements look into a bin by deletion or age: through the index, as of what was deleted just now Postgres has
/// no statistics that would say it is worth it.
pub fn by_index<T>(act: impl FnOnce() -> T) -> T {
    const BY_INDEX: [(&CStr, &CStr); 1] = [(c"enable_seqscan", c"off")];
    with_settings(&BY_INDEX, act)
}

/// The oldest moment of a row of the partition, and whether there are rows that no closed partition takes: those of no moment, or of
/// one that is not over. Nobody but the bin's owner gives a row such a stamp.
fn content(part: &str, stamp: &str, now: i64) -> Result<(Option<i64>, bool)> {
    let is_finite = format!("{stamp} OPERATOR(pg_catalog.>) '-infinity'");
    let sql = format!(
        "SELECT pg_catalog.min({stamp}) FILTER (WHERE {is_finite}),
                pg_catalog.bool_and({is_finite} AND {stamp} OPERATOR(pg_catalog.<) $1) IS FALSE FROM {part}"
    );
    let read = |row: &pgrx::spi::SpiHeapTupleData| {
        let oldest = row.get::<TimestampWithTimeZone>(1)?.map(|at| at.into_inner());
        Ok((oldest, row.get::<bool>(2)?.unwrap_or_default()))
    };
    let rows = Statement::new(sql, [pg_sys::TIMESTAMPTZOID]).rows(&[stamp_argument(Some(now))], read)?;
    Ok(rows.into_iter().next().unwrap_or_default())
}

/// Makes the open partition one with bounds, and a new one the open one, which gets the rows that are `staying`, a condition on `until`
/// as $1. The bin is locked.
fn reattach(bin: &Bin, (schema, name): (&str, &str), (from, until): (i64, i64), staying: Option<&str>) -> Result<()> {
    let (from, until_text) = (text_of(from)?, text_of(until)?);
    let digits: String = until_text.chars().filter(char::is_ascii_digit).take(14).collect();
    let closed = derived_name(name.strip_suffix("_open").unwrap_or(name), &format!("_until_{digits}"));
    let (open, closed_sql) = (qualified(schema, name), qualified(schema, &closed));
    let before = [
        format!("ALTER TABLE {} DETACH PARTITION {open}", bin.sql()),
        format!("ALTER TABLE {open} RENAME TO {}", ident(&closed)),
        format!("CREATE TABLE {open} PARTITION OF {} DEFAULT USING heap", bin.sql()),
        crate::table::triggers::truncate_guard(&open),
        identifiable(&open),
    ];
    let attach = format!(
        "ALTER TABLE {} ATTACH PARTITION {closed_sql} FOR VALUES FROM ({}) TO ({})",
        bin.sql(),
        literal(&from),
        literal(&until_text)
    );
    altering::ourselves(|| {
        before.iter().try_for_each(|command| Spi::run(command))?;
        if let Some(condition) = staying {
            // No trigger of the bin sees them go: the partition is none of it at the moment.
            let columns = columns_of(bin.oid)?;
            let sql = format!(
                "WITH staying AS (DELETE FROM {closed_sql} WHERE {condition} RETURNING {columns}) INSERT INTO {open} ({columns}) SELECT {columns} FROM staying"
            );
            Statement::new(sql, [pg_sys::TIMESTAMPTZOID]).execute(&[stamp_argument(Some(until))])?;
        }
        Ok(Spi::run(&attach)?)
    })
}

/// The columns of a bin, as SQL, those that its owner has given it among them.
fn columns_of(bin: pg_sys::Oid) -> Result<String> {
    let bin = catalog::relation(bin)?;
    let attributes = bin.iter().flat_map(Relation::attributes_in_order).filter(|attribute| !attribute.computed);
    Ok(attributes.map(|attribute| attribute.column.sql()).collect::<Vec<_>>().join(", "))
}

fn text_of(stamp: i64) -> Result<String> {
    let statement = Statement::new("SELECT pg_catalog.timezone('UTC', $1)::pg_catalog.text || '+00'", [pg_sys::TIMESTAMPTZOID]);
    const PLAIN: [(&CStr, &CStr); 1] = [(c"DateStyle", c"ISO, YMD")];
    let rows = with_settings(&PLAIN, || statement.rows(&[stamp_argument(Some(stamp))], |row| Ok(row.get::<String>(1)?)))?;
    Ok(rows.into_iter().flatten().next().unwrap_or_default())
}

/// A partition all of whose rows are due.
pub fn due(bin: &Bin, retention: &Interval) -> Result<Option<pg_sys::Oid>> {
    let (_, limit) = now_and_limit(retention)?;
    let is_due = |part: &&crate::table::tombstones::Part| part.bounds.is_some_and(|(_, until)| until <= limit);
    Ok(bin.parts.iter().filter(is_due).min_by_key(|part| part.bounds.map(|(from, _)| from)).map(|part| part.oid))
}

/// Drops a partition, and logs that its records are purged, if the table wants it; `None` where a record in it is on hold. With the rights of
/// the table's owner.
pub fn drop_part(table: &Table, bin: &Bin, part: pg_sys::Oid) -> Result<Option<u64>> {
    with_settings(&SHORT, || {
        lock(bin.oid, LockFor::Ending);
        let (schema, name) = name_of(part);
        let part_sql = qualified(&schema, &name);
        if holds_held(table, &part_sql)? {
            return Ok(None);
        }
        let rows = if table.logs_maintenance {
            let log = |entry| notify::log(entry, &account::current(), table);
            whole::each_entry(table, part, Change::Purge, log)?
        } else {
            rows_by_statistics(part)?
        };
        Spi::run(&format!("DROP TABLE {part_sql}"))?;
        Ok(Some(rows))
    })
}

/// How many rows a partition has, as Postgres' statistics know: to count them would take as long as they are many.
fn rows_by_statistics(part: pg_sys::Oid) -> Result<u64> {
    let statement = Statement::new("SELECT pg_catalog.pg_stat_get_live_tuples($1)", [pg_sys::OIDOID]);
    let rows = statement.rows(&[DatumWithOid::from(part)], |row| Ok(row.get::<i64>(1)?))?;
    Ok(rows.into_iter().flatten().next().unwrap_or_default().max(0).cast_unsigned())
}

fn holds_held(table: &Table, part: &str) -> Result<bool> {
    let held = hold::all_held(table)?;
    if held.is_empty() {
        return Ok(false);
    }
    let keys = held.iter().map(|id| table.key(id)).collect::<Result<Vec<_>>>()?;
    let rows = Rows::Records(&keys);
    let Clause { from, condition, types, .. } = rows.clause(table);
    let arguments: Vec<DatumWithOid> = rows.arguments(table);
    let statement = Statement::new(format!("SELECT 1 FROM {part} AS t, {from} WHERE {condition} LIMIT 1"), types);
    Ok(statement.execute(&arguments)? > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Partitions are neither too many nor too wide, whatever the retention.
        #[test]
        fn a_width_is_from_an_hour_to_a_month(months in 0i32..1200, days in 0i32..40_000, micros in 0i64..DAY) {
            if let Ok(retention) = Interval::new(months, days, micros) {
                prop_assert!((HOUR..=30 * DAY).contains(&width(&retention)));
            }
        }
    }
}
