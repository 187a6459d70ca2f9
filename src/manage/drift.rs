//! A table with layout archive changes: its bin changes with it, in the same transaction. What the bin cannot follow is an error,
//! and the change does not happen.

use pgrx::datum::DatumWithOid;
use pgrx::pg_sys;
use pgrx::spi::SpiHeapTupleData;

use super::bin::{self, definition, run_as};
use crate::backend::ident::{ident, qualified};
use crate::backend::identity::acting_as;
use crate::backend::query::Statement;
use crate::backend::relation::keeper;
use crate::backend::subtransaction::reworded;
use crate::error::{Error, Result};
use crate::table::OwnColumns;
use crate::table::catalog::{self, Attribute, Relation};

thread_local! {
    static DEFAULT: &'static Statement = Box::leak(Box::new(Statement::new(
        "SELECT pg_catalog.pg_get_expr(d.adbin, d.adrelid) FROM pg_catalog.pg_attrdef d WHERE d.adrelid = $1 AND d.adnum = $2",
        [pg_sys::OIDOID, pg_sys::INT2OID],
    )));
    static PARTS: &'static Statement = Box::leak(Box::new(Statement::new(
        "SELECT n.nspname::pg_catalog.text, c.relname::pg_catalog.text, c.oid = $1
         FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
         WHERE c.oid = $1 OR c.oid IN (SELECT i.inhrelid FROM pg_catalog.pg_inherits i WHERE i.inhparent = $1)",
        [pg_sys::OIDOID],
    )));
    static LEAVES: &'static Statement = Box::leak(Box::new(Statement::new(
        "SELECT n.nspname::pg_catalog.text, c.relname::pg_catalog.text, pg_catalog.pg_get_userbyid($2)::pg_catalog.text
         FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
         WHERE (c.oid = $1 OR c.oid IN (SELECT i.inhrelid FROM pg_catalog.pg_inherits i WHERE i.inhparent = $1)) AND c.relowner <> $2",
        [pg_sys::OIDOID, pg_sys::OIDOID],
    )));
}

/// Brings the bin of `table` in line with it: its owner, its name and schema, its columns and their types.
pub fn follow(table: pg_sys::Oid) -> Result<()> {
    let Some(archive) = catalog::bin_of(table)? else { return Ok(()) };
    let (Some(table), Some(bin)) = (catalog::relation(table)?, catalog::relation(archive)?) else { return Ok(()) };
    follow_owner(&table, archive)?;
    let is_renamed = follow_name(&table, archive)?;
    let bin = if is_renamed { catalog::relation(archive)?.unwrap_or(bin) } else { bin };
    let mut changes = Changes { table: &table, bin: &bin, commands: Vec::new() };
    changes.own_columns()?;
    changes.columns()?;
    let Changes { commands, .. } = changes;
    if commands.is_empty() {
        return Ok(());
    }
    reworded(|| run_as(table.owner, &commands), |error| cannot_follow(&table, &bin, &error))?
}

/// A column that is gone from `table` goes from its bin, too: data one wants gone is gone.
pub fn forget_column(table: pg_sys::Oid, column: &str) -> Result<()> {
    let Some(archive) = catalog::bin_of(table)? else { return Ok(()) };
    let (Some(table), Some(bin)) = (catalog::relation(table)?, catalog::relation(archive)?) else { return Ok(()) };
    let (title, column) = (qualified(&bin.schema, &bin.name), ident(column));
    run_as(table.owner, &[format!("ALTER TABLE {title} DROP COLUMN IF EXISTS {column}")])?;
    follow(table.oid) // one of the bin's own columns may have its name back
}

struct Changes<'a> {
    table: &'a Relation,
    bin: &'a Relation,
    commands: Vec<String>,
}

impl Changes<'_> {
    fn alter(&mut self, change: String) {
        self.commands.push(format!("ALTER TABLE {} {change}", qualified(&self.bin.schema, &self.bin.name)));
    }

    /// One of the bin's own columns gives way to a column of the table that is called the same, and comes back when that is gone.
    fn own_columns(&mut self) -> Result<()> {
        for (name, _, _) in OwnColumns::ALL {
            let is_taken = |name: &str| self.table.attribute(name).is_some();
            let wanted = OwnColumns::name_beside(name, is_taken);
            let other = if wanted == name { format!("tombstone_{name}") } else { name.to_string() };
            if self.bin.attribute(&wanted).is_none() && self.bin.attribute(&other).is_some() {
                if is_taken(&wanted) {
                    return Err(Error::invalid(format!("{} has columns {name} and {wanted}", self.table.title()))
                        .detail(format!("Its archive would have no name left for its own column {name}."))
                        .hint("Name the new column otherwise."));
                }
                self.alter(format!("RENAME COLUMN {} TO {}", ident(&other), ident(&wanted)));
            }
        }
        Ok(())
    }

    fn columns(&mut self) -> Result<()> {
        let table = self.table;
        for attribute in table.attributes_in_order() {
            let name = &attribute.column.name;
            match self.bin_attribute(name) {
                Some(other) if other.column.type_of.is_same(&attribute.column.type_of) => (),
                Some(_) => {
                    let (column, kind) = (attribute.column.sql(), attribute.column.type_of.sql());
                    self.alter(format!("ALTER COLUMN {column} TYPE {kind} USING {column}::{kind}"));
                }
                None => match self.renamed(attribute) {
                    Some(before) => self.alter(format!("RENAME COLUMN {} TO {}", ident(&before), ident(name))),
                    None => self.add(attribute)?,
                },
            }
        }
        Ok(())
    }

    /// The bin's column of that name, unless it is its own and about to give way.
    fn bin_attribute(&self, name: &str) -> Option<&Attribute> {
        let is_own = OwnColumns::ALL.iter().any(|(own, _, _)| *own == name);
        let gives_way = is_own && self.bin.attribute(&format!("tombstone_{name}")).is_none();
        self.bin.attribute(name).filter(|_| !gives_way)
    }

    /// What the bin calls a column that was renamed just now: the only column of that type that the table has no more.
    fn renamed(&self, attribute: &Attribute) -> Option<String> {
        let is_own = |name: &str| OwnColumns::ALL.iter().any(|(own, _, _)| name == *own || name == format!("tombstone_{own}"));
        let orphans: Vec<&Attribute> = self
            .bin
            .attributes_in_order()
            .into_iter()
            .filter(|other| self.table.attribute(&other.column.name).is_none() && !is_own(&other.column.name))
            .filter(|other| other.column.type_of.is_same(&attribute.column.type_of))
            .collect();
        match orphans.as_slice() {
            [only] => Some(only.column.name.clone()),
            _ => None,
        }
    }

    /// Older tombstones get what the column's default gave the live rows.
    fn add(&mut self, attribute: &Attribute) -> Result<()> {
        let arguments = [DatumWithOid::from(self.table.oid), DatumWithOid::from(attribute.number)];
        let default = |row: &SpiHeapTupleData| Ok(row.get::<String>(1)?);
        let found = acting_as(keeper(), || DEFAULT.with(|statement| statement.rows(&arguments, default)))?;
        let default = found.into_iter().flatten().next().filter(|_| !attribute.computed);
        let given = default.as_ref().map_or(String::new(), |default| format!(" DEFAULT {default}"));
        self.alter(format!("ADD COLUMN {}{given}", definition(attribute)));
        if default.is_some() {
            self.alter(format!("ALTER COLUMN {} DROP DEFAULT", attribute.column.sql()));
        }
        Ok(())
    }
}

/// Whoever owns the table owns its bin.
fn follow_owner(table: &Relation, archive: pg_sys::Oid) -> Result<()> {
    let text = |row: &SpiHeapTupleData, i: usize| Ok::<_, Error>(row.get::<String>(i)?.unwrap_or_default());
    let arguments = [DatumWithOid::from(archive), DatumWithOid::from(table.owner)];
    let read = |row: &SpiHeapTupleData| Ok((qualified(&text(row, 1)?, &text(row, 2)?), ident(&text(row, 3)?)));
    let strangers = acting_as(keeper(), || LEAVES.with(|statement| statement.rows(&arguments, read)))?;
    let commands = strangers.into_iter().map(|(relation, owner)| format!("ALTER TABLE {relation} OWNER TO {owner}"));
    run_as(keeper(), &commands.collect::<Vec<_>>())
}

/// The bin lies beside the table and is called after it, its partitions likewise; whether anything had to be renamed or moved.
fn follow_name(table: &Relation, archive: pg_sys::Oid) -> Result<bool> {
    let read = |row: &SpiHeapTupleData| {
        let text = |i: usize| Ok::<_, Error>(row.get::<String>(i)?.unwrap_or_default());
        Ok((text(1)?, text(2)?, row.get::<bool>(3)?.unwrap_or_default()))
    };
    let relations = acting_as(keeper(), || PARTS.with(|statement| statement.rows(&[DatumWithOid::from(archive)], read)))?;
    let mut commands = Vec::new();
    for (schema, name, is_bin) in relations {
        let wanted = bin::name_for(table, (!is_bin).then_some(name.as_str())).unwrap_or_else(|| name.clone());
        if (&schema, &name) == (&table.schema, &wanted) {
            continue;
        }
        bin::refuse_used_names(table, &[&wanted])?;
        if schema != table.schema {
            commands.push(format!("ALTER TABLE {} SET SCHEMA {}", qualified(&schema, &name), ident(&table.schema)));
        }
        if name != wanted {
            commands.push(format!("ALTER TABLE {} RENAME TO {}", qualified(&table.schema, &name), ident(&wanted)));
        }
        if is_bin {
            commands.push(bin::comment(&qualified(&table.schema, &wanted), table));
        }
    }
    // Not in its owner's name: who may not make tables in that schema owns this one all the same.
    run_as(keeper(), &commands)?;
    Ok(!commands.is_empty())
}

pub fn cannot_follow(table: &Relation, bin: &Relation, error: &Error) -> Error {
    Error::not_ready(format!("archive {} cannot follow this change of table {}", bin.title(), table.title()))
        .detail(error.summary())
        .hint(format!("Change {} first so that what is in it fits, or purge the tombstones that do not.", bin.title()))
}
