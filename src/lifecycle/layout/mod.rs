//! Where tombstones live. One lifecycle, whatever the layout: a door says what to do with which rows, a layout writes it.

mod in_place;

use std::collections::HashMap;

use crate::backend::owned::Owned;
use crate::error::Result;
use crate::lifecycle::rows::Rows;
use crate::table::Table;

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
}

/// The layout of `table`.
pub fn of(_table: &Table) -> &'static dyn Layout {
    &InPlace
}
