//! What the client tests share: private servers to run against, a key directory's storage, two ways of asking SQL (for an
//! answer, and for a refusal), the background processes to wait for, and for the log: listeners, readers, writers at random, the
//! truth to hold readers against, and a consumer as one would write it. For undo: schemas at random. For watchers: an outside
//! source, a table that mirrors it, and a client that asks it, as one would write it.

pub mod akd_storage;
pub mod consumer;
pub mod listener;
pub mod node;
pub mod python;
pub mod random_schema;
pub mod records;
pub mod server;
pub mod source;
pub mod sql;
pub mod states;
pub mod stream;
pub mod watcher;
pub mod workers;
pub mod workload;
