//! Layout in_place: whether an UPDATE that clears deleted_at is a function's, said by the function and heard by the table's trigger. Where
//! the option `restore` is "function", no other one restores.

use pgrx::spi::quote_literal;

use super::discretion::{id_to_asking, shows_to_asking};
use crate::backend::executor::{self, Said};
use crate::error::Error;
use crate::table::Table;

thread_local! {
    /// How deep the function's statement is. What a trigger of the table clears in passing is plain SQL.
    static BY_FUNCTION: Said = const { Said::new(None) };
}

/// Runs `act`, whose next statements restore because a function does: restore(), undo(), a watcher, or what follows from them.
pub fn by_function<T>(act: impl FnOnce() -> T) -> T {
    executor::saying(&BY_FUNCTION, act)
}

/// Whether the statement whose triggers are firing is such a one.
pub fn is_by_function() -> bool {
    executor::is_said(&BY_FUNCTION)
}

/// 55000: plain SQL may not restore the record `id`.
pub fn refused(table: &Table, id: &str) -> Error {
    let call = if shows_to_asking(table, &table.id) {
        format!("SELECT tombstone.restore({}, {}) brings it back.", quote_literal(id), quote_literal(table.title()))
    } else {
        "tombstone.restore() brings it back.".to_string()
    };
    Error::not_ready(format!("{} of table {} is deleted, and not restored by an UPDATE", id_to_asking(table, id), table.title()))
        .detail("Option restore of the table is \"function\": whoever clears its deleted_at may have read the record before it was deleted.")
        .hint(call)
}
