//! Where the transaction stands, and what must happen when it or a part of it ends.

use std::cell::RefCell;

use pgrx::{PgMemoryContexts, pg_guard, pg_sys};

/// What a subsystem with per-transaction memory wants to hear.
pub struct Watch {
    /// The transaction is about to commit or be prepared: the last moment to write.
    pub before_end: fn(),
    /// It is about to commit, and all is written: the last moment to announce it.
    pub before_commit: fn(),
    /// The same of one that is about to be prepared: Postgres refuses that to one that notifies.
    pub before_prepare: fn(),
    /// It has committed, and others see what it wrote. Nothing may fail any more.
    pub committed: fn(),
    /// It ended, either way. Comes after `committed`.
    pub ended: fn(),
    /// This subtransaction and those inside it were rolled back.
    pub rolled_back: fn(pg_sys::SubTransactionId),
}

thread_local! {
    static WATCHES: RefCell<Vec<&'static Watch>> = const { RefCell::new(Vec::new()) };
}

/// Registers a watch, to be told after those registered before; called at load.
pub fn watch(watch: &'static Watch) {
    let is_first = WATCHES.with_borrow_mut(|watches| {
        watches.push(watch);
        watches.len() == 1
    });
    if !is_first {
        return;
    }
    // SAFETY: registers two functions that live as long as the library.
    unsafe {
        pg_sys::RegisterXactCallback(Some(on_transaction), std::ptr::null_mut());
        pg_sys::RegisterSubXactCallback(Some(on_subtransaction), std::ptr::null_mut());
    }
}

/// Runs `act` with a snapshot to run SQL under, as no statement provides one at a transaction's end.
pub fn with_snapshot<T>(act: impl FnOnce() -> T) -> T {
    // SAFETY: pushed and popped here; an error's abort pops by itself.
    unsafe { pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot()) };
    let value = act();
    // SAFETY: as above.
    unsafe { pg_sys::PopActiveSnapshot() };
    value
}

/// Commits the transaction of a procedure that is connected to SPI as one that may, and begins the next: READ COMMITTED,
/// whatever the session's default. No snapshot may be in use.
pub fn commit_and_begin() {
    // SAFETY: by contract of this function; the new transaction has taken no snapshot yet.
    unsafe {
        pg_sys::SPI_commit();
        pg_sys::XactIsoLevel = pg_sys::XACT_READ_COMMITTED as i32;
    }
}

/// Runs `act` with memory of its own to allocate in, freed at its end; what it returns must not lie there.
pub fn with_memory<T>(act: impl FnOnce() -> T) -> T {
    let mut memory = PgMemoryContexts::new("pg_tombstone transaction");
    // SAFETY: by contract of this function.
    unsafe { memory.switch_to(|_| act()) }
}

/// Whether the transaction goes on after the command that the user has given, or a part of it may be rolled back alone.
pub fn is_block() -> bool {
    // SAFETY: reads backend-local state.
    unsafe { pg_sys::IsTransactionBlock() || pg_sys::IsSubTransaction() }
}

/// Whether every statement of the transaction sees what its first one saw (REPEATABLE READ, SERIALIZABLE).
pub fn keeps_snapshot() -> bool {
    // SAFETY: reads a backend-local variable.
    unsafe { pg_sys::XactIsoLevel >= pg_sys::XACT_REPEATABLE_READ as i32 }
}

/// The subtransaction we are in.
pub fn current_subtransaction() -> pg_sys::SubTransactionId {
    // SAFETY: reads backend-local state.
    unsafe { pg_sys::GetCurrentSubTransactionId() }
}

/// The transaction's number, as an xid8; drawn now if it had none.
pub fn number() -> u64 {
    // SAFETY: assigns a transaction number, as any write does.
    unsafe { pg_sys::GetTopFullTransactionId().value }
}

/// The transaction's number, if it has drawn one.
pub fn number_if_any() -> Option<u64> {
    // SAFETY: reads backend-local state.
    let number = unsafe { pg_sys::GetTopFullTransactionIdIfAny().value };
    (number != 0).then_some(number)
}

/// When the transaction started: now(), in Postgres' microseconds.
pub fn started() -> i64 {
    // SAFETY: reads backend-local state.
    unsafe { pg_sys::GetCurrentTransactionStartTimestamp() }
}

#[pg_guard]
unsafe extern "C-unwind" fn on_transaction(event: pg_sys::XactEvent::Type, _argument: *mut core::ffi::c_void) {
    use pg_sys::XactEvent::*;
    match event {
        XACT_EVENT_PRE_COMMIT => {
            tell(|watch| (watch.before_end)());
            tell(|watch| (watch.before_commit)());
        }
        XACT_EVENT_PRE_PREPARE => {
            tell(|watch| (watch.before_end)());
            tell(|watch| (watch.before_prepare)());
        }
        XACT_EVENT_COMMIT => {
            tell(|watch| (watch.committed)());
            tell(|watch| (watch.ended)());
        }
        XACT_EVENT_ABORT | XACT_EVENT_PREPARE => tell(|watch| (watch.ended)()),
        _ => (),
    }
}

/// Tells every watch, in turn. What it is told may end the transaction, and lead here again.
fn tell(news: impl Fn(&Watch)) {
    for i in 0..WATCHES.with_borrow(Vec::len) {
        news(WATCHES.with_borrow(|watches| watches[i]));
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn on_subtransaction(
    event: pg_sys::SubXactEvent::Type,
    subtransaction: pg_sys::SubTransactionId,
    _parent: pg_sys::SubTransactionId,
    _argument: *mut core::ffi::c_void,
) {
    if event == pg_sys::SubXactEvent::SUBXACT_EVENT_ABORT_SUB {
        tell(|watch| (watch.rolled_back)(subtransaction));
    }
}
