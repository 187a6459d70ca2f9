//! The processes: what is due is done without anybody asking. See README.md for who they are and how they live.

mod backoff;
pub mod board;
mod doorkeeper;
mod launcher;
mod maintenance;
mod process;
mod relay;
mod roster;
#[allow(clippy::module_inception, reason = "the worker among the processes")]
mod worker;

/// What makes a database ours to look after.
const EXTENSION: &core::ffi::CStr = c"pg_tombstone";

/// Where the server preloads us: shared memory, and the launcher. Elsewhere there are no processes. Called at load.
pub fn init() {
    if crate::backend::process::is_preloading() {
        board::init();
        doorkeeper::init();
        relay::init();
        process::register_launcher();
    }
}
