//! When a statement ends. A statement's triggers tell us row by row what it does; what follows from it (log, cascade)
//! is done once, when the whole statement and its AFTER triggers are through.
//!
//! Statement triggers cannot say so: one that names a partition skips the triggers of the partitioned table. The executor can;
//! and the processor of utility statements, for COPY, which does not pass the executor. That one also tells of commands about
//! databases and extensions, before and after, and of ALTER TABLE.

use std::cell::{Cell, RefCell};
use std::thread::LocalKey;

use pgrx::pg_sys::ffi::pg_guard_ffi_boundary as guarded;
use pgrx::{pg_guard, pg_sys};

use super::command::Command;
use super::transaction::with_snapshot;

/// What is to happen before and after a command.
type Around = (fn(&Command), fn(&Command));

/// What is to happen when a statement starts, and how deep that one is.
type Start = (u32, Box<dyn FnOnce()>);

/// What is to happen before an ALTER TABLE; it says what is to happen afterwards.
type AroundAlter = fn(*mut pg_sys::AlterTableStmt, *const core::ffi::c_char) -> Option<After>;
pub type After = Box<dyn FnOnce()>;

thread_local! {
    static AROUND_ALTER: Cell<Option<AroundAlter>> = const { Cell::new(None) };
    static DROPS_WITH_CASCADE: Cell<bool> = const { Cell::new(false) };
    static AT_START: RefCell<Option<Start>> = const { RefCell::new(None) };
    static DEPTH: Cell<u32> = const { Cell::new(0) };
    static COMMAND: Cell<Option<pg_sys::CommandId>> = const { Cell::new(None) };
    static OF_FOREIGN_KEY: Cell<bool> = const { Cell::new(false) };
    static AT_END: Cell<Option<fn(u32)>> = const { Cell::new(None) };
    static AROUND: Cell<Option<Around>> = const { Cell::new(None) };
    static PREVIOUS_RUN: Cell<pg_sys::ExecutorRun_hook_type> = const { Cell::new(None) };
    static PREVIOUS_UTILITY: Cell<pg_sys::ProcessUtility_hook_type> = const { Cell::new(None) };
    static PREVIOUS_FINISH: Cell<pg_sys::ExecutorFinish_hook_type> = const { Cell::new(None) };
}

/// Calls `at_end(depth)` after each statement; it concerns the triggers fired at a `depth()` above that. Called at load.
pub fn at_statement_end(at_end: fn(u32)) {
    AT_END.set(Some(at_end));
    // SAFETY: hooks are process-wide and set once, chaining to whoever was there before.
    unsafe {
        PREVIOUS_RUN.set(pg_sys::ExecutorRun_hook);
        PREVIOUS_FINISH.set(pg_sys::ExecutorFinish_hook);
        PREVIOUS_UTILITY.set(pg_sys::ProcessUtility_hook);
        pg_sys::ProcessUtility_hook = Some(on_utility);
        pg_sys::ExecutorRun_hook = Some(on_run);
        pg_sys::ExecutorFinish_hook = Some(on_finish);
    }
}

/// Calls `before` each command about a database or an extension, and `after` it, unless it fails. Called at load, where
/// `at_statement_end` is.
pub fn around_commands(before: fn(&Command), after: fn(&Command)) {
    AROUND.set(Some((before, after)));
}

/// Calls `around` before each ALTER TABLE, with the statement as parsed, which it may change, and its text; and what that returns after
/// it, unless it fails. Called at load, where `at_statement_end` is.
pub fn around_alter_table(around: AroundAlter) {
    AROUND_ALTER.set(Some(around));
}

/// Whether a DROP TABLE … CASCADE is running.
pub fn drops_with_cascade() -> bool {
    DROPS_WITH_CASCADE.get()
}

/// How many statements deep the running trigger is: at least 1, also in the statement that loaded this library.
pub fn depth() -> u32 {
    DEPTH.get().max(1)
}

/// The number of the command that the running statement is: what it writes bears it.
pub fn command() -> Option<pg_sys::CommandId> {
    COMMAND.get()
}

/// Whether any statement is running.
pub fn is_running() -> bool {
    DEPTH.get() > 0
}

/// Whether the statement that is running is a foreign key's own: one that leaves its AFTER triggers to whoever caused it.
pub fn is_of_foreign_key() -> bool {
    // SAFETY: reads a backend-local variable. A statement that began before this library was loaded is known by the rights in force:
    // nobody but Postgres' foreign keys, and we, have row security look away.
    OF_FOREIGN_KEY.get() || !is_running() && unsafe { pg_sys::InNoForceRLSOperation() }
}

/// Has `act` happen once the next statement that is run from here has been planned, when it starts; not any more when the result is
/// dropped.
pub fn at_next_start(act: impl FnOnce() + 'static) -> AtStart {
    AtStart(AT_START.replace(Some((next_depth(), Box::new(act)))))
}

pub struct AtStart(Option<Start>);

impl Drop for AtStart {
    fn drop(&mut self) {
        AT_START.replace(self.0.take());
    }
}

/// A statement starts.
fn start() {
    let is_wanted = AT_START.with_borrow(|start| start.as_ref().is_some_and(|(depth, _)| *depth == DEPTH.get()));
    if is_wanted && let Some((_, act)) = AT_START.take() {
        act();
    }
}

/// How deep the next statement that is run from here will be.
pub fn next_depth() -> u32 {
    DEPTH.get() + 1
}

/// How deep the statements are of which something is said, if it is of any.
pub type Said = Cell<Option<u32>>;

/// Runs `act`, of whose next statements something is said: their triggers can ask.
pub fn saying<T>(said: &'static LocalKey<Said>, act: impl FnOnce() -> T) -> T {
    struct Restore(&'static LocalKey<Said>, Option<u32>);
    impl Drop for Restore {
        fn drop(&mut self) {
            self.0.set(self.1);
        }
    }
    let _restore = Restore(said, said.replace(Some(next_depth())));
    act()
}

/// Whether it is said of the statement whose triggers are firing.
pub fn is_said(said: &'static LocalKey<Said>) -> bool {
    said.get().is_some_and(|deep| deep == depth())
}

/// Whether the statement whose AFTER triggers are firing deleted the row `deleted` itself. One that a foreign key's own
/// statement deleted bears that statement's command number.
///
/// # Safety
/// `deleted` is a tuple as stored, deleted by this transaction.
pub unsafe fn deleted_it_itself(deleted: pg_sys::HeapTuple) -> bool {
    COMMAND.get().or_else(command_of_snapshot).is_none_or(|command| {
        // SAFETY: by contract of this function.
        unsafe { pg_sys::HeapTupleHeaderGetCmax((*deleted).t_data) == command }
    })
}

/// The command number of a statement that began before this library was loaded: what it does bears the number of what it sees.
fn command_of_snapshot() -> Option<pg_sys::CommandId> {
    // SAFETY: reads the snapshot in force, where there is one.
    unsafe { (!is_running() && pg_sys::ActiveSnapshotSet()).then(|| (*pg_sys::GetActiveSnapshot()).curcid) }
}

/// One level deeper, until dropped: also when an error unwinds. Puts back what it found, whatever happened inside.
struct Deeper {
    depth: u32,
    command: Option<pg_sys::CommandId>,
    of_foreign_key: bool,
}

impl Deeper {
    /// # Safety
    /// `query` was started by the executor and not ended.
    unsafe fn into(query: *mut pg_sys::QueryDesc) -> Self {
        // SAFETY: by contract of this function.
        let (command, flags) = unsafe { ((*(*query).estate).es_output_cid, (*(*query).estate).es_top_eflags as u32) };
        Self::by(Some(command), flags & pg_sys::EXEC_FLAG_SKIP_TRIGGERS != 0)
    }

    fn by(command: Option<pg_sys::CommandId>, of_foreign_key: bool) -> Self {
        let of_foreign_key = OF_FOREIGN_KEY.replace(of_foreign_key);
        let found = Deeper { depth: DEPTH.get(), command: COMMAND.replace(command), of_foreign_key };
        DEPTH.set(found.depth + 1);
        found
    }
}

impl Drop for Deeper {
    fn drop(&mut self) {
        DEPTH.set(self.depth);
        COMMAND.set(self.command);
        OF_FOREIGN_KEY.set(self.of_foreign_key);
    }
}

#[cfg(not(feature = "pg18"))]
#[pg_guard]
unsafe extern "C-unwind" fn on_run(
    query: *mut pg_sys::QueryDesc,
    direction: pg_sys::ScanDirection::Type,
    count: u64,
    execute_once: bool,
) {
    // SAFETY: hands on exactly what the hook was given.
    unsafe {
        let _deeper = Deeper::into(query);
        start();
        match PREVIOUS_RUN.get() {
            Some(previous) => guarded(|| previous(query, direction, count, execute_once)),
            None => pg_sys::standard_ExecutorRun(query, direction, count, execute_once),
        }
    }
}

#[cfg(feature = "pg18")]
#[pg_guard]
unsafe extern "C-unwind" fn on_run(query: *mut pg_sys::QueryDesc, direction: pg_sys::ScanDirection::Type, count: u64) {
    // SAFETY: hands on exactly what the hook was given.
    unsafe {
        let _deeper = Deeper::into(query);
        start();
        match PREVIOUS_RUN.get() {
            Some(previous) => guarded(|| previous(query, direction, count)),
            None => pg_sys::standard_ExecutorRun(query, direction, count),
        }
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn on_finish(query: *mut pg_sys::QueryDesc) {
    {
        // SAFETY: hands on exactly what the hook was given.
        unsafe {
            let _deeper = Deeper::into(query);
            match PREVIOUS_FINISH.get() {
                Some(previous) => guarded(|| previous(query)),
                None => pg_sys::standard_ExecutorFinish(query),
            }
        }
    }
    // A foreign key's own statement leaves its AFTER triggers to the statement that caused it: that one ends later.
    // SAFETY: the executor's state lives until ExecutorEnd.
    let leaves_triggers = unsafe { (*(*query).estate).es_top_eflags as u32 & pg_sys::EXEC_FLAG_SKIP_TRIGGERS != 0 };
    if !leaves_triggers && let Some(at_end) = AT_END.get() {
        at_end(DEPTH.get());
    }
}

/// While it lives, a DROP TABLE is known to be one with CASCADE, or without; an error that unwinds ends it, too.
struct Dropping {
    before: bool,
}

impl Dropping {
    /// # Safety
    /// `statement` is a utility statement, as parsed.
    unsafe fn begin(statement: *mut pg_sys::Node) -> Option<Dropping> {
        // SAFETY: by contract of this function; a node's tag says what it is.
        unsafe {
            if (*statement).type_ != pg_sys::NodeTag::T_DropStmt {
                return None;
            }
            let drop = statement.cast::<pg_sys::DropStmt>();
            let cascades = (*drop).removeType == pg_sys::ObjectType::OBJECT_TABLE
                && (*drop).behavior == pg_sys::DropBehavior::DROP_CASCADE;
            Some(Dropping { before: DROPS_WITH_CASCADE.replace(cascades) })
        }
    }
}

impl Drop for Dropping {
    fn drop(&mut self) {
        DROPS_WITH_CASCADE.set(self.before);
    }
}

/// What a hook for utility statements is given, the same in all supported versions.
#[pg_guard]
#[allow(clippy::too_many_arguments, reason = "the signature is Postgres'")]
unsafe extern "C-unwind" fn on_utility(
    statement: *mut pg_sys::PlannedStmt,
    text: *const core::ffi::c_char,
    read_only_tree: bool,
    context: pg_sys::ProcessUtilityContext::Type,
    parameters: pg_sys::ParamListInfo,
    environment: *mut pg_sys::QueryEnvironment,
    receiver: *mut pg_sys::DestReceiver,
    completion: *mut pg_sys::QueryCompletion,
) {
    // SAFETY: a utility statement, read.
    let around = AROUND.get().and_then(|around| unsafe { Some((around, Command::of((*statement).utilityStmt)?)) });
    if let Some(((before, _), command)) = &around {
        before(command);
    }
    let (mut statement, mut read_only_tree) = (statement, read_only_tree);
    // SAFETY: a utility statement, read; one that others may run again is changed as a copy.
    let (altered, _dropping) = unsafe {
        let alters = (*(*statement).utilityStmt).type_ == pg_sys::NodeTag::T_AlterTableStmt;
        let altered = AROUND_ALTER.get().filter(|_| alters).and_then(|around| {
            if read_only_tree {
                statement = pg_sys::copyObjectImpl(statement.cast()).cast();
                read_only_tree = false;
            }
            around((*statement).utilityStmt.cast(), text)
        });
        (altered, Dropping::begin((*statement).utilityStmt))
    };
    // SAFETY: a utility statement, read; and hands on exactly what the hook was given.
    let copies = unsafe {
        let copies = (*(*statement).utilityStmt).type_ == pg_sys::NodeTag::T_CopyStmt;
        let _deeper = copies.then(|| Deeper::by(None, false));
        match PREVIOUS_UTILITY.get() {
            Some(previous) => {
                guarded(|| previous(statement, text, read_only_tree, context, parameters, environment, receiver, completion))
            }
            None => pg_sys::standard_ProcessUtility(
                statement,
                text,
                read_only_tree,
                context,
                parameters,
                environment,
                receiver,
                completion,
            ),
        }
        copies
    };
    if copies && let Some(at_end) = AT_END.get() {
        with_snapshot(|| at_end(DEPTH.get()));
    }
    if let Some(after) = altered {
        after();
    }
    if let Some(((_, after), command)) = &around {
        after(command);
    }
}
