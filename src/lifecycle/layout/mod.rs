//! Where tombstones live. One lifecycle, whatever the layout: a door says what to do with which rows, a layout writes it.

mod in_place;

use std::collections::HashMap;

use pgrx::datum::TimestampWithTimeZone;
use pgrx::pg_sys;

use crate::backend::owned::Owned;
use crate::backend::spool::Spool;
use crate::error::Result;
use crate::lifecycle::rows::Rows;
use crate::lifecycle::rule::Rule;
use crate::table::Table;
use crate::table::key::Key;

pub use in_place::InPlace;

/// What has become of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    Live,
    /// A tombstone, and its stamp.
    Deleted(i64),
}

/// One row found: which of the keys asked for it has, its version, and how it stands.
#[derive(Debug, Clone, Copy)]
pub struct Found {
    pub key: usize,
    pub version: Option<i64>,
    pub standing: Standing,
}

/// A row lock, as strong as what is to follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lock {
    None,
    /// Before a soft delete or restore.
    Update,
    /// Before a purge.
    Delete,
}

/// The lifecycle's writes. All act with the rights in force, on `rows` of `table`, and return how many rows they wrote.
pub trait Layout {
    /// Live rows become tombstones.
    fn soft_delete(&self, table: &Table, rows: &Rows) -> Result<u64>;
    /// Tombstones become live rows: all, or those of one stamp.
    fn restore(&self, table: &Table, rows: &Rows, stamp: Option<i64>) -> Result<u64>;
    /// Rows go for ever, live or deleted.
    fn purge(&self, table: &Table, rows: &Rows) -> Result<u64>;
    /// How rows stand, locked against change where asked; in the order of the keys, then of the versions.
    fn find(&self, table: &Table, rows: &Rows, lock: Lock) -> Result<Vec<Found>>;
    /// How the records stand, in the order of the keys: live if any version is, `None` where no row is left.
    fn standings(&self, table: &Table, rows: &Rows) -> Result<Vec<Option<Standing>>>;
    /// The rows as jsonb, by the place of their key.
    fn data(&self, table: &Table, rows: &Rows) -> Result<HashMap<usize, Owned>>;

    /// Live records, in the order of their keys.
    fn live(&self, table: &Table, which: Live) -> Result<Vec<Marked>>;
    /// How many live records there are.
    fn count_live(&self, table: &Table) -> Result<i64>;

    /// What is due by `rule`, but for these records; changes nothing.
    fn due(&self, table: &Table, rule: &Rule, but: &[Key]) -> Result<Spool>;
    /// The same in numbers.
    fn summary(&self, table: &Table, rule: &Rule, but: &[Key]) -> Result<Summary>;
    /// Of these rows, those that are due still and that nobody else has locked; locked from now on.
    fn lock_due(&self, table: &Table, rule: &Rule, rows: &[Row]) -> Result<Vec<Row>>;
    /// Expires or purges those of these rows that are due still.
    fn take_due(&self, table: &Table, rule: &Rule, rows: &[Row]) -> Result<u64>;
}

/// Which live records.
#[derive(Debug, Clone, Copy)]
pub enum Live<'a> {
    /// At most so many, after this one in the order of keys, or from the first.
    After(Option<&'a Key>, usize),
    /// Those that are live of these.
    Among(&'a [Key]),
}

/// A live record, and a mark that is another one once anything of its rows has been written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Marked {
    pub id: String,
    pub mark: String,
}

/// How many rows a record with this mark has.
pub fn rows_of_mark(mark: &str) -> u64 {
    1 + mark.matches(MARKS_APART).count() as u64
}

/// Between the rows of a mark: no row's own has it.
const MARKS_APART: char = ';';

/// What names a row that is due: the values of its id, and its version where the table has versions.
pub type Row = Vec<pg_sys::Datum>;

/// The types of a row's values.
pub fn types_of_rows(table: &Table) -> Vec<pg_sys::Oid> {
    let id = table.id.iter().map(|column| column.kind.base());
    id.chain(table.version.as_ref().map(|_| pg_sys::INT8OID)).collect()
}

/// How many rows are due, and the oldest and the newest moment that their age counts from.
#[derive(Debug, Clone, Copy)]
pub struct Summary {
    pub rows: i64,
    pub oldest: Option<TimestampWithTimeZone>,
    pub newest: Option<TimestampWithTimeZone>,
}

/// The layout of `table`.
pub fn of(_table: &Table) -> &'static dyn Layout {
    &InPlace
}
