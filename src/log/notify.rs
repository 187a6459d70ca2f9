//! Who announces an entry, decided as it is written: the relay where one lives, else its own transaction when it commits. What is
//! left to the relay says so in the log, so that stands or falls with the entry itself, whatever becomes of the relay.
//!
//! NOTIFY in the writer's transaction waits for the end, and is worded only then: a transaction that turns out to be prepared must
//! not have notified, or Postgres would refuse it. What it would have said is left to the relay then.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use pgrx::pg_sys;
use pgrx::pg_sys::panic::{ErrorReport, ErrorReportable};

use super::account::Account;
use super::event::{self, Change, Entry, Left};
use super::payload::{Full, MOST_BYTES, Payload, arrays, moment, told_apart};
use crate::backend::identity::c_string;
use crate::backend::notify::send;
use crate::backend::transaction::{self, current_subtransaction, with_snapshot};
use crate::error::Result;
use crate::table::{Announce, Table};

/// The relay, as the processes know it: theirs is the room above.
pub struct Relay {
    /// Whether one is there for this database, and will announce what is left to it from now on.
    pub lives: fn() -> bool,
    /// Has it look for what is left to it; or, where it has gone, whoever sees to what it left.
    pub wake: fn(),
}

/// An entry that is to be announced when the transaction commits.
struct Waiting {
    number: i64,
    entry: Entry,
    channel: Rc<str>,
    batched: bool,
    /// Who did it and why, where that is to be said.
    full: Option<Why>,
    /// What tells its payloads apart from the same ones said before.
    turn: u64,
    subtransaction: pg_sys::SubTransactionId,
}

/// What a full payload says that the entry itself does not.
struct Why {
    account: Account,
    deletion: Option<i64>,
}

impl Waiting {
    fn payloads(&self) -> impl Iterator<Item = Payload<'_>> {
        let entry = &self.entry;
        let full = self.full.as_ref().map(|why| Full {
            cause: why.account.cause.name(),
            deletion: why.deletion,
            at: moment(transaction::started()),
            app_actor: why.account.app_actor.as_deref(),
        });
        (0..entry.ids.len()).map(move |i| Payload {
            id: &entry.ids[i],
            kind: entry.kind(i),
            op: entry.change.op(),
            deletion_type: entry.change.deletion_type(),
            version: entry.versions.get(i).copied(),
            restored: entry.change.is_restore(),
            cursor: None,
            full,
        })
    }

    fn send(&self) {
        let channel = c_string(&self.channel);
        let say = |json| send(&channel, told_apart(json, self.turn));
        if self.batched {
            arrays(self.payloads(), MOST_BYTES - SPARE).into_iter().for_each(say);
        } else {
            self.payloads().map(|payload| payload.json(MOST_BYTES)).for_each(say);
        }
    }
}

/// What this transaction announced last, and how often that changed: what is deleted, restored and deleted again is
/// announced as often, though Postgres drops what it has been given before.
#[derive(Clone, Copy)]
struct Turn {
    number: u64,
    last: Option<(i32, Change)>,
}

thread_local! {
    static RELAY: Cell<Option<&'static Relay>> = const { Cell::new(None) };
    static WAITING: RefCell<Vec<Waiting>> = const { RefCell::new(Vec::new()) };
    static TURN: Cell<Turn> = const { Cell::new(Turn { number: 0, last: None }) };
    /// The outermost subtransaction that has left something to the relay.
    static LEFT: Cell<Option<pg_sys::SubTransactionId>> = const { Cell::new(None) };
}

/// From now on entries may be left to `relay`; called at load.
pub fn leave_to(relay: &'static Relay) {
    RELAY.set(Some(relay));
}

/// Whether a relay announces what is left to it in this database.
pub fn relay_lives() -> bool {
    RELAY.get().is_some_and(|relay| (relay.lives)())
}

/// Writes `entry`, of `table`, to the log, on `account`, and sees to it that listeners hear of it once it is committed.
pub fn log(entry: Entry, account: &Account, table: &Table) -> Result<()> {
    let (batched, full) = (table.announce == Announce::Batch, table.full_payload);
    let is_muted = [account.cause, account.origin].iter().any(|cause| table.mute.iter().any(|mute| mute == cause.name()));
    if table.announce == Announce::Never || is_muted {
        event::append(&entry, account, None)?;
    } else if is_for_relay() {
        event::append(&entry, account, Some(Left { channel: &table.channel, batched, full }))?;
        note_left();
    } else {
        let (number, deletion) = event::append(&entry, account, None)?;
        let full = full.then(|| Why { account: account.clone(), deletion });
        announce(number, entry, batched, full, &table.channel);
    }
    Ok(())
}

/// What comes after something left to the relay is left to it as well, else it would be heard first.
fn is_for_relay() -> bool {
    LEFT.get().is_some() || relay_lives()
}

fn note_left() {
    let here = current_subtransaction();
    LEFT.set(Some(LEFT.get().map_or(here, |outermost| outermost.min(here))));
}

/// Keeps entry `number` for when the transaction commits.
fn announce(number: i64, entry: Entry, batched: bool, full: Option<Why>, channel: &Rc<str>) {
    // Before the same change can come again there is another one: every second turn tells them apart.
    let (turn, subtransaction) = (turn(&entry) / 2, current_subtransaction());
    let waiting = Waiting { number, entry, channel: Rc::clone(channel), batched, full, turn, subtransaction };
    WAITING.with_borrow_mut(|all| all.push(waiting));
}

/// What a batch leaves free, for `told_apart`.
pub const SPARE: usize = 64;

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
    let mut all = WAITING.take();
    // As the log has them: the number of one that was written late may have been drawn ahead.
    all.sort_by_key(|waiting| waiting.number);
    all.iter().for_each(Waiting::send);
}

/// Leaves everything to the relay; called when the transaction is about to be prepared.
pub fn leave_all() {
    let waiting = WAITING.take();
    let mut entries: BTreeMap<Left, Vec<i64>> = BTreeMap::new();
    for Waiting { number, channel, batched, full, .. } in &waiting {
        let left = Left { channel, batched: *batched, full: full.is_some() };
        entries.entry(left).or_default().push(*number);
    }
    if !entries.is_empty() {
        with_snapshot(|| {
            let left = entries.into_iter().try_for_each(|(left, entries)| event::leave(entries, left));
            left.map_err(ErrorReport::from).unwrap_or_report();
        });
    }
}

/// The transaction has committed: if it has left something to the relay, that is there now.
pub fn wake_relay() {
    if LEFT.get().is_some()
        && let Some(relay) = RELAY.get()
    {
        (relay.wake)();
    }
}

/// The transaction ended.
pub fn forget() {
    drop(WAITING.take());
    TURN.set(Turn { number: 0, last: None });
    LEFT.set(None);
}

/// A subtransaction was rolled back, and whatever began inside it.
pub fn forget_from(subtransaction: pg_sys::SubTransactionId) {
    WAITING.with_borrow_mut(|all| all.retain(|waiting| waiting.subtransaction < subtransaction));
    LEFT.set(LEFT.get().filter(|outermost| *outermost < subtransaction));
}
