//! Following foreign keys to a table with an archive, from a parent that stays in its own table as a tombstone. Between two tables
//! with archives there is nothing to follow: the foreign keys themselves act.

use pgrx::pg_sys;

use super::Archive;
use super::revive::{self, Lot, Twice, Which};
use crate::backend::stamp::stamp_argument;
use crate::error::Result;
use crate::lifecycle::cascade::{Referred, columns};
use crate::lifecycle::layout::{Fell, Follow};
use crate::table::key::Key;
use crate::table::{ForeignKey, Purpose};

impl Follow for Archive<'_> {
    fn delete_children(&self, key: &ForeignKey, parents: &Referred, _stamp: i64) -> Result<()> {
        let statement = self.table.statement(Purpose("delete children", "", key.oid), || {
            let (table, from, same) = (self.table.sql(), parents.rows_from(), parents.equal_children(key));
            (format!("DELETE FROM {table} AS t USING {from} WHERE {same}"), parents.types())
        });
        statement.execute_on_latest(&parents.arguments()).map(drop)
    }

    fn restore_children(&self, key: &ForeignKey, parents: &Referred, fell: Fell) -> Result<()> {
        for (deletion, keys) in self.fallen(key, parents, fell)? {
            let (table, which) = (self.table.shared()?, Which::Keys(keys.into()));
            revive::with_what_fell(deletion, Lot { table, which, twice: Twice::Last, by_cascade: Some(true) })?;
        }
        Ok(())
    }

    fn fallen_children(&self, key: &ForeignKey, parents: &Referred, fell: Fell) -> Result<Vec<Key>> {
        Ok(self.fallen(key, parents, fell)?.into_iter().flat_map(|(_, keys)| keys).collect())
    }

    /// A parent that is a tombstone is not there: the foreign key itself sees to it.
    fn deleted_parent(&self, _key: &ForeignKey, _children: &Referred) -> Result<Option<String>> {
        Ok(None)
    }

    fn dead_parents(&self, _key: &ForeignKey, _children: &Referred) -> Result<Vec<(usize, String)>> {
        Ok(Vec::new())
    }
}

impl Archive<'_> {
    /// The tombstones that a cascade left, by deletion. A row of a bin is stamped with the beginning of its transaction, and bears its
    /// parent's stamp only where that is stamped so, too.
    fn fallen(&self, key: &ForeignKey, parents: &Referred, fell: Fell) -> Result<Vec<(i64, Vec<Key>)>> {
        let own = &self.bin.own;
        let (by, told, kind, argument) = match fell.deletion {
            Some(deletion) => ("number", &own.deletion, pg_sys::INT8OID, deletion.into()),
            None => ("stamp", &own.deleted_at, pg_sys::TIMESTAMPTZOID, stamp_argument(Some(fell.stamp))),
        };
        let statement = self.table.statement(Purpose("fallen children", by, key.oid), || {
            let types = [parents.types(), vec![kind]].concat();
            let sql = format!(
                "SELECT DISTINCT {}, t.{} FROM {} AS t, {} WHERE {} AND t.{} OPERATOR(pg_catalog.=) ${} AND t.{} OPERATOR(pg_catalog.=) 'cascade'",
                columns(&self.table.id),
                own.deletion.sql(),
                self.bin.sql(),
                parents.rows_from(),
                parents.equal_children(key),
                told.sql(),
                types.len(),
                own.cause.sql(),
            );
            (sql, types)
        });
        let mut deletions: Vec<(i64, Vec<Key>)> = Vec::new();
        let arguments = parents.arguments().into_iter().chain([argument]).collect::<Vec<_>>();
        for mut values in statement.value_rows(&arguments)? {
            let deletion = values.pop().unwrap_or(pg_sys::Datum::from(0)).value().cast_signed() as i64;
            // SAFETY: just read from the id columns.
            let key = unsafe { self.table.key_of(values) };
            match deletions.iter_mut().find(|(other, _)| *other == deletion) {
                Some((_, keys)) => keys.push(key),
                None => deletions.push((deletion, vec![key])),
            }
        }
        Ok(deletions)
    }
}
