//! The doors to maintenance: maintain, pause, resume. Who owns a table may maintain it.

use std::time::{Duration, Instant};

use pgrx::datum::Interval;
use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::Maintenance;
use crate::backend::identity::{actor, caller, has_privileges_of};
use crate::backend::procedure::committing;
use crate::backend::relation::owner_of;
use crate::error::{Error, Result};
use crate::table::{self, Terms, not_managed, terms, title};

/// Expires, purges and trims the tables that the caller owns, or one of them, until nothing is due or time is up (DESIGN §3).
#[pg_extern(sql = false)]
fn maintain(
    relation: Option<pg_sys::Oid>,
    max_runtime: Option<Interval>,
    call: pg_sys::FunctionCallInfo,
) -> Result<(), ErrorReport> {
    let maintain = || -> Result<()> {
        let until = Instant::now() + runtime(max_runtime)?;
        let tables = one_or_all(relation, may_maintain)?.into_iter().map(|terms| terms.number).collect();
        // SAFETY: the call that we are in.
        let failure = unsafe { committing(call, || Maintenance::once(tables, until)) }??;
        match failure {
            // Of several tables, the others have been seen to; what went wrong has been told.
            Some(error) if relation.is_some() => Err(error),
            _ => Ok(()),
        }
    };
    maintain().map_err(Into::into)
}

/// Keeps expiry and purge away from a table, or from all that the caller owns (DESIGN §3).
#[pg_extern(sql = false)]
fn pause(relation: Option<pg_sys::Oid>) -> Result<(), ErrorReport> {
    let pause = || one_or_all(relation, may_maintain)?.iter().try_for_each(|terms| table::pause(terms.number, &actor()));
    pause().map_err(Into::into)
}

/// Lets expiry and purge at a table again, or at all that the caller owns (DESIGN §3).
#[pg_extern(sql = false)]
fn resume(relation: Option<pg_sys::Oid>) -> Result<(), ErrorReport> {
    let resume = || one_or_all(relation, may_maintain)?.iter().try_for_each(|terms| table::resume(terms.number));
    resume().map_err(Into::into)
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

/// The managed table named, or all of those that `may` allows the caller.
pub fn one_or_all(relation: Option<pg_sys::Oid>, may: fn(pg_sys::Oid) -> bool) -> Result<Vec<Terms>> {
    let mut tables = terms()?;
    tables.retain(|table| relation.is_none_or(|relation| relation == table.relation));
    match relation {
        Some(relation) if tables.is_empty() => Err(not_managed(relation)),
        Some(relation) if !may(relation) => Err(Error::denied(format!("must be owner of table {}", title(relation)))),
        _ => {
            tables.retain(|table| may(table.relation));
            Ok(tables)
        }
    }
}

pub fn may_maintain(relation: pg_sys::Oid) -> bool {
    has_privileges_of(caller(), owner_of(relation))
}

/// Who monitors a server may know how much there is to do.
pub fn may_watch(relation: pg_sys::Oid) -> bool {
    may_maintain(relation) || has_privileges_of(caller(), pg_sys::Oid::from(pg_sys::ROLE_PG_MONITOR))
}
