//! TRUNCATE takes every row, and no row trigger sees it: rows are archived and their keys read while they are there still. In a table
//! with layout in_place it is a purge, and of an archive as well.

use pgrx::datum::DatumWithOid;
use pgrx::pg_sys;

use super::archive;
use super::pending::{MOST_RECORDS, log_now};
use crate::backend::ident::{literal, qualified};
use crate::backend::identity::actor;
use crate::backend::query::Statement;
use crate::backend::stamp::stamp_argument;
use crate::error::Result;
use crate::log::account;
use crate::log::deletion;
use crate::log::event::{Change, Entry};
use crate::table::{Bin, Purpose, Table, name_of};

/// Archives every row of `relation`, where that is what deleting them means, and logs what became of them. `relation` is `table`
/// itself, its bin, or a partition of either: partitions come with triggers of their own.
pub fn take_all(table: &Table, relation: pg_sys::Oid, is_of_bin: bool) -> Result<()> {
    let change = match table.bin().filter(|_| !is_of_bin) {
        Some(bin) => {
            archive_all(table, bin, relation)?;
            Change::SoftDelete { stamp: archive::stamp(), redacted: !table.redactions.is_empty() }
        }
        None => Change::Purge,
    };
    log_all(table, relation, change)
}

/// Copies every row of `relation` to the bin, whatever this transaction sees of them: TRUNCATE empties the file.
fn archive_all(table: &Table, bin: &Bin, relation: pg_sys::Oid) -> Result<()> {
    let redacted = |name: &str| table.redactions.iter().find(|redaction| redaction.column.name == name);
    let value = |column: &crate::table::Column| match redacted(&column.name).map(|redaction| &redaction.text) {
        None => format!("t.{}", column.sql()),
        Some(None) => "NULL".to_string(),
        Some(Some(text)) => format!("{}::{}", literal(text), column.kind.sql()),
    };
    let columns = bin.stored.iter().map(|column| column.sql()).chain(bin.own.all().map(|column| column.sql()));
    let (schema, name) = name_of(relation);
    let sql = format!(
        "INSERT INTO {} ({}) SELECT {}, $1, $2, $3, $4, $5 FROM ONLY {} AS t",
        bin.sql(),
        columns.collect::<Vec<_>>().join(", "),
        bin.stored.iter().map(value).collect::<Vec<_>>().join(", "),
        qualified(&schema, &name),
    );
    let account = account::current();
    let arguments = [
        deletion::number().into(),
        stamp_argument(Some(archive::stamp())),
        actor().into(),
        account.cause.name().into(),
        DatumWithOid::from(account.reason),
    ];
    let types = [pg_sys::INT8OID, pg_sys::TIMESTAMPTZOID, pg_sys::TEXTOID, pg_sys::TEXTOID, pg_sys::TEXTOID];
    table.as_owner(|| Statement::new(sql, types).execute_on_latest(&arguments)).map(drop)
}

fn log_all(table: &Table, relation: pg_sys::Oid, change: Change) -> Result<()> {
    let statement = table.statement(Purpose("truncate", "", relation.to_u32()), || (rows_of(table, relation), vec![]));
    let empty = || Entry { managed: table.number, change, ids: vec![], versions: vec![], kinds: vec![] };
    let mut pending = empty();
    let flush = |pending: &mut Entry| log_now(table, std::mem::replace(pending, empty()));
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

/// Kind, version and key of the relation's own rows, which are known by the managed table's name in the kind's expression.
fn rows_of(table: &Table, relation: pg_sys::Oid) -> String {
    let alias = table.alias();
    let version = table.version.as_ref().map_or("NULL".to_string(), |version| format!("{alias}.{}", version.sql()));
    let key = table.id.iter().map(|column| format!("{alias}.{}", column.sql())).collect::<Vec<_>>().join(", ");
    let (schema, name) = name_of(relation);
    format!("SELECT {}, {version}::pg_catalog.int8, {key} FROM ONLY {} AS {alias}", table.kind_sql(), qualified(&schema, &name))
}
