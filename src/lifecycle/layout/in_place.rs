//! in_place: the row stays and turns into its own tombstone. deleted_at says which it is.

use pgrx::datum::TimestampWithTimeZone;
use pgrx::pg_sys;

use super::{Found, Layout, Lock, Standing};
use crate::error::Result;
use crate::lifecycle::rows::{Clause, Rows};
use crate::log::event::stamp_argument;
use crate::table::Table;

pub struct InPlace;

impl Layout for InPlace {
    fn soft_delete(&self, table: &Table, rows: &Rows) -> Result<u64> {
        let clause = rows.clause(table);
        let statement = table.statement(format!("soft_delete {}", clause.name), || {
            let Clause { from, condition, types, .. } = &clause;
            let blank = blank_already(table, rows).map_or(String::new(), |blank| format!(" AND NOT ({blank})"));
            let (target, column) = (table.sql(), table.deleted_at.sql());
            let from = if from.is_empty() { String::new() } else { format!(" FROM {from}") };
            let sql = format!(
                "UPDATE {target} AS t SET {column} = pg_catalog.now(){from} WHERE {condition} AND t.{column} IS NULL{blank}"
            );
            (sql, types.clone())
        });
        statement.execute(&rows.arguments(table))
    }

    fn restore(&self, table: &Table, rows: &Rows, stamp: Option<i64>) -> Result<u64> {
        let clause = rows.clause(table);
        let purpose = format!("restore {} {}", clause.name, stamp.is_some());
        let statement = table.statement(purpose, || {
            let Clause { from, condition, types, .. } = &clause;
            let (target, column) = (table.sql(), table.deleted_at.sql());
            let from = if from.is_empty() { String::new() } else { format!(" FROM {from}") };
            let mut types = types.clone();
            let deleted = match stamp {
                Some(_) => {
                    types.push(pg_sys::TIMESTAMPTZOID);
                    format!("t.{column} OPERATOR(pg_catalog.=) ${}", types.len())
                }
                None => format!("t.{column} IS NOT NULL"),
            };
            (format!("UPDATE {target} AS t SET {column} = NULL{from} WHERE {condition} AND {deleted}"), types)
        });
        let mut arguments = rows.arguments(table);
        if stamp.is_some() {
            arguments.push(stamp_argument(stamp));
        }
        statement.execute(&arguments)
    }

    fn purge(&self, table: &Table, rows: &Rows) -> Result<u64> {
        let clause = rows.clause(table);
        let statement = table.statement(format!("purge {}", clause.name), || {
            let Clause { from, condition, types, .. } = &clause;
            let using = if from.is_empty() { String::new() } else { format!(" USING {from}") };
            (format!("DELETE FROM {} AS t{using} WHERE {condition}", table.sql()), types.clone())
        });
        statement.execute(&rows.arguments(table))
    }

    fn find(&self, table: &Table, rows: &Rows, lock: Lock) -> Result<Vec<Found>> {
        let clause = rows.clause(table);
        let statement = table.statement(format!("find {} {lock:?}", clause.name), || {
            let Clause { from, condition, types, ordinal, .. } = &clause;
            let lock = match lock {
                Lock::None => "",
                Lock::Update => " FOR NO KEY UPDATE OF t",
                Lock::Delete => " FOR UPDATE OF t",
            };
            let version = table.version.as_ref().map_or("NULL".into(), |version| format!("t.{}", version.sql()));
            let from = if from.is_empty() { String::new() } else { format!(", {from}") };
            let sql = format!(
                "SELECT {ordinal}, {version}::pg_catalog.int8, t.{} FROM {} AS t{from} WHERE {condition} ORDER BY 1, 2{lock}",
                table.deleted_at.sql(),
                table.sql(),
            );
            (sql, types.clone())
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
                format!("COALESCE(t.{column} {equals} {}::{}, false)", crate::backend::ident::literal(text), kind.sql())
            }
            (Some(text), None) => format!(
                "COALESCE(t.{column}::pg_catalog.text OPERATOR(pg_catalog.=) {}::{}::pg_catalog.text, false)",
                crate::backend::ident::literal(text),
                kind.sql()
            ),
        }
    });
    Some(is_blank.collect::<Vec<_>>().join(" AND "))
}
