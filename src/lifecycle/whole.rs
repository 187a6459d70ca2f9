//! All rows of a relation at once, as one change of the records they are of: nobody sees them one by one.

use pgrx::pg_sys;

use crate::backend::ident::qualified;
use crate::error::Result;
use crate::log::event::{Change, Entry};
use crate::table::{Purpose, Table, name_of};

/// So many records are one entry of the log; beyond it a new one begins.
pub const MOST_RECORDS: usize = 8192;

/// Hands over entries that say `change` of every row of `relation`, which is of `table`, its bin, or a partition of either. Reads
/// what is committed now. Returns how many rows there are.
pub fn each_entry(
    table: &Table,
    relation: pg_sys::Oid,
    change: Change,
    mut log: impl FnMut(Entry) -> Result<()>,
) -> Result<u64> {
    let statement = table.statement(Purpose("whole", "", relation.to_u32()), || (rows_of(table, relation), vec![]));
    let empty = || Entry { managed: table.number, change, ids: vec![], versions: vec![], kinds: vec![], seq: None };
    let (mut pending, mut rows) = (empty(), 0);
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
            rows += 1;
            if pending.ids.len() == MOST_RECORDS { log(std::mem::replace(&mut pending, empty())) } else { Ok(()) }
        })
    })?;
    if !pending.ids.is_empty() {
        log(pending)?;
    }
    Ok(rows)
}

/// Kind, version and key of the relation's own rows, which go by the name that the kind's expression has for them.
fn rows_of(table: &Table, relation: pg_sys::Oid) -> String {
    let (kind, alias) = table.kind_sql();
    let version = table.version.as_ref().map_or("NULL".to_string(), |version| format!("{alias}.{}", version.sql()));
    let key = table.id.iter().map(|column| format!("{alias}.{}", column.sql())).collect::<Vec<_>>().join(", ");
    let (schema, name) = name_of(relation);
    format!("SELECT {kind}, {version}::pg_catalog.int8, {key} FROM ONLY {} AS {alias}", qualified(&schema, &name))
}
