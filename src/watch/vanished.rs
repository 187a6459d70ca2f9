//! `tombstone.vanished`: the list of what watchers have deleted. Written in the keeper's name, and by nobody else; it touches nothing
//! besides.

use pgrx::datum::TimestampWithTimeZone;

use crate::backend::own_table::{OwnRow, own_statements};
use crate::backend::stamp::stamp_argument;
use crate::backend::transaction;
use crate::error::Result;

/// An entry of the list.
#[derive(Debug, Clone)]
pub struct Vanished {
    pub id: String,
    /// That of its tombstone.
    pub stamp: i64,
}

own_statements! {
    PAGE(INT4, TEXT, INT8).planned_each_time() =
        "SELECT id, deleted_at FROM tombstone.vanished WHERE managed = $1 AND ($2 IS NULL OR id > $2) ORDER BY id LIMIT $3";
    AMONG(INT4, TEXT_ARRAY) =
        "SELECT id, deleted_at FROM tombstone.vanished WHERE managed = $1 AND id = ANY ($2) ORDER BY id";
    REMEMBER(INT4, TEXT_ARRAY, TIMESTAMPTZ) =
        "INSERT INTO tombstone.vanished (managed, id, deleted_at) SELECT $1, unnest($2), $3
         ON CONFLICT (managed, id) DO UPDATE SET deleted_at = EXCLUDED.deleted_at";
    FORGET(INT4, TEXT_ARRAY) = "DELETE FROM tombstone.vanished WHERE managed = $1 AND id = ANY ($2)";
    FORGET_OLD(INT4) =
        "DELETE FROM tombstone.vanished v USING tombstone.managed m
         WHERE v.managed = $1 AND m.managed = $1 AND v.deleted_at < clock_timestamp() - least(m.retention, interval '4000 years')";
    FORGET_ALL(INT4) = "DELETE FROM tombstone.vanished WHERE managed = $1";
}

fn read(row: OwnRow) -> Result<Vanished> {
    Ok(Vanished { id: row.get(1)?, stamp: row.get::<TimestampWithTimeZone>(2)?.into_inner() })
}

/// The next entries of the table numbered `managed`, at most `most`, after the id `position`.
pub fn page(managed: i32, position: Option<&str>, most: usize) -> Result<Vec<Vanished>> {
    PAGE.rows(&[managed.into(), position.into(), (most as i64).into()], read)
}

/// Its entries of these ids.
pub fn among(managed: i32, ids: Vec<String>) -> Result<Vec<Vanished>> {
    AMONG.rows(&[managed.into(), ids.into()], read)
}

/// Puts on the list what the running transaction has deleted for a watcher.
pub fn remember(managed: i32, ids: Vec<String>) -> Result<()> {
    if ids.is_empty() {
        return Ok(());
    }
    REMEMBER.run(&[managed.into(), ids.into(), stamp_argument(Some(transaction::started()))])
}

/// Strikes these off.
pub fn forget(managed: i32, ids: Vec<String>) -> Result<()> {
    if ids.is_empty() {
        return Ok(());
    }
    FORGET.run(&[managed.into(), ids.into()])
}

/// Strikes off what the table's retention has purged by now.
pub fn forget_old(managed: i32) -> Result<()> {
    FORGET_OLD.run(&[managed.into()])
}

/// Strikes off all: the table is watched no more.
pub fn forget_all(managed: i32) -> Result<()> {
    FORGET_ALL.run(&[managed.into()])
}
