//! The settings (GUCs) a session may have. The prefix `tombstone` is ours: a misspelt setting is refused.

use std::ffi::CString;

use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting, pg_sys};

static DEFAULT_TABLE: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(None);

/// Defines the settings; called at load.
pub fn init() {
    GucRegistry::define_string_guc(
        c"tombstone.default_table",
        c"The managed table that functions mean when called without one.",
        c"A table name, resolved as in SQL. Empty: the only managed table that fits.",
        &DEFAULT_TABLE,
        GucContext::Userset,
        GucFlags::default(),
    );
    // SAFETY: reserves a prefix of setting names, at load.
    unsafe {
        #[cfg(feature = "pg14")]
        pg_sys::EmitWarningsOnPlaceholders(c"tombstone".as_ptr());
        #[cfg(not(feature = "pg14"))]
        pg_sys::MarkGUCPrefixReserved(c"tombstone".as_ptr());
    }
}

/// `tombstone.default_table`, if set.
pub fn default_table() -> Option<String> {
    DEFAULT_TABLE.get().map(|name| name.to_string_lossy().into_owned()).filter(|name| !name.is_empty())
}
