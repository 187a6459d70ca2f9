//! Following foreign keys where a child, or a parent, stays in its table as a tombstone: by its stamp.

use super::InPlace;
use crate::error::Result;
use crate::lifecycle::cascade::{Referred, columns};
use crate::lifecycle::layout::{Fell, Follow};
use crate::lifecycle::restoring::by_function;
use crate::table::key::Key;
use crate::table::{ForeignKey, Purpose};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Write {
    SoftDelete,
    Restore,
}

impl Follow for InPlace<'_> {
    fn delete_children(&self, key: &ForeignKey, parents: &Referred, stamp: i64) -> Result<()> {
        self.write_children(key, parents, Write::SoftDelete, stamp)
    }

    fn restore_children(&self, key: &ForeignKey, parents: &Referred, fell: Fell) -> Result<()> {
        self.write_children(key, parents, Write::Restore, fell.stamp)
    }

    fn fallen_children(&self, key: &ForeignKey, parents: &Referred, fell: Fell) -> Result<Vec<Key>> {
        let child = self.table;
        let statement = child.statement(Purpose("fallen children", "", key.oid), || {
            let types = parents.types_and_stamp();
            let fell = self.deleted_at.bears("t", &format!("${}", types.len()));
            (parents.children(child, key, &fell), types)
        });
        let fallen = statement.value_rows(&parents.arguments_and_stamp(fell.stamp))?;
        // SAFETY: just read from the id columns.
        Ok(fallen.into_iter().map(|values| unsafe { child.key_of(values) }).collect())
    }

    fn deleted_parent(&self, key: &ForeignKey, children: &Referred) -> Result<Option<String>> {
        let parent = self.table;
        let statement = parent.statement(Purpose("deleted parent", "", key.oid), || {
            // Locked first, looked at then: a parent's soft delete that is under way is waited for.
            let sql = format!(
                "WITH parent AS MATERIALIZED (SELECT t.* FROM {1} AS t, {2} WHERE {3} FOR SHARE OF t)
                 SELECT pg_catalog.concat_ws(', ', {0}) FROM parent AS t WHERE t.{4} IS NOT NULL LIMIT 1",
                columns(&key.parent_columns),
                parent.sql(),
                children.rows_from(),
                children.equal_parents(key),
                self.deleted_at.sql(),
            );
            (sql, children.types())
        });
        let deleted = statement.rows(&children.arguments(), |row| Ok(row.get::<String>(1)?))?;
        Ok(deleted.into_iter().flatten().next())
    }

    fn dead_parents(&self, key: &ForeignKey, children: &Referred) -> Result<Vec<(usize, String)>> {
        let parent = self.table;
        let statement = parent.statement(Purpose("dead parents", "", key.oid), || {
            let sql = format!(
                "WITH parent AS MATERIALIZED (SELECT k.n AS \"tombstone place\", t.* FROM {1} AS t, {2} WHERE {3} FOR SHARE OF t)
                 SELECT t.\"tombstone place\", {0} FROM parent AS t WHERE t.{4} IS NOT NULL",
                columns(&parent.id),
                parent.sql(),
                children.rows_from(),
                children.equal_parents(key),
                self.deleted_at.sql(),
            );
            (sql, children.types())
        });
        let dead = statement.value_rows(&children.arguments())?;
        // SAFETY: just read from the id columns, behind the place.
        Ok(dead.iter().map(|row| (row[0].value() - 1, unsafe { parent.key_text(&row[1..]) })).collect())
    }
}

impl InPlace<'_> {
    /// Soft-deletes the live children with the parents' stamp, or restores those that bear it.
    fn write_children(&self, key: &ForeignKey, parents: &Referred, write: Write, stamp: i64) -> Result<()> {
        let verb = if write == Write::SoftDelete { "delete children" } else { "restore children" };
        let statement = self.table.statement(Purpose(verb, "", key.oid), || {
            let types = parents.types_and_stamp();
            let (column, stamp) = (self.deleted_at.sql(), format!("${}", types.len()));
            let (value, was) = match write {
                Write::SoftDelete => (self.deleted_at.holding(&stamp), format!("t.{column} IS NULL")),
                Write::Restore => ("NULL".to_string(), self.deleted_at.bears("t", &stamp)),
            };
            let sql = format!(
                "UPDATE {} AS t SET {column} = {value} FROM {} WHERE {} AND {was}",
                self.table.sql(),
                parents.rows_from(),
                parents.equal_children(key),
            );
            (sql, types)
        });
        let execute = || statement.execute_on_latest(&parents.arguments_and_stamp(stamp)).map(drop);
        if write == Write::Restore { by_function(execute) } else { execute() }
    }
}
