//! The server we live in: everything that needs Postgres' C interface, each in a small safe wrapper.
//! Knows nothing of managed tables. `unsafe` lives here, in `table/value.rs` (datums) and in `capture/trigger.rs` (tuples).

pub mod analysis;
pub mod command;
pub mod database;
pub mod erase;
pub mod executor;
pub mod expression;
pub mod extension;
pub mod ident;
pub mod identity;
pub mod invalidation;
pub mod load;
pub mod notify;
pub mod own_table;
pub mod owned;
pub mod procedure;
pub mod process;
pub mod query;
pub mod relation;
pub mod scan;
pub mod snapshot;
pub mod spool;
pub mod stamp;
pub mod stash;
pub mod subtransaction;
pub mod text_array;
pub mod timeout;
pub mod transaction;
mod unread;
pub mod wal;
