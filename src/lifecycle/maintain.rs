//! maintain: what there is to do for managed tables from time to time. So far that is one thing: trimming the log.

use std::time::{Duration, Instant};

use pgrx::datum::Interval;
use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use crate::backend::identity::{caller, has_privileges_of};
use crate::backend::relation::owner_of;
use crate::error::{Error, Result};
use crate::log::retention;
use crate::table::{Managed, all_managed, not_managed, title};

/// Trims the events of a table that the caller owns, or of all of them, by event_retention (DESIGN §5).
#[pg_extern(sql = false)]
fn maintain(relation: Option<pg_sys::Oid>, max_runtime: Option<Interval>) -> Result<(), ErrorReport> {
    let maintain = || -> Result<()> {
        let until = Instant::now() + runtime(max_runtime)?;
        let tables = owned(relation)?;
        if !tables.is_empty() {
            retention::store_tick()?;
        }
        for table in tables {
            if Instant::now() >= until {
                break;
            }
            if let Some(event_retention) = table.event_retention {
                retention::trim(table.number, event_retention)?;
            }
        }
        Ok(())
    };
    maintain().map_err(Into::into)
}

/// Nobody waits longer, and every clock can count it.
const LONGEST: Duration = Duration::from_secs(365 * 86_400);

fn runtime(max_runtime: Option<Interval>) -> Result<Duration> {
    let microseconds = max_runtime
        .map(|most| (i128::from(most.months()) * 30 + i128::from(most.days())) * 86_400_000_000 + i128::from(most.micros()));
    let runtime = microseconds.filter(|most| *most > 0).map(|most| u64::try_from(most).map_or(LONGEST, Duration::from_micros));
    runtime.map(|most| most.min(LONGEST)).ok_or_else(|| {
        Error::invalid("max_runtime must be longer than nothing").hint("It is an interval; 5 minutes by default.")
    })
}

/// The managed tables that the caller owns: that one, or all.
fn owned(relation: Option<pg_sys::Oid>) -> Result<Vec<Managed>> {
    let mut tables = all_managed()?;
    tables.retain(|table| relation.is_none_or(|relation| relation == table.relation));
    let owned = |table: &Managed| has_privileges_of(caller(), owner_of(table.relation));
    match relation {
        Some(relation) if tables.is_empty() => Err(not_managed(relation)),
        Some(relation) if !tables.iter().all(owned) => {
            Err(Error::denied(format!("must be owner of table {}", title(relation))))
        }
        _ => {
            tables.retain(owned);
            Ok(tables)
        }
    }
}
