//! Who owns a record: the roles that the table's `owners` expression names. Membership counts. The expression is the table
//! owner's, and runs with the table owner's rights and nobody else's.

use pgrx::datum::DatumWithOid;
use pgrx::pg_sys;

use super::layout::alias_beside;
use super::rows::{key_equals, keys_from};
use crate::backend::identity::{caller, has_privileges_of};
use crate::error::{Error, Result};
use crate::table::key::{Key, columns_of};
use crate::table::{Purpose, Table};

/// 42501 unless the caller owns the record; of a table without `owners`, its grants decide.
pub fn require(table: &Table, key: &Key) -> Result<()> {
    if table.owners.is_none() {
        return Ok(());
    }
    match owned(table, std::slice::from_ref(key))?.as_slice() {
        [true] => Ok(()),
        _ => Err(not_owner(table, key)),
    }
}

/// 42501 unless the caller owns the record, or the table where no expression says who does.
pub fn require_of_record_or_table(table: &Table, key: &Key) -> Result<()> {
    if table.owners.is_some() {
        return require(table, key);
    }
    if has_privileges_of(caller(), table.owner) {
        return Ok(());
    }
    Err(Error::denied(format!("must be owner of table {} to purge record \"{}\"", table.title(), key.text))
        .detail("The table names no owners of single records.")
        .hint("tombstone.configure(…, 'owners', …) does."))
}

/// For each key whether the caller owns its record: the live one, or else its latest tombstone. One that does not exist is nobody's
/// to forbid.
pub fn owned(table: &Table, keys: &[Key]) -> Result<Vec<bool>> {
    owned_of(table, keys, None)
}

/// The same of the records as `deletion` took them, where it is said.
pub fn owned_of(table: &Table, keys: &[Key], deletion: Option<i64>) -> Result<Vec<bool>> {
    let Some(owners) = &table.owners else { return Ok(vec![true; keys.len()]) };
    let of = if deletion.is_some() { "of a deletion" } else { "records" };
    let statement = table.statement(Purpose("owned", of, 0), || {
        let latest = table.version.as_ref().map_or(String::new(), |version| format!(" ORDER BY {} DESC", version.sql()));
        let mut types: Vec<pg_sys::Oid> = table.id.iter().map(|column| column.type_of.array()).collect();
        let alias = table.alias_in(owners);
        let k = alias_beside(&alias);
        let keys = keys_from(k, types.len());
        types.push(pg_sys::OIDOID);
        let caller = types.len();
        let is_callers = format!(
            "EXISTS (SELECT FROM pg_catalog.pg_roles o
                     WHERE o.rolname = ANY (r.owners) AND pg_catalog.pg_has_role(${caller}, o.oid, 'USAGE'))"
        );
        let same = key_equals(table, &alias, |i| format!("{k}.c{i}"));
        let from = |rows: &str, more: &str, order: &str| {
            format!("(SELECT {is_callers} FROM (SELECT ARRAY[({owners}\n)]::pg_catalog.text[] AS owners FROM {rows} WHERE {same}{more}{order} LIMIT 1) r)")
        };
        let live = from(&format!("{} AS {alias}", table.sql()), "", &latest);
        // What is not in the table is not therefore everybody's.
        let sources = match (table.bin(), deletion) {
            (None, _) => vec![live],
            (Some(bin), None) => {
                let order = format!(" ORDER BY {alias}.{} DESC, {alias}.ctid DESC", bin.own.deletion.sql());
                vec![live, from(&format!("{} AS {alias}", bin.sql()), "", &order)]
            }
            (Some(bin), Some(_)) => {
                types.push(pg_sys::INT8OID);
                let more = format!(" AND {alias}.{} OPERATOR(pg_catalog.=) ${}", bin.own.deletion.sql(), types.len());
                let first = format!(" ORDER BY {alias}.ctid");
                vec![from(&format!("{} AS {alias}", bin.sql()), &more, &first)]
            }
        };
        // The expression sees the row by the name it has for it, and nothing of ours that its columns could be confused with.
        let sql = format!(
            "SELECT COALESCE({}, true) FROM {keys} ORDER BY {k}.n",
            sources.join(", "),
        );
        (sql, types)
    });
    let mut arguments = columns_of(table, keys);
    arguments.push(DatumWithOid::from(caller()));
    arguments.extend(deletion.filter(|_| table.bin().is_some()).map(DatumWithOid::from));
    table.evaluating(|| statement.rows(&arguments, |row| Ok(row.get::<bool>(1)?.unwrap_or_default())))
}

/// 42501 of this record, which the caller does not own.
pub fn not_owner(table: &Table, key: &Key) -> Error {
    Error::denied(format!("must be owner of record \"{}\" of table {}", key.text, table.title()))
        .detail("The option owners of the table says whose its records are.")
        .hint("Members of an owning role are owners, too.")
}
