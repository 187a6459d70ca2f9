//! The log: what happened, to whom it is ascribed, and which deletion it belongs to.
//! Appends to and reads `tombstone.event`; knows managed tables by their number only.

pub mod account;
pub mod deletion;
pub mod event;
