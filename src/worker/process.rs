//! What launcher, worker and relay have in common: how they start, sit at the board, sleep and leave. What they do in between
//! is theirs.

use std::time::Duration;

use pgrx::bgworkers::{BackgroundWorkerBuilder, BgWorkerStartTime, DynamicBackgroundWorker};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::pg_sys::{InvalidOid, Oid};
use pgrx::{IntoDatum, PgLogLevel, PgSqlErrorCode};

use super::board::{self, ProcessKind};
use crate::backend::identity::{PINNED_SEARCH_PATH, c_string};
use crate::backend::process;

impl ProcessKind {
    /// As pg_stat_activity calls it: `backend_type` and `application_name`.
    fn title(self) -> &'static str {
        match self {
            ProcessKind::Launcher => "pg_tombstone launcher",
            ProcessKind::Worker => "pg_tombstone worker",
            ProcessKind::Relay => "pg_tombstone relay",
        }
    }

    /// The function it begins with.
    fn main(self) -> &'static str {
        match self {
            ProcessKind::Launcher => "pg_tombstone_launcher",
            ProcessKind::Worker => "pg_tombstone_worker",
            ProcessKind::Relay => "pg_tombstone_relay",
        }
    }

    fn builder(self, name: &str) -> BackgroundWorkerBuilder {
        BackgroundWorkerBuilder::new(name)
            .set_type(self.title())
            .set_library("pg_tombstone")
            .set_function(self.main())
            .enable_spi_access()
            .set_start_time(BgWorkerStartTime::RecoveryFinished)
    }
}

/// Registers the launcher with the postmaster, which starts it again whenever it ends; called at preload.
pub fn register_launcher() {
    const PAUSE: Duration = Duration::from_secs(5);
    let title = ProcessKind::Launcher.title();
    ProcessKind::Launcher.builder(title).set_restart_time(Some(PAUSE)).load();
}

/// Starts a process for `database`; `None`: no slot is free. The caller is told when it starts and when it ends.
pub fn launch(kind: ProcessKind, database: Oid) -> Option<DynamicBackgroundWorker> {
    let name = format!("{} of database {}", kind.title(), database.to_u32());
    let builder = kind.builder(&name).set_argument(database.into_datum()).set_notify_pid(process::pid());
    builder.load_dynamic().ok()
}

/// Says in the server's log that `launch` found no slot for the database of that name.
pub fn say_no_slot(kind: ProcessKind, database: &str) {
    let message = format!("no slot is free for the {} of database \"{database}\"", kind.title());
    let hint = format!(
        "max_worker_processes is {}. pg_tombstone takes one, and for each database that has the extension one more, or two with \
         tombstone.relay on.",
        process::max_worker_processes()
    );
    let code = PgSqlErrorCode::ERRCODE_CONFIGURATION_LIMIT_EXCEEDED;
    ErrorReport::new(code, message, "pg_tombstone").set_hint(hint).report(PgLogLevel::WARNING);
}

/// What the owner of a database or a role could otherwise set for us, and must not.
const SETTINGS: [(&core::ffi::CStr, &core::ffi::CStr); 11] = [
    (c"role", c"none"),
    (c"search_path", PINNED_SEARCH_PATH),
    (c"session_replication_role", c"origin"),
    (c"row_security", c"on"),
    (c"default_transaction_isolation", c"read committed"),
    (c"default_transaction_read_only", c"off"),
    (c"default_transaction_deferrable", c"off"),
    (c"statement_timeout", c"0"),
    (c"lock_timeout", c"0"),
    (c"idle_in_transaction_session_timeout", c"0"),
    (c"exit_on_error", c"off"),
];

/// Begins: takes its place, then connects. `false`: it is not wanted, and must leave.
pub fn start(kind: ProcessKind, database: Option<Oid>) -> bool {
    process::answer_signals();
    if !board::sit(kind, database.unwrap_or(InvalidOid)) {
        return false;
    }
    process::at_exit(board::leave);
    for (name, value) in SETTINGS {
        process::pin(name, value);
    }
    #[cfg(any(feature = "pg17", feature = "pg18"))]
    process::pin(c"transaction_timeout", c"0");
    process::pin(c"application_name", &c_string(kind.title()));
    process::connect(database);
    true
}

/// Sleeps at most so long; until somebody calls this process, a process it has started comes or goes, or the settings change; at
/// times for no reason. When it is asked to leave, it leaves.
pub fn sleep(most: Duration) {
    process::show_idle();
    if !look_up() && !most.is_zero() {
        process::wait(most);
        look_up();
    }
}

/// Answers what has come in; whether it is something to get up for.
fn look_up() -> bool {
    process::reset_latch();
    if process::is_asked_to_leave() {
        process::leave(board::exit_code());
    }
    process::attend();
    let (called, reloaded) = (board::take_call(), process::reload_if_asked());
    called || reloaded
}
