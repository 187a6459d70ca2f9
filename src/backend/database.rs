//! The cluster's databases: which there are, and what the caller may do with one.

use std::ffi::CStr;

use pgrx::pg_sys;

use super::identity::caller;

/// A database that can be connected to.
pub struct Database {
    pub oid: pg_sys::Oid,
    pub name: String,
}

/// All of them; for a process that is connected to none, too.
pub fn all_open() -> Vec<Database> {
    let mut found = Vec::new();
    // SAFETY: scans a catalog that all databases share, opened and closed here; rows are read while the scan holds them.
    unsafe {
        let catalog = pg_sys::table_open(pg_sys::DatabaseRelationId, pg_sys::AccessShareLock as i32);
        let none = std::ptr::null_mut();
        let scan = pg_sys::systable_beginscan(catalog, pg_sys::InvalidOid, false, none, 0, std::ptr::null_mut());
        loop {
            let row = pg_sys::systable_getnext(scan);
            if row.is_null() {
                break;
            }
            let database = &*form(row);
            if database.datallowconn && database.datconnlimit != HALF_DROPPED {
                let name = CStr::from_ptr(database.datname.data.as_ptr()).to_string_lossy().into_owned();
                found.push(Database { oid: database.oid, name });
            }
        }
        pg_sys::systable_endscan(scan);
        pg_sys::table_close(catalog, pg_sys::AccessShareLock as i32);
    }
    found
}

/// What Postgres writes into datconnlimit before it begins to remove a database's files.
const HALF_DROPPED: i32 = -2;

/// The database of that name.
pub fn find(name: &CStr) -> Option<pg_sys::Oid> {
    // SAFETY: a catalog look-up.
    let found = unsafe { pg_sys::get_database_oid(name.as_ptr(), true) };
    (found != pg_sys::InvalidOid).then_some(found)
}

/// Whether the caller may drop, rename or move `database`.
pub fn caller_owns(database: pg_sys::Oid) -> bool {
    // SAFETY: a catalog look-up.
    unsafe {
        #[cfg(any(feature = "pg14", feature = "pg15"))]
        return pg_sys::pg_database_ownercheck(database, caller());
        #[cfg(not(any(feature = "pg14", feature = "pg15")))]
        pg_sys::object_ownercheck(pg_sys::DatabaseRelationId, database, caller())
    }
}

/// Whether the caller may create a database as a copy of `template`.
pub fn caller_may_copy(template: pg_sys::Oid) -> bool {
    caller_may_create() && (caller_owns(template) || is_template(template))
}

fn caller_may_create() -> bool {
    // SAFETY: catalog look-ups; the row is read while the cache holds it.
    unsafe {
        if pg_sys::superuser() {
            return true;
        }
        let role = pg_sys::Datum::from(caller());
        let row = pg_sys::SearchSysCache1(pg_sys::SysCacheIdentifier::AUTHOID as i32, role);
        if row.is_null() {
            return false;
        }
        let may = (*(pg_sys::GETSTRUCT(row) as *const pg_sys::FormData_pg_authid)).rolcreatedb;
        pg_sys::ReleaseSysCache(row);
        may
    }
}

fn is_template(database: pg_sys::Oid) -> bool {
    // SAFETY: a catalog look-up; the row is read while the cache holds it.
    unsafe {
        let row = pg_sys::SearchSysCache1(pg_sys::SysCacheIdentifier::DATABASEOID as i32, pg_sys::Datum::from(database));
        if row.is_null() {
            return false;
        }
        let is_template = (*form(row)).datistemplate;
        pg_sys::ReleaseSysCache(row);
        is_template
    }
}

/// # Safety
/// `row` is one of pg_database.
unsafe fn form(row: pg_sys::HeapTuple) -> *const pg_sys::FormData_pg_database {
    // SAFETY: by contract of this function.
    unsafe { pg_sys::GETSTRUCT(row) as *const pg_sys::FormData_pg_database }
}
