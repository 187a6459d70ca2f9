//! The log: what happened, to whom it is ascribed, which deletion it belongs to; read as a stream, announced by NOTIFY.
//! Its own tables are `tombstone.event` and `undone` (`event`), `tick` and `floor` (`retention`), `relayed` (`relay`) and `run`, which
//! says what the processes did (`run`). Knows managed tables by their number only.

pub mod account;
mod cursor;
pub mod deletion;
pub mod event;
pub mod notify;
mod payload;
pub mod relay;
pub mod retention;
pub mod run;
mod snapshot;
pub mod stream;
pub mod tick;
