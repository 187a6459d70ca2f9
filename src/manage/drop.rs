//! DROP TABLE: a table that is gone is managed no longer; one with records on hold stays. DROP COLUMN: its archive follows.

use pgrx::datum::DatumWithOid;
use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use pgrx::spi::SpiHeapTupleData;

use super::drift;
use crate::backend::identity::acting_as;
use crate::backend::query::Statement;
use crate::backend::relation::{keeper, own};
use crate::error::{Error, Result};
use crate::table::triggers::GUARD;

thread_local! {
    static DROPPED: &'static Statement = Box::leak(Box::new(Statement::new(
        "SELECT pg_catalog.array_agg(objid) FROM pg_catalog.pg_event_trigger_dropped_objects()
         WHERE classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND objsubid = 0",
        [],
    )));
    static COLUMNS: &'static Statement = Box::leak(Box::new(Statement::new(
        "SELECT o.objid, o.address_names[3]::pg_catalog.text FROM pg_catalog.pg_event_trigger_dropped_objects() o
         JOIN tombstone.managed m ON m.relation = o.objid AND m.archive IS NOT NULL
         WHERE o.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND o.objsubid > 0",
        [],
    )));
    static LEFT: &'static Statement = Box::leak(Box::new(Statement::new(
        "SELECT o.object_identity, m.archive::pg_catalog.text FROM pg_catalog.pg_event_trigger_dropped_objects() o
         JOIN tombstone.managed m ON m.relation = o.objid
         JOIN pg_catalog.pg_class c ON c.oid = m.archive
         WHERE o.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND o.objsubid = 0",
        [],
    )));
    static HELD: &'static Statement = Box::leak(Box::new(Statement::new(
        "SELECT gone.identity
         FROM (SELECT o.object_identity, m.managed FROM pg_catalog.pg_event_trigger_dropped_objects() o
               JOIN tombstone.managed m ON m.relation = o.objid
               WHERE o.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND o.objsubid = 0
               UNION ALL
               SELECT pg_catalog.format('%I.%I', o.address_names[1], o.address_names[2]), m.managed
               FROM pg_catalog.pg_event_trigger_dropped_objects() o
               JOIN tombstone.managed m ON o.address_names[3] = $1 OPERATOR(pg_catalog.||) m.managed::pg_catalog.text
               WHERE o.object_type = 'trigger' AND NOT o.original) AS gone (identity, managed)
         JOIN tombstone.held h USING (managed) ORDER BY 1 LIMIT 1",
        [pg_sys::TEXTOID],
    )));
    static FORGET: &'static Statement = Box::leak(Box::new(Statement::new(
        "DELETE FROM tombstone.managed WHERE relation = ANY ($1)", [pg_sys::OIDARRAYOID],
    )));
}

/// Event trigger on sql_drop.
#[pg_extern(sql = false)]
fn on_drop(call: pg_sys::FunctionCallInfo) -> Result<(), ErrorReport> {
    // SAFETY: context is NULL or a node.
    let fired = unsafe { !(*call).context.is_null() && (*(*call).context).type_ == pg_sys::NodeTag::T_EventTriggerData };
    if !fired {
        return Err(Error::not_a_trigger("this function is an event trigger, not to be called").into());
    }
    if own(c"managed") == pg_sys::InvalidOid || own(c"held") == pg_sys::InvalidOid {
        return Ok(()); // the extension itself is being dropped
    }
    acting_as(keeper(), forget_dropped).map_err(Into::into)
}

fn forget_dropped() -> Result<()> {
    let column = |row: &SpiHeapTupleData| Ok(row.get::<pg_sys::Oid>(1)?.zip(row.get::<String>(2)?));
    for (table, column) in COLUMNS.with(|statement| statement.rows(&[], column))?.into_iter().flatten() {
        drift::forget_column(table, &column)?;
    }
    let dropped = DROPPED.with(|statement| statement.rows(&[], |row| Ok(row.get::<Vec<pg_sys::Oid>>(1)?)))?;
    let Some(tables) = dropped.into_iter().flatten().next() else {
        return Ok(()); // most commands drop no table
    };
    if let Some(table) = HELD.with(|statement| statement.latest(&[DatumWithOid::from(GUARD)]))? {
        return Err(Error::on_hold(format!("cannot drop table {table}: records are on hold"))
            .hint("See tombstone.holds; tombstone.release() ends a hold."));
    }
    let left = |row: &SpiHeapTupleData| Ok(row.get::<String>(1)?.zip(row.get::<String>(2)?));
    for (table, archive) in LEFT.with(|statement| statement.rows(&[], left))?.into_iter().flatten() {
        notice!("what was deleted from {table} stays in {archive}");
    }
    FORGET.with(|statement| statement.execute(&[DatumWithOid::from(tables)])).map(drop)
}
