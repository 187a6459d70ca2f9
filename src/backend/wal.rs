//! Which server and which past this is: the cluster, the database, the timeline and how far it has come.

use pgrx::{PgList, pg_sys};

/// A place in the write-ahead log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    pub timeline: u32,
    pub lsn: u64,
}

impl Position {
    /// The further one, where `before` may come from a server that is ahead of this one.
    pub fn latest(self, before: Position) -> Position {
        if before.timeline == self.timeline && before.lsn > self.lsn { before } else { self }
    }
}

/// Names this database of this cluster among all others.
pub fn database() -> u64 {
    // SAFETY: reads what is fixed at start.
    unsafe { pg_sys::GetSystemIdentifier().rotate_left(32) ^ u64::from(pg_sys::MyDatabaseId.to_u32()) }
}

/// Whether this server follows another one, or recovers.
pub fn in_recovery() -> bool {
    // SAFETY: reads shared state.
    unsafe { pg_sys::RecoveryInProgress() }
}

/// How far this server has come.
pub fn position() -> Position {
    let mut timeline = 0;
    // SAFETY: reads shared state.
    let lsn = unsafe {
        if in_recovery() {
            pg_sys::GetXLogReplayRecPtr(&raw mut timeline)
        } else {
            timeline = current_timeline();
            end_of_record(pg_sys::GetXLogInsertRecPtr())
        }
    };
    Position { timeline, lsn }
}

/// Sees to it that no crash takes back what was before `position`. A standby has only what is safe already.
pub fn secure(position: Position) {
    if !in_recovery() {
        // SAFETY: flushes what has been written.
        unsafe { pg_sys::XLogFlush(position.lsn) };
    }
}

/// Whether `position` lies in this server's past: not on a branch that a failover or a restore has cut off.
pub fn is_past(position: Position) -> bool {
    let now = self::position();
    if position.timeline != now.timeline {
        return position.lsn <= left_at(position.timeline, now.timeline);
    }
    // A standby may be behind the server that gave the position.
    in_recovery() || position.lsn <= now.lsn
}

/// Where the history of `timeline` left the timeline `before`; 0 where it never was on it.
fn left_at(before: u32, timeline: u32) -> u64 {
    // SAFETY: reads the history file of a timeline that exists; the list's entries live in the current memory context.
    unsafe {
        let history = PgList::<pg_sys::TimeLineHistoryEntry>::from_pg(pg_sys::readTimeLineHistory(timeline));
        history.iter_ptr().find(|entry| (**entry).tli == before).map_or(0, |entry| (*entry).end)
    }
}

fn current_timeline() -> u32 {
    // SAFETY: reads shared state.
    unsafe {
        #[cfg(feature = "pg14")]
        return pg_sys::ThisTimeLineID;
        #[cfg(not(feature = "pg14"))]
        pg_sys::GetWALInsertionTimeLine()
    }
}

/// Where the last record ends, of a position where the next one would begin: on a fresh page that is behind the page's header.
fn end_of_record(next: u64) -> u64 {
    // SAFETY: reads what is fixed at start.
    let in_segment = next % unsafe { pg_sys::wal_segment_size } as u64;
    let page = u64::from(pg_sys::XLOG_BLCKSZ);
    let header = if in_segment < page { size_of::<pg_sys::XLogLongPageHeaderData>() } else { short_header() };
    if in_segment % page == header as u64 { next - header as u64 } else { next }
}

/// The header of all pages but a segment's first, padded as the server pads it.
fn short_header() -> usize {
    size_of::<pg_sys::XLogPageHeaderData>().next_multiple_of(8)
}
