//! Ticks: moments between which the log is read. A tick is a snapshot; the news of a tick is what it sees and the one
//! before did not. It needs no room in the database, as each reader's cursor carries its own.

pub use super::cursor::Cursor;
use super::snapshot::Snapshot;
use crate::backend::own_table::own_statements;
use crate::backend::{snapshot, wal};
use crate::error::{Error, Result};

own_statements! {
    INCARNATION() = "SELECT incarnation::text FROM tombstone.log";
}

/// The tick that is now: what the running statement sees of other transactions, its own not being over.
pub fn now() -> Snapshot {
    let (end, open) = snapshot::active();
    Snapshot::new(end, open)
}

/// The cursor of a reader who has got everything that `seen` sees. `secure` it before it leaves the server.
pub fn cursor_at(seen: Snapshot) -> Result<Cursor> {
    Ok(Cursor { incarnation: incarnation()?, position: wal::position(), seen, within: None })
}

/// Makes what a cursor vouches for survive a crash: else the numbers of transactions that it has seen could be given anew.
pub fn secure(cursor: &Cursor) {
    wal::secure(cursor.position);
}

/// Reads a cursor; refuses what is none (22023), and one of another log or of a past this server does not share (55000).
pub fn read(text: &str) -> Result<Cursor> {
    let cursor = Cursor::read(text).ok_or_else(|| {
        Error::invalid("after is not a cursor")
            .detail("A cursor is the whole text, unchanged, that cursor() or the column cursor of replay() has returned.")
            .hint("NULL replays from the beginning of the log.")
    })?;
    if cursor.incarnation != incarnation()? {
        return Err(too_old("the cursor is of another log").detail(
            "It was made in another database or server, or before the extension was created anew, as by restoring a dump.",
        ));
    }
    if !wal::is_past(cursor.position) {
        return Err(too_old("the cursor is of a future that this server has not had")
            .detail("The server was restored to an earlier moment, or took over from one that was ahead of it."));
    }
    Ok(cursor)
}

/// 55000, with the way out.
pub fn too_old(message: impl Into<String>) -> Error {
    Error::not_ready(message).hint(
        "Take a snapshot again: in one REPEATABLE READ transaction call tombstone.cursor() and read the tables, then replay from that cursor.",
    )
}

/// Tells this log from every other: drawn at random at CREATE EXTENSION, and mixed with what a copied database has not in common.
fn incarnation() -> Result<u64> {
    let first_half = |uuid: &str| u64::from_str_radix(uuid.replace('-', "").get(..16)?, 16).ok();
    Ok(INCARNATION.one(&[], |row| row.parsed(1, first_half))? ^ wal::database())
}
