//! soft_delete_many: each id gets an outcome, and no bad one fails the good ones.

use pgrx::datum::AnyArray;
use pgrx::iter::TableIterator;
use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::layout::{self, Lock, Standing};
use super::rows::Rows;
use super::{all_but_refused, hold, owners, readable_keys, seen};
use crate::backend::relation::LockFor;
use crate::backend::subtransaction::attempt;
use crate::error::{Error, Result};
use crate::log::account::{self, Account, Cause};
use crate::table::given::texts_of;
use crate::table::key::Key;
use crate::table::{Fits, Table, resolve};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum DeleteOutcome {
    Deleted,
    NotFound,
    AlreadyDeleted,
    Denied,
    Held,
}

impl DeleteOutcome {
    fn name(self) -> &'static str {
        match self {
            DeleteOutcome::Deleted => "deleted",
            DeleteOutcome::NotFound => "not_found",
            DeleteOutcome::AlreadyDeleted => "already_deleted",
            DeleteOutcome::Denied => "denied",
            DeleteOutcome::Held => "held",
        }
    }

    /// What an error means for the one record that raised it.
    fn of(error: &Error) -> DeleteOutcome {
        if error.code() == PgSqlErrorCode::ERRCODE_OBJECT_IN_USE { DeleteOutcome::Held } else { DeleteOutcome::Denied }
    }
}

/// Soft-deletes records in one deletion; says for each id, in the order given, what came of it (DESIGN §3).
#[pg_extern(sql = false)]
fn soft_delete_many(
    ids: Option<AnyArray>,
    relation: Option<pg_sys::Oid>,
    reason: Option<String>,
) -> Result<TableIterator<'static, (name!(id, Option<String>), name!(outcome, String))>, ErrorReport> {
    let delete = || -> Result<Vec<(Option<String>, String)>> {
        let table = resolve(relation, Fits::Records, LockFor::Writing)?;
        let ids = texts_of(ids.ok_or_else(|| Error::invalid("ids must not be NULL"))?);
        let outcomes = account::on(Account::new(Cause::User, reason), || delete_each(&table, &ids))?;
        Ok(ids.into_iter().zip(outcomes).map(|(id, outcome)| (id, outcome.name().to_string())).collect())
    };
    delete().map(TableIterator::new).map_err(Into::into)
}

fn delete_each(table: &Table, ids: &[Option<String>]) -> Result<Vec<DeleteOutcome>> {
    let mut outcomes = vec![DeleteOutcome::NotFound; ids.len()];
    let (places, keys): (Vec<usize>, Vec<Key>) = readable(table, ids)?.into_iter().unzip();
    let locked = attempt(|| layout::of(table).find(&Rows::Records(&keys), Lock::Update));
    let found = match locked {
        Err(error) if error.code() == PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE => {
            return Ok(vec![DeleteOutcome::Denied; ids.len()]);
        }
        found => found?,
    };
    for row in &found {
        let outcome = &mut outcomes[places[row.key]];
        match row.standing {
            Standing::Live => *outcome = DeleteOutcome::Deleted,
            Standing::Deleted(_) if *outcome != DeleteOutcome::Deleted => *outcome = DeleteOutcome::AlreadyDeleted,
            Standing::Deleted(_) => (),
        }
    }
    let live = |outcomes: &[DeleteOutcome]| -> Vec<usize> {
        (0..keys.len()).filter(|i| outcomes[places[*i]] == DeleteOutcome::Deleted).collect()
    };
    let chosen = |indices: &[usize]| -> Vec<Key> { indices.iter().map(|i| keys[*i].clone()).collect() };

    let candidates = live(&outcomes);
    let owned = owners::owned(table, &chosen(&candidates))?;
    let held = hold::held_among(table, &chosen(&candidates))?;
    for (i, owned) in candidates.iter().zip(owned) {
        if held.contains(&keys[*i].text) {
            outcomes[places[*i]] = DeleteOutcome::Held;
        } else if !owned {
            outcomes[places[*i]] = DeleteOutcome::Denied;
        }
    }
    let candidates = live(&outcomes);
    let delete = |keys: &[Key]| seen(table, || layout::of(table).soft_delete_as_caller(&Rows::Records(keys)));
    for (i, error) in all_but_refused(&chosen(&candidates), Error::says_triggers_slept, &delete)? {
        outcomes[places[candidates[i]]] = DeleteOutcome::of(&error);
    }
    // What is live still, a trigger of the table kept alive.
    for row in layout::of(table).find(&Rows::Records(&keys), Lock::None)? {
        if row.standing == Standing::Live && outcomes[places[row.key]] == DeleteOutcome::Deleted {
            outcomes[places[row.key]] = DeleteOutcome::Denied;
        }
    }
    repeat_for_duplicates(&mut outcomes, &places, &keys);
    Ok(outcomes)
}

/// The keys that can be read, each with its place among `ids`; NULL names nothing.
fn readable(table: &Table, ids: &[Option<String>]) -> Result<Vec<(usize, Key)>> {
    let (places, named): (Vec<usize>, Vec<&str>) =
        ids.iter().enumerate().filter_map(|(place, id)| Some((place, id.as_deref()?))).unzip();
    Ok(readable_keys(table, &named)?.into_iter().map(|(i, key)| (places[i], key)).collect())
}

/// An id given twice gets the same outcome twice.
fn repeat_for_duplicates(outcomes: &mut [DeleteOutcome], places: &[usize], keys: &[Key]) {
    let mut first = std::collections::HashMap::new();
    for (place, key) in places.iter().zip(keys) {
        let leader = *first.entry(key.text.as_str()).or_insert(*place);
        outcomes[*place] = outcomes[leader];
    }
}
