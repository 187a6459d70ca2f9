//! The settings (GUCs), and those of the session that our own work sets aside. The prefix `tombstone` is ours: a misspelt setting is refused.

use std::ffi::{CStr, CString, c_char, c_void};
use std::time::Duration;

use pgrx::guc::GucCheckError;
use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting, pg_guard, pg_sys};

use crate::backend::identity::with_settings;
use crate::error::Result;

static DEFAULT_TABLE: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(None);
static ENABLED: GucSetting<bool> = GucSetting::<bool>::new(true);
static NAPTIME: GucSetting<i32> = GucSetting::<i32>::new(60);
static RELAY: GucSetting<bool> = GucSetting::<bool>::new(true);
static RATE: GucSetting<i32> = GucSetting::<i32>::new(1000);
static BATCH_TIME: GucSetting<i32> = GucSetting::<i32>::new(100);
static LOCK_TIMEOUT: GucSetting<i32> = GucSetting::<i32>::new(2000);
static ACTOR: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(None);
static REASON: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(None);

/// What the application says is kept with each record that it deletes, and may go into a payload of NOTIFY: it is bounded.
const MOST_SAID: usize = 1000;

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
    GucRegistry::define_bool_guc(
        c"tombstone.enabled",
        c"Whether workers expire, purge and trim.",
        c"Off: they stay, and do nothing; CALL tombstone.maintain() works all the same.",
        &ENABLED,
        GucContext::Sighup,
        GucFlags::default(),
    );
    GucRegistry::define_int_guc(
        c"tombstone.naptime",
        c"How often, at most, a worker looks for what is due.",
        c"In seconds. The log's trimming and retries keep to it as well.",
        &NAPTIME,
        1,
        86_400,
        GucContext::Sighup,
        GucFlags::UNIT_S,
    );
    GucRegistry::define_bool_guc(
        c"tombstone.relay",
        c"Whether NOTIFY is sent by a relay process instead of in the writers' transactions.",
        c"Postgres lets only one transaction that notifies commit at a time.",
        &RELAY,
        GucContext::Sighup,
        GucFlags::default(),
    );
    GucRegistry::define_int_guc(
        c"tombstone.rate",
        c"How many rows a second expiry and purge may write in one table.",
        c"Rows taken by cascade count. 0: as many as can be.",
        &RATE,
        0,
        i32::MAX,
        GucContext::Userset,
        GucFlags::default(),
    );
    GucRegistry::define_int_guc(
        c"tombstone.batch_time",
        c"How long one batch of expiry or purge should take.",
        c"In milliseconds. The number of rows in a batch adapts to it; each batch is a transaction.",
        &BATCH_TIME,
        1,
        60_000,
        GucContext::Userset,
        GucFlags::UNIT_MS,
    );
    GucRegistry::define_int_guc(
        c"tombstone.lock_timeout",
        c"How long a batch of expiry or purge waits for a lock on a table.",
        c"In milliseconds. Rows that are locked are never waited for, but left to the next pass. 0: for ever.",
        &LOCK_TIMEOUT,
        0,
        i32::MAX,
        GucContext::Userset,
        GucFlags::UNIT_MS,
    );
    let said = |name, short, long, setting| {
        // SAFETY: the hook is guarded against panics.
        unsafe {
            GucRegistry::define_string_guc_with_hooks(
                name,
                short,
                long,
                setting,
                GucContext::Userset,
                GucFlags::default(),
                Some(is_short_enough),
                None,
                None,
            );
        }
    };
    said(
        c"tombstone.actor",
        c"For whom the application deletes and restores.",
        c"Kept beside the role with each deletion and restore. Anybody may set it: it is what the application says, and proves nothing.",
        &ACTOR,
    );
    said(
        c"tombstone.reason",
        c"Why the application deletes and restores.",
        c"Kept with each deletion and restore. A reason that a function is given comes first.",
        &REASON,
    );
    // SAFETY: reserves a prefix of setting names, at load.
    unsafe {
        #[cfg(feature = "pg14")]
        pg_sys::EmitWarningsOnPlaceholders(c"tombstone".as_ptr());
        #[cfg(not(feature = "pg14"))]
        pg_sys::MarkGUCPrefixReserved(c"tombstone".as_ptr());
    }
}

/// Refuses what is longer than is kept.
#[pg_guard]
unsafe extern "C-unwind" fn is_short_enough(
    value: *mut *mut c_char,
    _extra: *mut *mut c_void,
    _source: pg_sys::GucSource::Type,
) -> bool {
    // SAFETY: Postgres hands a check hook the value, NULL or a C string; an error is noted for it where it looks for one.
    unsafe {
        let bytes = if (*value).is_null() { 0 } else { CStr::from_ptr(*value).count_bytes() };
        if bytes > MOST_SAID {
            GucCheckError::default()
                .with_detail(format!("It has {bytes} bytes; at most {MOST_SAID} are kept with each deletion."))
                .apply();
        }
        bytes <= MOST_SAID
    }
}

/// `tombstone.default_table`, if set.
pub fn default_table() -> Option<String> {
    text(&DEFAULT_TABLE, |name| name.map(str::to_string))
}

/// `tombstone.actor`, if set.
pub fn actor() -> Option<String> {
    text(&ACTOR, |actor| actor.map(str::to_string))
}

/// `tombstone.reason`, if set.
pub fn reason() -> Option<String> {
    text(&REASON, |reason| reason.map(str::to_string))
}

/// Whether `tombstone.actor` is `actor`: asked for each row.
pub fn actor_is(actor: Option<&str>) -> bool {
    text(&ACTOR, |current| current == actor)
}

/// Whether `tombstone.reason` is `reason`: asked for each row.
pub fn reason_is(reason: Option<&str>) -> bool {
    text(&REASON, |current| current == reason)
}

/// Reads a setting that is a text where it stands; an empty one is none.
fn text<T>(setting: &GucSetting<Option<CString>>, read: impl FnOnce(Option<&str>) -> T) -> T {
    // SAFETY: what Postgres keeps of the setting: NULL or a C string, which stays as long as nobody sets it.
    let value = unsafe {
        let value: *const c_char = *setting.as_ptr();
        (!value.is_null()).then(|| CStr::from_ptr(value).to_string_lossy())
    };
    read(value.as_deref().filter(|value| !value.is_empty()))
}

/// `tombstone.enabled`.
pub fn enabled() -> bool {
    ENABLED.get()
}

/// `tombstone.naptime`.
pub fn naptime() -> Duration {
    Duration::from_secs(NAPTIME.get().unsigned_abs().into())
}

/// `tombstone.relay`.
pub fn relay() -> bool {
    RELAY.get()
}

/// `tombstone.rate`, in rows a second; `None`: no limit.
pub fn rate() -> Option<u32> {
    Some(RATE.get().unsigned_abs()).filter(|rate| *rate > 0)
}

/// `tombstone.batch_time`.
pub fn batch_time() -> Duration {
    Duration::from_millis(BATCH_TIME.get().unsigned_abs().into())
}

/// `tombstone.lock_timeout`, as Postgres' setting of that name takes it: in milliseconds, 0 for ever.
pub fn lock_timeout() -> i32 {
    LOCK_TIMEOUT.get()
}

/// Whatever the session has set: times without a zone are UTC, and locks are not waited for much longer than others wait.
pub fn in_our_settings<T>(act: impl FnOnce() -> Result<T>) -> Result<T> {
    let lock_timeout = CString::new(lock_timeout().to_string()).unwrap_or_default();
    let settings: [(&CStr, &CStr); 4] =
        [(c"lock_timeout", &lock_timeout), (c"TimeZone", c"UTC"), (c"DateStyle", c"ISO, YMD"), (c"IntervalStyle", c"postgres")];
    with_settings(&settings, act)
}
