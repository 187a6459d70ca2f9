//! The processes: what is due is done without anybody asking. See README.md for who they are and how they live.

pub mod board;
mod launcher;
mod maintenance;
mod process;
mod relay;
#[allow(clippy::module_inception, reason = "the worker among the processes")]
mod worker;

/// Where the server preloads us: shared memory, and the launcher. Elsewhere there are no processes. Called at load.
pub fn init() {
    if crate::backend::process::is_preloading() {
        board::init();
        launcher::register();
    }
}
