//! NOTIFY in the writer's transaction: worded as entries are written, sent when the transaction commits.
//!
//! Kept until then, for a transaction that turns out to be prepared must not have notified: Postgres would refuse it.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use pgrx::pg_sys;

use super::event::{Change, Entry};
use super::payload::{MOST_BYTES, Payload, arrays, told_apart};
use crate::backend::notify::send;
use crate::backend::transaction::current_subtransaction;

/// How a table's events are announced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Announce {
    Record,
    Batch,
    Never,
}

impl Announce {
    /// What the option `notify` says.
    pub fn of_option(notify: &str) -> Announce {
        match notify {
            "record" => Announce::Record,
            "batch" => Announce::Batch,
            _ => Announce::Never,
        }
    }
}

struct Waiting {
    channel: Rc<str>,
    payload: String,
    subtransaction: pg_sys::SubTransactionId,
}

/// What this transaction announced last, and how often that changed: what is deleted, restored and deleted again is
/// announced as often, though Postgres drops what it has been given before.
#[derive(Clone, Copy)]
struct Turn {
    number: u64,
    last: Option<(i32, Change)>,
}

thread_local! {
    static WAITING: RefCell<Vec<Waiting>> = const { RefCell::new(Vec::new()) };
    static TURN: Cell<Turn> = const { Cell::new(Turn { number: 0, last: None }) };
}

/// Words `entry` for listeners on `channel`; they get it when the transaction commits.
pub fn announce(entry: &Entry, how: Announce, channel: &Rc<str>) {
    if how == Announce::Never {
        return;
    }
    // Before the same change can come again there is another one: every second turn tells them apart.
    let turn = turn(entry) / 2;
    let subtransaction = current_subtransaction();
    let waiting = |json| Waiting { channel: Rc::clone(channel), payload: told_apart(json, turn), subtransaction };
    let payloads = (0..entry.ids.len()).map(|i| Payload {
        id: &entry.ids[i],
        kind: entry.kind(i),
        op: entry.change.op(),
        deletion_type: entry.change.deletion_type(),
        version: entry.versions.get(i).copied(),
        restored: entry.change.is_restore(),
        cursor: None,
    });
    WAITING.with_borrow_mut(|all| match how {
        Announce::Record => all.extend(payloads.map(|payload| waiting(payload.json(MOST_BYTES)))),
        _ => all.extend(arrays(payloads, MOST_BYTES - SPARE).into_iter().map(waiting)),
    });
}

/// What a batch leaves free, for `told_apart`.
const SPARE: usize = 64;

fn turn(entry: &Entry) -> u64 {
    let mut turn = TURN.get();
    let now = Some((entry.managed, entry.change));
    if turn.last.is_some() && turn.last != now {
        turn.number += 1;
    }
    turn.last = now;
    TURN.set(turn);
    turn.number
}

/// Hands everything to Postgres; called when the transaction is about to commit.
pub fn send_all() {
    for Waiting { channel, payload, .. } in WAITING.take() {
        send(&channel, &payload);
    }
}

/// The transaction ended.
pub fn forget() {
    drop(WAITING.take());
    TURN.set(Turn { number: 0, last: None });
}

/// A subtransaction was rolled back, and whatever began inside it.
pub fn forget_from(subtransaction: pg_sys::SubTransactionId) {
    WAITING.with_borrow_mut(|all| all.retain(|waiting| waiting.subtransaction < subtransaction));
}
