//! Being a background process: signals, a connection, sleeping, transactions of its own, and what others see of it.

use std::cell::Cell;
use std::ffi::CStr;
use std::time::{Duration, Instant};

use pgrx::{pg_guard, pg_sys};

use super::identity::c_string;
use super::subtransaction::caught_all;
use crate::error::Result;

/// What wakes a process that sleeps. It stays valid after its process has gone: then it belongs to nobody, or to whoever got
/// the slot next, who is woken for nothing, as happens to everybody at times.
#[derive(Debug, Clone, Copy)]
pub struct Latch(*mut pg_sys::Latch);

impl Latch {
    /// That of this process.
    pub fn mine() -> Self {
        // SAFETY: reads a process-local variable; once the process has its slot, that is a place in shared memory.
        Latch(unsafe { pg_sys::MyLatch })
    }

    pub fn set(self) {
        // SAFETY: latches in shared memory are never freed, and lie at the same address in all processes.
        unsafe { pg_sys::SetLatch(self.0) };
    }
}

/// The number by which the system knows this process.
pub fn pid() -> i32 {
    // SAFETY: reads a process-local variable.
    unsafe { pg_sys::MyProcPid }
}

/// The database this process is connected to; InvalidOid: none.
pub fn database() -> pg_sys::Oid {
    // SAFETY: reads a process-local variable.
    unsafe { pg_sys::MyDatabaseId }
}

/// The setting of that name.
pub fn max_worker_processes() -> i32 {
    // SAFETY: fixed at start.
    unsafe { pg_sys::max_worker_processes }
}

/// Asks a process to leave, as pg_terminate_backend() would.
pub fn terminate(pid: i32) {
    // SAFETY: sends a signal.
    unsafe { libc::kill(pid, libc::SIGTERM) };
}

/// Whether the postmaster is loading us, and will serve users: only then can shared memory and processes be had.
pub fn is_preloading() -> bool {
    // SAFETY: reads process-local variables.
    unsafe { pg_sys::process_shared_preload_libraries_in_progress && !pg_sys::IsBinaryUpgrade }
}

// Postgres' own handlers. pgrx has both, but in wrappers that are for calls, not for signals.
unsafe extern "C-unwind" {
    fn die(signal: core::ffi::c_int);
    fn SignalHandlerForConfigReload(signal: core::ffi::c_int);
}

/// From here on signals are answered: SIGTERM and SIGINT as in any session, SIGHUP when `attend` is called.
pub fn answer_signals() {
    // SAFETY: handlers that Postgres made for its own processes.
    unsafe {
        #[cfg(not(feature = "pg18"))]
        use pg_sys::pqsignal;
        #[cfg(feature = "pg18")]
        use pg_sys::pqsignal_be as pqsignal;
        pqsignal(libc::SIGTERM, Some(die));
        pqsignal(libc::SIGHUP, Some(SignalHandlerForConfigReload));
        pg_sys::BackgroundWorkerUnblockSignals();
    }
}

/// Connects to `database`, or to none, as the superuser that initdb made; FATAL where that cannot be.
pub fn connect(database: Option<pg_sys::Oid>) {
    // SAFETY: a background process that has not connected yet. Once it has, session_authorization may stand as the database's
    // owner has set it: that cannot be pinned before.
    unsafe {
        match database {
            Some(database) => pg_sys::BackgroundWorkerInitializeConnectionByOid(database, pg_sys::InvalidOid, 0),
            None => pg_sys::BackgroundWorkerInitializeConnection(std::ptr::null(), std::ptr::null(), 0),
        }
        pg_sys::SetSessionAuthorization(pg_sys::GetAuthenticatedUserId(), true);
    }
}

/// Sets `name` for as long as this process lives, over what files, databases and roles say, now and later.
pub fn pin(name: &CStr, value: &CStr) {
    // SAFETY: both strings are copied.
    unsafe {
        pg_sys::SetConfigOption(
            name.as_ptr(),
            value.as_ptr(),
            pg_sys::GucContext::PGC_SUSET,
            pg_sys::GucSource::PGC_S_OVERRIDE,
        );
    }
}

thread_local! {
    static AT_EXIT: Cell<Option<fn()>> = const { Cell::new(None) };
}

/// Calls `act` when the process ends, by whichever way: after all that a later `connect` has taken is given back, so that
/// nobody counts the process as connected any more. It still has its slot, and may take lightweight locks.
pub fn at_exit(act: fn()) {
    AT_EXIT.set(Some(act));
    // SAFETY: registers a function that lives as long as the library.
    unsafe { pg_sys::on_shmem_exit(Some(on_exit), pg_sys::Datum::from(0)) };
}

#[pg_guard]
unsafe extern "C-unwind" fn on_exit(_code: core::ffi::c_int, _argument: pg_sys::Datum) {
    if let Some(act) = AT_EXIT.take() {
        act();
    }
}

/// Ends the process without a word. Of a process that Postgres is to start again, `code` must not be 0.
pub fn leave(code: i32) -> ! {
    // SAFETY: the way for a process to end.
    unsafe {
        pg_sys::proc_exit(code);
        #[cfg(feature = "pg18")]
        unreachable!("it does not return, though its binding does not say so")
    }
}

/// Whether the process has been asked to leave: a SIGTERM has come and not been answered.
pub fn is_asked_to_leave() -> bool {
    // SAFETY: a signal handler writes it.
    unsafe { (&raw const pg_sys::ProcDiePending).read_volatile() != 0 }
}

/// Answers what others want of this process at a moment when it does nothing: barriers, and requests to show what it holds.
/// A cancellation means nothing then.
pub fn attend() {
    let _cancelled = caught_all(|| {
        pgrx::check_for_interrupts!();
        Ok(())
    });
}

/// Reads the configuration files again if a SIGHUP has asked for that; whether it has.
pub fn reload_if_asked() -> bool {
    // SAFETY: a signal handler writes the flag.
    let asked = unsafe {
        let flag = &raw mut pg_sys::ConfigReloadPending;
        let asked = flag.read_volatile() != 0;
        flag.write_volatile(0);
        asked
    };
    if asked {
        // SAFETY: between statements.
        unsafe { pg_sys::ProcessConfigFile(pg_sys::GucContext::PGC_SIGHUP) };
    }
    asked
}

/// Sleeps until this process's latch is set, at most so long; the end of the postmaster is its end as well.
pub fn wait(most: Duration) {
    const LONGEST: Duration = Duration::from_secs(3600);
    let flags = pg_sys::WL_LATCH_SET | pg_sys::WL_TIMEOUT | pg_sys::WL_EXIT_ON_PM_DEATH;
    // A fraction of a millisecond would be no sleep at all.
    let milliseconds = most.min(LONGEST).as_micros().div_ceil(1000);
    // SAFETY: this process's own latch.
    unsafe { pg_sys::WaitLatch(pg_sys::MyLatch, flags as i32, milliseconds as _, pg_sys::PG_WAIT_EXTENSION) };
}

/// Sleeps for so long, unless it is cancelled.
pub fn rest(long: Duration) {
    let until = Instant::now() + long;
    while let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
        wait(left);
        reset_latch();
        pgrx::check_for_interrupts!();
    }
}

/// Takes note that the latch was set. Whoever looks for what there is to do, does so after this: then nothing is overlooked.
pub fn reset_latch() {
    // SAFETY: this process's own latch.
    unsafe { pg_sys::ResetLatch(pg_sys::MyLatch) };
}

/// Shows `what` in pg_stat_activity as what the process is doing since now.
pub fn show_activity(what: &str) {
    let what = c_string(what);
    // SAFETY: copies the string.
    unsafe {
        pg_sys::SetCurrentStatementStartTimestamp();
        pg_sys::pgstat_report_activity(pg_sys::BackendState::STATE_RUNNING, what.as_ptr());
    }
}

/// Shows the process as idle, and hands in what it has counted: autovacuum goes by that.
pub fn show_idle() {
    // SAFETY: between transactions.
    unsafe {
        pg_sys::pgstat_report_stat(true);
        pg_sys::pgstat_report_activity(pg_sys::BackendState::STATE_IDLE, std::ptr::null());
    }
}

/// Runs `act` in a READ COMMITTED transaction of its own, and commits; rolls back on `Err`, on any error Postgres raises, and on
/// a panic: nothing but the end of the process passes through.
pub fn transaction<T>(act: impl FnOnce() -> Result<T>) -> Result<T> {
    let outcome = caught_all(|| {
        // SAFETY: no transaction is open; the snapshot is popped here, or by the abort of an error.
        unsafe {
            pg_sys::SetCurrentStatementStartTimestamp();
            pg_sys::StartTransactionCommand();
            pg_sys::XactIsoLevel = pg_sys::XACT_READ_COMMITTED as i32;
            pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot());
        }
        let value = act()?;
        // SAFETY: as above.
        unsafe {
            pg_sys::PopActiveSnapshot();
            pg_sys::CommitTransactionCommand();
            pg_sys::pgstat_report_stat(false);
        }
        Ok(value)
    });
    if outcome.is_err() {
        roll_back();
    }
    outcome
}

/// Rolls back whatever transaction is open.
pub fn roll_back() {
    // SAFETY: does nothing where none is.
    unsafe { pg_sys::AbortCurrentTransaction() };
}
