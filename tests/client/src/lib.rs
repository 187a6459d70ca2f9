//! What the client tests share: a private server to run against, a key directory's storage on it,
//! and two ways of asking SQL: for an answer, and for a refusal.

pub mod akd_storage;
pub mod server;
pub mod sql;
