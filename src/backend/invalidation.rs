//! When something cached about tables may be wrong: DDL in this session or another.

use std::cell::Cell;

use pgrx::{pg_guard, pg_sys};

use crate::backend::relation::forget_own;

/// Told which table's definition may have changed; `None`: any.
type OnChange = fn(Option<pg_sys::Oid>);

thread_local! {
    static ON_CHANGE: Cell<Option<OnChange>> = const { Cell::new(None) };
}

/// Calls `on_change` whenever the definition of a table (`None`: of any) may have changed. Called at load.
///
/// `on_change` may run in the midst of anything: it must do no more than take note.
pub fn watch(on_change: OnChange) {
    ON_CHANGE.set(Some(on_change));
    // SAFETY: registers functions that live as long as the library.
    unsafe {
        let nothing = pg_sys::Datum::from(0);
        pg_sys::CacheRegisterRelcacheCallback(Some(on_relation), nothing);
        // A renamed schema renames the tables in our SQL, and no relation is touched.
        pg_sys::CacheRegisterSyscacheCallback(pg_sys::SysCacheIdentifier::NAMESPACEOID as i32, Some(on_schema), nothing);
    }
}

/// Makes every session forget what it cached about `relation` when this transaction commits, and this one now.
pub fn forget(relation: pg_sys::Oid) {
    // SAFETY: queues an invalidation message; the relation exists.
    unsafe { pg_sys::CacheInvalidateRelcacheByRelid(relation) };
    if let Some(on_change) = ON_CHANGE.get() {
        on_change(None);
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn on_relation(_argument: pg_sys::Datum, relation: pg_sys::Oid) {
    changed((relation != pg_sys::InvalidOid).then_some(relation));
}

#[pg_guard]
unsafe extern "C-unwind" fn on_schema(_argument: pg_sys::Datum, _cache: core::ffi::c_int, _hash: u32) {
    changed(None);
}

fn changed(relation: Option<pg_sys::Oid>) {
    forget_own(relation);
    if let Some(on_change) = ON_CHANGE.get() {
        on_change(relation);
    }
}
