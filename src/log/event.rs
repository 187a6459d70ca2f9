//! Entries of `tombstone.event`: written straight into the table; read, left to the relay and trimmed in the keeper's name. And
//! `tombstone.undone`: which deletions were undone. Nobody else writes these two.

use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;

use pgrx::datum::{Interval, TimestampWithTimeZone};
use pgrx::{IntoDatum, pg_sys};

use super::account::Account;
use super::deletion;
use crate::backend::identity::actor;
use crate::backend::own_table::{OwnRow, own_statements};
use crate::backend::relation;
use crate::backend::stamp::{stamp_argument, stamps_argument};
use crate::backend::text_array::text_array;
use crate::backend::transaction;
use crate::error::Result;

/// What became of the records of one entry. A stamp is the value of deleted_at, in Postgres' microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    Create,
    Update,
    SoftDelete { stamp: i64, redacted: bool },
    Restore { stamp: i64 },
    Purge,
}

impl Change {
    pub fn op(self) -> &'static str {
        match self {
            Change::Create => "create",
            Change::Update | Change::Restore { .. } => "update",
            Change::SoftDelete { .. } | Change::Purge => "delete",
        }
    }

    /// Of a delete: whether the record can come back.
    pub fn deletion_type(self) -> Option<&'static str> {
        match self {
            Change::SoftDelete { .. } => Some("soft"),
            Change::Purge => Some("hard"),
            _ => None,
        }
    }

    pub fn is_restore(self) -> bool {
        matches!(self, Change::Restore { .. })
    }

    /// Whether holds forbid it, and foreign keys carry it on.
    pub fn is_of_the_lifecycle(self) -> bool {
        !matches!(self, Change::Create | Change::Update)
    }

    fn stamp(self) -> Option<i64> {
        match self {
            Change::SoftDelete { stamp, .. } | Change::Restore { stamp } => Some(stamp),
            _ => None,
        }
    }
}

/// What one statement did to many records of one table.
#[derive(Debug, Clone)]
pub struct Entry {
    pub managed: i32,
    pub change: Change,
    pub ids: Vec<String>,
    /// Parallel to `ids`; empty where the table has no versions.
    pub versions: Vec<i64>,
    /// Parallel to `ids`; one for all of them, or none where the table has no kind.
    pub kinds: Vec<Option<String>>,
    /// Its number, where that was drawn ahead.
    pub seq: Option<i64>,
}

impl Entry {
    /// The kind of record `i`.
    pub fn kind(&self, i: usize) -> Option<&str> {
        let kind = if self.kinds.len() == 1 { self.kinds.first() } else { self.kinds.get(i) };
        kind.and_then(Option::as_deref)
    }
}

/// What an entry says of who announces it, where that is the relay: where, whether in arrays, and whether in full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Left<'a> {
    pub channel: &'a str,
    pub batched: bool,
    pub full: bool,
}

/// An entry as read back, on the way to an undo.
#[derive(Debug, Clone)]
pub struct Taken {
    /// The number of the entry.
    pub seq: i64,
    pub managed: i32,
    /// The stamp of a soft delete; `None` of a hard one.
    pub stamp: Option<i64>,
    pub redacted: bool,
    pub by_cascade: bool,
    pub ids: Vec<String>,
    pub versions: Vec<i64>,
}

/// What a deletion took of one table, in numbers.
#[derive(Debug, Clone, Copy)]
pub struct Tally {
    pub managed: i32,
    /// As many as it took rows; some of them perhaps twice, where they were there again in between.
    pub rows: u64,
    pub redacted: bool,
}

/// Which deletions have left one stamp in a table and in those that refer to it, as far as the log knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stamped {
    /// One, which took records of the table itself.
    One(i64),
    /// More than one, or one that took nothing of the table itself: it is not what took its records.
    Several,
    /// None.
    Unknown,
}

/// Which deletion left each row its stamp, where several have left the same: by id and version, the last one that did.
#[derive(Debug, Default)]
pub struct Takers(HashMap<String, HashMap<Option<i64>, i64>>);

impl Takers {
    /// The last deletion that took of this record.
    pub fn last_of(&self, id: &str) -> Option<i64> {
        self.0.get(id).and_then(|rows| rows.values().max()).copied()
    }

    /// Whether no other deletion than this one took of the record; `None`: than one that the log does not know.
    pub fn took_all(&self, deletion: Option<i64>, id: &str) -> bool {
        match self.0.get(id) {
            Some(rows) => rows.values().all(|taker| Some(*taker) == deletion),
            None => deletion.is_none(),
        }
    }
}

/// A soft delete as read back, on the way to an archive.
#[derive(Debug, Clone)]
pub struct Told {
    /// The transaction, and the number of the entry: its place among the table's.
    pub place: (String, i64),
    pub deletion: i64,
    pub stamp: i64,
    pub ids: Vec<String>,
    /// Parallel to `ids`; empty where the table has no versions.
    pub versions: Vec<i64>,
    pub actor: String,
    pub cause: String,
    pub reason: Option<String>,
    pub app_actor: Option<String>,
}

thread_local! {
    static NOTED: Cell<u64> = const { Cell::new(0) };
}

own_statements! {
    // All that a transaction deletes is one deletion, numbered as the first of its entries. The index begins with the table, so
    // each table the log knows is asked for what that transaction did to it.
    TAKEN(INT8, INT4_ARRAY) =
        "WITH RECURSIVE known AS (
             SELECT min(managed) AS managed FROM tombstone.event
             UNION ALL
             SELECT (SELECT min(e.managed) FROM tombstone.event e WHERE e.managed > known.managed)
             FROM known WHERE known.managed IS NOT NULL
         )
         SELECT e.seq, e.managed, e.deleted_at, e.redacted, e.cause = 'cascade', e.ids, e.versions
         FROM known
         JOIN tombstone.event e ON e.managed = known.managed AND e.xid = (SELECT xid FROM tombstone.event WHERE seq = $1)
         WHERE e.deletion = $1 AND e.op = 'delete' AND e.managed <> ALL ($2) ORDER BY e.seq";
    // A column may hold no more than whole seconds: so far apart can two stamps be that look the same there.
    // By the stamp alone, whose index finds next to nothing: along the other one all of a table's entries would be read.
    TAKEN_AGAIN(INT4, INT8, TIMESTAMPTZ) =
        "WITH stamped AS MATERIALIZED (
             SELECT seq, managed, deletion, ids, versions FROM tombstone.event
             WHERE deleted_at BETWEEN $3 - interval '1 second' AND $3 + interval '1 second' AND deletion_type = 'soft'
         )
         SELECT ids, versions, seq FROM stamped WHERE managed = $1 AND deletion <> $2 ORDER BY seq";
    TAKEN_OF(INT8, INT4) =
        "SELECT ids, versions, cause = 'cascade' FROM tombstone.event
         WHERE managed = $2 AND xid = (SELECT xid FROM tombstone.event WHERE seq = $1) AND deletion = $1 AND op = 'delete'
         ORDER BY seq";
    TALLIES(INT8) =
        "WITH RECURSIVE known AS (
             SELECT min(managed) AS managed FROM tombstone.event
             UNION ALL
             SELECT (SELECT min(e.managed) FROM tombstone.event e WHERE e.managed > known.managed)
             FROM known WHERE known.managed IS NOT NULL
         )
         SELECT e.managed, sum(greatest(cardinality(e.ids), cardinality(e.versions)))::int8, bool_or(e.redacted)
         FROM known
         JOIN tombstone.event e ON e.managed = known.managed AND e.xid = (SELECT xid FROM tombstone.event WHERE seq = $1)
         WHERE e.deletion = $1 AND e.op = 'delete' GROUP BY e.managed";
    // The first and the last deletion by each stamp, which the index finds: one that took its records one by one has as many entries.
    STAMPED(TIMESTAMPTZ_ARRAY, INT4, INT4_ARRAY) =
        "SELECT found.deletion, bool_or(of.managed = $2)
         FROM unnest($1) AS left_as (stamp)
         CROSS JOIN unnest($2 || $3) AS of (managed)
         CROSS JOIN LATERAL (
             (SELECT e.deletion FROM tombstone.event e
              WHERE e.deleted_at = left_as.stamp AND e.deletion_type = 'soft' AND e.managed = of.managed ORDER BY e.deletion LIMIT 1)
             UNION ALL
             (SELECT e.deletion FROM tombstone.event e
              WHERE e.deleted_at = left_as.stamp AND e.deletion_type = 'soft' AND e.managed = of.managed ORDER BY e.deletion DESC LIMIT 1)
         ) AS found
         GROUP BY found.deletion LIMIT 2";
    TAKERS(TIMESTAMPTZ, INT4) =
        "WITH stamped AS MATERIALIZED (
             SELECT seq, managed, deletion, ids, versions FROM tombstone.event WHERE deleted_at = $1 AND deletion_type = 'soft'
         )
         SELECT deletion, ids, versions FROM stamped WHERE managed = $2 ORDER BY seq";
    // The newest transactions first, down to the one named; below a place, if one is named.
    TOLD(INT4, TEXT, TEXT, INT8) =
        "SELECT xid::text, seq, deletion, deleted_at, ids, versions, actor, cause, reason, app_actor FROM tombstone.event
         WHERE managed = $1 AND xid >= $2::xid8 AND deletion_type = 'soft'
           AND CASE WHEN $3 IS NULL THEN true ELSE (xid, seq) < ($3::xid8, $4) END
         ORDER BY xid DESC, seq DESC";
    PURGED(INT4, TEXT) =
        "SELECT 1 FROM tombstone.event WHERE managed = $1 AND deletion_type = 'hard' AND $2 = ANY (ids) LIMIT 1";
    PURGED_AFTER(INT4, INT8, INT8) =
        "SELECT seq, ids FROM tombstone.event WHERE managed = $1 AND deletion_type = 'hard' AND seq > $2 ORDER BY seq LIMIT $3";
    LEAVE(INT8_ARRAY, TEXT, BOOL, BOOL) =
        "UPDATE tombstone.event SET channel = $2, batched = $3, full_payload = $4 WHERE seq = ANY ($1)";
    // A deletion stays whole for as long as a part of it must, and then goes as a whole: undo is all or nothing. What tells that it was
    // taken back stays with it.
    TRIM(INT4, TEXT, INTERVAL) =
        "WITH old AS MATERIALIZED (
             SELECT seq, xid, op, restored, deleted_at FROM tombstone.event
             WHERE managed = $1 AND xid < pg_snapshot_xmax($2::pg_snapshot) AND pg_visible_in_snapshot(xid, $2::pg_snapshot)
         ), deletions AS MATERIALIZED (
             SELECT DISTINCT old.xid FROM old
             WHERE old.op = 'delete'
               AND NOT EXISTS (SELECT FROM tombstone.managed m
                               JOIN tombstone.event o ON o.managed = m.managed AND o.xid = old.xid AND o.op = 'delete'
                               WHERE m.event_retention IS NULL OR m.event_retention > $3)
         ), staying AS (
             SELECT deleted_at FROM old
             WHERE op = 'delete' AND deleted_at IS NOT NULL AND xid NOT IN (SELECT xid FROM deletions)
         ), others AS (
             DELETE FROM tombstone.event e USING old
             WHERE e.seq = old.seq AND old.op <> 'delete' AND NOT (old.restored AND old.deleted_at IN (SELECT deleted_at FROM staying))
             RETURNING e.managed, e.seq, e.xid
         ), deletes AS (
             DELETE FROM tombstone.event e USING tombstone.managed m, deletions d
             WHERE e.managed = m.managed AND e.xid = d.xid AND e.op = 'delete'
             RETURNING e.managed, e.seq, e.xid
         )
         SELECT managed, max(seq), (array_agg(xid::text ORDER BY xid DESC))[1]
         FROM (TABLE others UNION ALL TABLE deletes) gone GROUP BY managed";
    UNDONE(INT8) = "SELECT 1 FROM tombstone.undone WHERE deletion = $1";
    MARK_UNDONE(INT8) = "INSERT INTO tombstone.undone (deletion) VALUES ($1) ON CONFLICT DO NOTHING";
    // No table remembers anything of them.
    FORGET_UNDONE() =
        "DELETE FROM tombstone.undone u
         WHERE u.at < clock_timestamp() - (SELECT least(max(event_retention), interval '4000 years') FROM tombstone.managed)
           AND NOT EXISTS (SELECT FROM tombstone.managed WHERE event_retention IS NULL)";
}

/// How many changes the triggers have noted in this session: tells a door whether they saw its write.
pub fn noted() -> u64 {
    NOTED.get()
}

/// The triggers noted one more change.
pub fn note_one() {
    NOTED.set(NOTED.get() + 1);
}

/// Writes `entry`, on `account`; `left` to the relay, or not. Returns its number, and that of the deletion it belongs to.
///
/// Straight into the table, as Postgres writes its own catalogs: every deletion passes here, and SPI with the table's CHECK
/// constraints took half of a soft delete's time. What the constraints state is held by the types of `Entry`, and tested.
pub fn append(entry: &Entry, account: &Account, left: Option<Left>) -> Result<(i64, Option<i64>)> {
    let Entry { managed, change, ids, versions, kinds, seq } = entry;
    let (seq, deletion) = match change.deletion_type() {
        Some(_) => {
            let (seq, number) = deletion::seq_and_number(*seq);
            (seq, Some(number))
        }
        None => (seq.unwrap_or_else(deletion::next_seq), account.undoes.filter(|_| change.is_restore())),
    };
    let versions = (!versions.is_empty()).then_some(versions.as_slice());
    let ids = if versions.is_some() { one_for_all(ids) } else { ids };
    let kinds = one_for_all(kinds);
    relation::append(
        c"event",
        &[
            Some(seq.into()),
            Some(transaction::number().into()),
            Some(transaction::started().into()),
            managed.into_datum(),
            change.op().into_datum(),
            change.deletion_type().into_datum(),
            change.is_restore().into_datum(),
            deletion.into_datum(),
            Some(text_array(ids.iter().map(|id| Some(id.as_str())))),
            versions.into_datum(),
            kinds.iter().any(Option::is_some).then(|| text_array(kinds.iter().map(Option::as_deref))),
            change.stamp().map(pg_sys::Datum::from),
            matches!(change, Change::SoftDelete { redacted: true, .. }).into_datum(),
            account.cause.name().into_datum(),
            actor().into_datum(),
            account.reason.as_deref().into_datum(),
            left.map(|left| left.channel).into_datum(),
            left.is_some_and(|left| left.batched).into_datum(),
            account.app_actor.as_deref().into_datum(),
            left.is_some_and(|left| left.full).into_datum(),
        ],
    )?;
    Ok((seq, deletion))
}

/// Many versions of one record name it once, and many records of one kind that kind.
fn one_for_all<T: PartialEq>(values: &[T]) -> &[T] {
    if values.windows(2).all(|pair| pair[0] == pair[1]) { &values[..values.len().min(1)] } else { values }
}

/// Leaves entries of this transaction to the relay that were to be announced otherwise.
pub fn leave(entries: Vec<i64>, left: Left) -> Result<()> {
    let arguments = [entries.into(), left.channel.into(), left.batched.into(), left.full.into()];
    LEAVE.run(&arguments)
}

/// What `deletion` took, in the order in which it took it; without what it took of the tables numbered `but_of`.
pub fn taken_by(deletion: i64, but_of: Vec<i32>) -> Result<Vec<Taken>> {
    TAKEN.rows(&[deletion.into(), but_of.into()], |row| {
        let (ids, versions) = one_for_each(row.get(6)?, row.nullable(7)?);
        Ok(Taken {
            seq: row.get(1)?,
            managed: row.get(2)?,
            stamp: row.nullable::<TimestampWithTimeZone>(3)?.map(|at| at.into_inner()),
            redacted: row.get(4)?,
            by_cascade: row.get(5)?,
            ids,
            versions,
        })
    })
}

/// A row by its record's id and its version.
pub type Named = (String, Option<i64>);

/// What other deletions than `deletion` have taken of the table numbered `managed`, with a stamp that may look like `stamp`: each row, and
/// the number of the last entry that has it. A row is taken anew only after the deletion before is over: a higher number than that of
/// the entry by which `deletion` took it says that it was taken since.
pub fn taken_again(deletion: i64, managed: i32, stamp: Option<i64>) -> Result<HashMap<Named, i64>> {
    let arguments = [managed.into(), deletion.into(), stamp_argument(stamp)];
    let again = TAKEN_AGAIN.rows_latest(&arguments, |row| {
        let (ids, versions) = one_for_each(row.get(1)?, row.nullable(2)?);
        let seq = row.get(3)?;
        Ok(ids.into_iter().enumerate().map(move |(i, id)| ((id, versions.get(i).copied()), seq)).collect::<Vec<_>>())
    })?;
    Ok(again.into_iter().flatten().collect())
}

/// Which deletions have left one of these stamps in the table numbered `managed`, or in `others`.
pub fn stamped(stamps: &[i64], managed: i32, others: Vec<i32>) -> Result<Stamped> {
    let deletions = STAMPED
        .rows(&[stamps_argument(stamps), managed.into(), others.into()], |row| Ok((row.get::<i64>(1)?, row.get::<bool>(2)?)))?;
    Ok(match deletions.as_slice() {
        [(deletion, true)] => Stamped::One(*deletion),
        [] => Stamped::Unknown,
        _ => Stamped::Several,
    })
}

/// Which deletions have left this stamp in the records `ids` of the table numbered `managed`, as far as the log knows.
pub fn takers<'a>(stamp: i64, managed: i32, ids: impl Iterator<Item = &'a str>) -> Result<Takers> {
    let (wanted, mut takers) = (ids.collect::<HashSet<_>>(), Takers::default());
    let entries = TAKERS.rows(&[stamp_argument(Some(stamp)), managed.into()], |row| {
        let (deletion, (ids, versions)) = (row.get(1)?, one_for_each(row.get(2)?, row.nullable(3)?));
        Ok((deletion, ids, versions))
    })?;
    for (deletion, ids, versions) in entries {
        for (i, id) in ids.into_iter().enumerate().filter(|(_, id)| wanted.contains(id.as_str())) {
            takers.0.entry(id).or_default().insert(versions.get(i).copied(), deletion);
        }
    }
    Ok(takers)
}

/// How much `deletion` took of each table; nothing where the log knows of no such deletion, or no more. It knows one whole, or not.
pub fn tallies(deletion: i64) -> Result<Vec<Tally>> {
    TALLIES.rows(&[deletion.into()], |row| Ok(Tally { managed: row.get(1)?, rows: row.count(2)?, redacted: row.get(3)? }))
}

/// One row that a deletion took: its id, its version, and whether a foreign key did it.
pub type TakenRow = (String, Option<i64>, bool);

/// What `deletion` took of the table numbered `managed`, row by row.
pub fn rows_taken_of(deletion: i64, managed: i32) -> Result<Vec<TakenRow>> {
    let taken = TAKEN_OF.rows(&[deletion.into(), managed.into()], |row| {
        let ((ids, versions), by_cascade) = (one_for_each(row.get(1)?, row.nullable(2)?), row.get(3)?);
        let row = |(i, id)| (id, versions.get(i).copied(), by_cascade);
        Ok(ids.into_iter().enumerate().map(row).collect::<Vec<TakenRow>>())
    })?;
    Ok(taken.into_iter().flatten().collect())
}

/// Ids and versions as an entry has them, as many of the ones as of the others.
fn one_for_each(mut ids: Vec<String>, versions: Option<Vec<i64>>) -> (Vec<String>, Vec<i64>) {
    let versions = versions.unwrap_or_default();
    if ids.len() < versions.len() {
        ids = vec![ids.concat(); versions.len()];
    }
    (ids, versions)
}

/// Soft deletes of the table numbered `managed`, in transactions from `since` on: the newest first, below `before`, until they name
/// `most` records. Sees what is committed by now.
pub fn soft_deletes(managed: i32, since: &str, before: Option<&(String, i64)>, most: usize) -> Result<Vec<Told>> {
    let (mut told, mut records) = (Vec::new(), 0);
    let before = [before.map(|(xid, _)| xid.as_str()).into(), before.map(|(_, seq)| *seq).into()];
    let [xid, seq] = before;
    TOLD.scan(&[managed.into(), since.into(), xid, seq], |row| {
        let (ids, versions) = one_for_each(row.get(5)?, row.nullable(6)?);
        records += ids.len();
        told.push(Told {
            place: (row.get(1)?, row.get(2)?),
            deletion: row.get(3)?,
            stamp: row.get::<TimestampWithTimeZone>(4)?.into_inner(),
            ids,
            versions,
            actor: row.get(7)?,
            cause: row.get(8)?,
            reason: row.nullable(9)?,
            app_actor: row.nullable(10)?,
        });
        Ok(if records < most { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
    })?;
    Ok(told)
}

/// Whether `deletion` was undone.
pub fn is_undone(deletion: i64) -> Result<bool> {
    UNDONE.any(&[deletion.into()])
}

/// Notes that `deletion` is undone; false where it was already. Waits for another session that is undoing it.
pub fn mark_undone(deletion: i64) -> Result<bool> {
    MARK_UNDONE.any(&[deletion.into()])
}

/// What was trimmed of one table: its number, and the last entry and transaction of what is gone.
pub struct Trimmed {
    pub managed: i32,
    pub seq: i64,
    pub transaction: String,
}

/// Trims the entries of the table numbered `managed` that `seen`, a pg_snapshot, sees: those of deletions where no table that they
/// took records of wants them for longer than `retention`, and then in all tables.
pub fn trim(managed: i32, seen: &str, retention: Interval) -> Result<Vec<Trimmed>> {
    TRIM.rows(&[managed.into(), seen.into(), retention.into()], |row| {
        Ok(Trimmed { managed: row.get(1)?, seq: row.get(2)?, transaction: row.get(3)? })
    })
}

/// Forgets that deletions were undone of which no table remembers anything.
pub fn forget_undone() -> Result<()> {
    FORGET_UNDONE.run(&[])
}

/// Ids purged from the table numbered `managed`, of the next entries after the one numbered `after`, and the number of the last of
/// these; `None` where there are no more.
pub fn purged_after(managed: i32, after: i64) -> Result<Option<(Vec<String>, i64)>> {
    const AT_ONCE: i64 = 16; // of up to 8,192 ids each
    let read = |row: OwnRow| Ok((row.get::<i64>(1)?, row.get::<Vec<String>>(2)?));
    let entries = PURGED_AFTER.rows(&[managed.into(), after.into(), AT_ONCE.into()], read)?;
    let last = entries.last().map(|(seq, _)| *seq);
    Ok(last.map(|last| (entries.into_iter().flat_map(|(_, ids)| ids).collect(), last)))
}

/// Whether the log remembers that `id`, as it is spelt, was purged from the table numbered `managed`.
pub fn remembers_purge(managed: i32, id: &str) -> Result<bool> {
    PURGED.any(&[managed.into(), id.into()])
}
