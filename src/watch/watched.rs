//! `tombstone.watched`: which managed tables are watched, and how. Written in the keeper's name, and by nobody else.

use std::time::Duration;

use counting::Strategy;
use pgrx::datum::{DatumWithOid, Interval};

use super::probe::Probe;
use super::safety::Share;
use super::vanished;
use crate::backend::own_table::own_statements;
use crate::error::{Error, Result};
use crate::log::run::Run;
use crate::table::Table;

/// How missing records are searched for, and what becomes of them.
#[derive(Debug, Clone, Copy)]
pub struct Manner {
    pub strategy: Strategy,
    /// The share that may be missing; `None`: somebody has confirmed that any may.
    pub max_missing: Option<Share>,
    /// Whether what re-appears is restored.
    pub restore: bool,
}

/// What holds for a table that nobody watches, when its records are asked about from outside.
pub const DEFAULT_MANNER: Manner = Manner { strategy: Strategy::Level, max_missing: Some(Share(150_000)), restore: true };
/// The most ids in one question, unless watch() says otherwise.
pub const DEFAULT_BATCH: usize = 1000;

/// A watched table.
#[derive(Debug, Clone)]
pub struct Watched {
    pub probe: Probe,
    /// The most ids in one question.
    pub batch: usize,
    pub manner: Manner,
}

/// What watch() is given, once it is checked.
pub struct Options {
    pub probe: Probe,
    pub every: Option<Interval>,
    pub batch: i32,
    pub max_missing: pgrx::AnyNumeric,
    pub restore: bool,
    pub strategy: Strategy,
    pub timeout: Interval,
}

own_statements! {
    OF(INT4) =
        "SELECT probe, batch, (max_missing * 1000000)::int4, restore, strategy, (extract(epoch FROM timeout) * 1000)::int8
         FROM tombstone.watched WHERE managed = $1";
    // A pass that is under way is due, whatever the schedule says.
    DUE() =
        "SELECT w.managed FROM tombstone.watched w
         WHERE w.every IS NOT NULL
           AND (w.due_at <= clock_timestamp()
                OR EXISTS (SELECT FROM tombstone.run r WHERE r.managed = w.managed AND r.action = 'watch' AND r.ended IS NULL))";
    SET(INT4, TEXT, INTERVAL, INT4, NUMERIC, BOOL, TEXT, INTERVAL) =
        "INSERT INTO tombstone.watched (managed, probe, every, batch, max_missing, restore, strategy, timeout)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
         ON CONFLICT (managed) DO UPDATE SET probe = EXCLUDED.probe, every = EXCLUDED.every, batch = EXCLUDED.batch,
             max_missing = EXCLUDED.max_missing, restore = EXCLUDED.restore, strategy = EXCLUDED.strategy,
             timeout = EXCLUDED.timeout, due_at = DEFAULT";
    // Unless somebody has made the next one due since this one began.
    PUT_OFF(INT8) =
        "UPDATE tombstone.watched w SET due_at = clock_timestamp() + least(w.every, interval '4000 years')
         FROM tombstone.run r
         WHERE r.run = $1 AND w.managed = r.managed AND w.every IS NOT NULL AND w.due_at <= r.at";
    BRING_ON(INT4) = "UPDATE tombstone.watched SET due_at = clock_timestamp() WHERE managed = $1 AND every IS NOT NULL";
    DELETE(INT4) = "DELETE FROM tombstone.watched WHERE managed = $1";
}

/// How `table` is watched; `None`: it is not.
pub fn of(table: &Table) -> Result<Option<Watched>> {
    let Some((probe, timeout, batch, manner)) = row(table)? else { return Ok(None) };
    Ok(Some(Watched { probe: Probe::named(table, &probe, timeout)?, batch, manner }))
}

/// The same without the probe, for who asks the source himself: the manner, and the most ids in one question.
pub fn manner_of(table: &Table) -> Result<Option<(Manner, usize)>> {
    Ok(row(table)?.map(|(_, _, batch, manner)| (manner, batch)))
}

fn row(table: &Table) -> Result<Option<(String, Duration, usize, Manner)>> {
    OF.first(&[table.number.into()], |row| {
        let timeout = Duration::from_millis(row.get::<i64>(6)?.max(1).unsigned_abs());
        let manner = Manner {
            strategy: row.parsed(5, Strategy::from_name)?,
            max_missing: Some(Share(row.get::<i32>(3)?.unsigned_abs())),
            restore: row.get(4)?,
        };
        Ok((row.get(1)?, timeout, row.get::<i32>(2)?.unsigned_abs() as usize, manner))
    })
}

/// The same of one that must be; 42704 where it is not.
pub fn required(table: &Table) -> Result<Watched> {
    of(table)?.ok_or_else(|| not_watched(table))
}

pub fn not_watched(table: &Table) -> Error {
    Error::undefined(format!("table {} is not watched", table.title()))
        .detail("There is no probe that its source could be asked by.")
        .hint("tombstone.watch() names one; a source that only an outside client can ask, it asks with tombstone.reconcile_open().")
}

/// The tables, by number, of which a pass is due or under way.
pub fn due() -> Result<Vec<i32>> {
    DUE.rows(&[], |row| row.get(1))
}

/// Watches the table numbered `number` so from now on; a pass is due at once.
pub fn set(number: i32, options: Options) -> Result<()> {
    let arguments = [
        number.into(),
        options.probe.name().into(),
        options.every.into(),
        options.batch.into(),
        options.max_missing.into(),
        options.restore.into(),
        options.strategy.name().into(),
        DatumWithOid::from(options.timeout),
    ];
    SET.run(&arguments)
}

/// `run`, a pass, is over: puts the next one off for as long as passes lie apart.
pub fn put_off(run: Run) -> Result<()> {
    PUT_OFF.run(&[run.number.into()])
}

/// The next pass is due now; false where there are no passes.
pub fn bring_on(number: i32) -> Result<bool> {
    BRING_ON.any(&[number.into()])
}

/// Watches the table no more; false where it was not watched.
pub fn delete(number: i32) -> Result<bool> {
    let was_watched = DELETE.any(&[number.into()])?;
    vanished::forget_all(number)?;
    Ok(was_watched)
}
