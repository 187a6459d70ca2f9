//! Extensions by name.

use std::ffi::CStr;

use pgrx::pg_sys;

use super::identity::caller;

/// The extension of that name in this database.
pub fn find(name: &CStr) -> Option<pg_sys::Oid> {
    // SAFETY: a catalog look-up.
    let found = unsafe { pg_sys::get_extension_oid(name.as_ptr(), true) };
    (found != pg_sys::InvalidOid).then_some(found)
}

/// Whether the caller may drop `extension`.
pub fn caller_owns(extension: pg_sys::Oid) -> bool {
    // SAFETY: a catalog look-up.
    unsafe {
        #[cfg(any(feature = "pg14", feature = "pg15"))]
        return pg_sys::pg_extension_ownercheck(extension, caller());
        #[cfg(not(any(feature = "pg14", feature = "pg15")))]
        pg_sys::object_ownercheck(pg_sys::ExtensionRelationId, extension, caller())
    }
}
