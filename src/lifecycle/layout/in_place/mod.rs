//! in_place: the row stays and turns into its own tombstone. deleted_at says which it is.

mod follow;

use std::collections::HashMap;
use std::rc::Rc;

use pgrx::datum::TimestampWithTimeZone;
use pgrx::{PgSqlErrorCode, pg_sys};

use super::due::{self, Due, counts_from, skips_tombstones, target};
use super::sql::joined;
use super::{Doors, DueRow, Fallen, Found, Lock, Standing, Summary, Upkeep};
use crate::backend::ident::literal;
use crate::backend::identity::row_security_binds;
use crate::backend::owned::Owned;
use crate::backend::query::Statement;
use crate::backend::spool::Spool;
use crate::backend::stamp::stamp_argument;
use crate::backend::subtransaction::reworded;
use crate::error::{Error, Result};
use crate::lifecycle::restoring::by_function;
use crate::lifecycle::rows::{Clause, Rows};
use crate::lifecycle::rule::{Action, Rule};
use crate::table::key::Key;
use crate::table::{Marker, Purpose, Table};

pub struct InPlace<'a> {
    pub table: &'a Table,
    pub deleted_at: &'a Marker,
}

impl Doors for InPlace<'_> {
    fn soft_delete(&self, rows: &Rows) -> Result<u64> {
        self.soft_delete_statement(rows).execute(&rows.arguments(self.table))
    }

    /// A policy FOR SELECT that hides tombstones (`deleted_at IS NULL`) would refuse the very row this writes. So where row security
    /// binds the caller, it first chooses and locks the rows, as for any UPDATE. Then they are written as by an UPDATE that reads no
    /// column: of that the policies FOR UPDATE are asked, with their WITH CHECK, and those FOR SELECT are not.
    fn soft_delete_as_caller(&self, rows: &Rows) -> Result<u64> {
        let table = self.table;
        if !row_security_binds(table.oid) {
            return self.soft_delete(rows);
        }
        let find = || self.find(rows, Lock::Update);
        let live = |found: Vec<Found>| found.into_iter().filter(|row| row.standing == Standing::Live).count();
        let visible = live(find()?);
        if visible == 0 {
            return Ok(0);
        }
        // The write cannot tell rows apart that share a key, as where the id is unique only with the partition key.
        if visible < live(table.as_owner(find)?) {
            return Err(Error::denied(format!(
                "row security hides a part of what was to be deleted from table {}",
                table.title()
            ))
            .detail("Rows that share an id are deleted together, or not at all.")
            .hint("Name an id that is unique by itself."));
        }
        let write = || self.soft_delete_statement(rows).execute_unread(&rows.arguments(table));
        reworded(write, |error| self.with_hint_of_rights(error))?
    }

    fn restore(&self, rows: &Rows, fallen: Fallen) -> Result<u64> {
        let table = self.table;
        let stamp = match fallen {
            Fallen::Last => None,
            Fallen::Stamped(stamp) => Some(stamp),
            Fallen::Numbered(_) => return Ok(0),
        };
        let verb = if stamp.is_some() { "restore stamped" } else { "restore" };
        let statement = table.statement(Purpose(verb, rows.name(), 0), || {
            let Clause { from, condition, mut types, .. } = rows.clause(table);
            let (target, column) = (table.sql(), self.deleted_at.sql());
            let deleted = match stamp {
                Some(_) => {
                    types.push(pg_sys::TIMESTAMPTZOID);
                    self.deleted_at.bears("t", &format!("${}", types.len()))
                }
                None => format!("t.{column} IS NOT NULL"),
            };
            let from = joined(" FROM", &from);
            (format!("UPDATE {target} AS t SET {column} = NULL{from} WHERE {condition} AND {deleted}"), types)
        });
        let mut arguments = rows.arguments(table);
        if stamp.is_some() {
            arguments.push(stamp_argument(stamp));
        }
        by_function(|| statement.execute(&arguments))
    }

    fn purge(&self, rows: &Rows) -> Result<u64> {
        let table = self.table;
        let statement = table.statement(Purpose("purge", rows.name(), 0), || {
            let Clause { from, condition, types, .. } = rows.clause(table);
            (format!("DELETE FROM {} AS t{} WHERE {condition}", table.sql(), joined(" USING", &from)), types)
        });
        statement.execute(&rows.arguments(table))
    }

    fn find(&self, rows: &Rows, lock: Lock) -> Result<Vec<Found>> {
        let table = self.table;
        let (verb, locking) = match lock {
            Lock::None => ("find", ""),
            Lock::Update => ("find to update", " FOR NO KEY UPDATE OF t"),
            Lock::UpdateAtOnce => ("find to update at once", " FOR NO KEY UPDATE OF t NOWAIT"),
            Lock::Delete => ("find to delete", " FOR UPDATE OF t"),
            Lock::DeleteAtOnce => ("find to delete at once", " FOR UPDATE OF t NOWAIT"),
        };
        let statement = table.statement(Purpose(verb, rows.name(), 0), || {
            let Clause { from, condition, types, ordinal } = rows.clause(table);
            let version = table.version.as_ref().map_or("NULL".into(), |version| format!("t.{}", version.sql()));
            let sql = format!(
                "SELECT {ordinal}, {version}::pg_catalog.int8, {} FROM {} AS t{} WHERE {condition} ORDER BY 1, 2{locking}",
                self.deleted_at.stamp("t"),
                table.sql(),
                joined(",", &from),
            );
            (sql, types)
        });
        statement.rows(&rows.arguments(table), |row| {
            let stamp = row.get::<TimestampWithTimeZone>(3)?.map(|at| at.into_inner());
            Ok(Found {
                key: row.get::<i64>(1)?.map_or(0, |ordinal| ordinal as usize - 1),
                version: row.get(2)?,
                standing: stamp.map_or(Standing::Live, Standing::Deleted),
            })
        })
    }

    fn standings(&self, rows: &Rows) -> Result<Vec<Option<Standing>>> {
        let table = self.table;
        let statement = table.statement(Purpose("standings", rows.name(), 0), || {
            let Clause { from, condition, types, ordinal } = rows.clause(table);
            let (stamp, target, from) = (self.deleted_at.stamp("t"), table.sql(), joined(",", &from));
            (format!("SELECT {ordinal}, {stamp} FROM {target} AS t{from} WHERE {condition}"), types)
        });
        let mut standings = vec![None; rows.keys()];
        // An ordinal and a timestamptz: both are their 64 bits.
        statement.each_row(&rows.arguments(table), |values| {
            if let [Some(ordinal), stamp] = values
                && let Some(standing) = standings.get_mut(ordinal.value() - 1)
                && *standing != Some(Standing::Live)
            {
                *standing = Some(stamp.map_or(Standing::Live, |stamp| Standing::Deleted(stamp.value().cast_signed() as i64)));
            }
        })?;
        Ok(standings)
    }

    fn data(&self, rows: &Rows) -> Result<HashMap<usize, Owned>> {
        super::live::data(self.table, rows)
    }
}

impl Upkeep for InPlace<'_> {
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
        self.by(rule).take(rows)
    }
}

impl InPlace<'_> {
    fn soft_delete_statement(&self, rows: &Rows) -> Rc<Statement> {
        let table = self.table;
        table.statement(Purpose("soft_delete", rows.name(), 0), || {
            let Clause { from, condition, types, .. } = rows.clause(table);
            let (target, column) = (table.sql(), self.deleted_at.sql());
            let not_blank = blank_already(table, rows).map_or(String::new(), |blank| format!(" AND NOT ({blank})"));
            let (now, from) = (self.now(), joined(" FROM", &from));
            let sql =
                format!("UPDATE {target} AS t SET {column} = {now}{from} WHERE {condition} AND t.{column} IS NULL{not_blank}");
            (sql, types)
        })
    }

    /// A refusal that Postgres leaves without a hint, and what to look for.
    fn with_hint_of_rights(&self, error: Error) -> Error {
        if error.code() != PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE {
            return error;
        }
        error.hint_where_none(format!(
            "A soft delete updates column {}: it takes the privilege to, and every UPDATE policy's WITH CHECK has to allow it; where a policy has none, its USING. Make a policy that only hides tombstones FOR SELECT.",
            self.deleted_at.column().name
        ))
    }

    /// The stamp of this transaction's deletions, as the column holds it.
    fn now(&self) -> String {
        self.deleted_at.holding("pg_catalog.now()")
    }

    fn by<'d>(&'d self, rule: &'d Rule) -> Due<'d> {
        let (table, alias, column) = (self.table, due::alias(self.table, rule), self.deleted_at.sql());
        let (target, stamp) = (target(table, &alias), format!("{alias}.{column}"));
        let condition = (rule.action == Action::Expire).then(|| table.is_live(&alias));
        let take = if rule.action == Action::Purge || skips_tombstones(table, rule) {
            format!("DELETE FROM {target}")
        } else {
            format!("UPDATE {target} SET {column} = {}", self.now())
        };
        let counts_from = counts_from(rule, || stamp);
        Due { table, rule, target, alias, condition, counts_from, deletion: None, take }
    }
}

/// Of versions: that the row holds its tombstone values already, from before it was managed. Seed 000 wants no second write.
fn blank_already(table: &Table, rows: &Rows) -> Option<String> {
    if !matches!(rows, Rows::UpTo(..)) || table.redactions.is_empty() {
        return None;
    }
    let is_blank = table.redactions.iter().map(|redaction| {
        let (column, kind) = (redaction.column.sql(), &redaction.column.type_of);
        match (&redaction.text, kind.equals()) {
            (None, _) => format!("t.{column} IS NULL"),
            (Some(text), Some(equals)) => {
                format!("COALESCE(t.{column} {equals} {}::{}, false)", literal(text), kind.sql())
            }
            (Some(text), None) => format!(
                "COALESCE(t.{column}::pg_catalog.text OPERATOR(pg_catalog.=) {}::{}::pg_catalog.text, false)",
                literal(text),
                kind.sql()
            ),
        }
    });
    Some(is_blank.collect::<Vec<_>>().join(" AND "))
}
