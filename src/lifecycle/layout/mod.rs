//! Where tombstones live. One lifecycle, whatever the layout: a door says what to do with which rows, a layout writes it.

pub mod archive;
mod due;
pub mod hard;
mod in_place;
pub mod live;
pub mod returning;
mod sql;

use std::collections::HashMap;

use pgrx::datum::TimestampWithTimeZone;
use pgrx::pg_sys;

use crate::backend::owned::Owned;
use crate::backend::spool::Spool;
use crate::error::Result;
use crate::lifecycle::cascade::Referred;
use crate::lifecycle::rows::Rows;
use crate::lifecycle::rule::Rule;
use crate::table::key::Key;
use crate::table::marker::may_be_held;
use crate::table::{ForeignKey, Table, Tombstones};

pub use sql::alias_beside;

use archive::Archive;
use in_place::InPlace;

/// What has become of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    Live,
    /// A tombstone, and its stamp.
    Deleted(i64),
}

impl Standing {
    /// The stamp of a tombstone.
    pub fn stamp(self) -> Option<i64> {
        match self {
            Standing::Live => None,
            Standing::Deleted(stamp) => Some(stamp),
        }
    }
}

/// One row found: which of the keys asked for it has, its version, and how it stands.
#[derive(Debug, Clone, Copy)]
pub struct Found {
    pub key: usize,
    pub version: Option<i64>,
    pub standing: Standing,
}

/// A stamp of the log as these rows have it. A column that has had fewer digits in between has not got them back.
pub fn stamp_among<'a>(table: &Table, logged: i64, found: impl IntoIterator<Item = &'a Found>) -> i64 {
    let held = table.held(logged);
    let stamps: Vec<i64> = found.into_iter().filter_map(|row| row.standing.stamp()).collect();
    if stamps.contains(&held) {
        return held;
    }
    stamps.into_iter().find(|stamp| may_be_held(*stamp, logged)).unwrap_or(held)
}

/// By which of its deletions a record fell whose tombstone is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fallen {
    /// Its last one. In place there is no other.
    Last,
    /// The one with this stamp.
    Stamped(i64),
    /// The one with this number. In place a row has a stamp and no number: `Stamped` says it there.
    Numbered(i64),
}

/// What records have in common that fell together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fell {
    /// The stamp of those that stay in their tables.
    pub stamp: i64,
    /// The number of the deletion, which rows of a bin bear; `None`: nobody knows it.
    pub deletion: Option<i64>,
}

/// A row lock, as strong as what is to follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lock {
    None,
    /// Before a soft delete or restore.
    Update,
    /// The same without waiting: 55P03 where somebody else has locked one of the rows.
    UpdateAtOnce,
    /// Before a purge, or before what keeps children from coming in.
    Delete,
    /// The same without waiting.
    DeleteAtOnce,
}

impl Lock {
    /// The same lock, without waiting for it.
    pub fn at_once(self) -> Lock {
        match self {
            Lock::None => Lock::None,
            Lock::Update | Lock::UpdateAtOnce => Lock::UpdateAtOnce,
            Lock::Delete | Lock::DeleteAtOnce => Lock::DeleteAtOnce,
        }
    }
}

/// What the doors of the lifecycle ask of a layout. All act with the rights in force, on `rows` of its table, and return how many
/// rows they wrote.
pub trait Doors {
    /// Live rows become tombstones.
    fn soft_delete(&self, rows: &Rows) -> Result<u64>;
    /// The same for whoever calls, as row security lets them.
    fn soft_delete_as_caller(&self, rows: &Rows) -> Result<u64>;
    /// Tombstones of one deletion become live rows.
    fn restore(&self, rows: &Rows, fallen: Fallen) -> Result<u64>;
    /// Rows go for ever, live or deleted.
    fn purge(&self, rows: &Rows) -> Result<u64>;
    /// How rows stand, locked against change where asked; in the order of the keys, then of the versions.
    fn find(&self, rows: &Rows, lock: Lock) -> Result<Vec<Found>>;
    /// How the records stand, in the order of the keys: live if any version is, `None` where no row is left.
    fn standings(&self, rows: &Rows) -> Result<Vec<Option<Standing>>>;
    /// The rows as jsonb, by the place of their key.
    fn data(&self, rows: &Rows) -> Result<HashMap<usize, Owned>>;
}

/// What following a foreign key asks of the layout at its other end. Acts with the rights in force.
pub trait Follow {
    /// Live children of these parents become tombstones, with this stamp.
    fn delete_children(&self, key: &ForeignKey, parents: &Referred, stamp: i64) -> Result<()>;
    /// Children of these parents that fell so become live.
    fn restore_children(&self, key: &ForeignKey, parents: &Referred, fell: Fell) -> Result<()>;
    /// The keys of the children that restore_children would restore.
    fn fallen_children(&self, key: &ForeignKey, parents: &Referred, fell: Fell) -> Result<Vec<Key>>;
    /// A parent of these children that is a tombstone, locked against being restored or deleted; by its referred columns.
    fn deleted_parent(&self, key: &ForeignKey, children: &Referred) -> Result<Option<String>>;
    /// All of them, locked likewise: for each the place among `children` of the value that refers to it, and its id.
    fn dead_parents(&self, key: &ForeignKey, children: &Referred) -> Result<Vec<(usize, String)>>;
}

/// What maintenance asks of a layout.
pub trait Upkeep {
    /// What is due by `rule`, but for these records; changes nothing.
    fn due(&self, rule: &Rule, but: &[Key]) -> Result<Spool>;
    /// The same in numbers.
    fn summary(&self, rule: &Rule, but: &[Key]) -> Result<Summary>;
    /// The types of what names a row that is due.
    fn types_of_due(&self, rule: &Rule) -> Vec<pg_sys::Oid>;
    /// Of these rows, those that are due still and that nobody else has locked; locked from now on.
    fn lock_due(&self, rule: &Rule, rows: &[DueRow]) -> Result<Vec<DueRow>>;
    /// Expires or purges those of these rows that are due still.
    fn take_due(&self, rule: &Rule, rows: &[DueRow]) -> Result<u64>;
}

/// A layout, whole.
pub trait Layout: Doors + Follow + Upkeep {}
impl<T: Doors + Follow + Upkeep> Layout for T {}

/// The layout of `table`.
pub fn of(table: &Table) -> Box<dyn Layout + '_> {
    match &table.tombstones {
        Tombstones::InPlace { deleted_at } => Box::new(InPlace { table, deleted_at }),
        Tombstones::Archive(bin) => Box::new(Archive { table, bin }),
    }
}

/// What names a row that is due: the values of its id, and its version where the table has versions.
pub type DueRow = Vec<pg_sys::Datum>;

/// How many rows are due, and the oldest and the newest moment that their age counts from.
#[derive(Debug, Clone, Copy)]
pub struct Summary {
    pub rows: i64,
    pub oldest: Option<TimestampWithTimeZone>,
    pub newest: Option<TimestampWithTimeZone>,
}
