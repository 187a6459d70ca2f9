//! The doors to watching: watch, watch_now, unwatch. Who owns a table may have it watched.

use std::rc::Rc;
use std::time::Duration;

use counting::Strategy;
use pgrx::AnyNumeric;
use pgrx::datum::Interval;
use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::inquiry;
use super::pages::Records;
use super::probe::Probe;
use super::watched::{self, Manner, Options};
use crate::backend::identity::{caller, has_privileges_of};
use crate::backend::relation::LockFor;
use crate::backend::subtransaction::reworded;
use crate::error::{Error, Result};
use crate::table::options::is_positive;
use crate::table::{Fits, Table, not_managed, resolve};

/// The most ids that one question may be about.
const LARGEST_BATCH: i32 = 100_000;

/// Watches a table from now on, or otherwise than before (DESIGN §3, seed 002).
#[pg_extern(sql = false)]
#[allow(clippy::too_many_arguments, reason = "the signature is the contract")]
fn watch(
    relation: Option<pg_sys::Oid>,
    probe: Option<pg_sys::Oid>,
    every: Option<Interval>,
    batch: Option<i32>,
    max_missing: Option<AnyNumeric>,
    restore: Option<bool>,
    strategy: Option<String>,
    timeout: Option<Interval>,
) -> Result<(), ErrorReport> {
    let watch = || -> Result<()> {
        let table = owned_table(relation, LockFor::Reading)?;
        let probe = required("probe", probe)?;
        let timeout = patience(required("timeout", timeout)?)?;
        let options = Options {
            probe: Probe::new(&table, probe, LONGEST_TIMEOUT)?,
            every: every.map(|every| positive("every", every)).transpose()?,
            batch: batch_size(required("batch", batch)?)?,
            max_missing: share(required("max_missing", max_missing)?)?,
            restore: required("restore", restore)?,
            strategy: strategy_of(&required("strategy", strategy)?)?,
            timeout,
        };
        // In the order in which a pass locks what it writes: its run, then what it is watched by.
        inquiry::close_pass(table.number, "watched otherwise from now on")?;
        // A table unmanaged meanwhile has no row to refer to.
        let set = || watched::set(table.number, options);
        reworded(set, |error| if error.is_foreign_key() { not_managed(table.oid) } else { error })?
    };
    watch().map_err(Into::into)
}

/// Has the next pass of a watched table begin now (beside the design: to call watch() again would take all its options anew).
#[pg_extern(sql = false)]
fn watch_now(relation: Option<pg_sys::Oid>) -> Result<(), ErrorReport> {
    let bring_on = || -> Result<()> {
        let table = owned_table(relation, LockFor::Reading)?;
        watched::manner_of(&table)?.ok_or_else(|| watched::not_watched(&table))?;
        match watched::bring_on(table.number)? {
            true => Ok(()),
            false => Err(Error::not_ready(format!("table {} is watched without passes", table.title()))
                .detail("Its every is NULL.")
                .hint("tombstone.reconcile() asks about all of its records, or about some.")),
        }
    };
    bring_on().map_err(Into::into)
}

/// Watches a table no more (DESIGN §3).
#[pg_extern(sql = false)]
fn unwatch(relation: Option<pg_sys::Oid>) -> Result<(), ErrorReport> {
    let unwatch = || -> Result<()> {
        let table = owned_table(relation, LockFor::Reading)?;
        inquiry::close_pass(table.number, "watched no more")?;
        match watched::delete(table.number)? {
            true => Ok(()),
            false => Err(watched::not_watched(&table)),
        }
    };
    unwatch().map_err(Into::into)
}

/// The managed table, which the caller must own: what it is about is what the owner's probe says, and whom it deletes the owner's rows.
pub fn owned_table(relation: Option<pg_sys::Oid>, what_for: LockFor) -> Result<Rc<Table>> {
    let table = resolve(relation, Fits::Records, what_for)?;
    if has_privileges_of(caller(), table.owner) {
        return Ok(table);
    }
    Err(Error::denied(format!("must be owner of table {}", table.title()))
        .detail("What its source has not is deleted with the table owner's rights."))
}

/// How a run that somebody asks for goes by `manner`: confirmed, whatever share of the records that he has named is missing. Of all
/// there are, nobody confirms what he has not seen: 22023.
pub fn confirmed(manner: Manner, confirm: Option<bool>, records: &Records) -> Result<Manner> {
    match (confirm.unwrap_or(false), records) {
        (false, _) => Ok(manner),
        (true, Records::Named(_)) => Ok(Manner { max_missing: None, ..manner }),
        (true, Records::All) => Err(Error::invalid("confirm needs the ids of the records that may be missing")
            .detail("Without ids, all records are asked after; a source that is down has none of them.")
            .hint("ids => ARRAY(SELECT id FROM tombstone.suspects WHERE run = …), once you have looked at them.")),
    }
}

/// 22023 where it is NULL.
pub fn required<T>(argument: &str, value: Option<T>) -> Result<T> {
    value.ok_or_else(|| Error::invalid(format!("{argument} must not be NULL")))
}

/// 22023 where it is no size of a batch.
pub fn batch_size(batch: i32) -> Result<i32> {
    if (1..=LARGEST_BATCH).contains(&batch) {
        return Ok(batch);
    }
    Err(Error::invalid(format!("batch must be between 1 and {LARGEST_BATCH}, not {batch}"))
        .hint("It is the most ids that the source is asked after in one question."))
}

fn share(share: AnyNumeric) -> Result<AnyNumeric> {
    if (AnyNumeric::from(0)..=AnyNumeric::from(1)).contains(&share) {
        return Ok(share);
    }
    Err(Error::invalid(format!("max_missing must be between 0 and 1, not {share}"))
        .hint("It is a share: 0.15 means that 15 % may be missing."))
}

fn strategy_of(name: &str) -> Result<Strategy> {
    Strategy::from_name(name).ok_or_else(|| {
        let names = Strategy::ALL.map(|strategy| strategy.name()).join(", ");
        Error::invalid(format!("strategy must be one of {names}, not \"{name}\""))
    })
}

/// No question keeps a worker from its other tables for longer.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(300);

fn patience(timeout: Interval) -> Result<Interval> {
    let timeout = positive("timeout", timeout)?;
    let days = i128::from(timeout.months()) * 30 + i128::from(timeout.days());
    if days * 86_400_000_000 + i128::from(timeout.micros()) <= LONGEST_TIMEOUT.as_micros() as i128 {
        return Ok(timeout);
    }
    Err(Error::invalid("timeout must be at most 5 minutes").hint("It is how long one question to the source may take."))
}

fn positive(argument: &str, interval: Interval) -> Result<Interval> {
    if is_positive(interval.months(), interval.days(), interval.micros()) {
        return Ok(interval);
    }
    Err(Error::invalid(format!("{argument} must be longer than nothing")))
}
