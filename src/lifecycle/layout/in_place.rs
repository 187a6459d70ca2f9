//! in_place: the row stays and turns into its own tombstone. deleted_at says which it is.

mod due;
mod live;

use std::collections::HashMap;

use pgrx::datum::TimestampWithTimeZone;
use pgrx::pg_sys;

use super::{Found, Layout, Live, Lock, Marked, Row, Standing, Summary};
use crate::backend::ident::literal;
use crate::backend::owned::Owned;
use crate::backend::spool::Spool;
use crate::error::Result;
use crate::lifecycle::rows::{Clause, Rows};
use crate::lifecycle::rule::Rule;
use crate::log::event::stamp_argument;
use crate::table::key::Key;
use crate::table::{Purpose, Table};

pub struct InPlace;

impl Layout for InPlace {
    fn soft_delete(&self, table: &Table, rows: &Rows) -> Result<u64> {
        let statement = table.statement(Purpose("soft_delete", rows.name(), 0), || {
            let Clause { from, condition, types, .. } = rows.clause(table);
            let (target, column) = (table.sql(), table.deleted_at.sql());
            let not_blank = blank_already(table, rows).map_or(String::new(), |blank| format!(" AND NOT ({blank})"));
            let sql = format!(
                "UPDATE {target} AS t SET {column} = pg_catalog.now(){} WHERE {condition} AND t.{column} IS NULL{not_blank}",
                joined(" FROM", &from)
            );
            (sql, types)
        });
        statement.execute(&rows.arguments(table))
    }

    fn restore(&self, table: &Table, rows: &Rows, stamp: Option<i64>) -> Result<u64> {
        let verb = if stamp.is_some() { "restore stamped" } else { "restore" };
        let statement = table.statement(Purpose(verb, rows.name(), 0), || {
            let Clause { from, condition, mut types, .. } = rows.clause(table);
            let (target, column) = (table.sql(), table.deleted_at.sql());
            let deleted = match stamp {
                Some(_) => {
                    types.push(pg_sys::TIMESTAMPTZOID);
                    format!("t.{column} OPERATOR(pg_catalog.=) ${}", types.len())
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
        statement.execute(&arguments)
    }

    fn purge(&self, table: &Table, rows: &Rows) -> Result<u64> {
        let statement = table.statement(Purpose("purge", rows.name(), 0), || {
            let Clause { from, condition, types, .. } = rows.clause(table);
            (format!("DELETE FROM {} AS t{} WHERE {condition}", table.sql(), joined(" USING", &from)), types)
        });
        statement.execute(&rows.arguments(table))
    }

    fn find(&self, table: &Table, rows: &Rows, lock: Lock) -> Result<Vec<Found>> {
        let (verb, locking) = match lock {
            Lock::None => ("find", ""),
            Lock::Update => ("find to update", " FOR NO KEY UPDATE OF t"),
            Lock::Delete => ("find to delete", " FOR UPDATE OF t"),
        };
        let statement = table.statement(Purpose(verb, rows.name(), 0), || {
            let Clause { from, condition, types, ordinal } = rows.clause(table);
            let version = table.version.as_ref().map_or("NULL".into(), |version| format!("t.{}", version.sql()));
            let sql = format!(
                "SELECT {ordinal}, {version}::pg_catalog.int8, t.{} FROM {} AS t{} WHERE {condition} ORDER BY 1, 2{locking}",
                table.deleted_at.sql(),
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

    fn standings(&self, table: &Table, rows: &Rows) -> Result<Vec<Option<Standing>>> {
        let statement = table.statement(Purpose("standings", rows.name(), 0), || {
            let Clause { from, condition, types, ordinal } = rows.clause(table);
            let (stamp, target, from) = (table.deleted_at.sql(), table.sql(), joined(",", &from));
            (format!("SELECT {ordinal}, t.{stamp} FROM {target} AS t{from} WHERE {condition}"), types)
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

    fn data(&self, table: &Table, rows: &Rows) -> Result<HashMap<usize, Owned>> {
        let statement = table.statement(Purpose("data", rows.name(), 0), || {
            let Clause { from, condition, types, ordinal } = rows.clause(table);
            let from = joined(",", &from);
            (format!("SELECT {ordinal}, pg_catalog.to_jsonb(t) FROM {} AS t{from} WHERE {condition}", table.sql()), types)
        });
        let mut data = HashMap::new();
        statement.each_row(&rows.arguments(table), |values| {
            if let [Some(ordinal), Some(json)] = values {
                // SAFETY: the second column is jsonb. Its values are handed on as they are: JSON of ours would be another's.
                data.insert(ordinal.value() - 1, unsafe { Owned::copy_of(*json) });
            }
        })?;
        Ok(data)
    }

    fn live(&self, table: &Table, which: Live) -> Result<Vec<Marked>> {
        live::records(table, which)
    }

    fn count_live(&self, table: &Table) -> Result<i64> {
        live::count(table)
    }

    fn due(&self, table: &Table, rule: &Rule, but: &[Key]) -> Result<Spool> {
        due::spooled(table, rule, but)
    }

    fn summary(&self, table: &Table, rule: &Rule, but: &[Key]) -> Result<Summary> {
        due::summary(table, rule, but)
    }

    fn lock_due(&self, table: &Table, rule: &Rule, rows: &[Row]) -> Result<Vec<Row>> {
        due::lock(table, rule, rows)
    }

    fn take_due(&self, table: &Table, rule: &Rule, rows: &[Row]) -> Result<u64> {
        due::take(table, rule, rows)
    }
}

/// `word from`, or nothing where there is nothing to join with.
fn joined(word: &str, from: &str) -> String {
    if from.is_empty() { String::new() } else { format!("{word} {from}") }
}

/// Of versions: that the row holds its tombstone values already, from before it was managed. Seed 000 wants no second write.
fn blank_already(table: &Table, rows: &Rows) -> Option<String> {
    if !matches!(rows, Rows::UpTo(..)) || table.redactions.is_empty() {
        return None;
    }
    let is_blank = table.redactions.iter().map(|redaction| {
        let (column, kind) = (redaction.column.sql(), &redaction.column.kind);
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
