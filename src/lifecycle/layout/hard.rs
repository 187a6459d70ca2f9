//! A DELETE that is meant as a purge, of a table whose DELETE is the soft delete otherwise: said here, heard by its trigger.

use crate::backend::executor::{self, Said};

thread_local! {
    /// How deep the statement is that means it so. What a trigger of the table deletes in passing is none of it; what foreign keys
    /// take along is.
    static MEANT: Said = const { Said::new(None) };
}

/// Runs `act`, whose next statements purge what they delete.
pub fn meaning<T>(act: impl FnOnce() -> T) -> T {
    executor::saying(&MEANT, act)
}

/// Whether the statement that is running follows from one that purges, or is it.
pub fn is_meant_above() -> bool {
    MEANT.get().is_some_and(|depth| depth <= executor::depth())
}

/// Whether the statement whose triggers are firing purges.
pub fn is_meant() -> bool {
    executor::is_said(&MEANT)
}
