//! Layout in_place: what an UPDATE means, and what it writes. Setting deleted_at is the soft delete, clearing it the restore; the
//! row is redacted in the same write, and stays so through the restore.

use std::num::NonZeroUsize;

use pgrx::htup::heap_getattr_raw;
use pgrx::pg_sys;

use super::shape::{Shape, position};
use crate::error::{Error, Result};
use crate::lifecycle::restoring;
use crate::log::event::Change;
use crate::table::triggers::UPDATE_TRIGGER;
use crate::table::{ColumnType, Marker, RestoredBy, Table};

/// What marks a tombstone in the rows of one relation, and what blanks it.
pub struct Marks {
    deleted_at: NonZeroUsize,
    /// A BEFORE UPDATE trigger that fires after ours, if there is one.
    later_trigger: Option<String>,
    blanks: Blanks,
}

/// The values that redaction puts in, as heap_modify_tuple_by_cols takes them; they last as long as the shape.
struct Blanks {
    columns: Vec<i32>,
    types: Vec<ColumnType>,
    values: Vec<pg_sys::Datum>,
    nulls: Vec<bool>,
}

impl Drop for Blanks {
    fn drop(&mut self) {
        for ((kind, value), null) in self.types.iter().zip(&self.values).zip(&self.nulls) {
            if !null {
                kind.discard(*value);
            }
        }
    }
}

/// A row that is updated: deleted_at may be set or cleared, or the key changed.
///
/// # Safety
/// `trigger` is of a BEFORE UPDATE FOR EACH ROW trigger on the relation of `shape`, whose marks these are.
pub unsafe fn on_update(shape: &Shape, marks: &Marks, trigger: &pg_sys::TriggerData) -> Result<pg_sys::Datum> {
    // SAFETY: such a trigger has both tuples, of its relation's descriptor.
    unsafe {
        let row = (*trigger.tg_relation).rd_att;
        let (old, new) = (trigger.tg_trigtuple, trigger.tg_newtuple);
        let stamp = |tuple| heap_getattr_raw(tuple, marks.deleted_at, row).map(|datum| datum.value().cast_signed() as i64);
        let (before, after) = (stamp(old), stamp(new));
        let change = match (before, after) {
            (None, Some(stamp)) => Some(Change::SoftDelete { stamp, redacted: !marks.blanks.columns.is_empty() }),
            (Some(stamp), None) => Some(Change::Restore { stamp }),
            (None, None) if shape.table.all_events => Some(Change::Update),
            _ => None,
        };
        let has_new_key = !shape.same_key(old, new, row);
        if shape.is_refused(new, row, has_new_key) {
            return Ok(pg_sys::Datum::from(new));
        }
        if has_new_key {
            shape.note(None, old, old, row, false)?;
        }
        let written = marks.written(old, new, (before, after), row);
        if let Some(change) = change {
            if change.is_restore() && shape.table.restored_by == RestoredBy::Function && !restoring::is_by_function() {
                return Err(restoring::refused(&shape.table, &shape.identity(old, row)?.0));
            }
            marks.refuse_later_triggers(&shape.table)?;
            // The kind is that of the record as it was before redaction.
            let kind_of = if after.is_some() { old } else { written };
            shape.note(Some(change), written, kind_of, row, false)?;
        }
        Ok(pg_sys::Datum::from(written))
    }
}

impl Marks {
    /// # Safety
    /// `relation` is open.
    pub unsafe fn new(table: &Table, deleted_at: &Marker, relation: pg_sys::Relation) -> Result<Marks> {
        // SAFETY: by contract of this function.
        let row = unsafe { (*relation).rd_att };
        Ok(Marks {
            deleted_at: position(row, deleted_at.column())?,
            // SAFETY: by contract of this function.
            later_trigger: unsafe { later_trigger(relation) },
            blanks: Blanks::new(table, row)?,
        })
    }

    /// What is written in place of `new`, whose deleted_at was and is what `stamps` say.
    ///
    /// # Safety
    /// Both tuples are of descriptor `row`, which is of this shape.
    unsafe fn written(
        &self,
        old: pg_sys::HeapTuple,
        new: pg_sys::HeapTuple,
        stamps: (Option<i64>, Option<i64>),
        row: pg_sys::TupleDesc,
    ) -> pg_sys::HeapTuple {
        // SAFETY: by contract of this function.
        unsafe {
            match stamps {
                (None, None) => new,
                // Whoever restores may send what the record was before it was deleted: an object that was read then, and saved now.
                (Some(_), None) => self.keep_blank(old, new, row),
                // Deleted already: the first deletion stands, its children and its undo find their rows by its stamp.
                (Some(first), Some(again)) if again > first => self.redact(self.stamp(new, first, row), row),
                // What is written into a tombstone later is blanked as well: a tombstone holds nothing until it is restored.
                (_, Some(_)) => self.redact(new, row),
            }
        }
    }

    /// # Safety
    /// `tuple` is of descriptor `row`, which is of this shape.
    unsafe fn redact(&self, tuple: pg_sys::HeapTuple, row: pg_sys::TupleDesc) -> pg_sys::HeapTuple {
        // SAFETY: by contract of this function; the blanks are of this shape.
        unsafe { self.with_redacted(tuple, &self.blanks.values, &self.blanks.nulls, row) }
    }

    /// `new` with what `old` has in the redacted columns: of a tombstone from before the option, what it has there still.
    ///
    /// # Safety
    /// Both tuples are of descriptor `row`, which is of this shape.
    unsafe fn keep_blank(&self, old: pg_sys::HeapTuple, new: pg_sys::HeapTuple, row: pg_sys::TupleDesc) -> pg_sys::HeapTuple {
        let places = self.blanks.columns.iter().filter_map(|column| NonZeroUsize::new(*column as usize));
        // SAFETY: by contract of this function.
        let kept: Vec<Option<pg_sys::Datum>> = places.map(|place| unsafe { heap_getattr_raw(old, place, row) }).collect();
        let values: Vec<pg_sys::Datum> = kept.iter().map(|value| value.unwrap_or(pg_sys::Datum::from(0))).collect();
        let nulls: Vec<bool> = kept.iter().map(Option::is_none).collect();
        // SAFETY: as above; one value for each of the columns.
        unsafe { self.with_redacted(new, &values, &nulls, row) }
    }

    /// `tuple` with these values in the redacted columns, one for each.
    ///
    /// # Safety
    /// `tuple` is of descriptor `row`, which is of this shape.
    unsafe fn with_redacted(
        &self,
        tuple: pg_sys::HeapTuple,
        values: &[pg_sys::Datum],
        nulls: &[bool],
        row: pg_sys::TupleDesc,
    ) -> pg_sys::HeapTuple {
        let columns = &self.blanks.columns;
        if columns.is_empty() {
            return tuple;
        }
        let (count, columns) = (columns.len() as i32, columns.as_ptr().cast_mut());
        // SAFETY: by contract of this function; the arrays are read only.
        unsafe {
            let (values, nulls) = (values.as_ptr().cast_mut(), nulls.as_ptr().cast_mut());
            pg_sys::heap_modify_tuple_by_cols(tuple, row, count, columns, values, nulls)
        }
    }

    /// # Safety
    /// `tuple` is of descriptor `row`, which is of this shape.
    unsafe fn stamp(&self, tuple: pg_sys::HeapTuple, stamp: i64, row: pg_sys::TupleDesc) -> pg_sys::HeapTuple {
        let (mut column, mut value, mut null) = (self.deleted_at.get() as i32, pg_sys::Datum::from(stamp), false);
        // SAFETY: by contract of this function; deleted_at is a timestamptz or a timestamp, which have the same microseconds.
        unsafe { pg_sys::heap_modify_tuple_by_cols(tuple, row, 1, &raw mut column, &raw mut value, &raw mut null) }
    }

    /// 55000 where a trigger could undo what ours does, or cancel the row that ours reports.
    fn refuse_later_triggers(&self, table: &Table) -> Result<()> {
        let Some(trigger) = &self.later_trigger else { return Ok(()) };
        Err(Error::not_ready(format!("trigger \"{trigger}\" of managed table {} fires after zz_tombstone_update", table.title()))
            .detail("BEFORE triggers fire in the order of their names, and the one that redacts must see the row as it will be written.")
            .hint(format!("ALTER TRIGGER \"{trigger}\" ON {} RENAME TO …;", table.title())))
    }
}

impl Blanks {
    fn new(table: &Table, row: pg_sys::TupleDesc) -> Result<Blanks> {
        let mut blanks = Blanks { columns: vec![], types: vec![], values: vec![], nulls: vec![] };
        for redaction in &table.redactions {
            let kind = &redaction.column.type_of;
            blanks.columns.push(position(row, &redaction.column)?.get() as i32);
            blanks.values.push(redaction.value(table)?);
            blanks.types.push(kind.clone());
            blanks.nulls.push(redaction.text.is_none());
        }
        Ok(blanks)
    }
}

/// The name of the first enabled BEFORE UPDATE row trigger that fires after ours.
///
/// # Safety
/// `relation` is open.
unsafe fn later_trigger(relation: pg_sys::Relation) -> Option<String> {
    const BEFORE_UPDATE: u32 = pg_sys::TRIGGER_TYPE_ROW | pg_sys::TRIGGER_TYPE_BEFORE | pg_sys::TRIGGER_TYPE_UPDATE;
    // SAFETY: the triggers of an open relation, in the order in which they fire.
    unsafe {
        let triggers = (*relation).trigdesc;
        if triggers.is_null() {
            return None;
        }
        let all = core::slice::from_raw_parts((*triggers).triggers, (*triggers).numtriggers as usize);
        let name = |trigger: &pg_sys::Trigger| core::ffi::CStr::from_ptr(trigger.tgname).to_string_lossy().into_owned();
        let fires = |trigger: &&pg_sys::Trigger| {
            trigger.tgtype as u32 & BEFORE_UPDATE == BEFORE_UPDATE && trigger.tgenabled as u8 != pg_sys::TRIGGER_DISABLED
        };
        all.iter().filter(fires).map(name).skip_while(|name| name != UPDATE_TRIGGER).nth(1)
    }
}
