//! soft_delete_many: each id gets an outcome, and no bad one fails the good ones.

use std::collections::BTreeMap;

use pgrx::datum::AnyArray;
use pgrx::iter::TableIterator;
use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::layout::{self, Found, Lock, Standing};
use super::rows::Rows;
use super::{all_but_refused, cancelled, hold, locking, owners, readable_keys, seen};
use crate::backend::relation::LockFor;
use crate::error::{Error, Result};
use crate::log::account::{self, Account, Cause};
use crate::table::given::texts_of;
use crate::table::key::Key;
use crate::table::{Fits, Table, resolve};

/// What came of one id.
#[derive(Debug, Clone, PartialEq)]
enum DeleteOutcome {
    Deleted,
    NotFound,
    AlreadyDeleted,
    /// Refused, and why.
    Denied(Error),
    Held(Error),
    Children(Error),
}

impl DeleteOutcome {
    fn name(&self) -> &'static str {
        match self {
            DeleteOutcome::Deleted => "deleted",
            DeleteOutcome::NotFound => "not_found",
            DeleteOutcome::AlreadyDeleted => "already_deleted",
            DeleteOutcome::Denied(_) => "denied",
            DeleteOutcome::Held(_) => "held",
            DeleteOutcome::Children(_) => "children",
        }
    }

    fn detail(&self) -> Option<String> {
        match self {
            DeleteOutcome::Deleted | DeleteOutcome::NotFound | DeleteOutcome::AlreadyDeleted => None,
            DeleteOutcome::Denied(why) | DeleteOutcome::Held(why) | DeleteOutcome::Children(why) => Some(why.summary()),
        }
    }

    /// What an error means for the one record that raised it.
    fn of(error: Error) -> DeleteOutcome {
        match error.code() {
            PgSqlErrorCode::ERRCODE_OBJECT_IN_USE => DeleteOutcome::Held(error),
            PgSqlErrorCode::ERRCODE_FOREIGN_KEY_VIOLATION => DeleteOutcome::Children(error),
            _ => DeleteOutcome::Denied(error),
        }
    }
}

/// A line of the answer: the id as given, the outcome, and why where it is a refusal.
type Line = (Option<String>, String, Option<String>);

/// Soft-deletes records in one deletion; says for each id, in the order given, what came of it (DESIGN §3).
#[pg_extern(sql = false)]
#[allow(clippy::type_complexity, reason = "pgrx reads the columns' names and types from it")]
fn soft_delete_many(
    ids: Option<AnyArray>,
    relation: Option<pg_sys::Oid>,
    reason: Option<String>,
) -> Result<
    TableIterator<'static, (name!(id, Option<String>), name!(outcome, String), name!(detail, Option<String>))>,
    ErrorReport,
> {
    let delete = || -> Result<Vec<Line>> {
        let table = resolve(relation, Fits::Records, LockFor::Writing)?;
        let ids = texts_of(ids.ok_or_else(|| Error::invalid("ids must not be NULL"))?);
        let outcomes = account::on(Account::new(Cause::User, reason), || delete_named(&table, &ids))?;
        let lines = ids.into_iter().zip(outcomes);
        Ok(lines.map(|(id, outcome)| (id, outcome.name().to_string(), outcome.detail())).collect())
    };
    delete().map(TableIterator::new).map_err(Into::into)
}

/// The outcome for each of `ids`. Whatever names no record is not found; where a record is named again, it has been deleted already.
fn delete_named(table: &Table, ids: &[Option<String>]) -> Result<Vec<DeleteOutcome>> {
    let (keys, places) = records(table, ids)?;
    let found = match locking::with_children(table, &keys) {
        Err(error) if error.code() == PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE => {
            return Ok(vec![DeleteOutcome::Denied(error); ids.len()]);
        }
        found => found?,
    };
    let mut outcomes = vec![DeleteOutcome::NotFound; ids.len()];
    for (outcome, places) in delete_each(table, &keys, &found)?.into_iter().zip(places) {
        for (i, place) in places.into_iter().enumerate() {
            let was_deleted_before = i > 0 && outcome == DeleteOutcome::Deleted;
            outcomes[place] = if was_deleted_before { DeleteOutcome::AlreadyDeleted } else { outcome.clone() };
        }
    }
    Ok(outcomes)
}

/// The records that `ids` name, each once, and where it is named. They are in one order, whatever that of the list: of two calls
/// for the same records the second waits at the first of them.
fn records(table: &Table, ids: &[Option<String>]) -> Result<(Vec<Key>, Vec<Vec<usize>>)> {
    let (places, named): (Vec<usize>, Vec<&str>) =
        ids.iter().enumerate().filter_map(|(place, id)| Some((place, id.as_deref()?))).unzip();
    let mut records: BTreeMap<String, (Key, Vec<usize>)> = BTreeMap::new();
    for (i, key) in readable_keys(table, &named)? {
        records.entry(key.text.clone()).or_insert_with(|| (key, Vec::new())).1.push(places[i]);
    }
    Ok(records.into_values().unzip())
}

/// The outcome for each of `keys`, whose rows were found so, and are locked.
fn delete_each(table: &Table, keys: &[Key], found: &[Found]) -> Result<Vec<DeleteOutcome>> {
    let mut outcomes = vec![DeleteOutcome::NotFound; keys.len()];
    for row in found {
        let outcome = &mut outcomes[row.key];
        match row.standing {
            Standing::Live => *outcome = DeleteOutcome::Deleted,
            Standing::Deleted(_) if *outcome != DeleteOutcome::Deleted => *outcome = DeleteOutcome::AlreadyDeleted,
            Standing::Deleted(_) => (),
        }
    }
    let live = |outcomes: &[DeleteOutcome]| -> Vec<usize> {
        (0..keys.len()).filter(|i| outcomes[*i] == DeleteOutcome::Deleted).collect()
    };
    let chosen = |places: &[usize]| -> Vec<Key> { places.iter().map(|i| keys[*i].clone()).collect() };

    let candidates = live(&outcomes);
    let owned = owners::owned(table, &chosen(&candidates))?;
    let held = hold::held_among(table, &chosen(&candidates))?;
    for (i, owned) in candidates.into_iter().zip(owned) {
        if held.contains(&keys[i].text) {
            outcomes[i] = DeleteOutcome::Held(hold::refusal(table, &keys[i]));
        } else if !owned {
            outcomes[i] = DeleteOutcome::Denied(owners::not_owner(table, &keys[i]));
        }
    }
    let candidates = live(&outcomes);
    let delete = |keys: &[Key]| seen(table, || layout::of(table).soft_delete_as_caller(&Rows::Records(keys)));
    for (i, error) in all_but_refused(&chosen(&candidates), Error::says_triggers_slept, &delete)? {
        outcomes[candidates[i]] = DeleteOutcome::of(error);
    }
    for row in layout::of(table).find(&Rows::Records(keys), Lock::None)? {
        if row.standing == Standing::Live && outcomes[row.key] == DeleteOutcome::Deleted {
            outcomes[row.key] = DeleteOutcome::Denied(cancelled(table, &keys[row.key], "deleted"));
        }
    }
    Ok(outcomes)
}
