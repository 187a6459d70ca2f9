//! maintain: what there is to do for managed tables from time to time. So far that is one thing: trimming the log.

use std::time::{Duration, Instant};

use pgrx::datum::Interval;
use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use crate::backend::identity::{caller, has_privileges_of};
use crate::error::{Error, Result};
use crate::log::retention;
use crate::table::{all_managed, by_oid};

/// Trims the events of a table that the caller owns, or of all of them, by event_retention (DESIGN §5).
#[pg_extern(sql = false)]
fn maintain(relation: Option<pg_sys::Oid>, max_runtime: Option<Interval>) -> Result<(), ErrorReport> {
    let maintain = || -> Result<()> {
        let until = Instant::now() + runtime(max_runtime)?;
        retention::store_tick()?;
        for relation in tables(relation)? {
            if Instant::now() >= until {
                break;
            }
            let table = by_oid(relation)?;
            if let Some(event_retention) = table.event_retention {
                retention::trim(table.number, event_retention)?;
            }
        }
        Ok(())
    };
    maintain().map_err(Into::into)
}

fn runtime(max_runtime: Option<Interval>) -> Result<Duration> {
    let microseconds = max_runtime
        .map(|most| (i128::from(most.months()) * 30 + i128::from(most.days())) * 86_400_000_000 + i128::from(most.micros()));
    let microseconds = microseconds.and_then(|most| u64::try_from(most).ok()).filter(|most| *most > 0);
    microseconds.map(Duration::from_micros).ok_or_else(|| {
        Error::invalid("max_runtime must be longer than nothing").hint("It is an interval; 5 minutes by default.")
    })
}

fn tables(relation: Option<pg_sys::Oid>) -> Result<Vec<pg_sys::Oid>> {
    let mut tables = Vec::new();
    for managed in all_managed()? {
        if relation.is_none_or(|relation| relation == managed) && has_privileges_of(caller(), by_oid(managed)?.owner) {
            tables.push(managed);
        }
    }
    match relation {
        Some(relation) if tables.is_empty() => {
            let table = by_oid(relation)?;
            Err(Error::denied(format!("must be owner of table {}", table.title())))
        }
        _ => Ok(tables),
    }
}
