//! The doors to management: manage, configure, unmanage. What they decide is written by `table::catalog`.

use core::ffi::CStr;

use pgrx::datum::{AnyArray, AnyElement, DatumWithOid, Interval};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use pgrx::{IntoDatum, Spi, pg_sys};
use serde_json::{Map, Value};

use super::{adopt, bin, live_view, on_delete, tree, triggers, unique, validate};
use crate::backend::ident::{ident, qualified};
use crate::backend::identity::{acting_as, caller, has_privileges_of, writing_as};
use crate::backend::invalidation;
use crate::backend::query::Statement;
use crate::backend::relation::{LockFor, lock};
use crate::error::{Error, Result};
use crate::table::ColumnType;
use crate::table::catalog::{self, Relation};
use crate::table::option_field::json;
use crate::table::options::{ARCHIVE, IN_PLACE, Options};

/// Puts `relation` under management (DESIGN §3).
#[pg_extern(sql = false)]
#[allow(clippy::too_many_arguments, reason = "the signature is the contract")]
fn manage(
    relation: Option<pg_sys::Oid>,
    layout: Option<String>,
    id: Option<AnyArray>,
    version: Option<&CStr>,
    deleted_at: Option<&CStr>,
    redact: Option<AnyElement>,
    kind: Option<String>,
    owners: Option<String>,
    retention: Option<Interval>,
    expire_after: Option<Interval>,
    expire_from: Option<String>,
    events: Option<String>,
    notify: Option<String>,
    channel: Option<&CStr>,
    event_retention: Option<Interval>,
    max_purge: Option<AnyElement>,
    truncate: Option<String>,
    purge_events: Option<String>,
    on_delete: Option<AnyElement>,
    restore: Option<String>,
    payload: Option<String>,
    mute: Option<Vec<Option<String>>>,
    purge_after: Option<String>,
    keep_versions: Option<i32>,
    keep_versions_for: Option<Interval>,
    tree: Option<bool>,
) -> Result<(), ErrorReport> {
    let text = |name: &CStr| name.to_string_lossy().into_owned();
    let defaults = Options::defaults();
    let begin = || -> Result<()> {
        let given = Options {
            layout,
            id: id.map(names).transpose()?,
            version: version.map(text),
            deleted_at: deleted_at.map(text),
            redact: redact.map(|redact| jsonb("redact", redact)).transpose()?.unwrap_or(defaults.redact),
            kind,
            owners,
            retention,
            expire_after,
            expire_from,
            events: events.unwrap_or(defaults.events),
            notify: notify.unwrap_or(defaults.notify),
            channel: channel.map(text).unwrap_or(defaults.channel),
            event_retention,
            max_purge: max_purge.map(as_text),
            truncate,
            purge_events: purge_events.unwrap_or(defaults.purge_events),
            on_delete: on_delete.map(|said| jsonb("on_delete", said)).transpose()?.unwrap_or(defaults.on_delete),
            restore: restore.unwrap_or(defaults.restore),
            payload: payload.unwrap_or(defaults.payload),
            mute: mute.unwrap_or_default().into_iter().flatten().collect(),
            purge_after,
            keep_versions,
            keep_versions_for,
        };
        begin(relation, given, tree.unwrap_or(false))
    };
    begin().map_err(Into::into)
}

fn begin(relation: Option<pg_sys::Oid>, given: Options, tree: bool) -> Result<()> {
    let table = begin_one(relation, given)?;
    tree::refuse_mixed(&table)?;
    if catalog::archive_of(table.oid)?.is_none() {
        return Ok(());
    }
    let unmanaged = tree::unmanaged(table.oid)?;
    if !tree {
        unmanaged.iter().for_each(tree::warn_of);
        return Ok(());
    }
    for key in unmanaged {
        // One table may refer to this one in several ways, or come along with another one.
        if catalog::options_of(key.child)?.is_none() {
            begin(Some(key.child), Options::defaults(), true)?;
        }
    }
    Ok(())
}

/// The table put under management. Where its definition was copied without the row that says so, what came along is used.
pub fn begin_one(relation: Option<pg_sys::Oid>, given: Options) -> Result<Relation> {
    let relation = owned(relation, LockFor::Configuring)?;
    if catalog::options_of(relation.oid)?.is_some() {
        return Err(Error::duplicate(format!("table {} is managed already", relation.title()))
            .hint("Change one option at a time with tombstone.configure(), or tombstone.unmanage() it first."));
    }
    require_utf8()?;
    let options = validate::complete(&relation, given)?;
    on_delete::check(&relation, &options)?;
    let archive = match options.layout.as_deref() {
        Some(ARCHIVE) => {
            validate::warn_of_rules(&relation)?;
            Some(bin::left_over(&relation)?.map_or_else(|| bin::create(&relation, &options), Ok)?)
        }
        _ => {
            add_deleted_at(&relation, &options)?;
            None
        }
    };
    triggers::clear(&relation)?;
    let number = catalog::insert(relation.oid, &options, archive)?;
    triggers::attach(number, &relation, archive)?;
    if options.follows_creates() {
        triggers::follow_creates(&relation, true)?;
    }
    adopt::keep_options(&relation)?;
    forget_all(relation.oid)?;
    if archive.is_none() {
        unique::tell_of_tombstones(&relation, &options)?;
    }
    Ok(relation)
}

/// Ids are Rust strings on their way from one column to another, and those are UTF-8.
fn require_utf8() -> Result<()> {
    // SAFETY: reads a backend-local variable.
    if unsafe { pg_sys::GetDatabaseEncoding() } as u32 == pg_sys::pg_enc::PG_UTF8 {
        return Ok(());
    }
    Err(Error::unsupported("tables can be managed only in a database whose encoding is UTF8"))
}

/// Changes one option of a managed table; NULL resets it (DESIGN §3).
#[pg_extern(sql = false)]
fn configure(relation: Option<pg_sys::Oid>, option: Option<String>, value: Option<String>) -> Result<(), ErrorReport> {
    let change = || -> Result<()> {
        // To take a trigger off, Postgres wants the table to itself.
        let what_for = if option.as_deref() == Some("events") { LockFor::Ending } else { LockFor::Configuring };
        let relation = owned(relation, what_for)?;
        let Some((number, before)) = catalog::options_of(relation.oid)? else { return Err(catalog::not_managed(relation.oid)) };
        let Some(option) = option else { return Err(Error::invalid("option must not be NULL")) };
        let options = before.clone().with(&option, value.as_deref())?;
        // Before anything else that would not go with the other layout.
        if [ARCHIVE, IN_PLACE].iter().any(|layout| options.layout.as_deref() == Some(layout) && options.layout != before.layout)
        {
            return Err(layout_is_converted(&relation));
        }
        let options = validate::complete(&relation, options)?;
        if option == "on_delete" {
            on_delete::check(&relation, &options)?;
        }
        if names_other_rows(&before, &options) {
            refuse_while_tombstones_remain(number, &relation, &before, &option)?;
        }
        if options.layout != before.layout {
            return Err(layout_is_converted(&relation));
        }
        if options.layout.as_deref() == Some(IN_PLACE) {
            require_deleted_at(&relation, &options, &option)?;
        }
        catalog::update(relation.oid, &options)?;
        catalog::rename_in_holds(number, before.id.as_deref().unwrap_or_default(), options.id.as_deref().unwrap_or_default())?;
        if options.follows_creates() != before.follows_creates() {
            triggers::follow_creates(&relation, options.follows_creates())?;
        }
        adopt::keep_options(&relation)?;
        forget_all(relation.oid)
    };
    change().map_err(Into::into)
}

/// Ends the management of a table (DESIGN §3).
#[pg_extern(sql = false)]
fn unmanage(relation: Option<pg_sys::Oid>, discard: Option<bool>) -> Result<(), ErrorReport> {
    let end = || -> Result<()> {
        let relation = owned(relation, LockFor::Ending)?;
        let Some((number, options)) = catalog::options_of(relation.oid)? else {
            return Err(catalog::not_managed(relation.oid));
        };
        refuse_while_held(number, &relation)?;
        if let Some(archive) = catalog::archive_of(relation.oid)? {
            return end_archived(number, &relation, archive, &options);
        }
        let marked = relation.attribute(options.marker()).is_some();
        if !marked && !discard.unwrap_or(false) {
            return Err(Error::not_ready(format!("table {} has lost the column that marks its tombstones", relation.title()))
                .detail("There is no telling whether tombstones remain.")
                .hint("Was it renamed? tombstone.configure() it, or unmanage with discard => true: no row is touched then."));
        } else if marked && discard.unwrap_or(false) {
            run_as_owner(&relation, &format!("DELETE FROM {} WHERE {} IS NOT NULL", sql(&relation), deleted_at(&options)))?;
        } else if marked && let tombstones @ 1.. = tombstones(&relation, &options)? {
            return Err(Error::not_ready(format!("table {} holds tombstones still", relation.title()))
                .detail(format!("Tombstones in the table: {tombstones}."))
                .hint(
                    "Restore or purge them first, or discard them: tombstone.unmanage(…, discard => true) deletes their rows.",
                ));
        }
        triggers::detach(number, &relation, None, options.follows_creates())?;
        live_view::release(&relation)?;
        forget_all(relation.oid)?;
        let half_filled = catalog::bin_of(relation.oid)?;
        catalog::delete(relation.oid)?;
        half_filled.map_or(Ok(()), bin::discard)
    };
    end().map_err(Into::into)
}

/// Ends the management of a table with layout archive: its bin stays, as a table like any other.
fn end_archived(number: i32, relation: &Relation, archive: pg_sys::Oid, options: &Options) -> Result<()> {
    let bin = catalog::relation(archive)?;
    triggers::detach(number, relation, Some(archive), options.follows_creates())?;
    live_view::release(relation)?;
    forget_all(relation.oid)?;
    catalog::delete(relation.oid)?;
    if let Some(bin) = bin {
        notice!("what was deleted from {} stays in {}", relation.title(), bin.title());
    }
    Ok(())
}

/// Read here and not by pgrx, which panics where the nesting is deep.
fn jsonb(option: &str, value: AnyElement) -> Result<Map<String, Value>> {
    // SAFETY: SQL declares the argument as jsonb.
    json(option, &unsafe { ColumnType::new(pg_sys::JSONBOID, -1).write_key(value.datum()) })
}

/// A value of whatever type, as it is written: a number needs no quotes.
fn as_text(value: AnyElement) -> String {
    // SAFETY: a value of the type that the caller's expression has.
    unsafe { ColumnType::new(value.oid(), -1).write_key(value.datum()) }
}

thread_local! {
    static NAMES: &'static Statement =
        Box::leak(Box::new(Statement::new("SELECT $1::pg_catalog.text[]", [pg_sys::NAMEARRAYOID])));
}

fn names(array: AnyArray) -> Result<Vec<String>> {
    // SAFETY: SQL declares the argument as name[].
    let argument = unsafe { DatumWithOid::new(array.into_datum(), pg_sys::NAMEARRAYOID) };
    let names = NAMES.with(|statement| statement.rows(&[argument], |row| Ok(row.get::<Vec<Option<String>>>(1)?)))?;
    let names: Option<Vec<String>> = names.into_iter().flatten().flatten().collect();
    names.filter(|names| !names.is_empty()).ok_or_else(|| Error::invalid("option id must name columns, and none of them NULL"))
}

/// The table, locked for what is to be done to it, provided that the caller owns it.
pub fn owned(relation: Option<pg_sys::Oid>, what_for: LockFor) -> Result<Relation> {
    let Some(oid) = relation else { return Err(Error::invalid("relation must not be NULL")) };
    let gone = || Error::undefined(format!("there is no table {}", oid.to_u32()));
    let found = catalog::relation(oid)?.ok_or_else(gone)?;
    if !has_privileges_of(caller(), found.owner) {
        return Err(Error::denied(format!("must be owner of table {}", found.title())));
    }
    lock(oid, what_for);
    catalog::relation(oid)?.ok_or_else(gone)
}

fn sql(relation: &Relation) -> String {
    qualified(&relation.schema, &relation.name)
}

fn deleted_at(options: &Options) -> String {
    ident(options.marker())
}

fn add_deleted_at(relation: &Relation, options: &Options) -> Result<()> {
    let name = options.marker();
    if relation.attribute(name).is_some() {
        return Ok(());
    }
    run_as_owner(relation, &format!("ALTER TABLE {} ADD COLUMN {} pg_catalog.timestamptz", sql(relation), ident(name)))
}

/// 22023 of a table whose layout is archive, for the reason `why`; 55000 where the column that marks tombstones is gone.
pub fn require_in_place(relation: &Relation, options: &Options, why: &str) -> Result<()> {
    if options.layout.as_deref() == Some(ARCHIVE) {
        return Err(Error::invalid(format!("table {} has layout archive", relation.title())).detail(why));
    }
    require_deleted_at(relation, options, "")
}

/// Changing an option never adds the column: every tombstone would come to life unsaid.
pub fn require_deleted_at(relation: &Relation, options: &Options, option: &str) -> Result<()> {
    let name = options.marker();
    if relation.attribute(name).is_some() {
        return Ok(());
    }
    if option == "deleted_at" {
        return Err(Error::invalid(format!("option deleted_at: {} has no column \"{name}\"", relation.title()))
            .hint("Name the column that marks tombstones now."));
    }
    Err(Error::not_ready(format!("managed table {} has no column {name} any more", relation.title()))
        .detail("The option deleted_at names that column.")
        .hint(format!("Was it renamed? Say so first: SELECT tombstone.configure('{}', 'deleted_at', …);", relation.title())))
}

fn run_as_owner(relation: &Relation, sql: &str) -> Result<()> {
    writing_as(relation.owner, || Ok(Spi::run(sql)?))
}

/// Whether tombstones, holds and events written under `before` would mean something else under `after`.
fn names_other_rows(before: &Options, after: &Options) -> bool {
    before.id != after.id || before.version != after.version || before.deleted_at != after.deleted_at
}

fn layout_is_converted(relation: &Relation) -> Error {
    Error::unsupported(format!("the layout of managed table {} is no option to be set", relation.title()))
        .detail("Its tombstones are where its layout says, and have to move.")
        .hint(format!("CALL tombstone.convert('{}', …);", relation.title()))
}

fn refuse_while_tombstones_remain(number: i32, relation: &Relation, before: &Options, option: &str) -> Result<()> {
    let named = before.id.iter().flatten().chain(&before.version).chain(&before.deleted_at);
    if named.into_iter().any(|name| relation.attribute(name).is_none()) {
        return Ok(()); // a column was renamed: this is how to say so
    }
    refuse_while_held(number, relation)?;
    match tombstones(relation, before)? {
        0 => Ok(()),
        tombstones => {
            Err(Error::not_ready(format!("option {option} cannot change while {} holds tombstones", relation.title()))
                .detail(format!("Tombstones in the table: {tombstones}."))
                .hint("Restore or purge them first."))
        }
    }
}

fn refuse_while_held(number: i32, relation: &Relation) -> Result<()> {
    match catalog::holds_in(number)? {
        0 => Ok(()),
        holds => Err(Error::on_hold(format!("records of table {} are on hold", relation.title()))
            .detail(format!("Holds in the table: {holds}."))
            .hint("See tombstone.holds; end a hold with tombstone.release().")),
    }
}

fn tombstones(relation: &Relation, options: &Options) -> Result<i64> {
    let sql = match catalog::archive_of(relation.oid)? {
        Some(archive) => {
            let (schema, name) = catalog::name_of(archive);
            format!("SELECT pg_catalog.count(*) FROM {}", qualified(&schema, &name))
        }
        None => format!("SELECT pg_catalog.count(*) FROM {} WHERE {} IS NOT NULL", sql(relation), deleted_at(options)),
    };
    acting_as(relation.owner, || Ok(Spi::get_one(&sql)?.unwrap_or_default()))
}

/// Every session forgets `relation`, and the other managed tables too: foreign keys may tie them to it.
pub fn forget_all(relation: pg_sys::Oid) -> Result<()> {
    for managed in catalog::all()? {
        invalidation::forget(managed.relation);
    }
    invalidation::forget(relation);
    Ok(())
}
