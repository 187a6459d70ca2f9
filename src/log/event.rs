//! Entries of `tombstone.event`: written straight into the table, read in the keeper's name.

use std::cell::Cell;

use pgrx::datum::{DatumWithOid, TimestampWithTimeZone};
use pgrx::{IntoDatum, pg_sys};

use super::account::Account;
use super::deletion;
use crate::backend::identity::{acting_as, actor};
use crate::backend::query::Statement;
use crate::backend::relation::{self, keeper};
use crate::backend::transaction;
use crate::error::Result;

/// What became of the records of one entry. A stamp is the value of deleted_at, in Postgres' microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    SoftDelete { stamp: i64, redacted: bool },
    Restore { stamp: i64 },
    Purge,
}

/// What one statement did to many records of one table.
#[derive(Debug, Clone)]
pub struct Entry {
    pub managed: i32,
    pub change: Change,
    pub ids: Vec<String>,
    /// Parallel to `ids`; empty where the table has no versions.
    pub versions: Vec<i64>,
}

/// An entry as read back, on the way to an undo.
#[derive(Debug, Clone)]
pub struct Taken {
    pub managed: i32,
    /// The stamp of a soft delete; `None` of a hard one.
    pub stamp: Option<i64>,
    pub redacted: bool,
    pub by_cascade: bool,
    pub ids: Vec<String>,
    pub versions: Vec<i64>,
}

struct Statements {
    taken: Statement,
    undone: Statement,
    purged: Statement,
}

thread_local! {
    static NOTED: Cell<u64> = const { Cell::new(0) };
    static STATEMENTS: &'static Statements = Box::leak(Box::new(Statements::new()));
}

impl Statements {
    fn new() -> Self {
        use pg_sys::*;
        Statements {
            taken: Statement::new(
                "SELECT managed, deleted_at, redacted, cause = 'cascade', ids, versions
                 FROM tombstone.event WHERE deletion = $1 AND op = 'delete' ORDER BY seq",
                [INT8OID],
            ),
            undone: Statement::new("SELECT 1 FROM tombstone.event WHERE deletion = $1 AND restored LIMIT 1", [INT8OID]),
            purged: Statement::new(
                "SELECT 1 FROM tombstone.event WHERE managed = $1 AND deletion_type = 'hard' AND $2 = ANY (ids) LIMIT 1",
                [INT4OID, TEXTOID],
            ),
        }
    }
}

fn with<T>(act: impl FnOnce(&Statements) -> Result<T>) -> Result<T> {
    acting_as(keeper(), || STATEMENTS.with(|statements| act(statements)))
}

/// How many changes the triggers have noted in this session: tells a door whether they saw its write.
pub fn noted() -> u64 {
    NOTED.get()
}

/// The triggers noted one more change.
pub fn note_one() {
    NOTED.set(NOTED.get() + 1);
}

/// Writes `entry`, on `account`.
///
/// Straight into the table, as Postgres writes its own catalogs: every deletion passes here, and SPI with the table's CHECK
/// constraints took half of a soft delete's time. What the constraints state is held by the types of `Entry`, and tested.
pub fn append(entry: Entry, account: &Account) -> Result<()> {
    let (op, deletion_type, stamp, redacted) = match entry.change {
        Change::SoftDelete { stamp, redacted } => ("delete", Some("soft"), Some(stamp), redacted),
        Change::Restore { stamp } => ("update", None, Some(stamp), false),
        Change::Purge => ("delete", Some("hard"), None, false),
    };
    let restored = matches!(entry.change, Change::Restore { .. });
    let deletion = if restored { account.undoes } else { Some(deletion::number()) };
    let versions = (!entry.versions.is_empty()).then_some(entry.versions);
    relation::append(
        c"event",
        &[
            Some(relation::draw(c"event_seq_seq").into()),
            Some(transaction::number().into()),
            Some(transaction::started().into()),
            entry.managed.into_datum(),
            op.into_datum(),
            deletion_type.into_datum(),
            restored.into_datum(),
            deletion.into_datum(),
            one_for_all(entry.ids, versions.is_some()).into_datum(),
            versions.into_datum(),
            stamp.map(pg_sys::Datum::from),
            redacted.into_datum(),
            account.cause.name().into_datum(),
            actor().into_datum(),
            account.reason.as_deref().into_datum(),
        ],
    )
}

/// Many versions of one record name it once.
fn one_for_all(mut ids: Vec<String>, versioned: bool) -> Vec<String> {
    if versioned && ids.windows(2).all(|pair| pair[0] == pair[1]) {
        ids.truncate(1);
    }
    ids
}

/// A stamp as a timestamptz parameter.
pub fn stamp_argument<'a>(stamp: Option<i64>) -> DatumWithOid<'a> {
    match stamp {
        // SAFETY: a timestamptz is its microseconds.
        Some(stamp) => unsafe { DatumWithOid::new(pg_sys::Datum::from(stamp), pg_sys::TIMESTAMPTZOID) },
        None => DatumWithOid::null_oid(pg_sys::TIMESTAMPTZOID),
    }
}

/// What `deletion` took, in the order in which it took it.
pub fn taken_by(deletion: i64) -> Result<Vec<Taken>> {
    with(|statements| {
        statements.taken.rows(&[deletion.into()], |row| {
            let versions: Vec<i64> = row.get(6)?.unwrap_or_default();
            let mut ids: Vec<String> = row.get(5)?.unwrap_or_default();
            if ids.len() < versions.len() {
                ids = vec![ids.concat(); versions.len()];
            }
            Ok(Taken {
                managed: row.get(1)?.unwrap_or_default(),
                stamp: row.get::<TimestampWithTimeZone>(2)?.map(|at| at.into_inner()),
                redacted: row.get(3)?.unwrap_or_default(),
                by_cascade: row.get(4)?.unwrap_or_default(),
                ids,
                versions,
            })
        })
    })
}

/// Whether `deletion` was undone.
pub fn is_undone(deletion: i64) -> Result<bool> {
    with(|statements| Ok(statements.undone.execute(&[deletion.into()])? > 0))
}

/// Whether the log remembers that `id` was purged from the table numbered `managed`.
pub fn remembers_purge(managed: i32, id: &str) -> Result<bool> {
    with(|statements| Ok(statements.purged.execute(&[managed.into(), id.into()])? > 0))
}
