//! Extensions by name.

use std::ffi::CStr;

use pgrx::pg_sys;

/// The extension of that name in this database.
pub fn find(name: &CStr) -> Option<pg_sys::Oid> {
    // SAFETY: a catalog look-up.
    let found = unsafe { pg_sys::get_extension_oid(name.as_ptr(), true) };
    (found != pg_sys::InvalidOid).then_some(found)
}
