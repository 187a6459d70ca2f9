//! How long the log remembers. An entry goes when a tick that had it is older than its table's event_retention: what counts
//! is when an entry could first be read, not when its transaction began. What is gone is remembered as the table's floor,
//! so that a cursor from before it is refused, and one from after it is not.

use pgrx::datum::{DatumWithOid, Interval};
use pgrx::pg_sys;

use super::snapshot::Snapshot;
use super::tick;
use crate::backend::identity::acting_as;
use crate::backend::query::Statement;
use crate::backend::relation::keeper;
use crate::error::Result;

struct Statements {
    stored: Statement,
    store: Statement,
    forget: Statement,
    due: Statement,
    trim: Statement,
    raise: Statement,
    floors: Statement,
    clear_undone: Statement,
}

thread_local! {
    static STATEMENTS: &'static Statements = Box::leak(Box::new(Statements::new()));
}

impl Statements {
    fn new() -> Self {
        use pg_sys::*;
        Statements {
            stored: Statement::new("SELECT seen::text FROM tombstone.tick ORDER BY tick DESC LIMIT 1", [] as [Oid; 0]),
            store: Statement::new("INSERT INTO tombstone.tick (seen) VALUES ($1::pg_snapshot)", [TEXTOID]),
            // The newest tick that every table may trim up to makes those before it useless.
            forget: Statement::new(
                "DELETE FROM tombstone.tick WHERE tick < (
                     SELECT max(t.tick) FROM tombstone.tick t
                     WHERE t.at < clock_timestamp() - (SELECT COALESCE(max(event_retention), interval '0') FROM tombstone.managed))",
                [] as [Oid; 0],
            ),
            due: Statement::new(
                "SELECT seen::text FROM tombstone.tick WHERE at < clock_timestamp() - $1 ORDER BY tick DESC LIMIT 1",
                [INTERVALOID],
            ),
            trim: Statement::new(
                "WITH gone AS (
                     DELETE FROM tombstone.event
                     WHERE managed = $1 AND xid < pg_snapshot_xmax($2::pg_snapshot) AND pg_visible_in_snapshot(xid, $2::pg_snapshot)
                     RETURNING xid, ids, versions
                 )
                 SELECT sum(greatest(cardinality(ids), cardinality(versions)))::int8,
                        (SELECT xid::text FROM gone ORDER BY xid DESC LIMIT 1)
                 FROM gone",
                [INT4OID, TEXTOID],
            ),
            raise: Statement::new(
                "INSERT INTO tombstone.floor AS f (managed, seen, last) VALUES ($1, $2::pg_snapshot, $3::xid8)
                 ON CONFLICT (managed) DO UPDATE SET seen = EXCLUDED.seen,
                     last = CASE WHEN f.last > EXCLUDED.last THEN f.last ELSE EXCLUDED.last END",
                [INT4OID, TEXTOID, TEXTOID],
            ),
            floors: Statement::new(
                "SELECT managed, seen::text, last::text FROM tombstone.floor WHERE managed = ANY ($1)",
                [INT4ARRAYOID],
            ),
            clear_undone: Statement::new(
                "DELETE FROM tombstone.undone u WHERE NOT EXISTS (SELECT FROM tombstone.event e WHERE e.seq = u.deletion)",
                [] as [Oid; 0],
            ),
        }
    }
}

fn with<T>(act: impl FnOnce(&Statements) -> Result<T>) -> Result<T> {
    acting_as(keeper(), || STATEMENTS.with(|statements| act(statements)))
}

/// What has been trimmed of a table's events: all that `seen` sees, the latest of them of transaction `last`.
pub struct Floor {
    seen: Snapshot,
    last: u64,
}

impl Floor {
    /// Whether a reader who has got what `reader` sees may have missed something below the floor.
    pub fn is_above(&self, reader: &Snapshot) -> bool {
        let trimmed = |number: u64| number <= self.last && self.seen.sees(number);
        reader.end() <= self.last || reader.open().iter().any(|number| trimmed(*number))
    }
}

/// The floors of the tables of these numbers, as far as anything was ever trimmed of them.
pub fn floors(tables: Vec<i32>) -> Result<Vec<(i32, Floor)>> {
    let read = |managed: Option<i32>, seen: Option<String>, last: Option<String>| {
        Some((managed?, Floor { seen: Snapshot::from_pg(&seen?)?, last: last?.parse().ok()? }))
    };
    with(|statements| {
        let floors = statements.floors.rows(&[tables.into()], |row| Ok(read(row.get(1)?, row.get(2)?, row.get(3)?)))?;
        Ok(floors.into_iter().flatten().collect())
    })
}

/// Stores the tick that is now, unless nothing was committed since the last one; and drops those nobody needs.
pub fn store_tick() -> Result<()> {
    let now = tick::now();
    with(|statements| {
        let last = statements.stored.rows(&[], |row| Ok(row.get::<String>(1)?))?.into_iter().flatten().next();
        if last.and_then(|text| Snapshot::from_pg(&text)).is_none_or(|last| !last.covers(&now)) {
            statements.store.execute(&[now.to_pg().into()])?;
        }
        statements.forget.execute(&[])?;
        statements.clear_undone.execute(&[]).map(drop)
    })
}

/// Trims the events of the table numbered `managed` that are older than `retention`; returns how many.
pub fn trim(managed: i32, retention: Interval) -> Result<i64> {
    with(|statements| {
        let due = statements.due.rows(&[DatumWithOid::from(retention)], |row| Ok(row.get::<String>(1)?))?;
        let Some(due) = due.into_iter().flatten().next() else { return Ok(0) };
        let gone = statements.trim.rows(&[managed.into(), due.clone().into()], |row| {
            Ok((row.get::<i64>(1)?.unwrap_or_default(), row.get::<String>(2)?))
        })?;
        match gone.into_iter().next() {
            Some((events, Some(last))) => {
                statements.raise.execute(&[managed.into(), due.into(), last.into()])?;
                Ok(events)
            }
            _ => Ok(0),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::snapshot::tests::snapshots;
    use proptest::prelude::*;

    proptest! {
        /// Whoever has not got an event that was trimmed is told so; whoever has got all that `seen` sees never is.
        #[test]
        fn no_reader_misses_anything_unsaid(seen in snapshots(), reader in snapshots(), events in proptest::collection::vec(0u64..200, 1..20)) {
            let trimmed: Vec<u64> = events.into_iter().filter(|number| seen.sees(*number)).collect();
            if let Some(last) = trimmed.iter().max() {
                let floor = Floor { seen: seen.clone(), last: *last };
                if trimmed.iter().any(|number| !reader.sees(*number)) {
                    prop_assert!(floor.is_above(&reader));
                }
                if reader.covers(&seen) {
                    prop_assert!(!floor.is_above(&reader));
                }
            }
        }
    }
}
