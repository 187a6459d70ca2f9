//! Which rows of a table a write is about, as SQL: the one place where keys meet statements.

use pgrx::datum::DatumWithOid;
use pgrx::pg_sys;

use crate::table::Table;
use crate::table::key::{Key, columns_of};

/// Rows of one table, named by keys and versions.
pub enum Rows<'a> {
    /// Every version of one record.
    Record(&'a Key),
    /// Every version of each record.
    Records(&'a [Key]),
    /// The versions of one record up to and including this one.
    UpTo(&'a Key, i64),
    /// These versions of one record.
    Versions(&'a Key, &'a [i64]),
    /// The version at the same place, of each record.
    Pairs(&'a [Key], &'a [i64]),
}

/// `Rows` as parts of a statement about `table AS t`; parameters count from $1.
pub struct Clause {
    /// Tells the statements of one purpose apart.
    pub name: &'static str,
    /// What to join with; may be empty.
    pub from: String,
    pub condition: String,
    /// Which of the keys a row has, counted from 1.
    pub ordinal: &'static str,
    pub types: Vec<pg_sys::Oid>,
}

impl Rows<'_> {
    pub fn clause(&self, table: &Table) -> Clause {
        match self {
            Rows::Record(_) => one("record", table, None),
            Rows::UpTo(..) => one("up to", table, Some(("OPERATOR(pg_catalog.<=) $", pg_sys::INT8OID))),
            Rows::Versions(..) => one("versions", table, Some(("OPERATOR(pg_catalog.=) ANY ($", pg_sys::INT8ARRAYOID))),
            Rows::Records(_) => many("records", table, false),
            Rows::Pairs(..) => many("pairs", table, true),
        }
    }

    pub fn arguments<'d>(&self, table: &Table) -> Vec<DatumWithOid<'d>> {
        let values = |key: &Key| -> Vec<DatumWithOid<'d>> {
            table.id.iter().zip(&key.values).map(|(column, value)| column.kind.parameter(*value)).collect()
        };
        match self {
            Rows::Record(key) => values(key),
            Rows::UpTo(key, version) => [values(key), vec![DatumWithOid::from(*version)]].into_iter().flatten().collect(),
            Rows::Versions(key, versions) => {
                [values(key), vec![DatumWithOid::from(versions.to_vec())]].into_iter().flatten().collect()
            }
            Rows::Records(keys) => columns_of(table, keys),
            Rows::Pairs(keys, versions) => {
                [columns_of(table, keys), vec![DatumWithOid::from(versions.to_vec())]].into_iter().flatten().collect()
            }
        }
    }
}

/// One key, each column a parameter; with a test of the version behind it.
fn one(name: &'static str, table: &Table, version: Option<(&str, pg_sys::Oid)>) -> Clause {
    let mut types: Vec<pg_sys::Oid> = table.id.iter().map(|column| column.kind.base()).collect();
    let mut condition = key_equals(table, "t", |i| format!("${}", i + 1));
    if let (Some((test, kind)), Some(column)) = (version, &table.version) {
        types.push(kind);
        let close = if test.contains('(') && test.ends_with("($") { ")" } else { "" };
        condition += &format!(" AND t.{} {test}{}{close}", column.sql(), types.len());
    }
    Clause { name, from: String::new(), condition, ordinal: "1::pg_catalog.int8", types }
}

/// Many keys, each column an array parameter.
fn many(name: &'static str, table: &Table, with_versions: bool) -> Clause {
    let mut types: Vec<pg_sys::Oid> = table.id.iter().map(|column| column.kind.array()).collect();
    let mut condition = key_equals(table, "t", |i| format!("k.c{i}"));
    if let (true, Some(column)) = (with_versions, &table.version) {
        condition += &format!(" AND t.{} OPERATOR(pg_catalog.=) k.c{}", column.sql(), types.len());
        types.push(pg_sys::INT8ARRAYOID);
    }
    let arrays: Vec<String> = (1..=types.len()).map(|i| format!("pg_catalog.unnest(${i})")).collect();
    let columns: Vec<String> = (0..types.len()).map(|i| format!("c{i}")).collect();
    let from = format!("ROWS FROM ({}) WITH ORDINALITY AS k ({}, n)", arrays.join(", "), columns.join(", "));
    Clause { name, from, condition, ordinal: "k.n", types }
}

/// `alias.column = value(i)` for each id column, with the type's own equality.
pub fn key_equals(table: &Table, alias: &str, value: impl Fn(usize) -> String) -> String {
    let equal = table.id.iter().enumerate().map(|(i, column)| {
        let equals = column.kind.equals().unwrap_or("OPERATOR(pg_catalog.=)".into());
        format!("{alias}.{} {equals} {}", column.sql(), value(i))
    });
    equal.collect::<Vec<_>>().join(" AND ")
}
