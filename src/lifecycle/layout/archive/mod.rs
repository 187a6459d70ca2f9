//! archive: the row leaves its table and goes to the bin beside it. Whatever is in the table is live; an id may have many tombstones.
//!
//! The table is written with the rights in force. The bin is its owner's alone: it is read and written in the owner's name.

pub mod altering;
pub mod awaited;
mod follow;
mod orphans;
pub mod parts;
pub mod revive;

use std::collections::{HashMap, HashSet};

use pgrx::datum::TimestampWithTimeZone;
use pgrx::pg_sys;

use self::revive::{Lot, Twice, Which};
use super::due::{self, Due, counts_from, skips_tombstones, target};
use super::sql::joined;
use super::{Doors, DueRow, Fallen, Found, Lock, Standing, Summary, Upkeep, hard};
use crate::backend::identity::{may_delete, may_insert, may_update, row_security_binds};
use crate::backend::owned::Owned;
use crate::backend::spool::Spool;
use crate::backend::stamp::stamp_argument;
use crate::error::Result;
use crate::lifecycle::rows::{Clause, Rows};
use crate::lifecycle::rule::{Action, Rule};
use crate::table::key::Key;
use crate::table::{Bin, Purpose, Table};

pub struct Archive<'a> {
    pub table: &'a Table,
    pub bin: &'a Bin,
}

impl Doors for Archive<'_> {
    fn soft_delete(&self, rows: &Rows) -> Result<u64> {
        self.delete("delete", rows)
    }

    /// A DELETE, which row security lets a caller do as it lets them: what is gone need not be seen.
    fn soft_delete_as_caller(&self, rows: &Rows) -> Result<u64> {
        self.soft_delete(rows)
    }

    fn restore(&self, rows: &Rows, fallen: Fallen) -> Result<u64> {
        let mut restored = 0;
        for (deletion, keys) in self.deletions_of(rows, fallen)? {
            let (table, which) = (self.table.shared()?, Which::Keys(keys.into()));
            restored += revive::with_what_fell(deletion, Lot { table, which, twice: Twice::Last, by_cascade: None })?;
        }
        Ok(restored)
    }

    fn purge(&self, rows: &Rows) -> Result<u64> {
        let live = hard::meaning(|| self.delete("purge", rows))?;
        let statement = self.table.statement(Purpose("purge tombstones", rows.name(), 0), || {
            let Clause { from, condition, types, .. } = rows.clause(self.table);
            (format!("DELETE FROM {} AS t{} WHERE {condition}", self.bin.sql(), joined(" USING", &from)), types)
        });
        Ok(live + self.table.as_owner(|| statement.execute(&rows.arguments(self.table)))?)
    }

    fn find(&self, rows: &Rows, lock: Lock) -> Result<Vec<Found>> {
        let mut found = self.find_live(rows, lock)?;
        // Row security hides rows of the table; there is no telling which of the bin's it would hide.
        if !row_security_binds(self.table.oid) {
            found.extend(self.table.as_owner(|| self.find_tombstones(rows, lock))?);
        }
        // Whose tombstone somebody was just restoring has been waited for, and is in the table now.
        let known: HashSet<usize> = found.iter().map(|row| row.key).collect();
        if lock != Lock::None && known.len() < rows.keys() {
            found.extend(self.find_live(rows, lock)?.into_iter().filter(|row| !known.contains(&row.key)));
        }
        found.sort_by_key(|row| (row.key, row.version));
        Ok(found)
    }

    fn standings(&self, rows: &Rows) -> Result<Vec<Option<Standing>>> {
        let mut standings = vec![None; rows.keys()];
        for row in self.table.as_owner(|| self.find_tombstones(rows, Lock::None))? {
            standings[row.key] = Some(row.standing);
        }
        for row in self.find_live(rows, Lock::None)? {
            standings[row.key] = Some(Standing::Live);
        }
        Ok(standings)
    }

    /// Of live rows only: what was deleted is told to nobody.
    fn data(&self, rows: &Rows) -> Result<HashMap<usize, Owned>> {
        super::live::data(self.table, rows)
    }
}

impl Archive<'_> {
    fn delete(&self, verb: &'static str, rows: &Rows) -> Result<u64> {
        let statement = self.table.statement(Purpose(verb, rows.name(), 0), || {
            let Clause { from, condition, types, .. } = rows.clause(self.table);
            (format!("DELETE FROM {} AS t{} WHERE {condition}", self.table.sql(), joined(" USING", &from)), types)
        });
        statement.execute(&rows.arguments(self.table))
    }

    fn version(&self) -> String {
        self.table.version.as_ref().map_or("NULL".into(), |version| format!("t.{}", version.sql()))
    }

    /// With the rights in force. Deleting takes DELETE alone, and so does locking the rows first, for which Postgres wants UPDATE: who
    /// has not that has them locked in the owner's name. (With DELETE, LOCK TABLE would lock all of them.) Restoring locks none.
    fn find_live(&self, rows: &Rows, lock: Lock) -> Result<Vec<Found>> {
        let oid = self.table.oid;
        if lock == Lock::None || may_update(oid) && !row_security_binds(oid) {
            return self.select_live(rows, lock);
        }
        if may_delete(oid) {
            if self.select_live(rows, Lock::None)?.is_empty() {
                return Ok(Vec::new());
            }
            let name = |row: &Found| (row.key, row.version);
            let locked: HashSet<_> = self.table.as_owner(|| self.select_live(rows, lock))?.iter().map(name).collect();
            // As they are by now: whoever was waited for may have hidden some from the caller.
            let mut seen = self.select_live(rows, Lock::None)?;
            seen.retain(|row| locked.contains(&name(row)));
            return Ok(seen);
        }
        self.select_live(rows, if may_insert(oid) { Lock::None } else { lock })
    }

    fn select_live(&self, rows: &Rows, lock: Lock) -> Result<Vec<Found>> {
        // What is deleted is locked as by a DELETE, which is what deleting it is.
        let (verb, locking) = match lock {
            Lock::None => ("find", ""),
            Lock::Update | Lock::Delete => ("find to delete", " FOR UPDATE OF t"),
            Lock::UpdateAtOnce | Lock::DeleteAtOnce => ("find to delete at once", " FOR UPDATE OF t NOWAIT"),
        };
        let statement = self.table.statement(Purpose(verb, rows.name(), 0), || {
            let Clause { from, condition, types, ordinal } = rows.clause(self.table);
            let (target, from, version) = (self.table.sql(), joined(",", &from), self.version());
            let found = format!("SELECT {ordinal}, {version}::pg_catalog.int8 FROM {target} AS t{from} WHERE {condition}");
            (format!("{found} ORDER BY 1, 2{locking}"), types)
        });
        statement.rows(&rows.arguments(self.table), |row| {
            let key = row.get::<i64>(1)?.map_or(0, |ordinal| ordinal as usize - 1);
            Ok(Found { key, version: row.get(2)?, standing: Standing::Live })
        })
    }

    /// The latest tombstone of each record, and version.
    fn find_tombstones(&self, rows: &Rows, lock: Lock) -> Result<Vec<Found>> {
        let (verb, locking) = match lock {
            Lock::None => ("find dead", ""),
            Lock::Update | Lock::Delete => ("lock dead", " FOR UPDATE OF t"),
            Lock::UpdateAtOnce | Lock::DeleteAtOnce => ("lock dead at once", " FOR UPDATE OF t NOWAIT"),
        };
        let statement = self.table.statement(Purpose(verb, rows.name(), 0), || {
            let Clause { from, condition, types, ordinal } = rows.clause(self.table);
            let sql = format!(
                "SELECT {ordinal}, {}::pg_catalog.int8, t.{} FROM {} AS t{} WHERE {condition} ORDER BY 1, 2, t.{} DESC{locking}",
                self.version(),
                self.bin.own.deleted_at.sql(),
                self.bin.sql(),
                joined(",", &from),
                self.bin.own.deletion.sql(),
            );
            (sql, types)
        });
        let mut found = statement.rows(&rows.arguments(self.table), |row| {
            let stamp = row.get::<TimestampWithTimeZone>(3)?.map_or(0, |at| at.into_inner());
            let key = row.get::<i64>(1)?.map_or(0, |ordinal| ordinal as usize - 1);
            Ok(Found { key, version: row.get(2)?, standing: Standing::Deleted(stamp) })
        })?;
        found.dedup_by_key(|row| (row.key, row.version));
        Ok(found)
    }

    /// The deletions to restore these records from, each with its records.
    fn deletions_of(&self, rows: &Rows, fallen: Fallen) -> Result<Vec<(i64, Vec<Key>)>> {
        let own = &self.bin.own;
        let (verb, restriction) = match fallen {
            Fallen::Last => ("deletions", None),
            Fallen::Stamped(stamp) => {
                ("deletions stamped", Some((&own.deleted_at, pg_sys::TIMESTAMPTZOID, stamp_argument(Some(stamp)))))
            }
            Fallen::Numbered(deletion) => ("deletions numbered", Some((&own.deletion, pg_sys::INT8OID, deletion.into()))),
        };
        let statement = self.table.statement(Purpose(verb, rows.name(), 0), || {
            let Clause { from, condition, mut types, ordinal } = rows.clause(self.table);
            let mut restricted = String::new();
            if let Some((column, type_of, _)) = &restriction {
                types.push(*type_of);
                restricted = format!(" AND t.{} OPERATOR(pg_catalog.=) ${}", column.sql(), types.len());
            }
            let (deletion, bin, from) = (self.bin.own.deletion.sql(), self.bin.sql(), joined(",", &from));
            let id = crate::lifecycle::cascade::columns(&self.table.id);
            let sql = format!(
                "SELECT {id}, max(t.{deletion}) FROM {bin} AS t{from} WHERE {condition}{restricted} GROUP BY {ordinal}, {id} ORDER BY {ordinal}"
            );
            (sql, types)
        });
        let mut arguments = rows.arguments(self.table);
        arguments.extend(restriction.map(|(_, _, argument)| argument));
        let found = self.table.as_owner(|| statement.value_rows(&arguments))?;
        let mut deletions: Vec<(i64, Vec<Key>)> = Vec::new();
        let mut seen = HashSet::new();
        for mut values in found {
            let deletion = values.pop().map_or(0, |deletion| deletion.value().cast_signed() as i64);
            // SAFETY: just read from the id columns.
            let key = unsafe { self.table.key_of(values) };
            if !seen.insert(key.text.clone()) {
                continue;
            }
            match deletions.iter_mut().find(|(other, _)| *other == deletion) {
                Some((_, keys)) => keys.push(key),
                None => deletions.push((deletion, vec![key])),
            }
        }
        Ok(deletions)
    }
}

impl Upkeep for Archive<'_> {
    fn due(&self, rule: &Rule, but: &[Key]) -> Result<Spool> {
        self.by(rule).spooled(but)
    }

    fn summary(&self, rule: &Rule, but: &[Key]) -> Result<Summary> {
        self.by(rule).summary(but)
    }

    fn types_of_due(&self, rule: &Rule) -> Vec<pg_sys::Oid> {
        self.by(rule).types()
    }

    fn lock_due(&self, rule: &Rule, rows: &[DueRow]) -> Result<Vec<DueRow>> {
        self.by(rule).lock(rows)
    }

    fn take_due(&self, rule: &Rule, rows: &[DueRow]) -> Result<u64> {
        let take = || self.by(rule).take(rows);
        if skips_tombstones(self.table, rule) { hard::meaning(take) } else { take() }
    }
}

impl Archive<'_> {
    fn by<'d>(&'d self, rule: &'d Rule) -> Due<'d> {
        let (table, alias) = (self.table, due::alias(self.table, rule));
        let (target, deletion) = match rule.action {
            Action::Expire => (target(table, &alias), None),
            Action::Purge => (format!("{} AS {alias}", self.bin.sql()), Some(self.bin.own.deletion.sql())),
        };
        let counts_from = counts_from(rule, || format!("{alias}.{}", self.bin.own.deleted_at.sql()));
        let take = format!("DELETE FROM {target}");
        Due { table, rule, target, alias, condition: None, counts_from, deletion, take }
    }
}
