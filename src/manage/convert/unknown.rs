//! Tombstones that the log does not know, of all tables that are converted together: in the order of their stamps, and with the numbers of
//! the deletions that they are to belong to. One stamp is one deletion, whichever table bears it.

use std::collections::VecDeque;

use pgrx::pg_sys;

use super::copying::{Copying, numbers_given};
use crate::backend::relation::draw;
use crate::backend::spool::{Spool, Taken};
use crate::error::Result;
use crate::lifecycle::layout::DueRow;
use crate::table::{OnDelete, by_oid};

/// What names rows of one table, and the number of the deletion of each.
pub type Numbered = Vec<(DueRow, i64)>;

pub struct Unknowns {
    queues: Vec<Queue>,
    /// Numbers that have been given to stamps before: by a conversion that was broken off, or where a child is archived already.
    given: Vec<Queue>,
    /// The stamp that was met last, and its number.
    last: Option<(i64, i64)>,
}

/// Rows whose last value is a stamp, in the order of the stamps.
struct Queue {
    spool: Spool,
    /// What was taken out of the spool, for as long as rows of it are in use.
    taken: Vec<Taken>,
    rows: VecDeque<DueRow>,
    is_empty: bool,
}

impl Unknowns {
    /// Those of these tables that have no copy by now.
    pub fn of(tables: &[pg_sys::Oid]) -> Result<Unknowns> {
        let copyings = tables.iter().map(|table| Copying::of(*table)).collect::<Result<Vec<_>>>()?;
        let queue = |copying: &Copying| Ok(Queue::of(copying.without_copies()?));
        let queues = copyings.iter().map(queue).collect::<Result<Vec<Queue>>>()?;
        let mut given = Vec::new();
        if queues.iter().any(|queue| queue.spool.rows() > 0) {
            for copying in &copyings {
                given.push(Queue::of(copying.numbers_given()?));
                for key in copying.table.children.iter().filter(|key| key.on_delete == OnDelete::Cascade) {
                    let child = by_oid(key.child)?;
                    if let Some(bin) = child.bin() {
                        given.push(Queue::of(numbers_given(&child, bin)?));
                    }
                }
            }
        }
        Ok(Unknowns { queues, given, last: None })
    }

    /// The next of them, at most `most`, by the places of their tables; `None`: there are none.
    pub fn next_batch(&mut self, most: usize) -> Option<Vec<Numbered>> {
        let mut batch: Vec<Numbered> = self.queues.iter().map(|_| Vec::new()).collect();
        let mut rows = 0;
        while rows < most
            && let Some((place, row, stamp)) = self.next()
        {
            let number = self.number(stamp);
            batch[place].push((row, number));
            rows += 1;
        }
        (rows > 0).then_some(batch)
    }

    /// The batch before is in use no more.
    pub fn forget_used(&mut self) {
        self.queues.iter_mut().chain(&mut self.given).for_each(Queue::forget_used);
    }

    /// The one with the oldest stamp, behind the place of its table.
    fn next(&mut self) -> Option<(usize, DueRow, i64)> {
        let heads = self.queues.iter_mut().enumerate().filter_map(|(place, queue)| Some((queue.head()?, place)));
        let (stamp, place) = heads.min()?;
        self.queues[place].rows.pop_front().map(|row| (place, row, stamp))
    }

    fn number(&mut self, stamp: i64) -> i64 {
        match self.last {
            Some((last, number)) if last == stamp => number,
            _ => {
                let given = self.given.iter_mut().find_map(|queue| queue.number_of(stamp));
                let number = given.unwrap_or_else(|| draw(c"event_seq_seq"));
                self.last = Some((stamp, number));
                number
            }
        }
    }
}

impl Queue {
    fn of(spool: Spool) -> Queue {
        Queue { spool, taken: Vec::new(), rows: VecDeque::new(), is_empty: false }
    }

    /// The stamp of the next row.
    fn head(&mut self) -> Option<i64> {
        if self.rows.is_empty() && !self.is_empty {
            const AT_ONCE: usize = 1000;
            let mut taken = self.spool.take(AT_ONCE);
            self.is_empty = taken.rows.is_empty();
            self.rows.extend(std::mem::take(&mut taken.rows));
            self.taken.push(taken);
        }
        self.rows.front().and_then(|row| row.last()).map(number)
    }

    /// The number before this stamp, if there is one; stamps are asked for in their order.
    fn number_of(&mut self, stamp: i64) -> Option<i64> {
        while self.head().is_some_and(|head| head < stamp) {
            self.rows.pop_front();
        }
        let is_it = self.head() == Some(stamp);
        self.rows.front().filter(|_| is_it).and_then(|row| row.first()).map(number)
    }

    /// The rows in use are of what was taken out last.
    fn forget_used(&mut self) {
        let used = self.taken.len().saturating_sub(1);
        self.taken.drain(..used);
    }
}

/// An int8, and a timestamptz, is its 64 bits.
fn number(value: &pg_sys::Datum) -> i64 {
    value.value().cast_signed() as i64
}
