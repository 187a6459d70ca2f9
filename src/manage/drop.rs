//! DROP TABLE: a table that is gone is managed no longer; one with records on hold stays. DROP COLUMN: its archive follows.
//! DROP CONSTRAINT: the option that names the foreign key forgets it.

use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::{drift, on_delete};
use crate::backend::executor;
use crate::backend::ident::qualified;
use crate::backend::identity::acting_as;
use crate::backend::own_table::own_statements;
use crate::backend::relation::{dropped_from, own, owner_of};
use crate::error::{Error, Result};
use crate::lifecycle::hold;
use crate::table::options::ARCHIVE;
use crate::table::triggers::GUARD;
use crate::table::{by_oid, catalog, name_of};

own_statements! {
    DROPPED() =
        "SELECT pg_catalog.array_agg(objid) FROM pg_catalog.pg_event_trigger_dropped_objects()
         WHERE classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND objsubid = 0";
    COLUMNS() =
        "SELECT o.objid, o.address_names[3]::pg_catalog.text FROM pg_catalog.pg_event_trigger_dropped_objects() o
         JOIN tombstone.managed m ON m.relation = o.objid AND m.archive IS NOT NULL
         WHERE o.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND o.objsubid > 0";
    // Bins that go while their tables stay, and are managed.
    BINS() =
        "SELECT m.relation::pg_catalog.oid, o.object_identity, m.layout FROM pg_catalog.pg_event_trigger_dropped_objects() o
         JOIN tombstone.managed m ON m.archive = o.objid
         JOIN pg_catalog.pg_class c ON c.oid = m.relation
         WHERE o.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND o.objsubid = 0";
    // Archived tables with records on hold, and their bins.
    WITH_HOLDS() =
        "SELECT m.relation::pg_catalog.oid, m.archive::pg_catalog.oid FROM tombstone.managed m
         JOIN pg_catalog.pg_class c ON c.oid = m.relation
         JOIN pg_catalog.pg_class b ON b.oid = m.archive
         WHERE m.layout = 'archive' AND EXISTS (SELECT FROM tombstone.held h WHERE h.managed = m.managed)";
    LEFT() =
        "SELECT o.object_identity, m.archive::pg_catalog.oid, m.layout FROM pg_catalog.pg_event_trigger_dropped_objects() o
         JOIN tombstone.managed m ON m.relation = o.objid
         JOIN pg_catalog.pg_class c ON c.oid = m.archive
         WHERE o.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND o.objsubid = 0";
    HELD(TEXT) =
        "SELECT gone.identity
         FROM (SELECT o.object_identity, m.managed FROM pg_catalog.pg_event_trigger_dropped_objects() o
               JOIN tombstone.managed m ON m.relation = o.objid
               WHERE o.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND o.objsubid = 0
               UNION ALL
               SELECT pg_catalog.format('%I.%I', o.address_names[1], o.address_names[2]), m.managed
               FROM pg_catalog.pg_event_trigger_dropped_objects() o
               JOIN tombstone.managed m ON o.address_names[3] = $1 OPERATOR(pg_catalog.||) m.managed::pg_catalog.text
               WHERE o.object_type = 'trigger' AND NOT o.original) AS gone (identity, managed)
         JOIN tombstone.held h USING (managed) ORDER BY 1 LIMIT 1";
    FORGET(OID_ARRAY) =
        "DELETE FROM tombstone.managed WHERE relation = ANY ($1)";
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
    forget_dropped().map_err(Into::into)
}

fn forget_dropped() -> Result<()> {
    let columns: Vec<(pg_sys::Oid, String)> = COLUMNS.rows(&[], |row| Ok((row.get(1)?, row.get(2)?)))?;
    for (table, column) in columns {
        drift::forget_column(table, &column)?;
    }
    on_delete::forget_dropped()?;
    let Some(tables) = DROPPED.one(&[], |row| row.nullable::<Vec<pg_sys::Oid>>(1))? else {
        return Ok(()); // most commands drop no table
    };
    if let Some(table) = HELD.latest(&[GUARD.into()])? {
        return Err(Error::on_hold(format!("cannot drop table {table}: records are on hold"))
            .hint("See tombstone.holds; tombstone.release() ends a hold."));
    }
    keep_bins()?;
    keep_held(&tables)?;
    let left: Vec<(String, pg_sys::Oid, String)> = LEFT.rows(&[], |row| Ok((row.get(1)?, row.get(2)?, row.get(3)?)))?;
    FORGET.run(&[tables.into()])?;
    left.into_iter().try_for_each(|(table, bin, layout)| part_with(&table, bin, layout == ARCHIVE))
}

/// A bin stays while its table is managed.
fn keep_bins() -> Result<()> {
    let bin: Option<(pg_sys::Oid, String, String)> = BINS.first(&[], |row| Ok((row.get(1)?, row.get(2)?, row.get(3)?)))?;
    if let Some((table, bin, layout)) = bin {
        let table = catalog::title(table);
        return Err(match layout == ARCHIVE {
            true => Error::needed(format!("cannot drop table {bin}: it holds what was deleted from table {table}"))
                .hint(format!("SELECT tombstone.unmanage('{table}'); it is a table like any other then.")),
            false => Error::needed(format!("cannot drop table {bin}: table {table} is being converted to it"))
                .hint(format!("CALL tombstone.convert('{table}', 'in_place'); to end that.")),
        });
    }
    Ok(())
}

/// Tombstones on hold stay: none may have been in a partition that went. Tables that lost none are not asked, whatever they would say.
fn keep_held(dropped: &[pg_sys::Oid]) -> Result<()> {
    let with_holds: Vec<(pg_sys::Oid, pg_sys::Oid)> = WITH_HOLDS.rows(&[], |row| Ok((row.get(1)?, row.get(2)?)))?;
    if with_holds.is_empty() {
        return Ok(());
    }
    let shrunk: Vec<pg_sys::Oid> = dropped.iter().copied().flat_map(dropped_from).collect();
    let tables = with_holds.into_iter().filter(|(_, bin)| shrunk.contains(bin));
    tables.into_iter().try_for_each(|(table, _)| hold::refuse_lost(&*by_oid(table)?))
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
