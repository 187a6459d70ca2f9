//! To an archive. A short transaction makes the bins, and says so in `tombstone.managed`: from then on the tables are being converted,
//! whatever becomes of this session, and the next CALL goes on. Batches copy the tombstones, those that the log knows of first. The
//! last transaction has the tables to itself: it makes the copies right, takes the tombstones out of the tables, and changes the layout.

use pgrx::pg_sys;
use pgrx::prelude::*;
use pgrx::spi::quote_identifier;

use super::copying::Copying;
use super::group::{self, Member};
use super::references::refuse_dangling;
use super::unknown::Unknowns;
use super::{counted, tell, tell_truncate};
use crate::backend::ident::qualified;
use crate::backend::identity::acting_as;
use crate::backend::procedure::transaction;
use crate::backend::query::Statement;
use crate::backend::relation::LockFor;
use crate::backend::snapshot;
use crate::backend::transaction::with_snapshot;
use crate::error::{Error, Result};
use crate::log::event;
use crate::log::run::{self, Run};
use crate::manage::doors::forget_all;
use crate::manage::{adopt, bin, tree, triggers, validate};
use crate::settings::in_our_settings;
use crate::table::options::{ARCHIVE, Options};
use crate::table::{Tombstones, by_oid, catalog};

/// What a run is called.
const ACTION: &str = "convert";
/// A transaction copies about so many tombstones.
const BATCH: usize = 5000;
/// What came since is copied before the tables are locked, as long as it is more than a batch; so often at most.
const ROUNDS: usize = 5;
/// Every transaction is of this one, or later.
const BEGINNING: &str = "0";

/// A table on its way.
struct Begun {
    table: pg_sys::Oid,
    number: i32,
    run: Run,
}

pub fn run(table: pg_sys::Oid) -> Result<()> {
    if !transaction(|| in_our_settings(|| is_to_be_done(table)))? {
        return Ok(());
    }
    let begun = transaction(|| in_our_settings(|| begin(table)))?;
    let Err(error) = carry_out(table, &begun) else { return Ok(()) };
    let outcome = if error.is_cancellation() { "interrupted" } else { "failed" };
    let end = || begun.iter().try_for_each(|begun| begun.run.end(outcome, Some(&error.summary())).map(drop));
    transaction(end)?;
    Err(error)
}

/// Whether there is anything to do, and nothing known by now that would be in its way: it would be a pity to find out in the end.
fn is_to_be_done(table: pg_sys::Oid) -> Result<bool> {
    let members = group::locked(&group::below(table)?, table, LockFor::Reading)?;
    if members.iter().any(|member| member.relation.oid == table && member.is_archived()) {
        notice!("table {} has layout archive already", catalog::title(table));
        return Ok(false);
    }
    for member in &members {
        let table = by_oid(member.relation.oid)?;
        validate::telling_apart(&member.relation, &table.id, table.version.as_ref())?;
    }
    refuse_unfit(&members)?;
    Ok(true)
}

/// 23503, or 55000, where tombstones cannot go to an archive.
fn refuse_unfit(members: &[Member]) -> Result<()> {
    members.iter().try_for_each(refuse_strange_stamps)?;
    refuse_dangling(members)
}

/// 55000 where a stamp is no moment at which anything can have been deleted: an archive is parted by them, up to now. Clocks may differ.
fn refuse_strange_stamps(member: &Member) -> Result<()> {
    let (relation, title, table) = (&member.relation, member.relation.title(), by_oid(member.relation.oid)?);
    let Tombstones::InPlace { deleted_at } = &table.tombstones else { return Ok(()) };
    let sql = format!(
        "SELECT {stamp}::pg_catalog.text FROM {}{} AS t
         WHERE {stamp} OPERATOR(pg_catalog.<) '0001-01-01 UTC'::pg_catalog.timestamptz
            OR {stamp} OPERATOR(pg_catalog.>) (pg_catalog.now() OPERATOR(pg_catalog.+) '1 day'::pg_catalog.interval)
         LIMIT 1",
        if relation.kind == 'p' { "" } else { "ONLY " },
        qualified(&relation.schema, &relation.name),
        stamp = deleted_at.stamp("t"),
    );
    let read = || Statement::new(sql, []).rows(&[], |row| Ok(row.get::<String>(1)?.unwrap_or_default()));
    let Some(strange) = acting_as(relation.owner, read)?.into_iter().next() else { return Ok(()) };
    let (column, now) = (quote_identifier(&deleted_at.column().name), deleted_at.now());
    Err(Error::not_ready(format!("table {title} has a tombstone that was deleted at no time: {column} is {strange}"))
        .detail("An archive is partitioned by that moment.")
        .hint(format!(
            "UPDATE {title} SET {column} = {now} WHERE {column} > {now}; of earlier ones, purge the record, or restore it first."
        )))
}

/// Makes the bins that are not there yet. Nothing is read here that takes long: who writes to the tables waits.
fn begin(table: pg_sys::Oid) -> Result<Vec<Begun>> {
    let members = group::locked(&group::below(table)?, table, LockFor::Configuring)?;
    for member in &members {
        if member.is_archived() {
            return Err(Error::changed(format!("table {} was converted by another session", member.relation.title())));
        }
        if let Some(process) = run::at_it(member.number, ACTION)? {
            return Err(Error::not_ready(format!("table {} is being converted by another session", member.relation.title()))
                .detail(format!("Its process is {process}."))
                .hint("Wait for it, or end it with pg_cancel_backend(): the next CALL goes on."));
        }
    }
    let others = group::others(&members, table);
    if !others.is_empty() {
        notice!("converted together with {}: {others}, by ON DELETE CASCADE", catalog::title(table));
    }
    for member in &members {
        let options = archived(member)?;
        if member.bin.is_none() {
            let bin = bin::create(&member.relation, &options)?;
            triggers::unguard_bin(bin)?;
            catalog::set_bin(member.relation.oid, Some(bin))?;
        }
        tree::unmanaged(member.relation.oid)?.iter().for_each(tree::warn_of);
        validate::warn_of_rules(&member.relation)?;
    }
    forget_all(table)?;
    let begin = |member: &Member| {
        run::close(member.number, ACTION, "its process is gone")?;
        let run = Run::begin(member.number, ACTION, 0)?;
        Ok(Begun { table: member.relation.oid, number: member.number, run })
    };
    members.iter().map(begin).collect()
}

/// The options of a table once it is archived.
fn archived(member: &Member) -> Result<Options> {
    let before = member.options.clone();
    // What empties the table of its tombstones there is said of what is live here.
    let truncate = before.truncate.clone().filter(|truncate| truncate == "refuse");
    let options = Options { layout: Some(ARCHIVE.into()), deleted_at: None, truncate, ..before };
    validate::complete(&member.relation, options)
}

fn carry_out(table: pg_sys::Oid, begun: &[Begun]) -> Result<()> {
    for Begun { table, run, .. } in begun {
        transaction(|| in_our_settings(|| run.set_due(Copying::of(*table)?.left()?)))?;
    }
    let mut since = BEGINNING.to_string();
    for _ in 0..ROUNDS {
        let next = transaction(|| Ok(oldest_running()))?;
        let copied = copy_known(begun, &since)? + copy_unknown(begun)?;
        since = next;
        if copied <= BATCH as u64 {
            break;
        }
    }
    let moved = transaction(|| in_our_settings(|| finish(table, begun, &since)))?;
    for Moved { title, bin, rows, column } in moved {
        let message = format!("table {title} has layout archive: {} moved to {bin}", counted(rows));
        tell(
            message,
            format!("DELETE is the soft delete, and column {column} means nothing: ALTER TABLE {title} DROP COLUMN {column};"),
        );
    }
    Ok(())
}

/// The oldest transaction that may write still.
fn oldest_running() -> String {
    let (next, running) = snapshot::active();
    running.into_iter().min().unwrap_or(next).to_string()
}

/// Copies what the log tells of from the transaction `since` on; returns how many tombstones.
fn copy_known(begun: &[Begun], since: &str) -> Result<u64> {
    let mut copied = 0;
    for Begun { table, number, run } in begun {
        let mut before = None;
        loop {
            let batch = || -> Result<_> {
                let copying = Copying::of(*table)?;
                let told = event::soft_deletes(*number, since, before.as_ref(), BATCH)?;
                let rows = copying.copy_told(&told)?;
                run.count(rows)?;
                Ok((rows, told.last().map(|last| last.place.clone())))
            };
            let (rows, last) = transaction(|| in_our_settings(batch))?;
            copied += rows;
            match last {
                Some(last) => before = Some(last),
                None => break,
            }
        }
    }
    Ok(copied)
}

/// Copies what the log does not know, by deletions of its own: one for each stamp, whichever of the tables bear it, in the order of the
/// stamps. Returns how many tombstones.
fn copy_unknown(begun: &[Begun]) -> Result<u64> {
    let tables: Vec<pg_sys::Oid> = begun.iter().map(|begun| begun.table).collect();
    let mut unknown = transaction(|| in_our_settings(|| Unknowns::of(&tables)))?;
    let mut copied = 0;
    loop {
        match transaction(|| in_our_settings(|| copy_batch(&mut unknown, begun)))? {
            Some(rows) => copied += rows,
            None => return Ok(copied),
        }
    }
}

/// Copies the next of them; `None`: there are none.
fn copy_batch(unknown: &mut Unknowns, begun: &[Begun]) -> Result<Option<u64>> {
    let Some(batch) = unknown.next_batch(BATCH) else { return Ok(None) };
    let mut copied = 0;
    for (Begun { table, run, .. }, rows) in begun.iter().zip(&batch) {
        let rows = Copying::of(*table)?.copy_unknown(rows)?;
        run.count(rows)?;
        copied += rows;
    }
    unknown.forget_used();
    Ok(Some(copied))
}

/// What has come of one table.
struct Moved {
    title: String,
    bin: String,
    rows: u64,
    column: String,
}

/// The last transaction. Whoever waits for a table meanwhile goes on with what it has become.
fn finish(table: pg_sys::Oid, begun: &[Begun], since: &str) -> Result<Vec<Moved>> {
    let tables: Vec<pg_sys::Oid> = begun.iter().map(|begun| begun.table).collect();
    let members = group::locked(&tables, table, LockFor::Ending)?;
    if members.iter().any(|member| member.bin.is_none() || member.is_archived()) || group::below(table)? != tables {
        return Err(Error::not_ready(format!("what hangs on table {} has changed in the meantime", catalog::title(table)))
            .hint("CALL it again: it goes on where it is."));
    }
    refuse_unfit(&members)?;
    let copyings = members.iter().map(|member| Copying::of(member.relation.oid)).collect::<Result<Vec<_>>>()?;
    copyings.iter().try_for_each(Copying::settle)?;
    for (copying, member) in copyings.iter().zip(&members) {
        let mut before = None;
        loop {
            let told = event::soft_deletes(member.number, since, before.as_ref(), BATCH)?;
            copying.copy_told(&told)?;
            match told.last() {
                Some(last) => before = Some(last.place.clone()),
                None => break,
            }
        }
    }
    let mut unknown = with_snapshot(|| Unknowns::of(&tables))?;
    while copy_batch(&mut unknown, begun)?.is_some() {}
    let mut moved = Vec::new();
    for (copying, member) in copyings.iter().zip(&members) {
        let (copies, rows) = (copying.copies()?, copying.take_out()?);
        let (title, column) = (member.relation.title(), quote_identifier(member.options.marker()));
        if copies != rows {
            return Err(Error::not_ready(format!(
                "table {title} has {rows} tombstones, and its archive {copies} copies of them"
            ))
            .detail("Somebody has written to the archive, or two tombstones bear one key.")
            .hint(format!("CALL tombstone.convert('{title}', 'in_place'); to begin anew.")));
        }
        change_layout(member, copying.bin())?;
        moved.push(Moved { title, bin: catalog::title(copying.bin()), rows, column });
    }
    forget_all(table)?;
    begun.iter().try_for_each(|begun| begun.run.end("done", None).map(drop))?;
    Ok(moved)
}

fn change_layout(member: &Member, bin: pg_sys::Oid) -> Result<()> {
    let options = archived(member)?;
    catalog::update(member.relation.oid, &options)?;
    // Its guards ask which table a bin is of.
    forget_all(member.relation.oid)?;
    let bin = catalog::relation(bin)?.ok_or_else(|| Error::not_ready("the archive is gone"))?;
    triggers::attach_archive(member.number, &member.relation, &bin)?;
    adopt::keep_options(&member.relation)?;
    tell_truncate(member, options.truncate.as_deref());
    Ok(())
}
