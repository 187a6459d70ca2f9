//! TRUNCATE takes every row, and no row trigger sees it: rows are archived and their keys read while they are there still. In a table
//! with layout in_place it is a purge, and of an archive as well.

use pgrx::datum::DatumWithOid;
use pgrx::pg_sys;

use super::archive;
use super::pending::log_now;
use crate::backend::ident::{literal, qualified};
use crate::backend::identity::actor;
use crate::backend::query::Statement;
use crate::backend::stamp::stamp_argument;
use crate::error::{Error, Result};
use crate::lifecycle::whole;
use crate::log::account;
use crate::log::deletion;
use crate::log::event::Change;
use crate::table::{Bin, OwnColumns, Table, Truncate, name_of};

/// Archives every row of `relation`, where that is what deleting them means, and logs what became of them. `relation` is `table`
/// itself, its bin, or a partition of either: partitions come with triggers of their own.
pub fn take_all(table: &Table, relation: pg_sys::Oid, is_of_bin: bool) -> Result<()> {
    if table.truncate == Truncate::Refuse && !is_of_bin {
        return Err(refused(table));
    }
    let archives = table.truncate == Truncate::Archive && !is_of_bin;
    let change = match table.bin().filter(|_| archives) {
        Some(bin) => {
            archive_all(table, bin, relation)?;
            Change::SoftDelete { stamp: archive::stamp(), redacted: !table.redactions.is_empty() }
        }
        None => Change::Purge,
    };
    whole::each_entry(table, relation, change, |entry| log_now(table, entry)).map(drop)
}

fn refused(table: &Table) -> Error {
    Error::not_ready(format!("managed table {} cannot be truncated", table.title()))
        .detail("Its option truncate is refuse.")
        .hint("DELETE its records; or its owner may tombstone.configure() the option to archive or purge.")
}

/// Copies every row of `relation` to the bin, whatever this transaction sees of them: TRUNCATE empties the file. By SQL they may
/// go where there is room, before what this transaction has deleted already: there is no telling the executor to write at the end.
fn archive_all(table: &Table, bin: &Bin, relation: pg_sys::Oid) -> Result<()> {
    let redacted = |name: &str| table.redactions.iter().find(|redaction| redaction.column.name == name);
    let value = |column: &crate::table::Column| match redacted(&column.name).map(|redaction| &redaction.text) {
        None => format!("t.{}", column.sql()),
        Some(None) => "NULL".to_string(),
        Some(Some(text)) => format!("{}::{}", literal(text), column.type_of.sql()),
    };
    let columns = bin.stored.iter().map(|column| column.sql()).chain(bin.own.all().map(|column| column.sql()));
    let (schema, name) = name_of(relation);
    let sql = format!(
        "INSERT INTO {} ({}) SELECT {}, $1, $2, $3, $4, $5, $6 FROM ONLY {} AS t",
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
        DatumWithOid::from(account.app_actor),
    ];
    let types = OwnColumns::ALL.map(|(_, type_of, _)| type_of);
    table.as_owner(|| Statement::new(sql, types).execute_on_latest(&arguments)).map(drop)
}
