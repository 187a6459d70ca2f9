//! Which rows of a table a write is about, as SQL: the one place where keys meet statements.

use pgrx::datum::DatumWithOid;
use pgrx::pg_sys;

use crate::table::key::{Key, columns_of};
use crate::table::{Column, Table};

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
    /// What to join with; may be empty.
    pub from: String,
    pub condition: String,
    /// Which of the keys a row has, counted from 1.
    pub ordinal: &'static str,
    pub types: Vec<pg_sys::Oid>,
}

impl Rows<'_> {
    /// Tells the statements of one purpose apart.
    pub fn name(&self) -> &'static str {
        match self {
            Rows::Record(_) => "record",
            Rows::Records(_) => "records",
            Rows::UpTo(..) => "up to",
            Rows::Versions(..) => "versions",
            Rows::Pairs(..) => "pairs",
        }
    }

    /// How many keys there are.
    pub fn keys(&self) -> usize {
        match self {
            Rows::Record(_) | Rows::UpTo(..) | Rows::Versions(..) => 1,
            Rows::Records(keys) | Rows::Pairs(keys, _) => keys.len(),
        }
    }

    pub fn clause(&self, table: &Table) -> Clause {
        match self {
            Rows::Record(_) => one(table, None),
            Rows::UpTo(..) => one(table, Some((pg_sys::INT8OID, |value| format!("OPERATOR(pg_catalog.<=) {value}")))),
            Rows::Versions(..) => {
                one(table, Some((pg_sys::INT8ARRAYOID, |value| format!("OPERATOR(pg_catalog.=) ANY ({value})"))))
            }
            Rows::Records(_) => many(table, false),
            Rows::Pairs(..) => many(table, true),
        }
    }

    pub fn arguments<'d>(&self, table: &Table) -> Vec<DatumWithOid<'d>> {
        let values = |key: &Key| -> Vec<DatumWithOid<'d>> {
            table.id.iter().zip(&key.values).map(|(column, value)| column.type_of.parameter(*value)).collect()
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

/// The type of a parameter, and what a version must be to it.
type VersionTest = (pg_sys::Oid, fn(String) -> String);

/// One key, each column a parameter; with a test of the version, against one more parameter.
fn one(table: &Table, version: Option<VersionTest>) -> Clause {
    let mut types: Vec<pg_sys::Oid> = table.id.iter().map(|column| column.type_of.base()).collect();
    let mut condition = key_equals(table, "t", |i| format!("${}", i + 1));
    if let (Some((kind, test)), Some(column)) = (version, &table.version) {
        types.push(kind);
        condition += &format!(" AND t.{} {}", column.sql(), test(format!("${}", types.len())));
    }
    Clause { from: String::new(), condition, ordinal: "1::pg_catalog.int8", types }
}

/// Many keys, each column an array parameter.
fn many(table: &Table, with_versions: bool) -> Clause {
    let mut types: Vec<pg_sys::Oid> = table.id.iter().map(|column| column.type_of.array()).collect();
    let mut condition = key_equals(table, "t", |i| format!("k.c{i}"));
    if let (true, Some(column)) = (with_versions, &table.version) {
        condition += &format!(" AND t.{} OPERATOR(pg_catalog.=) k.c{}", column.sql(), types.len());
        types.push(pg_sys::INT8ARRAYOID);
    }
    Clause { from: keys_from("k", types.len()), condition, ordinal: "k.n", types }
}

/// Array parameters $1 to $`count` as rows of `alias`: columns c0, c1, … and their place n.
pub fn keys_from(alias: &str, count: usize) -> String {
    keys_from_after(0, alias, count)
}

/// The same of the `count` parameters that come after $`before`.
pub fn keys_from_after(before: usize, alias: &str, count: usize) -> String {
    let arrays: Vec<String> = (1..=count).map(|i| format!("pg_catalog.unnest(${})", before + i)).collect();
    let columns: Vec<String> = (0..count).map(|i| format!("c{i}")).collect();
    format!("ROWS FROM ({}) WITH ORDINALITY AS {alias} ({}, n)", arrays.join(", "), columns.join(", "))
}

/// `alias.column = value(i)` for each id column, with the type's own equality.
pub fn key_equals(table: &Table, alias: &str, value: impl Fn(usize) -> String) -> String {
    columns_equal(&table.id, alias, value)
}

/// `alias.column = value(i)` for each of these columns, with the type's own equality.
pub fn columns_equal<'a>(
    columns: impl IntoIterator<Item = &'a Column>,
    alias: &str,
    value: impl Fn(usize) -> String,
) -> String {
    let equal = columns
        .into_iter()
        .enumerate()
        .map(|(i, column)| format!("{alias}.{} {} {}", column.sql(), column.type_of.equality(), value(i)));
    equal.collect::<Vec<_>>().join(" AND ")
}
