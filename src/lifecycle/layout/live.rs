//! Live records in the order of their keys, each with a mark that tells whether its rows have been written since. A page of them is
//! read along the key's index, however large the table is. Of no layout: live records are rows of their table in each.

use std::collections::HashMap;

use pgrx::datum::{DatumWithOid, Json};
use pgrx::{FromDatum, pg_sys};

use super::sql::joined;
use crate::backend::owned::Owned;
use crate::backend::query::Statement;
use crate::error::{Error, Result};
use crate::lifecycle::rows::{Clause, Rows, key_equals, keys_from};
use crate::table::key::{Key, columns_of};
use crate::table::{Purpose, Table};

/// Which live records.
#[derive(Debug, Clone, Copy)]
pub enum Live<'a> {
    /// At most so many, after this one in the order of keys, or from the first.
    After(Option<&'a Key>, usize),
    /// Those that are live of these.
    Among(&'a [Key]),
}

/// A live record, and a mark that is another one once anything of its rows has been written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Marked {
    pub id: String,
    pub mark: String,
}

/// How many rows a record with this mark has.
pub fn rows_of_mark(mark: &str) -> u64 {
    1 + mark.matches(MARKS_APART).count() as u64
}

/// Between the rows of a mark: no row's own has it.
const MARKS_APART: char = ';';

/// These live records.
pub fn records(table: &Table, which: Live) -> Result<Vec<Marked>> {
    let purpose = match which {
        Live::After(None, _) => "first",
        Live::After(Some(_), _) => "after",
        Live::Among(_) => "among",
    };
    let statement = table.planned_statement(Purpose("live", purpose, 0), || build(table, which));
    let rows = statement.value_rows(&arguments(table, which))?;
    // SAFETY: a row has the values of the id columns, and a text.
    let marked = |row: &Vec<pg_sys::Datum>| unsafe {
        let (id, mark) = row.split_at(table.id.len());
        Marked {
            id: table.key_text(id),
            mark: mark.first().and_then(|mark| String::from_datum(*mark, false)).unwrap_or_default(),
        }
    };
    Ok(rows.iter().map(marked).collect())
}

/// How many live records there are.
pub fn count(table: &Table) -> Result<i64> {
    let statement = table.statement(Purpose("live", "count", 0), || {
        let what = if one_row_each(table) { "*".into() } else { format!("DISTINCT ({})", names(table)) };
        (format!("SELECT pg_catalog.count({what}) FROM {} AS t WHERE {}", table.sql(), table.is_live("t")), vec![])
    });
    Ok(statement.rows(&[], |row| Ok(row.get::<i64>(1)?))?.into_iter().flatten().next().unwrap_or_default())
}

/// So many rows are counted. The planner's word for a small table may be far off: of one that was never analyzed it supposes ten pages.
const COUNTED: u64 = 10_000;

/// How many rows there are, live and deleted; of more than a few, as the planner has it: to count them would read both, the table and
/// its bin.
pub fn size(table: &Table) -> Result<u64> {
    let of = |relation: String| {
        let counted = count_some(&relation)?;
        if counted < COUNTED { Ok(counted) } else { estimate(&relation).map(|rows| rows.max(counted)) }
    };
    let deleted = table.bin().map_or(Ok(0), |bin| of(bin.sql()))?;
    Ok(of(table.sql())? + deleted)
}

/// As many as there are, and no more than are counted.
fn count_some(relation: &str) -> Result<u64> {
    let sql = format!("SELECT pg_catalog.count(*) FROM (SELECT FROM {relation} LIMIT {COUNTED}) AS found");
    let rows = Statement::new(sql, []).rows(&[], |row| Ok(row.get::<i64>(1)?))?;
    Ok(rows.into_iter().flatten().next().unwrap_or_default().unsigned_abs())
}

fn estimate(relation: &str) -> Result<u64> {
    let plan = Statement::new(format!("EXPLAIN (FORMAT JSON) SELECT FROM {relation}"), []);
    let rows = plan.rows(&[], |row| Ok(row.get::<Json>(1)?.and_then(|plan| plan.0[0]["Plan"]["Plan Rows"].as_f64())))?;
    rows.into_iter().flatten().next().map(|rows| rows as u64).ok_or_else(|| Error::misread("a plan says nothing of rows"))
}

fn build(table: &Table, which: Live) -> (String, Vec<pg_sys::Oid>) {
    let mut limit = String::new();
    let mut types: Vec<pg_sys::Oid> = Vec::new();
    let mut condition = table.is_live("t");
    match which {
        Live::Among(_) => {
            types.extend(table.id.iter().map(|column| column.type_of.array()));
            condition += &format!(" AND {}", among(table, types.len()));
        }
        Live::After(key, _) => {
            if key.is_some() {
                types.extend(table.id.iter().map(|column| column.type_of.base()));
                condition += &format!(" AND {}", comes_after(table));
            }
            types.push(pg_sys::INT8OID);
            limit = format!(" LIMIT ${}", types.len());
        }
    }
    let (names, table_sql) = (names(table), table.sql());
    // xmin is another one whenever the row was written, ctid whenever it was written or moved.
    let mark = "t.xmin::pg_catalog.text || t.ctid::pg_catalog.text";
    let (mark, group) = match one_row_each(table) {
        true => (mark.to_string(), String::new()),
        false => {
            let order = table.version.as_ref().map_or("t.tableoid, t.ctid".into(), |version| format!("t.{}", version.sql()));
            (format!("pg_catalog.string_agg({mark}, '{MARKS_APART}' ORDER BY {order})"), format!(" GROUP BY {names}"))
        }
    };
    (format!("SELECT {names}, {mark} FROM {table_sql} AS t WHERE {condition}{group} ORDER BY {names}{limit}"), types)
}

/// That the row's key is among those of the first `count` parameters; once, in however many ways its key is spelt there.
fn among(table: &Table, count: usize) -> String {
    if count == 1 {
        return key_equals(table, "t", |_| "ANY ($1)".into());
    }
    let same = key_equals(table, "t", |i| format!("k.c{i}"));
    format!("EXISTS (SELECT FROM {} WHERE {same})", keys_from("k", count))
}

fn arguments<'d>(table: &Table, which: Live) -> Vec<DatumWithOid<'d>> {
    match which {
        Live::Among(keys) => columns_of(table, keys),
        Live::After(key, most) => {
            let value = |key: &Key, i: usize| table.id[i].type_of.parameter(key.values[i]);
            let key = key.into_iter().flat_map(|key| (0..table.id.len()).map(move |i| value(key, i)));
            key.chain([(most as i64).into()]).collect()
        }
    }
}

/// Whether a record is one row. In a partitioned table the uniqueness of its id is taken at its word.
fn one_row_each(table: &Table) -> bool {
    table.version.is_none() && !table.is_partitioned
}

fn names(table: &Table) -> String {
    table.id.iter().map(|column| format!("t.{}", column.sql())).collect::<Vec<_>>().join(", ")
}

/// That the row's key comes after that in the first parameters: a comparison of rows, which the key's index answers. Where types of
/// several schemas are in the key there is no such comparison, and what comes before is read and skipped.
fn comes_after(table: &Table) -> String {
    let operators: Vec<String> =
        table.id.iter().map(|column| column.type_of.after().unwrap_or("OPERATOR(pg_catalog.>)".into())).collect();
    let columns: Vec<String> = table.id.iter().map(|column| format!("t.{}", column.sql())).collect();
    let parameters: Vec<String> = (1..=columns.len()).map(|i| format!("${i}")).collect();
    if operators.windows(2).all(|pair| pair[0] == pair[1]) {
        return format!("({}) {} ({})", columns.join(", "), operators[0], parameters.join(", "));
    }
    // Column by column: equal before, greater here.
    let equal = |i: usize| {
        let equals = table.id[i].type_of.equality();
        format!("{} {equals} {}", columns[i], parameters[i])
    };
    let here = |i: usize| {
        let before = (0..i).map(equal);
        let greater = format!("{} {} {}", columns[i], operators[i], parameters[i]);
        before.chain([greater]).collect::<Vec<_>>().join(" AND ")
    };
    let any = (0..columns.len()).map(|i| format!("({})", here(i))).collect::<Vec<_>>().join(" OR ");
    format!("({any})")
}

/// The table's rows as jsonb, by the place of their key.
pub fn data(table: &Table, rows: &Rows) -> Result<HashMap<usize, Owned>> {
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
