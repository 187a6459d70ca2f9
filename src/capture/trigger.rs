//! The trigger functions, at the price of C: they run once for each row.
//!
//! The update trigger fires BEFORE, so that redaction is part of the same row write; it also sees a soft delete that moves
//! the row to another partition. The delete trigger fires AFTER, when a row that only moved has been marked as moved.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::mem::ManuallyDrop;
use std::num::NonZeroUsize;
use std::rc::Rc;

use pgrx::htup::heap_getattr_raw;
use pgrx::pg_sys::panic::{ErrorReport, ErrorReportable};
use pgrx::{PgTupleDesc, pg_guard, pg_sys};

use super::pending::{Noted, note};
use super::row::RowOf;
use super::truncate;
use crate::backend::executor;
use crate::error::{Error, Result};
use crate::lifecycle::hold;
use crate::log::event::Change;
use crate::table::triggers::UPDATE_TRIGGER;
use crate::table::{self, Column, ColumnType, Kind, Table};

/// Where a managed table's columns stand in the rows of one relation: of the table, or of a partition with its own order.
struct Shape {
    generation: u64,
    relation: pg_sys::Oid,
    table: Rc<Table>,
    id: Vec<NonZeroUsize>,
    version: Option<(NonZeroUsize, ColumnType)>,
    deleted_at: NonZeroUsize,
    /// Where the kind stands, if it is a column.
    kind: Option<NonZeroUsize>,
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

thread_local! {
    // Never dropped: at the process's end there is no memory context left to free a value in.
    /// The one used last: a statement's rows mostly have the same.
    static LAST: ManuallyDrop<RefCell<Option<Rc<Shape>>>> = ManuallyDrop::new(RefCell::default());
    /// The table of which a row has just left one partition, at this depth of statements: the row that arrives next is it,
    /// as its AFTER triggers are queued together.
    static MOVED: Cell<Option<(i32, u32)>> = const { Cell::new(None) };
    static SHAPES: ManuallyDrop<RefCell<HashMap<pg_sys::Oid, Rc<Shape>>>> = ManuallyDrop::new(RefCell::default());
}

macro_rules! trigger_function {
    ($name:ident, $info:ident, $act:expr) => {
        #[doc = "Called by Postgres through `sql/40_trigger.sql`."]
        #[unsafe(no_mangle)]
        #[pg_guard]
        pub unsafe extern "C-unwind" fn $name(call: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
            // SAFETY: Postgres hands a trigger function its TriggerData.
            unsafe { fired(call).and_then($act) }.map_err(ErrorReport::from).unwrap_or_report()
        }

        #[doc(hidden)]
        #[unsafe(no_mangle)]
        pub extern "C" fn $info() -> &'static pg_sys::Pg_finfo_record {
            const VERSION_1: pg_sys::Pg_finfo_record = pg_sys::Pg_finfo_record { api_version: 1 };
            &VERSION_1
        }
    };
}

trigger_function!(tombstone_on_update, pg_finfo_tombstone_on_update, |trigger| on_update(trigger));
trigger_function!(tombstone_on_insert, pg_finfo_tombstone_on_insert, |trigger| on_insert(trigger));
trigger_function!(tombstone_on_delete, pg_finfo_tombstone_on_delete, |trigger| on_delete(trigger));
trigger_function!(tombstone_on_truncate, pg_finfo_tombstone_on_truncate, |trigger| on_truncate(trigger));

trigger_function!(tombstone_on_replicated, pg_finfo_tombstone_on_replicated, |trigger| on_replicated(trigger));

/// # Safety
/// `call` is what Postgres called a function with.
unsafe fn fired<'a>(call: pg_sys::FunctionCallInfo) -> Result<&'a pg_sys::TriggerData> {
    // SAFETY: context is NULL or a node; of a trigger call, TriggerData that outlives the call.
    unsafe {
        let context = (*call).context;
        if context.is_null() || (*context).type_ != pg_sys::NodeTag::T_TriggerData {
            return Err(Error::not_a_trigger("this function is a trigger of managed tables, not to be called"));
        }
        Ok(&*(context as *const pg_sys::TriggerData))
    }
}

/// A row that is updated: deleted_at may be set or cleared, or the key changed.
unsafe fn on_update(trigger: &pg_sys::TriggerData) -> Result<pg_sys::Datum> {
    // SAFETY: a BEFORE UPDATE FOR EACH ROW trigger has both tuples, of its relation's descriptor.
    unsafe {
        expect(trigger, pg_sys::TRIGGER_EVENT_UPDATE | pg_sys::TRIGGER_EVENT_ROW | pg_sys::TRIGGER_EVENT_BEFORE)?;
        let shape = shape_of(trigger.tg_relation)?;
        let row = (*trigger.tg_relation).rd_att;
        let (old, new) = (trigger.tg_trigtuple, trigger.tg_newtuple);
        let stamp = |tuple| heap_getattr_raw(tuple, shape.deleted_at, row).map(|datum| datum.value().cast_signed() as i64);
        let (before, after) = (stamp(old), stamp(new));
        let change = match (before, after) {
            (None, Some(stamp)) => Some(Change::SoftDelete { stamp, redacted: !shape.blanks.columns.is_empty() }),
            (Some(stamp), None) => Some(Change::Restore { stamp }),
            (None, None) if shape.table.all_events => Some(Change::Update),
            _ => None,
        };
        if !shape.same_key(old, new, row) {
            shape.note(None, old, old, row, false)?;
        }
        if change.is_some() {
            shape.refuse_later_triggers()?;
            // The kind is that of the record as it was before redaction.
            let kind_of = if after.is_some() { old } else { new };
            shape.note(change, new, kind_of, row, false)?;
        }
        let mut written = new;
        if let (Some(first), Some(again)) = (before, after)
            && again > first
        {
            // Deleted already: the first deletion stands, its children and its undo find their rows by its stamp.
            written = shape.stamp(written, first, row);
        }
        // What is written into a tombstone later is blanked as well: a tombstone holds nothing until it is restored.
        if !shape.blanks.columns.is_empty() && after.is_some() {
            written = shape.redact(written, row);
        }
        Ok(pg_sys::Datum::from(written))
    }
}

/// A row that left its table, or a part of it.
unsafe fn on_delete(trigger: &pg_sys::TriggerData) -> Result<pg_sys::Datum> {
    // SAFETY: an AFTER DELETE FOR EACH ROW trigger has the old tuple, of its relation's descriptor.
    unsafe {
        expect(trigger, pg_sys::TRIGGER_EVENT_DELETE | pg_sys::TRIGGER_EVENT_ROW | pg_sys::TRIGGER_EVENT_AFTER)?;
        let shape = shape_of(trigger.tg_relation)?;
        let (tuple, row) = (trigger.tg_trigtuple, (*trigger.tg_relation).rd_att);
        if only_moved(tuple) {
            if shape.table.all_events {
                MOVED.set(Some((shape.table.number, executor::depth())));
            }
        } else {
            shape.note(Some(Change::Purge), tuple, tuple, row, !executor::deleted_it_itself(tuple))?;
        }
        Ok(pg_sys::Datum::from(0))
    }
}

/// A new row of a table whose creates are events.
unsafe fn on_insert(trigger: &pg_sys::TriggerData) -> Result<pg_sys::Datum> {
    // SAFETY: an AFTER INSERT FOR EACH ROW trigger has the new tuple, of its relation's descriptor.
    unsafe {
        expect(trigger, pg_sys::TRIGGER_EVENT_INSERT | pg_sys::TRIGGER_EVENT_ROW | pg_sys::TRIGGER_EVENT_AFTER)?;
        let shape = shape_of(trigger.tg_relation)?;
        if MOVED.get() == Some((shape.table.number, executor::depth())) {
            MOVED.set(None);
        } else {
            let (tuple, row) = (trigger.tg_trigtuple, (*trigger.tg_relation).rd_att);
            shape.note(Some(Change::Create), tuple, tuple, row, false)?;
        }
        Ok(pg_sys::Datum::from(0))
    }
}

/// All rows at once.
unsafe fn on_truncate(trigger: &pg_sys::TriggerData) -> Result<pg_sys::Datum> {
    // SAFETY: a trigger has its relation.
    unsafe {
        expect(trigger, pg_sys::TRIGGER_EVENT_TRUNCATE | pg_sys::TRIGGER_EVENT_BEFORE)?;
        let table = table::by_trigger((*trigger.tg_relation).rd_id)?;
        hold::refuse_any(&table)?;
        truncate::log_all(&table, (*trigger.tg_relation).rd_id)?;
        Ok(pg_sys::Datum::from(0))
    }
}

/// A row of the extension's own tables: one that a logical subscription brings is left out, as NULL says.
unsafe fn on_replicated(trigger: &pg_sys::TriggerData) -> Result<pg_sys::Datum> {
    // SAFETY: a BEFORE row trigger has the row, and of an UPDATE the new one besides.
    unsafe {
        let of_another_database = pg_sys::IsLogicalWorker();
        let row = if trigger.tg_newtuple.is_null() { trigger.tg_trigtuple } else { trigger.tg_newtuple };
        Ok(if of_another_database { pg_sys::Datum::from(0) } else { pg_sys::Datum::from(row) })
    }
}

/// The statement at `depth` ended, or was cut short: whatever has left a partition inside it has arrived, or never will.
pub fn forget_moved(depth: u32) {
    MOVED.set(MOVED.get().filter(|(_, moved)| *moved <= depth));
}

fn expect(trigger: &pg_sys::TriggerData, event: u32) -> Result<()> {
    let mask = pg_sys::TRIGGER_EVENT_OPMASK | pg_sys::TRIGGER_EVENT_ROW | pg_sys::TRIGGER_EVENT_TIMINGMASK;
    if trigger.tg_event & mask == event {
        return Ok(());
    }
    Err(Error::not_a_trigger("a trigger of managed tables was created by hand, for an event it is not for")
        .hint("Triggers are created by tombstone.manage()."))
}

/// Whether the row was deleted only to be inserted into another partition, by an UPDATE of the partition key.
///
/// # Safety
/// `tuple` is a heap tuple as stored.
unsafe fn only_moved(tuple: pg_sys::HeapTuple) -> bool {
    // SAFETY: by contract of this function.
    unsafe {
        let at = (*(*tuple).t_data).t_ctid;
        at.ip_posid as u32 == pg_sys::MovedPartitionsOffsetNumber
            && at.ip_blkid.bi_hi == u16::MAX
            && at.ip_blkid.bi_lo == u16::MAX
    }
}

/// # Safety
/// `relation` is open.
unsafe fn shape_of(relation: pg_sys::Relation) -> Result<Rc<Shape>> {
    // SAFETY: by contract of this function.
    let oid = unsafe { (*relation).rd_id };
    let fits = |shape: &&Rc<Shape>| shape.relation == oid && shape.generation == table::generation();
    if let Some(shape) = LAST.with(|last| last.borrow().as_ref().filter(fits).map(Rc::clone)) {
        return Ok(shape);
    }
    let known = SHAPES.with(|shapes| shapes.borrow().get(&oid).filter(fits).map(Rc::clone));
    let shape = match known {
        Some(shape) => shape,
        None => {
            // SAFETY: by contract of this function.
            let shape = Rc::new(unsafe { Shape::new(relation) }?);
            SHAPES.with(|shapes| {
                let mut shapes = shapes.borrow_mut();
                shapes.retain(|_, other| other.generation == shape.generation);
                shapes.insert(oid, Rc::clone(&shape));
            });
            shape
        }
    };
    LAST.with(|last| last.replace(Some(Rc::clone(&shape))));
    Ok(shape)
}

impl Shape {
    /// # Safety
    /// `relation` is open.
    unsafe fn new(relation: pg_sys::Relation) -> Result<Shape> {
        let generation = table::generation();
        // SAFETY: by contract of this function.
        let (table, row) = unsafe { (table::by_trigger((*relation).rd_id)?, (*relation).rd_att) };
        let position = |column: &Column| position(row, column);
        let mut blanks = Blanks { columns: vec![], types: vec![], values: vec![], nulls: vec![] };
        for redaction in &table.redactions {
            let kind = &redaction.column.kind;
            let value = match &redaction.text {
                Some(text) => {
                    let what =
                        format!("option redact of table {}: the value of column {}", table.title(), redaction.column.name);
                    kind.keep(table.evaluating(|| kind.read(text, &what))?)
                }
                None => pg_sys::Datum::from(0),
            };
            blanks.columns.push(position(&redaction.column)?.get() as i32);
            blanks.types.push(kind.clone());
            blanks.values.push(value);
            blanks.nulls.push(redaction.text.is_none());
        }
        Ok(Shape {
            generation,
            // SAFETY: by contract of this function.
            relation: unsafe { (*relation).rd_id },
            // SAFETY: as above.
            later_trigger: unsafe { later_trigger(relation) },
            id: table.id.iter().map(position).collect::<Result<_>>()?,
            version: table
                .version
                .as_ref()
                .map(|column| Ok::<_, Error>((position(column)?, column.kind.clone())))
                .transpose()?,
            deleted_at: position(&table.deleted_at)?,
            kind: match &table.kind {
                Kind::Column(column) => Some(position(column)?),
                _ => None,
            },
            blanks,
            table,
        })
    }

    /// # Safety
    /// `tuple` is of descriptor `row`, which is of this shape.
    unsafe fn redact(&self, tuple: pg_sys::HeapTuple, row: pg_sys::TupleDesc) -> pg_sys::HeapTuple {
        let blanks = &self.blanks;
        // SAFETY: by contract of this function; the arrays are read only.
        unsafe {
            pg_sys::heap_modify_tuple_by_cols(
                tuple,
                row,
                blanks.columns.len() as i32,
                blanks.columns.as_ptr().cast_mut(),
                blanks.values.as_ptr().cast_mut(),
                blanks.nulls.as_ptr().cast_mut(),
            )
        }
    }

    /// # Safety
    /// `tuple` is of descriptor `row`, which is of this shape.
    unsafe fn stamp(&self, tuple: pg_sys::HeapTuple, stamp: i64, row: pg_sys::TupleDesc) -> pg_sys::HeapTuple {
        let (mut column, mut value, mut null) = (self.deleted_at.get() as i32, pg_sys::Datum::from(stamp), false);
        // SAFETY: by contract of this function; deleted_at is a timestamptz.
        unsafe { pg_sys::heap_modify_tuple_by_cols(tuple, row, 1, &raw mut column, &raw mut value, &raw mut null) }
    }

    /// 55000 where a trigger could undo what ours does, or cancel the row that ours reports.
    fn refuse_later_triggers(&self) -> Result<()> {
        let Some(trigger) = &self.later_trigger else { return Ok(()) };
        Err(Error::not_ready(format!("trigger \"{trigger}\" of managed table {} fires after zz_tombstone_update", self.table.title()))
            .detail("BEFORE triggers fire in the order of their names, and the one that redacts must see the row as it will be written.")
            .hint(format!("ALTER TRIGGER \"{trigger}\" ON {} RENAME TO …;", self.table.title())))
    }

    /// # Safety
    /// Both tuples are of descriptor `row`, which is of this shape.
    unsafe fn same_key(&self, old: pg_sys::HeapTuple, new: pg_sys::HeapTuple, row: pg_sys::TupleDesc) -> bool {
        // SAFETY: by contract of this function.
        self.id.iter().zip(&self.table.id).all(|(position, column)| unsafe {
            match (heap_getattr_raw(old, *position, row), heap_getattr_raw(new, *position, row)) {
                (Some(old), Some(new)) => column.kind.identical(old, new),
                (None, None) => true,
                _ => false,
            }
        })
    }

    /// # Safety
    /// `tuple` and `kind_of` are of descriptor `row`, which is of this shape.
    unsafe fn note(
        &self,
        change: Option<Change>,
        tuple: pg_sys::HeapTuple,
        kind_of: pg_sys::HeapTuple,
        row: pg_sys::TupleDesc,
        by_foreign_key: bool,
    ) -> Result<()> {
        // SAFETY: by contract of this function.
        unsafe {
            let value = |position| heap_getattr_raw(tuple, position, row).ok_or_else(|| self.nameless());
            let id = self.id.iter().map(|position| value(*position)).collect::<Result<Vec<_>>>()?;
            let version = match &self.version {
                Some((position, kind)) => Some(kind.integer(value(*position)?)),
                None => None,
            };
            let id = self.table.key_text(&id);
            let row = RowOf { tuple: kind_of, shape: row, kind: self.kind.as_ref() };
            note(&self.table, Noted { change, id, version, row, by_foreign_key })
        }
    }

    /// 55000: the key's columns were NOT NULL when the table was put under management.
    fn nameless(&self) -> Error {
        Error::not_ready(format!("a row of managed table {} has NULL in its id or version", self.table.title()))
            .detail("Nothing names such a record: neither the log nor a hold.")
            .hint("Give the row a key, and its columns NOT NULL.")
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

fn position(row: pg_sys::TupleDesc, column: &Column) -> Result<NonZeroUsize> {
    // SAFETY: a valid descriptor, read and left as it is.
    let row = unsafe { PgTupleDesc::from_pg_unchecked(row) };
    let found = row.iter().position(|attribute| !attribute.is_dropped() && attribute.name() == column.name);
    found
        .and_then(|i| NonZeroUsize::new(i + 1))
        .ok_or_else(|| Error::not_ready(format!("the managed table has no column {} any more", column.name)))
}
