//! The triggers: what happens to a managed table, by whichever road, becomes changes; at the statement's end the changes
//! are checked against holds, logged, and followed along foreign keys. Writes `tombstone.event` through `log`.

mod archive;
mod entry;
mod in_place;
mod moved;
mod pending;
mod row;
mod shape;
mod truncate;
mod unlinked;

use crate::backend::{executor, transaction};
use crate::lifecycle::unlinked as kept;
use crate::log::{deletion, notify};

/// Hooks the capture to the ends of statements and transactions; called at load.
pub fn init() {
    executor::at_statement_end(|depth| {
        moved::forget(depth);
        pending::settle_above(depth);
    });
    transaction::watch(&transaction::Watch {
        before_end: pending::settle_last,
        before_commit: notify::send_all,
        before_prepare: notify::leave_all,
        committed: notify::wake_relay,
        ended: || {
            moved::forget(0);
            pending::forget_all();
            kept::forget_all();
            deletion::forget();
            notify::forget();
        },
        rolled_back: |subtransaction| {
            moved::forget(0);
            pending::forget_from(subtransaction);
            kept::forget_from(subtransaction);
            deletion::forget_from(subtransaction);
            notify::forget_from(subtransaction);
        },
    });
}
