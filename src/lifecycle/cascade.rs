//! What follows from a change along the foreign keys between managed tables, once for each statement:
//! a soft delete takes the live children along (CASCADE) or is refused by them (RESTRICT, NO ACTION);
//! a restore brings back the children that fell with it, and is refused by a parent that is still deleted.
//!
//! Each side is read and written in its owner's name, as Postgres' own foreign keys do it: the deleting user needs no right
//! on the children, and a child's owner none on the parent.

use std::cell::Cell;

use pgrx::datum::DatumWithOid;
use pgrx::pg_sys;

use super::rows::Rows;
use crate::backend::ident::ident;
use crate::error::{Error, Result};
use crate::log::account;
use crate::log::event::{Change, stamp_argument};
use crate::table::key::Key;
use crate::table::{ForeignKey, OnDelete, Table, by_oid};

thread_local! {
    static FOLLOWED: Cell<u64> = const { Cell::new(0) };
}

/// Whether anything follows from changes to `table`.
pub fn concerns(table: &Table) -> bool {
    !table.children.is_empty() || !table.parents.is_empty()
}

/// Runs `act`; returns with its value how many rows its restores brought back by foreign key.
pub fn counting<T>(act: impl FnOnce() -> T) -> (T, u64) {
    let before = FOLLOWED.replace(0);
    let value = act();
    (value, FOLLOWED.replace(before))
}

/// Does what follows from `change` to the records `ids` of `table`.
pub fn follow(table: &Table, change: Change, ids: &[String]) -> Result<()> {
    let follows = account::current().cause.follows_foreign_keys();
    match change {
        Change::Purge => Ok(()), // the foreign keys themselves see to it
        Change::SoftDelete { stamp, .. } => soft_delete_children(table, stamp, &keys(table, ids)?),
        Change::Restore { .. } if !follows => Ok(()),
        Change::Restore { stamp } => {
            let keys = keys(table, ids)?;
            require_live_parents(table, &keys)?;
            restore_children(table, stamp, &keys)
        }
    }
}

fn keys(table: &Table, ids: &[String]) -> Result<Vec<Key>> {
    ids.iter().map(|id| table.key(id)).collect()
}

fn soft_delete_children(table: &Table, stamp: i64, keys: &[Key]) -> Result<()> {
    for key in table.children.iter().filter(|key| key.on_delete != OnDelete::Wait) {
        let referred = Referred::from_parents(table, key, keys)?;
        let child = by_oid(key.child)?;
        match key.on_delete {
            OnDelete::Cascade => {
                write_children(&child, key, &referred, Write::SoftDelete, stamp)?;
            }
            _ => refuse_if_live(table, &child, key, &referred)?,
        }
    }
    Ok(())
}

fn restore_children(table: &Table, stamp: i64, keys: &[Key]) -> Result<()> {
    for key in table.children.iter().filter(|key| key.on_delete == OnDelete::Cascade) {
        let referred = Referred::from_parents(table, key, keys)?;
        let child = by_oid(key.child)?;
        let written = write_children(&child, key, &referred, Write::Restore, stamp)?;
        FOLLOWED.set(FOLLOWED.get() + written);
    }
    Ok(())
}

/// 23503 where a live record of `keys` has a parent that is a tombstone.
pub fn require_live_parents(table: &Table, keys: &[Key]) -> Result<()> {
    for key in &table.parents {
        let referred = Referred::from_children(table, key, keys)?;
        let parent = by_oid(key.parent)?;
        let statement = parent.statement(format!("deleted parent {}", key.name), || {
            let sql = format!(
                "SELECT pg_catalog.concat_ws(', ', {}) FROM {} AS t, {} WHERE {} AND t.{} IS NOT NULL LIMIT 1",
                columns("t", &key.parent_columns),
                parent.sql(),
                referred.rows_from(),
                referred.equals(key, "t", &key.parent_columns),
                parent.deleted_at.sql(),
            );
            (sql, referred.types())
        });
        let deleted = parent.as_owner(|| statement.rows(&referred.arguments(), |row| Ok(row.get::<String>(1)?)))?;
        if let Some(deleted) = deleted.into_iter().flatten().next() {
            return Err(Error::foreign_key(format!(
                "restore in table {} violates foreign key \"{}\": its parent in {} is deleted",
                table.title(),
                key.name,
                parent.title()
            ))
            .detail(format!("Parent ({}) = ({deleted}) is a tombstone.", key.parent_columns.join(", ")))
            .hint("Restore the parent first, or undo() the deletion that took both."));
        }
    }
    Ok(())
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Write {
    SoftDelete,
    Restore,
}

/// Soft-deletes the live children with the parent's stamp, or restores those that bear it.
fn write_children(child: &Table, key: &ForeignKey, referred: &Referred, write: Write, stamp: i64) -> Result<u64> {
    if referred.is_empty() {
        return Ok(0);
    }
    let statement = child.statement(format!("{write:?} children {}", key.name), || {
        let mut types = referred.types();
        types.push(pg_sys::TIMESTAMPTZOID);
        let (column, stamp) = (child.deleted_at.sql(), format!("${}", types.len()));
        let (value, was) = match write {
            Write::SoftDelete => (stamp, "IS NULL".to_string()),
            Write::Restore => ("NULL".to_string(), format!("OPERATOR(pg_catalog.=) {stamp}")),
        };
        let sql = format!(
            "UPDATE {} AS t SET {column} = {value} FROM {} WHERE {} AND t.{column} {was}",
            child.sql(),
            referred.rows_from(),
            referred.equals(key, "t", &key.child_columns),
        );
        (sql, types)
    });
    let mut arguments = referred.arguments();
    arguments.push(stamp_argument(Some(stamp)));
    account::as_cascade(|| child.as_owner(|| statement.execute(&arguments)))
}

fn refuse_if_live(table: &Table, child: &Table, key: &ForeignKey, referred: &Referred) -> Result<()> {
    if referred.is_empty() {
        return Ok(());
    }
    let statement = child.statement(format!("live child {}", key.name), || {
        let sql = format!(
            "SELECT pg_catalog.concat_ws(', ', {}) FROM {} AS t, {} WHERE {} AND t.{} IS NULL LIMIT 1",
            columns("t", &key.child_columns),
            child.sql(),
            referred.rows_from(),
            referred.equals(key, "t", &key.child_columns),
            child.deleted_at.sql(),
        );
        (sql, referred.types())
    });
    let live = child.as_owner(|| statement.rows(&referred.arguments(), |row| Ok(row.get::<String>(1)?)))?;
    match live.into_iter().flatten().next() {
        None => Ok(()),
        Some(live) => Err(Error::foreign_key(format!(
            "soft delete in table {} violates foreign key \"{}\": table {} has live children",
            table.title(),
            key.name,
            child.title()
        ))
        .detail(format!("A live record with ({}) = ({live}) refers to it.", key.child_columns.join(", ")))
        .hint("Delete the children first, or declare the foreign key ON DELETE CASCADE.")),
    }
}

/// The values of a foreign key's columns on one side of it, as text: parameters for a statement about the other side.
struct Referred {
    types: Vec<String>,
    columns: Vec<Vec<String>>,
}

impl Referred {
    fn from_parents(table: &Table, key: &ForeignKey, keys: &[Key]) -> Result<Referred> {
        Self::read(table, key, &key.parent_columns, keys)
    }

    fn from_children(table: &Table, key: &ForeignKey, keys: &[Key]) -> Result<Referred> {
        Self::read(table, key, &key.child_columns, keys)
    }

    fn read(table: &Table, key: &ForeignKey, names: &[String], keys: &[Key]) -> Result<Referred> {
        let rows = Rows::Records(keys);
        let statement = table.statement(format!("values {} {}", key.name, names.join(" ")), || {
            let clause = rows.clause(table);
            let columns: Vec<String> = names.iter().map(|name| format!("t.{}::pg_catalog.text", ident(name))).collect();
            let sql = format!(
                "SELECT DISTINCT ARRAY[{}] FROM {} AS t, {} WHERE {}",
                columns.join(", "),
                table.sql(),
                clause.from,
                clause.condition
            );
            (sql, clause.types)
        });
        let found = table.as_owner(|| statement.rows(&rows.arguments(table), |row| Ok(row.get::<Vec<Option<String>>>(1)?)))?;
        let mut columns = vec![Vec::new(); names.len()];
        // A key that is NULL in part refers to nothing.
        for values in found.into_iter().flatten().filter_map(|values| values.into_iter().collect::<Option<Vec<_>>>()) {
            columns.iter_mut().zip(values).for_each(|(column, value)| column.push(value));
        }
        Ok(Referred { types: key.types.clone(), columns })
    }

    fn is_empty(&self) -> bool {
        self.columns.iter().all(Vec::is_empty)
    }

    fn types(&self) -> Vec<pg_sys::Oid> {
        vec![pg_sys::TEXTARRAYOID; self.columns.len()]
    }

    fn arguments<'a>(&self) -> Vec<DatumWithOid<'a>> {
        self.columns.iter().map(|column| DatumWithOid::from(column.clone())).collect()
    }

    fn rows_from(&self) -> String {
        let arrays: Vec<String> = (1..=self.columns.len()).map(|i| format!("pg_catalog.unnest(${i})")).collect();
        let names: Vec<String> = (0..self.columns.len()).map(|i| format!("c{i}")).collect();
        format!("ROWS FROM ({}) AS k ({})", arrays.join(", "), names.join(", "))
    }

    /// `value operator alias.column` for each column, with the foreign key's own operators.
    fn equals(&self, key: &ForeignKey, alias: &str, names: &[String]) -> String {
        let equal = names
            .iter()
            .zip(&key.operators)
            .zip(&self.types)
            .enumerate()
            .map(|(i, ((name, operator), kind))| format!("k.c{i}::{kind} {operator} {alias}.{}", ident(name)));
        equal.collect::<Vec<_>>().join(" AND ")
    }
}

fn columns(alias: &str, names: &[String]) -> String {
    names.iter().map(|name| format!("{alias}.{}", ident(name))).collect::<Vec<_>>().join(", ")
}
