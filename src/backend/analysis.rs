//! A statement as Postgres analyses it, before policies are added and it is planned: names are resolved, and it is known what it reads.

use std::ffi::CStr;

use pgrx::{PgList, pg_sys};

use super::identity::c_string;

/// What is asked of whoever runs a statement, about one of its tables.
#[cfg(any(feature = "pg14", feature = "pg15"))]
pub type Rights = pg_sys::RangeTblEntry;
#[cfg(not(any(feature = "pg14", feature = "pg15")))]
pub type Rights = pg_sys::RTEPermissionInfo;

/// The analysed statement; NULL where the text is none.
///
/// # Safety
/// The text is one statement with parameters of these types; a snapshot is active.
pub unsafe fn analysed(sql: &CStr, types: &[pg_sys::Oid]) -> *mut pg_sys::Query {
    let (types, count, none) = (types.as_ptr(), types.len() as i32, std::ptr::null_mut());
    // SAFETY: by contract of this function.
    unsafe {
        let statements = PgList::<pg_sys::RawStmt>::from_pg(pg_sys::pg_parse_query(sql.as_ptr()));
        let Some(statement) = statements.get_ptr(0) else { return std::ptr::null_mut() };
        #[cfg(feature = "pg14")]
        let query = pg_sys::parse_analyze(statement, sql.as_ptr(), types.cast_mut(), count, none);
        #[cfg(not(feature = "pg14"))]
        let query = pg_sys::parse_analyze_fixedparams(statement, sql.as_ptr(), types, count, none);
        query
    }
}

/// The rights asked for its table number `index`, counted from 1.
///
/// # Safety
/// `query` is an analysed statement, in which a table is there.
pub unsafe fn rights(query: *mut pg_sys::Query, index: i32) -> *mut Rights {
    // SAFETY: by contract of this function.
    unsafe {
        let entries = PgList::<pg_sys::RangeTblEntry>::from_pg((*query).rtable);
        let entry = entries.get_ptr(index as usize - 1).unwrap_or(std::ptr::null_mut());
        #[cfg(any(feature = "pg14", feature = "pg15"))]
        return entry;
        #[cfg(not(any(feature = "pg14", feature = "pg15")))]
        return pg_sys::getRTEPermissionInfo((*query).rteperminfos, entry);
    }
}

/// The numbers of the columns of `table` that an expression over its rows reads, subqueries included; 0 stands for the whole row.
pub fn columns_read(table: &str, expression: &str) -> Vec<i16> {
    let sql = c_string(&format!("SELECT (\n{expression}\n) FROM {table}"));
    // SAFETY: one statement without parameters, run inside of a function and so with a snapshot; its only table is number 1. The set is
    // walked as Postgres does, from before its first member.
    unsafe {
        let selected = (*rights(analysed(&sql, &[]), 1)).selectedCols;
        let next = |member: &i32| Some(pg_sys::bms_next_member(selected, *member)).filter(|member| *member >= 0);
        let members = std::iter::successors(next(&-1), next);
        members.map(|member| (member + pg_sys::FirstLowInvalidHeapAttributeNumber) as i16).collect()
    }
}

/// Whether a row of `table` of which `facts` are true cannot fit `condition`, as far as Postgres can prove it.
pub fn refutes(table: &str, facts: &str, condition: &str) -> bool {
    // SAFETY: two lists of conditions over the same table, as the planner makes them.
    unsafe { pg_sys::predicate_refuted_by(conditions(table, condition), conditions(table, facts), false) }
}

/// # Safety
/// In a function that runs with a snapshot.
unsafe fn conditions(table: &str, condition: &str) -> *mut pg_sys::List {
    let sql = c_string(&format!("SELECT FROM {table} WHERE {condition}"));
    // SAFETY: one statement without parameters; its WHERE is an expression.
    unsafe {
        let condition = (*(*analysed(&sql, &[])).jointree).quals;
        let condition = pg_sys::eval_const_expressions(std::ptr::null_mut(), condition);
        pg_sys::make_ands_implicit(pg_sys::canonicalize_qual(condition.cast(), false))
    }
}
