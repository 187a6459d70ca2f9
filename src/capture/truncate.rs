//! TRUNCATE purges every row, and no row trigger sees it: the rows' keys are read while they are there still.

use pgrx::pg_sys;

use super::pending::{MOST_RECORDS, log_now};
use crate::backend::ident::qualified;
use crate::error::Result;
use crate::log::event::{Change, Entry};
use crate::table::{Purpose, Table, name_of};

/// Logs a purge of every row of `relation`: `table` itself, or a partition of it. Partitions come with triggers of their own.
pub fn log_all(table: &Table, relation: pg_sys::Oid) -> Result<()> {
    let statement = table.statement(Purpose("truncate", "", relation.to_u32()), || (rows_of(table, relation), vec![]));
    let mut pending = empty(table);
    let flush = |pending: &mut Entry| log_now(table, std::mem::replace(pending, empty(table)));
    table.evaluating(|| {
        statement.scan_latest(&[], MOST_RECORDS as i64, |values| {
            let (kind, rest) = values.split_first().unwrap_or((&None, &[]));
            let (version, key) = rest.split_first().unwrap_or((&None, &[]));
            // SAFETY: the columns that the statement selects, in its order; those of the key are NOT NULL.
            unsafe {
                let key: Vec<pg_sys::Datum> = key.iter().map(|value| value.unwrap_or(pg_sys::Datum::from(0))).collect();
                pending.ids.push(table.key_text(&key));
                pending.kinds.push(kind.and_then(|kind| pgrx::FromDatum::from_datum(kind, false)));
            }
            pending.versions.extend(version.map(|version| version.value().cast_signed() as i64));
            if pending.ids.len() == MOST_RECORDS { flush(&mut pending) } else { Ok(()) }
        })
    })?;
    if pending.ids.is_empty() { Ok(()) } else { flush(&mut pending) }
}

fn empty(table: &Table) -> Entry {
    Entry { managed: table.number, change: Change::Purge, ids: vec![], versions: vec![], kinds: vec![] }
}

/// Kind, version and key of the relation's own rows, which are known by the managed table's name in the kind's expression.
fn rows_of(table: &Table, relation: pg_sys::Oid) -> String {
    let alias = table.alias();
    let version = table.version.as_ref().map_or("NULL".to_string(), |version| format!("{alias}.{}", version.sql()));
    let key = table.id.iter().map(|column| format!("{alias}.{}", column.sql())).collect::<Vec<_>>().join(", ");
    let (schema, name) = name_of(relation);
    format!("SELECT {}, {version}::pg_catalog.int8, {key} FROM ONLY {} AS {alias}", table.kind_sql(), qualified(&schema, &name))
}
