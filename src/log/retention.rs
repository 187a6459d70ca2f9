//! How long the log remembers. An entry goes when a tick that had it is older than its table's event_retention: what counts
//! is when an entry could first be read, not when its transaction began. What is gone is remembered as the table's floor,
//! so that a cursor from before it is refused, and one from after it is not.
//!
//! Nobody else writes `tombstone.tick` and `tombstone.floor`. The entries themselves are `event`'s to trim.

use pgrx::datum::{DatumWithOid, Interval};

use super::event;
use super::snapshot::Snapshot;
use super::tick::{self, Cursor};
use crate::backend::own_table::own_statements;
use crate::backend::relation::{LockFor, lock, own};
use crate::error::Result;

own_statements! {
    STORED() = "SELECT seen::text FROM tombstone.tick ORDER BY tick DESC LIMIT 1";
    // Whether the log has anything that a tick's snapshot does not see: other transactions, of other databases above all, are no
    // news.
    NEWS(TEXT, TEXT) =
        "SELECT 1 FROM tombstone.managed m
         WHERE EXISTS (SELECT FROM tombstone.event e WHERE e.managed = m.managed AND e.xid >= $1::xid8)
            OR EXISTS (SELECT FROM tombstone.event e WHERE e.managed = m.managed AND e.xid = ANY ($2::xid8[]))
         LIMIT 1";
    STORE(TEXT) = "INSERT INTO tombstone.tick (seen) VALUES ($1::pg_snapshot)";
    // The newest tick that every table may trim up to makes those before it useless.
    FORGET() =
        "DELETE FROM tombstone.tick WHERE tick < (
             SELECT max(t.tick) FROM tombstone.tick t
             WHERE t.at < clock_timestamp() - (SELECT COALESCE(least(max(event_retention), interval '4000 years'), interval '0')
                                               FROM tombstone.managed))";
    DUE(INTERVAL) =
        "SELECT seen::text FROM tombstone.tick
         WHERE at < clock_timestamp() - least($1, interval '4000 years') ORDER BY tick DESC LIMIT 1";
    RAISE(INT4, TEXT, TEXT, INT8) =
        "INSERT INTO tombstone.floor AS f (managed, seen, last, seq) VALUES ($1, $2::pg_snapshot, $3::xid8, $4)
         ON CONFLICT (managed) DO UPDATE SET seen = EXCLUDED.seen, raised = DEFAULT, seq = greatest(f.seq, EXCLUDED.seq),
             last = CASE WHEN f.last > EXCLUDED.last THEN f.last ELSE EXCLUDED.last END";
    FLOORS(INT4_ARRAY) = "SELECT managed, seen::text, last::text, seq, raised FROM tombstone.floor WHERE managed = ANY ($1)";
}

/// What has been trimmed of a table's events: of what `seen` sees, up to transaction `last` and number `seq`.
pub struct Floor {
    seen: Snapshot,
    last: u64,
    seq: i64,
    /// Counts acts of trimming.
    pub raised: i64,
}

impl Floor {
    /// Whether a reader may have missed something below the floor.
    pub fn is_above(&self, reader: &Cursor) -> bool {
        match &reader.within {
            Some(within) if self.raised <= within.trimmed => false,
            // All that is gone comes before the reader's place: of this tick it has got that, of later ones nothing.
            Some(within) if self.seq < within.seq => self.hides_from(&reader.seen.with(&within.until)),
            _ => self.hides_from(&reader.seen),
        }
    }

    fn hides_from(&self, reader: &Snapshot) -> bool {
        let trimmed = |number: u64| number <= self.last && self.seen.sees(number);
        reader.end() <= self.last || reader.open().iter().any(|number| trimmed(*number))
    }
}

/// The floors of the tables of these numbers, as far as anything was ever trimmed of them: as the running statement sees them,
/// which then sees the events above them.
pub fn floors(tables: Vec<i32>) -> Result<Vec<(i32, Floor)>> {
    FLOORS.rows_now(&[tables.into()], |row| {
        let floor = Floor {
            seen: row.parsed(2, Snapshot::from_pg)?,
            last: row.parsed(3, |last| last.parse().ok())?,
            seq: row.get(4)?,
            raised: row.get(5)?,
        };
        Ok((row.get(1)?, floor))
    })
}

/// Stores the tick that is now, unless nothing was logged since the last one; and drops those nobody needs.
///
/// Whoever else wants to trim waits until this transaction is over, so that the floors are raised in the order of commits.
pub fn store_tick() -> Result<()> {
    lock(own(c"floor"), LockFor::Configuring);
    let now = tick::now();
    let last = STORED.first(&[], |row| row.parsed(1, Snapshot::from_pg))?.unwrap_or(Snapshot::nothing());
    let open: Vec<String> = last.open().iter().map(u64::to_string).collect();
    if NEWS.any(&[last.end().to_string().into(), format!("{{{}}}", open.join(",")).into()])? {
        STORE.run(&[now.to_pg().into()])?;
    }
    FORGET.run(&[])?;
    event::forget_undone()
}

/// Trims the entries of the table numbered `managed` that are older than `retention`, and with them what the same deletions
/// took of other tables.
pub fn trim(managed: i32, retention: Interval) -> Result<()> {
    let Some(due) = DUE.first(&[DatumWithOid::from(retention)], |row| row.get::<String>(1))? else { return Ok(()) };
    for gone in event::trim(managed, &due, retention)? {
        RAISE.run(&[gone.managed.into(), due.as_str().into(), gone.transaction.into(), gone.seq.into()])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::wal::Position;
    use crate::log::cursor::Within;
    use crate::log::snapshot::tests::snapshots;
    use proptest::prelude::*;

    proptest! {
        /// The same inside a tick: what was open when the tick began to be read comes with a later one, whatever its number.
        #[test]
        fn no_reader_inside_a_tick_does(
            seen in snapshots(), reader in snapshots(), until in snapshots(), place in 0i64..20,
            events in proptest::collection::vec((0u64..200, 0i64..20), 1..20),
        ) {
            let trimmed: Vec<(u64, i64)> = events.into_iter().filter(|(number, _)| seen.sees(*number)).collect();
            if let (Some(last), Some(seq)) = (trimmed.iter().map(|(number, _)| *number).max(), trimmed.iter().map(|(_, seq)| *seq).max()) {
                let floor = Floor { seen: seen.clone(), last, seq, raised: 1 };
                let until = reader.with(&until);
                let got = |(number, seq): &(u64, i64)| reader.sees(*number) || until.sees(*number) && *seq < place;
                let within = Some(Within { until: until.clone(), seq: place, ordinal: 0, trimmed: 0 });
                let position = Position { timeline: 1, lsn: 0 };
                if !trimmed.iter().all(got) {
                    let cursor = Cursor { incarnation: 0, position, seen: reader, within };
                    prop_assert!(floor.is_above(&cursor));
                }
            }
        }

        /// Whoever has not got an event that was trimmed is told so; whoever has got all that `seen` sees never is.
        #[test]
        fn no_reader_misses_anything_unsaid(seen in snapshots(), reader in snapshots(), events in proptest::collection::vec(0u64..200, 1..20)) {
            let trimmed: Vec<u64> = events.into_iter().filter(|number| seen.sees(*number)).collect();
            if let Some(last) = trimmed.iter().max() {
                let floor = Floor { seen: seen.clone(), last: *last, seq: 1, raised: 1 };
                if trimmed.iter().any(|number| !reader.sees(*number)) {
                    prop_assert!(floor.hides_from(&reader));
                }
                if reader.covers(&seen) {
                    prop_assert!(!floor.hides_from(&reader));
                }
            }
        }
    }
}
