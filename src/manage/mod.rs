//! Putting tables under management: the doors manage, configure and unmanage, the checks of their options, the triggers they
//! attach, and the event triggers that follow their tables. Writes the definitions of managed tables, in their owners' names; the catalog row through `table`.

mod bin;
mod convert;
mod doors;
mod drift;
mod drop;
mod on_delete;
mod retype;
mod tree;
mod triggers;
mod unique;
mod validate;

/// Called at load.
pub fn init() {
    retype::init();
}
