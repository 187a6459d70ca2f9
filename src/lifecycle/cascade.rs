//! What follows from a change along the foreign keys between managed tables, once for each statement:
//! a soft delete takes the live children along (CASCADE) or is refused by them (RESTRICT, NO ACTION);
//! a restore brings back the children that fell with it (`fallen`), and is refused by a parent that is still deleted.
//!
//! Each side is read and written in its owner's name, as Postgres' own foreign keys do it: the deleting user needs no right
//! on the children, and a child's owner none on the parent.

use std::cell::Cell;
use std::collections::HashSet;

use pgrx::datum::DatumWithOid;
use pgrx::pg_sys;

use super::discretion::{shows_to_asking, withholding};
use super::rows::{Clause, Rows, keys_from};
use super::{fallen, layout};
use crate::backend::query::Statement;
use crate::backend::stamp::stamp_argument;
use crate::error::{Error, Result};
use crate::log::account::{self, Cause};
use crate::log::event::Change;
use crate::table::key::Key;
use crate::table::{Column, ForeignKey, OnDelete, Purpose, Table, Tombstones, by_oid};

thread_local! {
    static FOLLOWED: Cell<u64> = const { Cell::new(0) };
}

/// Whether anything follows from this change to records of `table`. Where rows leave the table, the foreign keys themselves act.
pub fn follows(table: &Table, change: Change) -> bool {
    match (change, &table.tombstones) {
        (Change::Create | Change::Update, _) | (Change::SoftDelete { .. }, Tombstones::Archive(_)) => false,
        (Change::Restore { .. }, Tombstones::Archive(_)) => !table.parents.is_empty(),
        _ => !table.children.is_empty() || !table.parents.is_empty(),
    }
}

/// Runs `act`; returns with its value how many records its restores brought back by foreign key.
pub fn counting<T>(act: impl FnOnce() -> T) -> (T, u64) {
    let before = FOLLOWED.replace(0);
    let value = act();
    (value, FOLLOWED.replace(before))
}

/// So many records have come back by foreign key in the same statement as what they refer to.
pub fn note_followed(records: u64) {
    FOLLOWED.set(FOLLOWED.get() + records);
}

/// Does what follows from `change` to the records `ids` of `table`.
pub fn follow(table: &Table, change: Change, ids: &[String]) -> Result<()> {
    let cause = account::current().cause;
    match change {
        Change::Create | Change::Update => Ok(()),
        Change::Purge => Ok(()), // the foreign keys themselves see to it
        Change::SoftDelete { .. } if table.bin().is_some() => Ok(()),
        Change::SoftDelete { stamp, .. } => soft_delete_children(table, stamp, &keys(table, ids)?),
        Change::Restore { .. } if !cause.follows_foreign_keys() => Ok(()),
        Change::Restore { stamp } => {
            if cause == Cause::Cascade {
                FOLLOWED.set(FOLLOWED.get() + ids.iter().collect::<HashSet<_>>().len() as u64);
            }
            fallen::follow(table, stamp, keys(table, ids)?)
        }
    }
}

/// The records' keys; versions of one record, next to each other as they mostly are, count once.
fn keys(table: &Table, ids: &[String]) -> Result<Vec<Key>> {
    ids.chunk_by(|one, other| one == other).map(|same| table.key(&same[0])).collect()
}

fn soft_delete_children(table: &Table, stamp: i64, keys: &[Key]) -> Result<()> {
    for key in table.children.iter().filter(|key| key.on_delete != OnDelete::Wait) {
        let parents = Referred::from_deleted(table, key, keys)?;
        if parents.is_empty() {
            continue;
        }
        let child = by_oid(key.child)?;
        match key.on_delete {
            OnDelete::Cascade => {
                let delete = || layout::of(&child).delete_children(key, &parents, stamp);
                account::as_cascade(|| withholding(&[&child], || child.as_owner(delete)))?
            }
            _ => refuse_if_live(table, &child, key, &parents)?,
        }
    }
    Ok(())
}

/// The keys of the live children that a soft delete of these parents takes along by `key`.
pub fn live_children(table: &Table, child: &Table, key: &ForeignKey, parents: &[Key]) -> Result<Vec<Key>> {
    let parents = Referred::read(table, Purpose("values to follow", "", key.oid), &key.parent_columns, parents, "")?;
    if parents.is_empty() {
        return Ok(Vec::new());
    }
    let statement = child.statement(Purpose("live children", "", key.oid), || {
        (parents.children(child, key, &child.is_live("t")), parents.types())
    });
    let live = child.as_owner(|| statement.value_rows(&parents.arguments()))?;
    // SAFETY: just read from the id columns.
    Ok(live.into_iter().map(|values| unsafe { child.key_of(values) }).collect())
}

/// 23503 where a live record of `keys` has a parent that is a tombstone.
pub fn require_live_parents(table: &Table, keys: &[Key]) -> Result<()> {
    for key in &table.parents {
        let referred = Referred::from_children(table, key, keys)?;
        if referred.is_empty() {
            continue;
        }
        let parent = by_oid(key.parent)?;
        let deleted = parent.as_owner(|| layout::of(&parent).deleted_parent(key, &referred))?;
        if let Some(deleted) = deleted {
            let which = if shows_to_asking(table, &key.child_columns) || shows_to_asking(&parent, &key.parent_columns) {
                format!("Parent ({}) = ({deleted}) is a tombstone.", names(&key.parent_columns))
            } else {
                "The parent is a tombstone.".to_string()
            };
            return Err(Error::foreign_key(format!(
                "restore in table {} violates foreign key \"{}\": its parent in {} is deleted",
                table.title(),
                key.name,
                parent.title()
            ))
            .detail(which)
            .hint("Restore the parent first, or undo() the deletion that took both."));
        }
    }
    Ok(())
}

/// A record that refers to a tombstone: its place among those asked after, and the tombstone's table and id.
pub struct Dead {
    pub place: usize,
    pub parent: pg_sys::Oid,
    pub id: String,
}

/// The tombstones that records of `keys` have for parents; those are locked against being restored or deleted.
pub fn dead_parents(table: &Table, keys: &[Key]) -> Result<Vec<Dead>> {
    let mut dead = Vec::new();
    for key in &table.parents {
        let (places, referred) = Referred::by_child(table, key, keys)?;
        if referred.is_empty() {
            continue;
        }
        let parent = by_oid(key.parent)?;
        let found = parent.as_owner(|| layout::of(&parent).dead_parents(key, &referred))?;
        dead.extend(found.into_iter().map(|(i, id)| Dead { place: places[i], parent: parent.oid, id }));
    }
    Ok(dead)
}

fn refuse_if_live(table: &Table, child: &Table, key: &ForeignKey, referred: &Referred) -> Result<()> {
    let statement = child.statement(Purpose("live child", "", key.oid), || {
        let sql = format!(
            "SELECT pg_catalog.concat_ws(', ', {}) FROM {} AS t, {} WHERE {} AND {} LIMIT 1",
            columns(&key.child_columns),
            child.sql(),
            referred.rows_from(),
            referred.equal_children(key),
            child.is_live("t"),
        );
        (sql, referred.types())
    });
    let live = child.as_owner(|| statement.latest(&referred.arguments()))?;
    match live {
        None => Ok(()),
        Some(live) => Err(Error::foreign_key(format!(
            "soft delete in table {} violates foreign key \"{}\": table {} has live children",
            table.title(),
            key.name,
            child.title()
        ))
        .detail(if shows_to_asking(table, &key.parent_columns) || shows_to_asking(child, &key.child_columns) {
            format!("A live record with ({}) = ({live}) refers to it.", names(&key.child_columns))
        } else {
            "A live record refers to it.".to_string()
        })
        .hint("Delete the children first, declare the foreign key ON DELETE CASCADE, or say so in the children's option on_delete.")),
    }
}

/// The values of a foreign key's columns on one side of it: parameters for a statement about the other side.
///
/// They stay values of their own types: a cast could be the other owner's code.
pub struct Referred {
    columns: Vec<Column>,
    /// An array for each column; none where there are no values.
    arrays: Vec<pg_sys::Datum>,
}

impl Referred {
    pub fn from_parents(table: &Table, key: &ForeignKey, keys: &[Key]) -> Result<Referred> {
        // A child being inserted holds its parent FOR KEY SHARE: this waits for it, and what follows sees it.
        Self::read(table, Purpose("parent values", "", key.oid), &key.parent_columns, keys, " FOR UPDATE OF t")
    }

    /// The same of those of their rows that are tombstones by now: other versions of the records may be live.
    fn from_deleted(table: &Table, key: &ForeignKey, keys: &[Key]) -> Result<Referred> {
        let tail = format!(" AND NOT ({}) FOR UPDATE OF t", table.is_live("t"));
        Self::read(table, Purpose("values of tombstones", "", key.oid), &key.parent_columns, keys, &tail)
    }

    fn from_children(table: &Table, key: &ForeignKey, keys: &[Key]) -> Result<Referred> {
        Self::read(table, Purpose("child values", "", key.oid), &key.child_columns, keys, "")
    }

    /// The same row by row: with the place among `keys` of the record that each value is of.
    fn by_child(table: &Table, key: &ForeignKey, keys: &[Key]) -> Result<(Vec<usize>, Referred)> {
        let (rows, columns) = (Rows::Records(keys), &key.child_columns);
        let statement = table.statement(Purpose("child values by place", "", key.oid), || {
            let Clause { from, condition, types, ordinal } = rows.clause(table);
            let values = based(columns).join(", ");
            let sql = format!(
                "SELECT {ordinal}, {values} FROM {} AS t, {from} WHERE {condition} AND {}",
                table.sql(),
                whole(columns)
            );
            (sql, types)
        });
        let mut found = table.as_owner(|| statement.value_rows(&rows.arguments(table)))?;
        let places = found.iter_mut().map(|row| row.remove(0).value() - 1).collect();
        let array = |(i, column): (usize, &Column)| column.type_of.array_of(found.iter().map(|row| row[i]).collect());
        let arrays = columns.iter().enumerate().map(array).filter_map(|array| array.datum().map(|datum| datum.sans_lifetime()));
        let arrays = if found.is_empty() { Vec::new() } else { arrays.collect() };
        Ok((places, Referred { columns: columns.clone(), arrays }))
    }

    /// The values in the rows of a bin known as `t`, joined with `from`, that fit `condition`. With the rights in force.
    pub fn from_bin(
        bin: &str,
        from: &str,
        condition: &str,
        types: Vec<pg_sys::Oid>,
        arguments: &[DatumWithOid],
        columns: &[Column],
    ) -> Result<Referred> {
        let from = if from.is_empty() { format!("{bin} AS t") } else { format!("{bin} AS t, {from}") };
        let arrays = Statement::new(arrays_of(columns, &from, condition, ""), types).first_row(arguments)?;
        Ok(Referred { columns: columns.to_vec(), arrays: arrays.unwrap_or_default() })
    }

    /// The statement ends in `tail`: a condition more, a lock.
    fn read(table: &Table, purpose: Purpose, columns: &[Column], keys: &[Key], tail: &str) -> Result<Referred> {
        let rows = Rows::Records(keys);
        let statement = table.statement(purpose, || {
            let clause = rows.clause(table);
            let from = format!("{} AS t, {}", table.sql(), clause.from);
            let sql = arrays_of(columns, &from, &clause.condition, tail);
            (sql, clause.types)
        });
        let arrays = table.as_owner(|| statement.first_row(&rows.arguments(table)))?;
        Ok(Referred { columns: columns.to_vec(), arrays: arrays.unwrap_or_default() })
    }

    pub fn is_empty(&self) -> bool {
        self.arrays.is_empty()
    }

    pub fn types(&self) -> Vec<pg_sys::Oid> {
        self.columns.iter().map(|column| column.type_of.array()).collect()
    }

    pub fn arguments<'a>(&self) -> Vec<DatumWithOid<'a>> {
        let typed = self.arrays.iter().zip(self.types());
        // SAFETY: each an array of its column's type, as read.
        typed.map(|(array, kind)| unsafe { DatumWithOid::new(*array, kind) }).collect()
    }

    /// The types of a statement that takes a stamp besides, as its last parameter.
    pub fn types_and_stamp(&self) -> Vec<pg_sys::Oid> {
        [self.types(), vec![pg_sys::TIMESTAMPTZOID]].concat()
    }

    pub fn arguments_and_stamp<'a>(&self, stamp: i64) -> Vec<DatumWithOid<'a>> {
        let mut arguments = self.arguments();
        arguments.push(stamp_argument(Some(stamp)));
        arguments
    }

    /// What finds the ids of the children that refer to these values by `key`, among the rows of their table, known as `t`, that fit
    /// `condition`.
    pub fn children(&self, child: &Table, key: &ForeignKey, condition: &str) -> String {
        format!(
            "SELECT DISTINCT {} FROM {} AS t, {} WHERE {} AND {condition}",
            columns(&child.id),
            child.sql(),
            self.rows_from(),
            self.equal_children(key),
        )
    }

    pub fn rows_from(&self) -> String {
        keys_from("k", self.columns.len())
    }

    /// The values are the parents'; the statement is about the children.
    pub fn equal_children(&self, key: &ForeignKey) -> String {
        Self::equal(key, |i| (format!("k.c{i}"), format!("t.{}", key.child_columns[i].sql())))
    }

    /// The values are the children's; the statement is about the parents.
    pub fn equal_parents(&self, key: &ForeignKey) -> String {
        Self::equal(key, |i| (format!("t.{}", key.parent_columns[i].sql()), format!("k.c{i}")))
    }

    /// Parent and child compared with the foreign key's own operators.
    fn equal(key: &ForeignKey, sides: impl Fn(usize) -> (String, String)) -> String {
        let equal = key.operators.iter().enumerate().map(|(i, operator)| {
            let (parent, child) = sides(i);
            format!("{parent} {operator} {child}")
        });
        equal.collect::<Vec<_>>().join(" AND ")
    }
}

/// The values of these columns of `t`, an array for each. A key that is NULL in part refers to nothing.
fn arrays_of(columns: &[Column], from: &str, condition: &str, tail: &str) -> String {
    let values = based(columns).into_iter().enumerate().map(|(i, value)| format!("{value} AS v{i}"));
    let arrays = (0..columns.len()).map(|i| format!("pg_catalog.array_agg(v{i})"));
    format!(
        "SELECT {} FROM (SELECT {} FROM {from} WHERE {condition} AND {}{tail}) AS v HAVING pg_catalog.count(*) OPERATOR(pg_catalog.>) 0",
        arrays.collect::<Vec<_>>().join(", "),
        values.collect::<Vec<_>>().join(", "),
        whole(columns),
    )
}

/// The values of these columns of `t`, without the domains they may be of.
fn based(columns: &[Column]) -> Vec<String> {
    columns.iter().map(|column| format!("t.{}::{}", column.sql(), column.type_of.base_sql())).collect()
}

/// That none of these columns of `t` is NULL.
fn whole(columns: &[Column]) -> String {
    columns.iter().map(|column| format!("t.{} IS NOT NULL", column.sql())).collect::<Vec<_>>().join(" AND ")
}

/// The columns of `t`, listed.
pub fn columns(columns: &[Column]) -> String {
    columns.iter().map(|column| format!("t.{}", column.sql())).collect::<Vec<_>>().join(", ")
}

fn names(columns: &[Column]) -> String {
    columns.iter().map(|column| column.name.as_str()).collect::<Vec<_>>().join(", ")
}
