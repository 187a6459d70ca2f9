//! The snapshot a statement runs under, as numbers that outlive it.

use pgrx::pg_sys;

use super::transaction;

/// What the running statement's snapshot says of the transactions: those numbered below the first part are over, but for
/// the ones of the second. Our own is not over.
pub fn active() -> (u64, Vec<u64>) {
    // SAFETY: a statement is running, so there is an active snapshot; its arrays are as long as it says.
    let (end, mut open) = unsafe {
        let snapshot = &*pg_sys::GetActiveSnapshot();
        // A standby's snapshot has all numbers, those of subtransactions among them, in the second array.
        let numbers = if snapshot.takenDuringRecovery {
            numbers(snapshot.subxip, snapshot.subxcnt as usize)
        } else {
            numbers(snapshot.xip, snapshot.xcnt as usize)
        };
        let next = pg_sys::ReadNextFullTransactionId().value;
        (widened(snapshot.xmax, next), numbers.iter().map(|number| widened(*number, next)).collect::<Vec<_>>())
    };
    open.extend(transaction::number_if_any());
    open.retain(|number| *number < end);
    (end, open)
}

/// # Safety
/// `first` points to `count` numbers, if there are any.
unsafe fn numbers<'a>(first: *const pg_sys::TransactionId, count: usize) -> &'a [pg_sys::TransactionId] {
    // SAFETY: by contract of this function.
    if count == 0 { &[] } else { unsafe { core::slice::from_raw_parts(first, count) } }
}

/// The 64-bit number of a transaction, of which `next` is the one to be drawn next: no number is older than half a round.
fn widened(number: pg_sys::TransactionId, next: u64) -> u64 {
    let number = u64::from(number.into_inner());
    let widened = (next & !u64::from(u32::MAX)) | number;
    if number > next & u64::from(u32::MAX) { widened - (1 << 32) } else { widened }
}
