//! DROP TABLE: a table that is gone is managed no longer; one with records on hold stays. DROP COLUMN: its archive follows.

use pgrx::datum::DatumWithOid;
use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use pgrx::spi::SpiHeapTupleData;

use super::drift;
use crate::backend::executor;
use crate::backend::ident::qualified;
use crate::backend::identity::acting_as;
use crate::backend::query::Statement;
use crate::backend::relation::{keeper, own, owner_of};
use crate::error::{Error, Result};
use crate::lifecycle::hold;
use crate::table::options::ARCHIVE;
use crate::table::triggers::{BIN_GUARD, GUARD};
use crate::table::{by_oid, catalog, name_of};

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
    // Bins that go while their tables stay, and are managed.
    static BINS: &'static Statement = Box::leak(Box::new(Statement::new(
        "SELECT m.relation::pg_catalog.oid, o.object_identity, m.layout FROM pg_catalog.pg_event_trigger_dropped_objects() o
         JOIN tombstone.managed m ON m.archive = o.objid
         JOIN pg_catalog.pg_class c ON c.oid = m.relation
         WHERE o.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND o.objsubid = 0",
        [],
    )));
    // Archived tables with records on hold, where a partition of a bin may have gone.
    static WITH_HOLDS: &'static Statement = Box::leak(Box::new(Statement::new(
        "SELECT m.relation::pg_catalog.oid FROM tombstone.managed m
         JOIN pg_catalog.pg_class c ON c.oid = m.relation
         JOIN pg_catalog.pg_class b ON b.oid = m.archive
         WHERE EXISTS (SELECT FROM tombstone.held h WHERE h.managed = m.managed)
           AND EXISTS (SELECT FROM pg_catalog.pg_event_trigger_dropped_objects() o
                       WHERE o.object_type = 'trigger' AND o.address_names[3] = $1)",
        [pg_sys::TEXTOID],
    )));
    static LEFT: &'static Statement = Box::leak(Box::new(Statement::new(
        "SELECT o.object_identity, m.archive::pg_catalog.oid, m.layout FROM pg_catalog.pg_event_trigger_dropped_objects() o
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
    keep_bins()?;
    let left = |row: &SpiHeapTupleData| {
        let is_archive = row.get::<String>(3)?.as_deref() == Some(ARCHIVE);
        Ok(row.get::<String>(1)?.zip(row.get::<pg_sys::Oid>(2)?).map(|(table, bin)| (table, bin, is_archive)))
    };
    let left = LEFT.with(|statement| statement.rows(&[], left))?;
    FORGET.with(|statement| statement.execute(&[DatumWithOid::from(tables)]))?;
    left.into_iter().flatten().try_for_each(|(table, bin, is_archive)| part_with(&table, bin, is_archive))
}

/// A bin stays while its table is managed, and so do the tombstones on hold.
fn keep_bins() -> Result<()> {
    let read = |row: &SpiHeapTupleData| {
        let is_archive = row.get::<String>(3)?.as_deref() == Some(ARCHIVE);
        Ok(row.get::<pg_sys::Oid>(1)?.zip(row.get::<String>(2)?).map(|(table, bin)| (table, bin, is_archive)))
    };
    let bins = BINS.with(|statement| statement.rows(&[], read))?;
    if let Some((table, bin, is_archive)) = bins.into_iter().flatten().next() {
        let table = catalog::title(table);
        return Err(match is_archive {
            true => Error::needed(format!("cannot drop table {bin}: it holds what was deleted from table {table}"))
                .hint(format!("SELECT tombstone.unmanage('{table}'); it is a table like any other then.")),
            false => Error::needed(format!("cannot drop table {bin}: table {table} is being converted to it"))
                .hint(format!("CALL tombstone.convert('{table}', 'in_place'); to end that.")),
        });
    }
    let with_holds = |row: &SpiHeapTupleData| Ok(row.get::<pg_sys::Oid>(1)?);
    let tables = WITH_HOLDS.with(|statement| statement.rows(&[DatumWithOid::from(BIN_GUARD)], with_holds))?;
    tables.into_iter().flatten().try_for_each(|table| hold::refuse_lost(&*by_oid(table)?))
}

/// A table is gone; its bin goes with it where DROP TABLE said CASCADE, or where it holds but copies, and stays otherwise.
fn part_with(table: &str, archive: pg_sys::Oid, is_archive: bool) -> Result<()> {
    let bin = catalog::title(archive);
    if is_archive && !executor::drops_with_cascade() {
        notice!("what was deleted from {table} stays in {bin}");
        return Ok(());
    }
    notice!("drop cascades to table {bin}");
    let (schema, name) = name_of(archive);
    acting_as(owner_of(archive), || Ok(Spi::run(&format!("DROP TABLE {}", qualified(&schema, &name)))?))
}
