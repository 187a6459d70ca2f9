//! Rows whose age is up, found and taken. The rule's expression is its owner's: run this with the owner's rights, in a
//! security-restricted operation.

use pgrx::datum::{DatumWithOid, TimestampWithTimeZone};
use pgrx::pg_sys;

use super::super::{Row, Summary, types_of_rows};
use crate::backend::query::Statement;
use crate::backend::spool::Spool;
use crate::error::Result;
use crate::lifecycle::rows::{key_equals, keys_from};
use crate::lifecycle::rule::{Action, Rule};
use crate::log::event::stamp_argument;
use crate::table::key::{Key, columns_of};
use crate::table::{Purpose, Table};

/// What is due, but for the records `but`: read in one go, so that a table without a fitting index is read once.
pub fn spooled(table: &Table, rule: &Rule, but: &[Key]) -> Result<Spool> {
    let mut spool = Spool::new(&types_of_rows(table));
    spool.fill(&find(table, rule, "due", &names(table)), &find_arguments(table, rule, but)?)?;
    Ok(spool)
}

pub fn summary(table: &Table, rule: &Rule, but: &[Key]) -> Result<Summary> {
    let counted = format!("pg_catalog.count(*), pg_catalog.min({0}), pg_catalog.max({0})", counts_from(table, rule));
    let rows = find(table, rule, "summary", &counted).rows(&find_arguments(table, rule, but)?, |row| {
        Ok(Summary { rows: row.get(1)?.unwrap_or_default(), oldest: row.get(2)?, newest: row.get(3)? })
    })?;
    Ok(rows.into_iter().next().unwrap_or(Summary { rows: 0, oldest: None, newest: None }))
}

pub fn lock(table: &Table, rule: &Rule, rows: &[Row]) -> Result<Vec<Row>> {
    // FOR UPDATE, of an expiry as well: it also keeps away from a row that others are just referring to.
    let statement = take_statement(table, rule, "lock", |table, due| {
        let (alias, names) = (table.alias(), names(table));
        format!("SELECT {names} FROM {} WHERE {due} FOR UPDATE OF {alias} SKIP LOCKED", target(table))
    });
    statement.value_rows(&take_arguments(table, rule, rows)?)
}

pub fn take(table: &Table, rule: &Rule, rows: &[Row]) -> Result<u64> {
    let statement = take_statement(table, rule, "take", |table, due| match rule.action {
        Action::Expire => format!("UPDATE {} SET {} = pg_catalog.now() WHERE {due}", target(table), table.deleted_at.sql()),
        Action::Purge => format!("DELETE FROM {} WHERE {due}", target(table)),
    });
    statement.execute(&take_arguments(table, rule, rows)?)
}

/// A statement that finds `what` of the rows that are due, but for those whose keys it gets.
fn find(table: &Table, rule: &Rule, purpose: &'static str, what: &str) -> std::rc::Rc<Statement> {
    table.planned_statement(Purpose(purpose, rule.action.name(), 0), || {
        let mut types: Vec<pg_sys::Oid> = table.id.iter().map(|column| column.kind.array()).collect();
        let but = among(table, types.len(), false);
        types.push(pg_sys::TIMESTAMPTZOID);
        let (due, named) = (is_due(table, rule, types.len()), is_named(table));
        (format!("SELECT {what} FROM {} WHERE {due} AND {named} AND NOT ({but})", target(table)), types)
    })
}

fn find_arguments<'a>(table: &Table, rule: &Rule, but: &[Key]) -> Result<Vec<DatumWithOid<'a>>> {
    let mut arguments = columns_of(table, but);
    arguments.push(limit(rule)?);
    Ok(arguments)
}

/// A statement about those of the rows it gets that are due still, made by `build` of the table and that condition.
fn take_statement(
    table: &Table,
    rule: &Rule,
    purpose: &'static str,
    build: impl FnOnce(&Table, &str) -> String,
) -> std::rc::Rc<Statement> {
    table.planned_statement(Purpose(purpose, rule.action.name(), 0), || {
        let mut types: Vec<pg_sys::Oid> = table.id.iter().map(|column| column.kind.array()).collect();
        types.extend(table.version.as_ref().map(|_| pg_sys::INT8ARRAYOID));
        let these = among(table, types.len(), table.version.is_some());
        types.push(pg_sys::TIMESTAMPTZOID);
        (build(table, &format!("{these} AND {}", is_due(table, rule, types.len()))), types)
    })
}

fn take_arguments<'a>(table: &Table, rule: &Rule, rows: &[Row]) -> Result<Vec<DatumWithOid<'a>>> {
    let array = |i: usize| rows.iter().map(|row| row[i]).collect();
    let mut arguments: Vec<_> = table.id.iter().enumerate().map(|(i, id)| id.kind.array_of(array(i))).collect();
    if table.version.is_some() {
        // An int8 is its 64 bits.
        let versions: Vec<i64> = rows.iter().map(|row| row[table.id.len()].value().cast_signed() as i64).collect();
        arguments.push(versions.into());
    }
    arguments.push(limit(rule)?);
    Ok(arguments)
}

/// That the row's key is among those of the first `count` parameters. Where these are several, in a subselect of their own: the
/// rule's expression must see nothing beside the table.
fn among(table: &Table, count: usize, with_version: bool) -> String {
    if count == 1 {
        return key_equals(table, &table.alias(), |_| "ANY ($1)".into());
    }
    // The table itself may have that name.
    let keys = if table.alias() == "\"k\"" { "keys" } else { "k" };
    let mut same = key_equals(table, &table.alias(), |i| format!("{keys}.c{i}"));
    if let (true, Some(version)) = (with_version, &table.version) {
        same += &format!(" AND {}.{} OPERATOR(pg_catalog.=) {keys}.c{}", table.alias(), version.sql(), count - 1);
    }
    format!("EXISTS (SELECT FROM {} WHERE {same})", keys_from(keys, count))
}

/// That the row is due: that its age counts from before the limit in parameter `limit`.
fn is_due(table: &Table, rule: &Rule, limit: usize) -> String {
    let standing = match rule.action {
        Action::Expire => format!("{}.{} IS NULL AND ", table.alias(), table.deleted_at.sql()),
        Action::Purge => String::new(),
    };
    format!("{standing}{} OPERATOR(pg_catalog.<) ${limit}", counts_from(table, rule))
}

thread_local! {
    // Beyond 4,000 years there is no date to count from.
    static LIMIT: &'static Statement = Box::leak(Box::new(Statement::new(
        "SELECT pg_catalog.now() OPERATOR(pg_catalog.-) LEAST($1, '4000 years'::pg_catalog.interval)", [pg_sys::INTERVALOID],
    )));
}

/// What is older is due, in this transaction. Worked out once: the planner may then know how many rows that are.
fn limit<'a>(rule: &Rule) -> Result<DatumWithOid<'a>> {
    let limit = LIMIT.with(|statement| statement.rows(&[rule.after.into()], |row| Ok(row.get::<TimestampWithTimeZone>(1)?)))?;
    Ok(stamp_argument(limit.into_iter().flatten().next().map(|limit| limit.into_inner())))
}

/// The moment a row's age counts from.
fn counts_from(table: &Table, rule: &Rule) -> String {
    match &rule.from {
        Some(from) => format!("(({from}\n)::pg_catalog.timestamptz)"),
        None => format!("{}.{}", table.alias(), table.deleted_at.sql()),
    }
}

/// The table, under its own name. Tables that inherit from it are none of ours: our triggers do not see their rows.
fn target(table: &Table) -> String {
    let only = if table.is_partitioned { "" } else { "ONLY " };
    format!("{only}{} AS {}", table.sql(), table.alias())
}

/// That no part of what names the row is NULL, whatever has become of its columns since they were found fit.
fn is_named(table: &Table) -> String {
    let columns = table.id.iter().chain(&table.version);
    columns.map(|column| format!("{}.{} IS NOT NULL", table.alias(), column.sql())).collect::<Vec<_>>().join(" AND ")
}

/// What names a row: id and version.
fn names(table: &Table) -> String {
    let alias = table.alias();
    let id = table.id.iter().map(|column| format!("{alias}.{}", column.sql()));
    let version = table.version.as_ref().map(|column| format!("{alias}.{}::pg_catalog.int8", column.sql()));
    id.chain(version).collect::<Vec<_>>().join(", ")
}
