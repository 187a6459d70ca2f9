//! The watcher: what has an outside source deleted? Asks it after records through a probe, finds the missing with `counting`, and
//! soft-deletes here what is not there any more; restores what is there again. Reads and writes managed tables through their
//! layout, as their owners. Its own tables are `tombstone.watched` (`watched`), `inquiry` (`inquiry`), `batch` (`stored`), `suspect`
//! (`suspects`) and `vanished` (`vanished`).
//!
//! Three roads lead through the same steps: passes of a worker or of CALL maintain() (in `worker/maintenance/watching/`, a
//! transaction a step), `reconcile` (all in one transaction), and `outside` (an outside client asks, step by step).
//!
//! ```text
//!  ask after all, batch by batch ──too many of a batch missing──▶ refused: nothing is deleted
//!           └──none──▶ batch by batch: ask once more, delete
//! ```
//!
//! What is to be deleted is lost to everybody, so it takes more than one word of the source: whatever the search has found is asked
//! after once more just before it is deleted, together with a witness that the source has (`suspects`).

pub mod batch;
mod door;
pub mod inquiry;
mod outside;
pub mod pages;
pub mod probe;
mod reconcile;
pub mod retry;
pub mod revival;
pub mod safety;
pub mod stored;
pub mod suspects;
pub mod tally;
pub mod vanished;
pub mod watched;
