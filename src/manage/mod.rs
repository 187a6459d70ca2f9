//! Putting tables under management: the doors manage, configure and unmanage, the checks of their options, the triggers they
//! attach, and the event triggers that follow their tables. Writes the definitions of managed tables, in their owners' names; the catalog row through `table`.

mod adopt;
mod bin;
mod convert;
mod doors;
mod drift;
mod drop;
mod expressions;
mod live_view;
mod on_delete;
mod retype;
mod tree;
mod triggers;
mod unique;
mod validate;

use crate::backend::executor;

/// Called at load.
pub fn init() {
    executor::around_alter_table(|statement, text| {
        // SAFETY: a statement as parsed, and its text.
        unsafe {
            retype::before_alter_table(statement, text);
            live_view::before_alter_table(statement)
        }
    });
}
