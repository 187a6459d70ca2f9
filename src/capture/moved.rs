//! Rows that an UPDATE of the partition key moves from one partition to another: Postgres fires DELETE and INSERT for them, and no
//! record is deleted or created.

use std::cell::Cell;

use pgrx::pg_sys;

use crate::backend::executor;

thread_local! {
    /// The table of which a row has just left one partition, at this depth of statements: the row that arrives next is it,
    /// as its AFTER triggers are queued together.
    static MOVED: Cell<Option<(i32, u32)>> = const { Cell::new(None) };
}

/// Whether the row was deleted only to be inserted into another partition, by an UPDATE of the partition key.
///
/// # Safety
/// `tuple` is a heap tuple as stored.
pub unsafe fn only_moved(tuple: pg_sys::HeapTuple) -> bool {
    // SAFETY: by contract of this function.
    unsafe {
        let at = (*(*tuple).t_data).t_ctid;
        at.ip_posid as u32 == pg_sys::MovedPartitionsOffsetNumber
            && at.ip_blkid.bi_hi == u16::MAX
            && at.ip_blkid.bi_lo == u16::MAX
    }
}

/// A row of the table numbered `table` has left its partition.
pub fn leaves(table: i32) {
    MOVED.set(Some((table, executor::depth())));
}

/// Whether the row that arrives in the table numbered `table` is the one that has just left another partition.
pub fn arrives(table: i32) -> bool {
    let is_the_one = MOVED.get() == Some((table, executor::depth()));
    if is_the_one {
        MOVED.set(None);
    }
    is_the_one
}

/// The statement at `depth` ended, or was cut short: whatever has left a partition inside it has arrived, or never will.
pub fn forget(depth: u32) {
    MOVED.set(MOVED.get().filter(|(_, moved)| *moved <= depth));
}
