//! The relay's work: what writers left to it is announced, each entry once, by whoever comes to it: the relay process, a worker's
//! pass, maintain(). Reads `tombstone.event`, moves the place in `tombstone.relayed`, which nobody else writes; no managed table is
//! touched, nor anything that users wrote.
//!
//! The place moves in the transaction that notifies, and only from where it was read: of two who announce the same, one does.

use super::cursor::Cursor;
use super::notify::{self, SPARE};
use super::payload::{Full, MOST_BYTES, Payload, arrays, moment, told_apart};
use super::retention;
use super::stream::{self, Event, Stream};
use crate::backend::identity::c_string;
use crate::backend::notify::send;
use crate::backend::own_table::own_statements;
use crate::error::{Error, Result};

/// Events announced in one transaction, at most: a deletion of millions is worded piece by piece.
const AT_ONCE: usize = 4096;

/// A longer cursor, of many transactions open at once, is left out, rather than the id for its sake.
const LONGEST_CURSOR: usize = 4000;

own_statements! {
    PLACE() = "SELECT ctid::text, cursor FROM tombstone.relayed";
    // Found by where it lies: while a transaction is open for long, the former places cannot be cleared away, and to look for the
    // last one among them would take ever longer.
    GO_ON(TEXT, TEXT, TEXT) =
        "UPDATE tombstone.relayed SET cursor = $3 WHERE ctid = $1::tid AND cursor IS NOT DISTINCT FROM $2 RETURNING ctid::text";
    MAKE_ROOM() = "SELECT pg_catalog.pg_notification_queue_usage()";
}

/// What came of a look at the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Announced {
    /// There was nothing to announce.
    Nothing,
    /// All there was.
    Some,
    /// There is more.
    More,
}

/// How far what was left to the relay has been announced: the row that says so.
#[derive(Debug)]
struct Place {
    row: String,
    cursor: Option<String>,
}

/// One who announces. It remembers its place, so that it need not look it up each time.
#[derive(Debug, Default)]
pub struct Relay {
    place: Option<Place>,
}

impl Relay {
    /// Announces some of what is left to the relay, in the running transaction, which must commit for that and had better be
    /// READ COMMITTED.
    pub fn announce(&mut self) -> Result<Announced> {
        let Some(place) = self.place.take().map_or_else(find_place, |place| Ok(Some(place)))? else {
            return Ok(Announced::Nothing);
        };
        let mut stream = stream_from(&place)?.left_to_relay();
        let page = stream.next(AT_ONCE)?;
        let end = match &page {
            Some(page) => page.end.clone(),
            // Entries that are nobody's to announce: they need not be looked at again.
            None if stream.met_any => stream.end(),
            None => {
                self.place = Some(place);
                return Ok(Announced::Nothing);
            }
        };
        self.place = go_on(place, end)?;
        match page {
            // Somebody else has been here: what is left now is to be seen from where they have come to.
            _ if self.place.is_none() => Ok(Announced::More),
            Some(page) => {
                send_all(&page.events);
                Ok(if stream.is_done() { Announced::Some } else { Announced::More })
            }
            None => Ok(Announced::Nothing),
        }
    }
}

/// Announces some of what a relay that is gone has left behind, in the running transaction; whether there may be more. Costs next
/// to nothing, and writes nothing, where a relay lives or the log has got nothing new.
pub fn announce_leftovers() -> Result<bool> {
    Ok(!notify::relay_lives() && Relay::default().announce()? == Announced::More)
}

/// Has Postgres look how far listeners have read. Else it looks when somebody has notified, which nobody can in a queue that is full.
pub fn make_room() -> Result<()> {
    MAKE_ROOM.run(&[])
}

fn find_place() -> Result<Option<Place>> {
    PLACE.first(&[], |row| Ok(Place { row: row.get(1)?, cursor: row.nullable(2)? }))
}

/// Moves the place to `end`; `None` where it was not as `place` says any more.
fn go_on(place: Place, end: String) -> Result<Option<Place>> {
    let arguments = [place.row.into(), place.cursor.into(), end.clone().into()];
    let row = GO_ON.first(&arguments, |row| row.get(1))?;
    Ok(row.map(|row| Place { row, cursor: Some(end) }))
}

fn stream_from(place: &Place) -> Result<Stream> {
    // Those that are managed no longer are among them: what they left is announced all the same.
    let tables = stream::tables()?;
    let Some(cursor) = &place.cursor else {
        let floors = retention::floors(tables.clone())?;
        return Stream::from_beginning(tables, floors.iter().map(|(_, floor)| floor.raised).max().unwrap_or_default());
    };
    let cursor = Cursor::read(cursor).ok_or_else(|| {
        Error::not_ready("tombstone.relayed does not hold a cursor")
            .hint("To go on from here, with what is not announced yet left out: UPDATE tombstone.relayed SET cursor = tombstone.cursor();")
    })?;
    Stream::after(cursor, tables)
}

/// Hands what is said of these events to Postgres, in their order.
fn send_all(events: &[Event]) {
    let with_cursors = events.iter().all(|event| event.cursor.len() <= LONGEST_CURSOR);
    let said = events.chunk_by(are_said_together).flat_map(|events| words(events, with_cursors));
    for (turn, (channel, json)) in said.enumerate() {
        // Without cursors two may read the same, and Postgres would send them once.
        send(&c_string(channel), told_apart(json, if with_cursors { 0 } else { turn as u64 }));
    }
}

/// Whether an array may hold both.
fn are_said_together(one: &Event, other: &Event) -> bool {
    let (one, other) = (&one.entry, &other.entry);
    (one.managed, &one.channel, one.batched) == (other.managed, &other.channel, other.batched)
}

/// The payloads of events that are said together, each with its channel.
fn words(events: &[Event], with_cursors: bool) -> Vec<(&str, String)> {
    let Some((channel, batched)) =
        events.first().and_then(|event| Some((event.entry.channel.as_deref()?, event.entry.batched)))
    else {
        return Vec::new();
    };
    let payloads = events.iter().map(|event| Payload {
        id: event.id(),
        kind: event.kind(),
        op: &event.entry.op,
        deletion_type: event.entry.deletion_type.as_deref(),
        version: event.version(),
        restored: event.entry.restored,
        cursor: with_cursors.then_some(event.cursor.as_str()),
        full: event.entry.full.then(|| Full {
            cause: &event.entry.cause,
            deletion: event.entry.deletion,
            at: moment(event.entry.at.into_inner()),
            app_actor: event.entry.app_actor.as_deref(),
        }),
    });
    let said =
        if batched { arrays(payloads, MOST_BYTES - SPARE) } else { payloads.map(|payload| payload.json(MOST_BYTES)).collect() };
    said.into_iter().map(|json| (channel, json)).collect()
}
