//! The trigger functions, at the price of C: they run once for each row. What a row means is its layout's business.
//!
//! The update trigger fires BEFORE, so that redaction is part of the same row write; it also sees a soft delete that moves
//! the row to another partition. The delete trigger fires AFTER, when a row that only moved has been marked as moved.

use pgrx::htup::heap_getattr_raw;
use pgrx::pg_sys::panic::{ErrorReport, ErrorReportable};
use pgrx::{pg_guard, pg_sys};

use super::shape::{OfLayout, position, shape_of};
use super::{archive, in_place, moved, truncate, unlinked};
use crate::backend::executor;
use crate::error::{Error, Result};
use crate::lifecycle::layout::{hard, returning};
use crate::lifecycle::{hold, soft_delete};
use crate::log::deletion;
use crate::log::event::Change;
use crate::table::key::Key;
use crate::table::{self, Column, Table};

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
trigger_function!(tombstone_on_return, pg_finfo_tombstone_on_return, |trigger| on_return(trigger));
trigger_function!(tombstone_on_bin_update, pg_finfo_tombstone_on_bin_update, |trigger| on_bin_update(trigger));
trigger_function!(tombstone_on_bin_delete, pg_finfo_tombstone_on_bin_delete, |trigger| on_bin_delete(trigger));
trigger_function!(tombstone_on_bin_replicated, pg_finfo_tombstone_on_bin_replicated, |trigger| on_bin_replicated(trigger));
trigger_function!(tombstone_on_truncate, pg_finfo_tombstone_on_truncate, |trigger| on_truncate(trigger));
trigger_function!(tombstone_on_live_delete, pg_finfo_tombstone_on_live_delete, |trigger| on_live_delete(trigger));

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

/// A row that is updated.
unsafe fn on_update(trigger: &pg_sys::TriggerData) -> Result<pg_sys::Datum> {
    // SAFETY: a trigger has its relation; the layout's function is called for the event it is for.
    unsafe {
        expect(trigger, pg_sys::TRIGGER_EVENT_UPDATE | pg_sys::TRIGGER_EVENT_ROW | pg_sys::TRIGGER_EVENT_BEFORE)?;
        let shape = shape_of(trigger.tg_relation)?;
        unlinked::note(&shape, trigger.tg_trigtuple, trigger.tg_newtuple, (*trigger.tg_relation).rd_att)?;
        match &shape.layout {
            OfLayout::InPlace(marks) => in_place::on_update(&shape, marks, trigger),
            OfLayout::Archive(_) => archive::on_update(&shape, trigger),
        }
    }
}

/// A row that left its table, or a part of it.
unsafe fn on_delete(trigger: &pg_sys::TriggerData) -> Result<pg_sys::Datum> {
    // SAFETY: an AFTER DELETE FOR EACH ROW trigger has the old tuple, of its relation's descriptor.
    unsafe {
        expect(trigger, pg_sys::TRIGGER_EVENT_DELETE | pg_sys::TRIGGER_EVENT_ROW | pg_sys::TRIGGER_EVENT_AFTER)?;
        let shape = shape_of(trigger.tg_relation)?;
        let (tuple, row) = (trigger.tg_trigtuple, (*trigger.tg_relation).rd_att);
        if moved::only_moved(tuple) {
            if shape.table.all_events {
                moved::leaves(shape.table.number);
            }
        } else {
            let by_foreign_key = !executor::deleted_it_itself(tuple);
            let change = match &shape.layout {
                OfLayout::Archive(_) if !hard::is_meant() => {
                    Change::SoftDelete { stamp: archive::stamp(), redacted: !shape.table.redactions.is_empty() }
                }
                _ => Change::Purge,
            };
            shape.note(Some(change), tuple, tuple, row, by_foreign_key)?;
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
        if !moved::arrives(shape.table.number) && !returning::is_under_way(shape.table.number) {
            let (tuple, row) = (trigger.tg_trigtuple, (*trigger.tg_relation).rd_att);
            shape.note(Some(Change::Create), tuple, tuple, row, false)?;
        }
        Ok(pg_sys::Datum::from(0))
    }
}

/// A new row of a table with an archive: mostly none of our business.
unsafe fn on_return(trigger: &pg_sys::TriggerData) -> Result<pg_sys::Datum> {
    // SAFETY: a BEFORE INSERT FOR EACH ROW trigger has the new tuple, of its relation's descriptor.
    unsafe {
        expect(trigger, pg_sys::TRIGGER_EVENT_INSERT | pg_sys::TRIGGER_EVENT_ROW | pg_sys::TRIGGER_EVENT_BEFORE)?;
        if !returning::is_any() {
            return Ok(pg_sys::Datum::from(trigger.tg_trigtuple));
        }
        let shape = shape_of(trigger.tg_relation)?;
        match &shape.layout {
            OfLayout::Archive(target) => archive::on_return(&shape, target, trigger),
            OfLayout::InPlace(_) => Ok(pg_sys::Datum::from(trigger.tg_trigtuple)),
        }
    }
}

/// A tombstone that its owner changes: one on hold stays what the hold names.
unsafe fn on_bin_update(trigger: &pg_sys::TriggerData) -> Result<pg_sys::Datum> {
    // SAFETY: a BEFORE UPDATE FOR EACH ROW trigger has both tuples, of its relation's descriptor.
    unsafe {
        expect(trigger, pg_sys::TRIGGER_EVENT_UPDATE | pg_sys::TRIGGER_EVENT_ROW | pg_sys::TRIGGER_EVENT_BEFORE)?;
        let shape = shape_of(trigger.tg_relation)?;
        let (old, new, row) = (trigger.tg_trigtuple, trigger.tg_newtuple, (*trigger.tg_relation).rd_att);
        if !shape.same_key(old, new, row) {
            shape.note(None, old, old, row, false)?;
        }
        Ok(pg_sys::Datum::from(new))
    }
}

/// A tombstone that leaves its bin: for ever, unless it comes back to its table.
unsafe fn on_bin_delete(trigger: &pg_sys::TriggerData) -> Result<pg_sys::Datum> {
    // SAFETY: an AFTER DELETE FOR EACH ROW trigger has the old tuple, of its relation's descriptor.
    unsafe {
        expect(trigger, pg_sys::TRIGGER_EVENT_DELETE | pg_sys::TRIGGER_EVENT_ROW | pg_sys::TRIGGER_EVENT_AFTER)?;
        let (tuple, row) = (trigger.tg_trigtuple, (*trigger.tg_relation).rd_att);
        if !returning::takes_out() && !moved::only_moved(tuple) {
            let shape = shape_of(trigger.tg_relation)?;
            shape.note(Some(Change::Purge), tuple, tuple, row, false)?;
        }
        Ok(pg_sys::Datum::from(0))
    }
}

/// A tombstone that a logical subscription brings. Where this transaction has deleted rows itself it is the publisher's copy of one
/// of them, and is left out; any other one is new here.
unsafe fn on_bin_replicated(trigger: &pg_sys::TriggerData) -> Result<pg_sys::Datum> {
    // SAFETY: a BEFORE INSERT FOR EACH ROW trigger has the new tuple.
    unsafe {
        expect(trigger, pg_sys::TRIGGER_EVENT_INSERT | pg_sys::TRIGGER_EVENT_ROW | pg_sys::TRIGGER_EVENT_BEFORE)?;
        // Who applies a subscription runs no statements: one that runs is TRUNCATE's, which archives here.
        let is_copy = pg_sys::IsLogicalWorker() && !executor::is_running() && deletion::is_under_way();
        Ok(if is_copy { pg_sys::Datum::from(0) } else { pg_sys::Datum::from(trigger.tg_trigtuple) })
    }
}

/// A row that is deleted through a view of live rows: it is soft-deleted, or counts as none where somebody has deleted it meanwhile.
unsafe fn on_live_delete(trigger: &pg_sys::TriggerData) -> Result<pg_sys::Datum> {
    // SAFETY: an INSTEAD OF DELETE trigger has the old tuple, of its view's descriptor.
    unsafe {
        expect(trigger, pg_sys::TRIGGER_EVENT_DELETE | pg_sys::TRIGGER_EVENT_ROW | pg_sys::TRIGGER_EVENT_INSTEAD)?;
        let (tuple, row) = (trigger.tg_trigtuple, (*trigger.tg_relation).rd_att);
        let table = table::by_live_view((*trigger.tg_relation).rd_id)?;
        let shown = Shown { table: &table, tuple, row };
        let is_deleted = soft_delete::row(&table, &shown.key()?, shown.version()?)?;
        Ok(if is_deleted { pg_sys::Datum::from(tuple) } else { pg_sys::Datum::from(0) })
    }
}

/// A row of a view of live rows.
struct Shown<'a> {
    table: &'a Table,
    tuple: pg_sys::HeapTuple,
    row: pg_sys::TupleDesc,
}

impl Shown<'_> {
    fn value(&self, column: &Column) -> Result<pg_sys::Datum> {
        let place = position(self.row, column)?;
        // SAFETY: a tuple of that descriptor.
        let value = unsafe { heap_getattr_raw(self.tuple, place, self.row) };
        value.ok_or_else(|| Error::not_ready(format!("the view's row has NULL in column {}", column.name)))
    }

    fn key(&self) -> Result<Key> {
        let values = self.table.id.iter().map(|column| self.value(column)).collect::<Result<Vec<_>>>()?;
        // SAFETY: read from the id columns.
        Ok(unsafe { self.table.key_of(values) })
    }

    fn version(&self) -> Result<Option<i64>> {
        let read = |column: &Column| Ok(column.type_of.integer(self.value(column)?));
        self.table.version.as_ref().map(read).transpose()
    }
}

/// All rows at once.
unsafe fn on_truncate(trigger: &pg_sys::TriggerData) -> Result<pg_sys::Datum> {
    // SAFETY: a trigger has its relation.
    unsafe {
        expect(trigger, pg_sys::TRIGGER_EVENT_TRUNCATE | pg_sys::TRIGGER_EVENT_BEFORE)?;
        let table = table::by_trigger((*trigger.tg_relation).rd_id)?;
        hold::refuse_any(&table)?;
        let relation = (*trigger.tg_relation).rd_id;
        truncate::take_all(&table, relation, table::is_of_bin(&table, relation))?;
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

fn expect(trigger: &pg_sys::TriggerData, event: u32) -> Result<()> {
    let mask = pg_sys::TRIGGER_EVENT_OPMASK | pg_sys::TRIGGER_EVENT_ROW | pg_sys::TRIGGER_EVENT_TIMINGMASK;
    if trigger.tg_event & mask == event {
        return Ok(());
    }
    Err(Error::not_a_trigger("a trigger of managed tables was created by hand, for an event it is not for")
        .hint("Triggers are created by tombstone.manage()."))
}
