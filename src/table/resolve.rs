//! Which managed table a door means when it is not told.

use std::rc::Rc;

use pgrx::datum::DatumWithOid;
use pgrx::pg_sys;

use super::{Table, by_oid, catalog};
use crate::backend::query::Statement;
use crate::backend::relation::{LockFor, lock};
use crate::backend::subtransaction::reworded;
use crate::error::{Error, Result};
use crate::settings;

/// What kind of table a door is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fits {
    /// Tables without a version column.
    Records,
    /// Tables with one.
    Versions,
}

thread_local! {
    static NAMED: &'static Statement =
        Box::leak(Box::new(Statement::new("SELECT pg_catalog.to_regclass($1)::pg_catalog.oid", [pg_sys::TEXTOID])));
}

/// The table a door is to act on: the one given, else `tombstone.default_table`, else the only managed one that fits.
///
/// Locked for what the door does before anything cached about it is looked at: whoever waited here for configure() or
/// unmanage() goes on with what they made of the table.
pub fn resolve(relation: Option<pg_sys::Oid>, fits: Fits, what_for: LockFor) -> Result<Rc<Table>> {
    let oid = find(relation, fits)?;
    lock(oid, what_for);
    by_oid(oid)
}

fn find(relation: Option<pg_sys::Oid>, fits: Fits) -> Result<pg_sys::Oid> {
    if let Some(relation) = relation {
        return Ok(relation);
    }
    if let Some(name) = settings::default_table() {
        return named(&name);
    }
    let fitting: Vec<pg_sys::Oid> = catalog::all()?
        .into_iter()
        .filter(|managed| managed.has_versions == (fits == Fits::Versions))
        .map(|managed| managed.relation)
        .collect();
    if let [only] = fitting.as_slice() {
        return Ok(*only);
    }
    let kind = if fits == Fits::Versions { "with" } else { "without" };
    if fitting.is_empty() {
        return Err(Error::undefined(format!("no table {kind} a version column is managed"))
            .hint("Name the table: relation => 'schema.table'; or manage one with tombstone.manage()."));
    }
    let titles: Vec<String> = fitting.into_iter().map(catalog::title).collect();
    Err(Error::invalid(format!("{} managed tables {kind} a version column: which one is meant?", titles.len()))
        .hint(format!("Name one, as relation => '…' or in tombstone.default_table: {}.", titles.join(", "))))
}

fn named(name: &str) -> Result<pg_sys::Oid> {
    let unknown = || {
        Error::undefined(format!("setting tombstone.default_table names \"{name}\", which is no table"))
            .hint("SET tombstone.default_table = 'schema.table';")
    };
    let look_up = || NAMED.with(|statement| statement.rows(&[DatumWithOid::from(name)], |row| Ok(row.get::<pg_sys::Oid>(1)?)));
    let found = reworded(look_up, |_| unknown())??;
    found.into_iter().flatten().next().ok_or_else(unknown)
}
