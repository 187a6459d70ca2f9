//! The triggers of a managed table: attached by manage(), taken off by unmanage(), kept up as partitions come and go.
//!
//! Row triggers on a partitioned table are copied to its partitions by Postgres. The guard against TRUNCATE is a statement
//! trigger, and is not: each partition has one of its own, whose name says to which managed table the partition belongs,
//! so that DROP of the partition alone can be told from DROP of any other table.

use pgrx::datum::DatumWithOid;
use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use pgrx::spi::SpiHeapTupleData;

use super::{bin, drift, live_view, on_delete, tree, validate};
use crate::backend::ident::{ident, qualified};
use crate::backend::identity::acting_as;
use crate::backend::own_table::own_statements;
use crate::backend::query::Statement;
use crate::backend::relation::{has_trigger, keeper, own};
use crate::error::{Error, Result};
use crate::lifecycle::hold;
use crate::lifecycle::layout::archive::altering;
use crate::table::by_oid;
use crate::table::catalog::{self, Relation};
use crate::table::triggers::{BIN_GUARD, DELETE_TRIGGER, GUARD, RETURN_TRIGGER, UPDATE_TRIGGER, truncate_guard};

own_statements! {
    // The managed partitioned tables that the command was about: itself, or above the partition it made. Restoring a dump
    // passes here before the triggers are back; they bring the guards along.
    CONCERNED(OID_ARRAY) =
        "SELECT DISTINCT m.managed, m.relation::pg_catalog.oid, m.layout = 'archive'
         FROM tombstone.managed m
         JOIN pg_catalog.pg_trigger t ON t.tgrelid = m.relation AND t.tgname = 'zz_tombstone_truncate'
         WHERE m.relation = ANY ($1)";
    // The managed tables that this one inherits from, other than as a partition, and who says so. While a dump is being restored the
    // triggers are not back.
    INHERITED(OID) =
        "SELECT m.relation::pg_catalog.oid, i.xmin
         FROM pg_catalog.pg_inherits i
         JOIN tombstone.managed m ON m.relation = i.inhparent
         JOIN pg_catalog.pg_class c ON c.oid = i.inhparent AND c.relkind = 'r'
         JOIN pg_catalog.pg_trigger t ON t.tgrelid = i.inhparent AND t.tgname = 'zz_tombstone_truncate'
         WHERE i.inhrelid = $1";
}

/// The partitions of $1 at every level. Walks pg_inherits itself: pg_partition_tree() would lock each of them.
const TREE: &str = "
    WITH RECURSIVE tree AS (
        SELECT i.inhrelid FROM pg_catalog.pg_inherits i WHERE i.inhparent = $1
        UNION ALL
        SELECT i.inhrelid FROM pg_catalog.pg_inherits i JOIN tree ON i.inhparent = tree.inhrelid
    )";

thread_local! {
    static GUARDS: &'static Statement = Box::leak(Box::new(Statement::new(
        format!(
            "{TREE}
             SELECT n.nspname::pg_catalog.text, c.relname::pg_catalog.text, c.relowner, t.tgname::pg_catalog.text
             FROM tree
             JOIN pg_catalog.pg_class c ON c.oid = tree.inhrelid
             JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
             JOIN pg_catalog.pg_trigger t ON t.tgrelid = c.oid AND pg_catalog.starts_with(t.tgname::pg_catalog.text, $2)"
        ),
        [pg_sys::OIDOID, pg_sys::TEXTOID],
    )));
    static PARTITIONS: &'static Statement = Box::leak(Box::new(Statement::new(
        format!(
            "{TREE}
             SELECT n.nspname::pg_catalog.text, c.relname::pg_catalog.text, c.relowner
             FROM tree
             JOIN pg_catalog.pg_class c ON c.oid = tree.inhrelid AND c.relkind IN ('r', 'p')
             JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
             WHERE $2 = EXISTS (SELECT FROM pg_catalog.pg_trigger t WHERE t.tgrelid = c.oid AND t.tgname = $3::pg_catalog.name)"
        ),
        [pg_sys::OIDOID, pg_sys::BOOLOID, pg_sys::TEXTOID],
    )));
    // Whoever makes a trigger of that name on a table of their own is not meant: the owner must be the same.
    static DETACHED: &'static Statement = Box::leak(Box::new(Statement::new(
        "SELECT n.nspname::pg_catalog.text, c.relname::pg_catalog.text, c.relowner
         FROM pg_catalog.pg_trigger t
         JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid AND NOT c.relispartition
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
         JOIN pg_catalog.pg_class root ON root.oid = $1 AND root.relowner = c.relowner
         WHERE t.tgname = $2::pg_catalog.name",
        [pg_sys::OIDOID, pg_sys::TEXTOID],
    )));
    static COMMANDS: &'static Statement = Box::leak(Box::new(Statement::new(
        "SELECT DISTINCT COALESCE(a.relid::pg_catalog.oid, c.objid)
         FROM pg_catalog.pg_event_trigger_ddl_commands() c
         LEFT JOIN LATERAL pg_catalog.pg_partition_ancestors(c.objid) AS a (relid) ON true
         WHERE c.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass::pg_catalog.oid AND c.objid IS NOT NULL",
        [],
    )));
}

/// A trigger that manage() makes.
struct Trigger {
    name: &'static str,
    /// When it fires, and of what: `AFTER DELETE`.
    event: &'static str,
    level: &'static str,
    function: &'static str,
    /// What ALTER TABLE … ENABLE says of it, if not fired by sessions alone, but by who applies a subscription as well, or by those only.
    fires: Option<&'static str>,
}

impl Trigger {
    const fn of_row(name: &'static str, event: &'static str, function: &'static str) -> Trigger {
        Trigger { name, event, level: "ROW", function, fires: None }
    }

    const fn of_truncate() -> Trigger {
        Trigger { name: BIN_GUARD, event: "BEFORE TRUNCATE", level: "STATEMENT", function: "on_truncate", fires: None }
    }

    const fn fires(self, fires: &'static str) -> Trigger {
        Trigger { fires: Some(fires), ..self }
    }
}

/// The triggers of the managed table itself. Among the BEFORE triggers ours sorts last, and sees the row as the others have left
/// it; among the AFTER triggers first, so that what the others do to the row comes after.
/// No WHEN: Postgres reads its text anew in every statement, which costs more than the call that it saves.
const IN_PLACE: [Trigger; 3] = [
    Trigger::of_row(UPDATE_TRIGGER, "BEFORE UPDATE", "on_update"),
    Trigger::of_row(DELETE_TRIGGER, "AFTER DELETE", "on_delete"),
    Trigger::of_truncate(),
];
/// The same of a table whose tombstones go to an archive. What a restore brings back passes last through ours. A logical
/// subscription deletes rows here that are nowhere else: what it deletes is archived like everybody's.
const ARCHIVED: [Trigger; 4] = [
    Trigger::of_row(UPDATE_TRIGGER, "BEFORE UPDATE", "on_update"),
    Trigger::of_row(DELETE_TRIGGER, "AFTER DELETE", "on_delete").fires("ALWAYS"),
    Trigger::of_row(RETURN_TRIGGER, "BEFORE INSERT", "on_return"),
    Trigger::of_truncate().fires("ALWAYS"),
];
/// The triggers of the archive itself.
const OF_BIN: [Trigger; 4] = [
    Trigger::of_row(UPDATE_TRIGGER, "BEFORE UPDATE", "on_bin_update"),
    Trigger::of_row(DELETE_TRIGGER, "AFTER DELETE", "on_bin_delete"),
    Trigger::of_row("00_tombstone_replicated", "BEFORE INSERT", "on_bin_replicated").fires("REPLICA"),
    Trigger::of_truncate(),
];
/// Where creates are events: an INSERT costs nothing otherwise.
const WITH_ALL_EVENTS: Trigger = Trigger::of_row("00_tombstone_insert", "AFTER INSERT", "on_insert");

/// Takes off what came along with a copy of the table's definition: triggers that other options may not want, and guards that say
/// another number.
pub fn clear(relation: &Relation) -> Result<()> {
    if !has_trigger(relation.oid, UPDATE_TRIGGER) {
        return Ok(());
    }
    ARCHIVED.iter().chain([&WITH_ALL_EVENTS]).try_for_each(|trigger| drop_if_exists(relation, trigger))?;
    let stray = |row: &SpiHeapTupleData| Ok((named(row)?, row.get::<String>(4)?.unwrap_or_default()));
    let arguments = [DatumWithOid::from(relation.oid), DatumWithOid::from(GUARD)];
    let strays = acting_as(keeper(), || GUARDS.with(|statement| statement.rows(&arguments, stray)))?;
    strays
        .into_iter()
        .try_for_each(|((partition, owner), guard)| run_as(owner, &format!("DROP TRIGGER {} ON {partition}", ident(&guard))))
}

/// Attaches the triggers.
pub fn attach(number: i32, relation: &Relation, archive: Option<pg_sys::Oid>) -> Result<()> {
    of_table(archive.is_some()).iter().try_for_each(|trigger| create(relation, trigger))?;
    if let Some(bin) = archive.map(catalog::relation).transpose()?.flatten() {
        OF_BIN.iter().try_for_each(|trigger| create(&bin, trigger))?;
    }
    guard_partitions(number, relation.oid, archive.is_some())
}

/// Attaches the trigger that sees creates, or takes it off.
pub fn follow_creates(relation: &Relation, all_events: bool) -> Result<()> {
    if all_events { create(relation, &WITH_ALL_EVENTS) } else { drop_if_exists(relation, &WITH_ALL_EVENTS) }
}

/// For where tombstones have moved from the table to its bin, which is full: the triggers that they want there, and those of the table
/// as an archive has them.
pub fn attach_archive(number: i32, relation: &Relation, bin: &Relation) -> Result<()> {
    ARCHIVED.iter().try_for_each(|trigger| create(relation, trigger))?;
    OF_BIN.iter().try_for_each(|trigger| create(bin, trigger))?;
    guards_fire(number, relation.oid, "ALWAYS ")?;
    guard_bin(bin.oid)
}

/// The same for where they have moved back, and the bin is about to go.
pub fn detach_archive(number: i32, relation: &Relation, bin: &Relation) -> Result<()> {
    OF_BIN.iter().try_for_each(|trigger| drop_if_exists(bin, trigger))?;
    ARCHIVED.iter().try_for_each(|trigger| drop_if_exists(relation, trigger))?;
    IN_PLACE.iter().try_for_each(|trigger| create(relation, trigger))?;
    guards_fire(number, relation.oid, "")
}

/// Of the guards on partitions: whether they fire for sessions alone, or ALWAYS.
fn guards_fire(number: i32, root: pg_sys::Oid, when: &str) -> Result<()> {
    let guard = guard(number);
    let enable = |(partition, owner): (String, pg_sys::Oid)| {
        run_as(owner, &format!("ALTER TABLE {partition} ENABLE {when}TRIGGER {guard}"))
    };
    partitions(root, true, &guard)?.into_iter().try_for_each(enable)
}

/// A bin that is being filled is nothing to guard: what it holds are copies.
pub fn unguard_bin(bin: pg_sys::Oid) -> Result<()> {
    let drop = |(partition, owner): (String, pg_sys::Oid)| run_as(owner, &format!("DROP TRIGGER {BIN_GUARD} ON {partition}"));
    partitions(bin, true, BIN_GUARD)?.into_iter().try_for_each(drop)
}

fn create(relation: &Relation, trigger: &Trigger) -> Result<()> {
    let (table, name) = (qualified(&relation.schema, &relation.name), ident(trigger.name));
    let Trigger { event, level, function, .. } = trigger;
    let made = format!("{name} {event} ON {table} FOR EACH {level} EXECUTE FUNCTION tombstone.{function}()");
    run_as(relation.owner, &format!("CREATE OR REPLACE TRIGGER {made}"))?;
    let enable = |fires| run_as(relation.owner, &format!("ALTER TABLE {table} ENABLE {fires} TRIGGER {name}"));
    trigger.fires.map_or(Ok(()), enable)
}

fn drop_if_exists(relation: &Relation, trigger: &Trigger) -> Result<()> {
    if !has_trigger(relation.oid, trigger.name) {
        return Ok(());
    }
    let table = qualified(&relation.schema, &relation.name);
    run_as(relation.owner, &format!("DROP TRIGGER {} ON {table}", ident(trigger.name)))
}

fn of_table(archived: bool) -> &'static [Trigger] {
    if archived { &ARCHIVED } else { &IN_PLACE }
}

/// Takes the triggers off, also those of its archive.
pub fn detach(number: i32, relation: &Relation, archive: Option<pg_sys::Oid>, all_events: bool) -> Result<()> {
    if let Some(bin) = archive.map(catalog::relation).transpose()?.flatten() {
        OF_BIN.iter().try_for_each(|trigger| drop_if_exists(&bin, trigger))?;
    }
    of_table(archive.is_some())
        .iter()
        .chain(all_events.then_some(&WITH_ALL_EVENTS))
        .try_for_each(|trigger| drop_if_exists(relation, trigger))?;
    let guard = guard(number);
    for (partition, owner) in partitions(relation.oid, true, &guard)? {
        run_as(owner, &format!("DROP TRIGGER {guard} ON {partition}"))?;
    }
    Ok(())
}

/// Partitions of a bin that somebody has made by hand get its guard; one that was taken off may not hold a record on hold. A bin
/// without its own guard is being restored from a dump, which brings the guards along.
fn guard_bin(bin: pg_sys::Oid) -> Result<()> {
    let Some(table) = catalog::table_of_archive(bin)? else { return Ok(()) };
    if !has_trigger(bin, BIN_GUARD) {
        return Ok(());
    }
    for (partition, owner) in partitions(bin, false, BIN_GUARD)? {
        run_as(owner, &truncate_guard(&partition))?;
    }
    let holds = catalog::options_of(table)?.map_or(Ok(0), |(number, _)| catalog::holds_in(number))?;
    if holds == 0 { Ok(()) } else { hold::refuse_lost(&*by_oid(table)?) }
}

/// The name of the guard on the partitions of the table numbered `number`.
fn guard(number: i32) -> String {
    format!("{GUARD}{number}")
}

fn guard_partitions(number: i32, root: pg_sys::Oid, archived: bool) -> Result<()> {
    let guard = guard(number);
    for (partition, owner) in partitions(root, false, &guard)? {
        let event = format!("BEFORE TRUNCATE ON {partition} FOR EACH STATEMENT");
        run_as(owner, &format!("CREATE TRIGGER {guard} {event} EXECUTE FUNCTION tombstone.on_truncate()"))?;
    }
    if archived { guards_fire(number, root, "ALWAYS ") } else { Ok(()) }
}

/// The partitions of `root`, at every level, that have the guard or have it not; and the owner of each.
fn partitions(root: pg_sys::Oid, guarded: bool, guard: &str) -> Result<Vec<(String, pg_sys::Oid)>> {
    let arguments = [DatumWithOid::from(root), DatumWithOid::from(guarded), DatumWithOid::from(guard)];
    acting_as(keeper(), || PARTITIONS.with(|statement| statement.rows(&arguments, named)))
}

/// Name and owner of a relation, from a row of (schema, name, owner).
fn named(row: &SpiHeapTupleData) -> Result<(String, pg_sys::Oid)> {
    let (schema, name) = (row.get::<String>(1)?.unwrap_or_default(), row.get::<String>(2)?.unwrap_or_default());
    Ok((qualified(&schema, &name), row.get(3)?.unwrap_or(pg_sys::InvalidOid)))
}

/// A partition just detached loses its guard; while a record of the table is on hold it cannot be detached, as nothing
/// would guard its rows any more.
fn release_detached(number: i32, root: pg_sys::Oid) -> Result<()> {
    let guard = guard(number);
    let arguments = [DatumWithOid::from(root), DatumWithOid::from(guard.as_str())];
    let detached = acting_as(keeper(), || DETACHED.with(|statement| statement.rows(&arguments, named)))?;
    for (partition, owner) in detached {
        if catalog::holds_in(number)? > 0 {
            return Err(Error::on_hold(format!("cannot detach partition {partition} of table {}", catalog::title(root)))
                .detail("Records of the table are on hold.")
                .hint("End the holds first, with tombstone.release()."));
        }
        run_as(owner, &format!("DROP TRIGGER {guard} ON {partition}"))?;
    }
    Ok(())
}

/// 22023 where `table` has come to inherit from a managed one: whatever is done to that one is done to its rows, too, and unseen.
fn refuse_heir(table: pg_sys::Oid) -> Result<()> {
    let parents: Vec<(pg_sys::Oid, pg_sys::TransactionId)> =
        INHERITED.rows(&[table.into()], |row| Ok((row.get(1)?, row.get(2)?)))?;
    let new = parents.into_iter().find(|(_, transaction)| tree::is_of_this_transaction(*transaction));
    let Some((parent, _)) = new else { return Ok(()) };
    catalog::relation(parent)?.map_or(Ok(()), |parent| Err(validate::inherited(&parent)))
}

/// Event trigger on ddl_command_end: follows the partitions that were created, attached or detached just now, and what else was
/// changed of a table with an archive.
#[pg_extern(sql = false)]
fn on_partition() -> Result<(), ErrorReport> {
    let follow = || -> Result<()> {
        // The extension itself is being created or dropped; or the command is ours, and complete.
        if own(c"managed") == pg_sys::InvalidOid || altering::is_ours() {
            return Ok(());
        }
        on_delete::follow_renamed()?;
        let oid = |row: &SpiHeapTupleData| Ok(row.get::<pg_sys::Oid>(1)?);
        let tables = COMMANDS.with(|statement| statement.rows(&[], oid))?;
        let tables: Vec<pg_sys::Oid> = tables.into_iter().flatten().collect();
        for table in &tables {
            drift::follow(*table)?;
            live_view::follow(*table)?;
            tree::check_new(*table)?;
            refuse_heir(*table)?;
            guard_bin(*table)?;
        }
        let concerned: Vec<(i32, pg_sys::Oid, bool)> =
            CONCERNED.rows(&[tables.into()], |row| Ok((row.get(1)?, row.get(2)?, row.get(3)?)))?;
        for (number, root, archived) in concerned {
            guard_partitions(number, root, archived)?;
            release_detached(number, root)?;
        }
        Ok(())
    };
    follow().map_err(Into::into)
}

fn run_as(owner: pg_sys::Oid, sql: &str) -> Result<()> {
    bin::run_as(owner, &[sql.to_string()])
}
