//! purge_versions: versions of a record go for ever, never the latest (seed 003). The choice is `version_choice`'s.

use pgrx::datum::AnyElement;
use pgrx::iter::SetOfIterator;
use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::layout::{self, Lock};
use super::rows::Rows;
use super::version_choice::{MOST_IDS, Refusal, Request};
use super::{cancelled, no_such_record, owners, record, seen};
use crate::backend::relation::LockFor;
use crate::error::{Error, Result};
use crate::table::key::Key;
use crate::table::{Fits, Table};

/// Hard delete of versions; returns those that went, ascending. Errors in the order of DESIGN §3.
#[pg_extern(sql = false)]
fn purge_versions(
    id: Option<AnyElement>,
    from: Option<i64>,
    lim: Option<i32>,
    ids: Option<Vec<Option<i64>>>,
    relation: Option<pg_sys::Oid>,
) -> Result<SetOfIterator<'static, i64>, ErrorReport> {
    let purge = || -> Result<Vec<i64>> {
        let (table, key) = record(id, relation, Fits::Versions, LockFor::Writing)?;
        require_versions(&table, "purge_versions()")?;
        let ids = ids.map(|ids| {
            ids.into_iter()
                .collect::<Option<Vec<i64>>>()
                .ok_or_else(|| Error::invalid("ids must not contain NULL").hint("List the versions to purge."))
        });
        purge_chosen(&table, &key, Request { from, lim, ids: ids.transpose()? })
    };
    purge().map(SetOfIterator::new).map_err(Into::into)
}

fn purge_chosen(table: &Table, key: &Key, request: Request) -> Result<Vec<i64>> {
    if request.is_empty() {
        return Err(Error::invalid("one of from, lim and ids is needed")
            .detail(format!("Record \"{}\" of table {} was to lose versions, but none were named.", key.text, table.title()))
            .hint("from: this version and older. lim: that many of the oldest. ids: exactly these."));
    }
    let layout = layout::of(table);
    // All versions are locked, so that none is the latest by the time it goes.
    let found = table.as_owner(|| layout.find(&Rows::Record(key), Lock::Delete))?;
    if found.is_empty() {
        return Err(no_such_record(table, key));
    }
    owners::require_of_record_or_table(table, key)?;
    // A row that was waited for may have another version than the one it was sorted by.
    let mut versions: Vec<i64> = found.iter().filter_map(|row| row.version).collect();
    versions.sort_unstable();
    let chosen = request.choose(&versions).map_err(|refusal| refused(table, key, &versions, refusal))?;
    let purged = seen(table, || table.as_owner(|| layout.purge(&Rows::Versions(key, &chosen))))?;
    if purged < chosen.len() as u64 {
        return Err(cancelled(table, key, "purged of all the versions chosen"));
    }
    Ok(chosen)
}

/// 22023 where the table has no version column.
pub fn require_versions(table: &Table, door: &str) -> Result<()> {
    if table.version.is_some() {
        return Ok(());
    }
    Err(Error::invalid(format!("table {} has no version column", table.title()))
        .detail(format!("{door} is for records with versions."))
        .hint(format!("Name one: SELECT tombstone.configure('{}', 'version', …);", table.title())))
}

fn refused(table: &Table, key: &Key, versions: &[i64], refusal: Refusal) -> Error {
    let message = match &refusal {
        Refusal::OnlyVersion => "it has only one version, and the latest is never purged".to_string(),
        Refusal::TooManyIds(count) => format!("ids lists {count} versions, and {MOST_IDS} is the most"),
        Refusal::NoIds => "ids lists no version".to_string(),
        Refusal::LatestAmongIds(latest) => format!("ids lists version {latest}, the latest, which is never purged"),
        Refusal::UnknownIds(unknown) => format!("it has no version {}", list(unknown)),
        Refusal::LimOutOfRange { lim, most } => format!("lim is {lim}, and must be from 1 to {most}"),
        Refusal::UnknownFrom(from) => format!("it has no version {from} to purge from"),
        Refusal::LimBeyondFrom { lim, from, most } => format!("lim is {lim}, but from {from} reaches only {most} versions"),
    };
    let hint = match refusal {
        Refusal::OnlyVersion => "To remove the record altogether use tombstone.purge().",
        Refusal::TooManyIds(_) => "Purge in several calls, or by from and lim.",
        _ => "Nothing was purged.",
    };
    Error::invalid(format!("cannot purge versions of record \"{}\" of table {}: {message}", key.text, table.title()))
        .detail(format!("Its versions are {}.", list(versions)))
        .hint(hint)
}

/// The numbers, shortened in the middle where they are many.
fn list(numbers: &[i64]) -> String {
    let words = |numbers: &[i64]| numbers.iter().map(i64::to_string).collect::<Vec<_>>().join(", ");
    match numbers {
        [first @ .., _, _] if numbers.len() > 12 => {
            format!("{}, …, {}", words(&first[..8]), words(&numbers[numbers.len() - 2..]))
        }
        _ => words(numbers),
    }
}
