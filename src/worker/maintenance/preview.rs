//! preview: what expiry and purge would take now, told without taking it.

use pgrx::datum::TimestampWithTimeZone;
use pgrx::iter::TableIterator;
use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::batch::held_keys;
use super::door::{may_maintain, may_watch, one_or_all};
use crate::backend::relation::{LockFor, lock};
use crate::backend::subtransaction::attempt;
use crate::error::{Error, Result};
use crate::lifecycle::layout::{self, Summary};
use crate::lifecycle::rule::{Action, Rule};
use crate::settings::in_our_settings;
use crate::table::{Terms, by_oid};

type Line = (pg_sys::Oid, String, i64, Option<TimestampWithTimeZone>, Option<TimestampWithTimeZone>);

/// What a pass would expire and purge (DESIGN §3).
#[pg_extern(sql = false)]
#[allow(clippy::type_complexity, reason = "the columns are the contract")]
fn preview(
    relation: Option<pg_sys::Oid>,
) -> Result<
    TableIterator<
        'static,
        (
            name!(relation, pg_sys::Oid),
            name!(action, String),
            name!(records, i64),
            name!(oldest, Option<TimestampWithTimeZone>),
            name!(newest, Option<TimestampWithTimeZone>),
        ),
    >,
    ErrorReport,
> {
    let preview = || -> Result<Vec<Line>> {
        let mut lines = Vec::new();
        for terms in one_or_all(relation, may_watch)? {
            for rule in Action::ALL.iter().filter_map(|action| Rule::of(&terms, *action)) {
                // Of all tables, one that fails must not hide the others.
                let summary = match (relation.is_some(), attempt(|| summary(&terms, &rule))) {
                    (true, Err(error)) => {
                        return Err(Error::caught(error.code(), &no_telling(&terms, &rule, &error), None, None));
                    }
                    (_, summary) => summary,
                };
                match summary {
                    Ok(found) => {
                        lines.push((terms.relation, rule.action.name().into(), found.rows, found.oldest, found.newest));
                    }
                    Err(error) => warning!("{}", no_telling(&terms, &rule, &error)),
                }
            }
        }
        Ok(lines)
    };
    preview().map(TableIterator::new).map_err(Into::into)
}

/// What went wrong may quote a row: it is told to who owns the table, not to who watches it.
fn no_telling(terms: &Terms, rule: &Rule, error: &Error) -> String {
    let why = if may_maintain(terms.relation) { error.summary() } else { "its expression fails".into() };
    format!("{}: there is no telling what is to be {}: {why}", terms.title, rule.action.participle())
}

fn summary(terms: &Terms, rule: &Rule) -> Result<Summary> {
    in_our_settings(|| {
        lock(terms.relation, LockFor::Reading);
        let table = by_oid(terms.relation)?;
        let held = held_keys(&table)?;
        table.evaluating(|| layout::of(&table).summary(rule, &held))
    })
}
