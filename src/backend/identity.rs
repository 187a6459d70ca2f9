//! Who acts: the caller, the actor the log names, and acting as somebody else for the length of a closure.

use std::ffi::{CStr, CString};

use pgrx::pg_sys;

/// Names resolve here while we act as somebody else: nobody can put an object of theirs in the way.
pub const PINNED_SEARCH_PATH: &CStr = c"pg_catalog, pg_temp";

/// The role whose rights are in force: that of a SECURITY DEFINER function while inside one.
pub fn caller() -> pg_sys::Oid {
    // SAFETY: reads a backend-local variable.
    unsafe { pg_sys::GetUserId() }
}

/// The role that acts, by name: as the login or SET ROLE has it, whatever SECURITY DEFINER function is running.
pub fn actor() -> String {
    // SAFETY: the outer user always exists by name, else (dropped meanwhile) noerr gives NULL.
    unsafe {
        let role = pg_sys::GetOuterUserId();
        let name = pg_sys::GetUserNameFromId(role, true);
        if name.is_null() { role.to_u32().to_string() } else { CStr::from_ptr(name).to_string_lossy().into_owned() }
    }
}

/// Runs `act` with the rights of `role`, in a security-restricted operation, with the search path pinned: for our own
/// catalogs, for definitions, and for expressions that somebody else wrote.
pub fn acting_as<T>(role: pg_sys::Oid, act: impl FnOnce() -> T) -> T {
    let _switched = Switched::to(role, pg_sys::SECURITY_RESTRICTED_OPERATION);
    act()
}

/// Runs `act` with the rights of `role`, with the search path pinned, to write rows of its tables.
///
/// Row security does not bind it, not even FORCE, and its deferred constraints work: it is what Postgres' own foreign keys do.
pub fn writing_as<T>(role: pg_sys::Oid, act: impl FnOnce() -> T) -> T {
    let _switched = Switched::to(role, 0);
    act()
}

struct Switched {
    role: pg_sys::Oid,
    context: i32,
    guc_level: Option<i32>,
}

impl Switched {
    fn to(role: pg_sys::Oid, restriction: u32) -> Self {
        let mut before = Switched { role: pg_sys::InvalidOid, context: 0, guc_level: None };
        // SAFETY: saves and sets backend-local state; an error's (sub)transaction abort restores both by itself.
        unsafe {
            pg_sys::GetUserIdAndSecContext(&mut before.role, &mut before.context);
            let context = pg_sys::SECURITY_LOCAL_USERID_CHANGE | pg_sys::SECURITY_NOFORCE_RLS | restriction;
            pg_sys::SetUserIdAndSecContext(role, before.context | context as i32);
        }
        before.guc_level = pin(&[(c"search_path", PINNED_SEARCH_PATH)]);
        before
    }
}

impl Drop for Switched {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return; // the abort that follows restores role and settings
        }
        unpin(self.guc_level);
        // SAFETY: restores what `to` saved.
        unsafe { pg_sys::SetUserIdAndSecContext(self.role, self.context) };
    }
}

/// Runs `act` with `settings` in force, whatever the session has set.
pub fn with_settings<T>(settings: &[(&CStr, &CStr)], act: impl FnOnce() -> T) -> T {
    let level = pin(settings);
    let value = act();
    unpin(level);
    value
}

/// Sets `settings` until `unpin`; `None` where all of them are so already.
fn pin(settings: &[(&CStr, &CStr)]) -> Option<i32> {
    // SAFETY: a GUC nest level, closed by `unpin` or by the abort of an error.
    unsafe {
        let differs = settings.iter().any(|(name, value)| {
            let current = pg_sys::GetConfigOption(name.as_ptr(), true, false);
            current.is_null() || CStr::from_ptr(current) != *value
        });
        if !differs {
            return None;
        }
        let level = pg_sys::NewGUCNestLevel();
        for (name, value) in settings {
            pg_sys::set_config_option(
                name.as_ptr(),
                value.as_ptr(),
                pg_sys::GucContext::PGC_USERSET,
                pg_sys::GucSource::PGC_S_SESSION,
                pg_sys::GucAction::GUC_ACTION_SAVE,
                true,
                0,
                false,
            );
        }
        Some(level)
    }
}

fn unpin(level: Option<i32>) {
    if let Some(level) = level {
        // SAFETY: closes the nest level that `pin` opened.
        unsafe { pg_sys::AtEOXact_GUC(true, level) };
    }
}

/// Whether row security filters what the caller sees and writes of `relation`.
pub fn row_security_binds(relation: pg_sys::Oid) -> bool {
    // SAFETY: a catalog look-up; noError, so that row_security = off fails only when a query runs.
    let verdict = unsafe { pg_sys::check_enable_rls(relation, pg_sys::InvalidOid, true) };
    verdict as u32 == pg_sys::CheckEnableRlsResult::RLS_ENABLED
}

/// Whether the caller may SELECT from `relation`, whole, and name it at all.
pub fn may_read(relation: pg_sys::Oid) -> bool {
    let (select, usage) = (pg_sys::ACL_SELECT as pg_sys::AclMode, pg_sys::ACL_USAGE as pg_sys::AclMode);
    // SAFETY: catalog look-ups; a relation that is gone gives no rights.
    unsafe {
        let schema = pg_sys::get_rel_namespace(relation);
        #[cfg(any(feature = "pg14", feature = "pg15"))]
        let of_schema = pg_sys::pg_namespace_aclcheck(schema, caller(), usage);
        #[cfg(not(any(feature = "pg14", feature = "pg15")))]
        let of_schema = pg_sys::object_aclcheck(pg_sys::NamespaceRelationId, schema, caller(), usage);
        let of_table = pg_sys::pg_class_aclcheck(relation, caller(), select);
        [of_schema, of_table].iter().all(|answer| *answer == pg_sys::AclResult::ACLCHECK_OK)
    }
}

/// Whether `role` has the privileges of `other`: is it, is a member that inherits from it, or is superuser.
pub fn has_privileges_of(role: pg_sys::Oid, other: pg_sys::Oid) -> bool {
    // SAFETY: a catalog look-up.
    unsafe { pg_sys::has_privs_of_role(role, other) }
}

/// `name` as the C string Postgres takes; a NUL inside ends it.
pub fn c_string(name: &str) -> CString {
    let until_nul = name.split('\0').next().unwrap_or_default();
    CString::new(until_nul).unwrap_or_default()
}
