//! What ON DELETE SET NULL and SET DEFAULT overwrite in a managed table, seen by its BEFORE UPDATE trigger.

use std::num::NonZeroUsize;

use pgrx::htup::heap_getattr_raw;
use pgrx::pg_sys;
use serde_json::Value;

use super::archive;
use super::shape::{Shape, position};
use crate::backend::executor;
use crate::error::Result;
use crate::lifecycle::layout::hard;
use crate::lifecycle::unlinked::{self, Unlinked};
use crate::table::{ColumnType, ForeignKey, OnDelete, Table, by_oid};

/// A foreign key of a relation that its parent's deletion overwrites, and where its columns stand.
pub struct Reference {
    name: String,
    parent: i32,
    columns: Vec<(NonZeroUsize, ColumnType)>,
}

impl Reference {
    /// Those of `table` whose parents have archives: others are not deleted but for ever.
    pub fn all(table: &Table, row: pg_sys::TupleDesc) -> Result<Vec<Reference>> {
        let waits = |key: &&ForeignKey| key.on_delete == OnDelete::Wait;
        let mut all = Vec::new();
        for key in table.references.iter().filter(waits) {
            let parent = by_oid(key.parent)?;
            if parent.bin().is_some() {
                let place = |column: &crate::table::Column| Ok((position(row, column)?, column.type_of.clone()));
                let columns = key.child_columns.iter().map(place).collect::<Result<_>>()?;
                all.push(Reference { name: key.name.clone(), parent: parent.number, columns });
            }
        }
        Ok(all)
    }
}

/// Notes what a foreign key's own UPDATE overwrites.
///
/// # Safety
/// Both tuples are of descriptor `row`, which is of this shape.
pub unsafe fn note(shape: &Shape, old: pg_sys::HeapTuple, new: pg_sys::HeapTuple, row: pg_sys::TupleDesc) -> Result<()> {
    if shape.references.is_empty() || !executor::is_of_foreign_key() || hard::is_meant_above() {
        return Ok(());
    }
    for reference in &shape.references {
        // SAFETY: by contract of this function.
        let (before, after) = unsafe { (texts(reference, old, row), texts(reference, new, row)) };
        if before != after && !before.contains(&Value::Null) {
            // SAFETY: by contract of this function.
            let (id, version) = unsafe { shape.identity(old, row)? };
            let (before, after) = (Value::Array(before).to_string(), Value::Array(after).to_string());
            let (managed, parent, reference) = (shape.table.number, reference.parent, reference.name.clone());
            unlinked::note(Unlinked { managed, parent, reference, id, version, before, after, stamp: archive::stamp() })?;
        }
    }
    Ok(())
}

/// # Safety
/// `tuple` is of descriptor `row`.
unsafe fn texts(reference: &Reference, tuple: pg_sys::HeapTuple, row: pg_sys::TupleDesc) -> Vec<Value> {
    // SAFETY: by contract of this function; a value of the column's type.
    let text = |(place, kind): &(NonZeroUsize, ColumnType)| unsafe {
        heap_getattr_raw(tuple, *place, row).map_or(Value::Null, |value| Value::String(kind.write_key(value)))
    };
    reference.columns.iter().map(text).collect()
}
