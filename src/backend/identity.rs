//! Who acts: the caller, the actor the log names, and acting as somebody else for the length of a closure.

use std::ffi::{CStr, CString};

use pgrx::pg_sys;

use super::executor;

/// Names resolve here while we act as somebody else: nobody can put an object of theirs in the way.
pub const PINNED_SEARCH_PATH: &CStr = c"pg_catalog, pg_temp";

/// The role whose rights are in force: that of a SECURITY DEFINER function while inside one.
pub fn caller() -> pg_sys::Oid {
    // SAFETY: reads a backend-local variable.
    unsafe { pg_sys::GetUserId() }
}

/// The role that acts, by name: as the login or SET ROLE has it, whatever SECURITY DEFINER function is running.
pub fn actor() -> String {
    // SAFETY: reads a backend-local variable.
    role_name(unsafe { pg_sys::GetOuterUserId() })
}

/// The name of a role, or its number where it is dropped.
pub fn role_name(role: pg_sys::Oid) -> String {
    // SAFETY: a catalog look-up that returns NULL, as asked by noerr, or a fresh C string.
    unsafe {
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

/// The same for one statement on whose rows the application's triggers fire. Our own names are resolved with the search path pinned,
/// when the statement is planned. Once it runs, the path is the session's, as it is where a foreign key of Postgres' own deletes or
/// updates rows in the owner's name: what the triggers name is found by the same path when rows come back as when they went.
pub fn writing_as_foreign_keys<T>(role: pg_sys::Oid, act: impl FnOnce() -> T) -> T {
    let session = setting(c"search_path");
    let _switched = Switched::to(role, 0);
    let _at_start = session.map(|path| executor::at_next_start(move || set(&[(c"search_path", &path)])));
    act()
}

struct Switched {
    role: pg_sys::Oid,
    context: i32,
    guc_level: i32,
}

impl Switched {
    fn to(role: pg_sys::Oid, restriction: u32) -> Self {
        let mut before = Switched { role: pg_sys::InvalidOid, context: 0, guc_level: 0 };
        // SAFETY: saves and sets backend-local state; an error's (sub)transaction abort restores both by itself.
        unsafe {
            pg_sys::GetUserIdAndSecContext(&mut before.role, &mut before.context);
            let context = pg_sys::SECURITY_LOCAL_USERID_CHANGE | pg_sys::SECURITY_NOFORCE_RLS | restriction;
            pg_sys::SetUserIdAndSecContext(role, before.context | context as i32);
            before.guc_level = pg_sys::NewGUCNestLevel();
        }
        const PINNED: [(&CStr, &CStr); 1] = [(c"search_path", PINNED_SEARCH_PATH)];
        if differ(&PINNED) {
            set(&PINNED);
        }
        before
    }
}

impl Drop for Switched {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return; // the abort that follows restores role and settings
        }
        // SAFETY: closes the nest level that `to` opened and restores what it saved. Whatever that role's code has set in the
        // meantime goes with the level: nothing of it is left for the role that goes on.
        unsafe {
            pg_sys::AtEOXact_GUC(false, self.guc_level);
            pg_sys::SetUserIdAndSecContext(self.role, self.context);
        }
    }
}

/// Runs `act` with `settings` in force, whatever the session has set.
pub fn with_settings<T>(settings: &[(&CStr, &CStr)], act: impl FnOnce() -> T) -> T {
    if !differ(settings) {
        return act();
    }
    // SAFETY: a nest level, closed below or by the abort of an error.
    let level = unsafe { pg_sys::NewGUCNestLevel() };
    set(settings);
    let value = act();
    // SAFETY: as above.
    unsafe { pg_sys::AtEOXact_GUC(true, level) };
    value
}

/// Whether one of `settings` is not in force already.
fn differ(settings: &[(&CStr, &CStr)]) -> bool {
    settings.iter().any(|(name, value)| setting(name).is_none_or(|current| current.as_c_str() != *value))
}

fn setting(name: &CStr) -> Option<CString> {
    // SAFETY: reads a setting; its text is copied at once.
    unsafe {
        let current = pg_sys::GetConfigOption(name.as_ptr(), true, false);
        (!current.is_null()).then(|| CStr::from_ptr(current).to_owned())
    }
}

/// Sets `settings` for the rest of the innermost nest level.
fn set(settings: &[(&CStr, &CStr)]) {
    for (name, value) in settings {
        // SAFETY: sets a setting, to be restored when its nest level is closed, or by the abort of an error.
        unsafe {
            pg_sys::set_config_option(
                name.as_ptr(),
                value.as_ptr(),
                pg_sys::GucContext::PGC_USERSET,
                pg_sys::GucSource::PGC_S_SESSION,
                pg_sys::GucAction::GUC_ACTION_SAVE,
                true,
                0,
                false,
            )
        };
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
    may_select(caller(), relation, &[])
}

/// Whether the caller may INSERT into `relation`, any of its columns, and name it at all.
pub fn may_insert(relation: pg_sys::Oid) -> bool {
    may(caller(), relation, pg_sys::ACL_INSERT, &[])
}

/// Whether the caller may UPDATE `relation`, any of its columns, and name it at all.
pub fn may_update(relation: pg_sys::Oid) -> bool {
    may(caller(), relation, pg_sys::ACL_UPDATE, &[])
}

/// Whether the caller may DELETE from `relation`, and name it at all.
pub fn may_delete(relation: pg_sys::Oid) -> bool {
    may(caller(), relation, pg_sys::ACL_DELETE, &[])
}

/// Whether `role` may SELECT from `relation`, whole or these columns of it, and name it at all.
pub fn may_select(role: pg_sys::Oid, relation: pg_sys::Oid, columns: &[CString]) -> bool {
    may(role, relation, pg_sys::ACL_SELECT, columns)
}

fn may(role: pg_sys::Oid, relation: pg_sys::Oid, right: u32, columns: &[CString]) -> bool {
    const ALLOWED: pg_sys::AclResult::Type = pg_sys::AclResult::ACLCHECK_OK;
    let (right, usage) = (right as pg_sys::AclMode, pg_sys::ACL_USAGE as pg_sys::AclMode);
    // SAFETY: catalog look-ups; a relation that is gone, or a column, gives no rights.
    unsafe {
        let schema = pg_sys::get_rel_namespace(relation);
        #[cfg(any(feature = "pg14", feature = "pg15"))]
        let of_schema = pg_sys::pg_namespace_aclcheck(schema, role, usage);
        #[cfg(not(any(feature = "pg14", feature = "pg15")))]
        let of_schema = pg_sys::object_aclcheck(pg_sys::NamespaceRelationId, schema, role, usage);
        let of_table = || pg_sys::pg_class_aclcheck(relation, role, right) == ALLOWED;
        let of_column = |column: &CString| {
            let number = pg_sys::get_attnum(relation, column.as_ptr());
            number > 0 && pg_sys::pg_attribute_aclcheck(relation, number, role, right) == ALLOWED
        };
        of_schema == ALLOWED && (of_table() || !columns.is_empty() && columns.iter().all(of_column))
    }
}

/// Who has asked for what is being done: the caller; or, in the middle of a foreign key's work and of a SECURITY DEFINER function,
/// the role as the login or SET ROLE has it.
pub fn asking() -> pg_sys::Oid {
    let (mut role, mut context) = (pg_sys::InvalidOid, 0);
    // SAFETY: reads backend-local variables.
    unsafe {
        pg_sys::GetUserIdAndSecContext(&mut role, &mut context);
        if context as u32 & pg_sys::SECURITY_LOCAL_USERID_CHANGE == 0 { role } else { pg_sys::GetOuterUserId() }
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
