//! The options that are expressions over a row: kind, owners, expire_from, purge_after. Parsed with the owner's rights when they are set.

use pgrx::Spi;
use pgrx::pg_sys::{self, Oid};

use crate::backend::analysis::columns_read;
use crate::backend::expression::is_one_expression;
use crate::backend::ident::qualified;
use crate::backend::identity::acting_as;
use crate::backend::subtransaction::rehearse;
use crate::error::{Error, Result};
use crate::table::ColumnType;
use crate::table::catalog::{Attribute, Relation};
use crate::table::options::{self, Options};

/// 22023 where one of them is no expression over a row, or of another type than its option wants.
pub fn check(relation: &Relation, options: &Options) -> Result<()> {
    use pg_sys::*;
    let names =
        [TEXTOID, VARCHAROID, NAMEOID, BPCHAROID, REGROLEOID, TEXTARRAYOID, VARCHARARRAYOID, NAMEARRAYOID, REGROLEARRAYOID];
    let times = [TIMESTAMPTZOID, TIMESTAMPOID, DATEOID];
    if let Some(kind) = &options.kind {
        let found = expression(relation, "kind", kind)?;
        of_columns_alone(relation, kind)?;
        if ColumnType::new(found, -1).is_row() {
            return Err(
                Error::invalid("option kind must be one value, not a row").hint("Events name a kind; they carry no data.")
            );
        }
    }
    if let Some(owners) = &options.owners {
        let found = expression(relation, "owners", owners)?;
        of_type("owners", found, &names, "a role name, or an array of them")?;
        of_what_stays(relation, owners, options)?;
    }
    if let Some(purge_after) = &options.purge_after {
        let found = expression(relation, "purge_after", purge_after)?;
        of_type("purge_after", found, &[INTERVALOID], "an interval")?;
    }
    match &options.expire_from {
        Some(expire_from) => {
            let found = expression(relation, "expire_from", expire_from)?;
            of_type("expire_from", found, &times, "a timestamptz, timestamp or date")
        }
        None if options.expire_after.is_some() => Err(Error::invalid("option expire_after needs expire_from")
            .hint("Say from which moment a record's age counts: expire_from => 'created_at'.")),
        None => Ok(()),
    }
}

/// Whose a tombstone is must be told from what redaction leaves of it.
fn of_what_stays(relation: &Relation, owners: &str, options: &Options) -> Result<()> {
    let read = acting_as(relation.owner, || columns_read(&row_of(relation, owners), owners));
    let reads = |attribute: &Attribute| read.contains(&0) || read.contains(&attribute.number);
    let redacted = options.redact.keys().find(|name| relation.attribute(name).is_some_and(reads));
    let Some(name) = redacted else { return Ok(()) };
    Err(Error::invalid(format!("option owners reads column {name}, which option redact blanks"))
        .detail("A tombstone would be another owner's, or nobody's: whoever deletes a record could not restore it, and others might.")
        .hint("Name the owner in a column that is not redacted."))
}

/// The kind is read from rows that triggers hand over: they have no system columns, and no generated ones yet.
fn of_columns_alone(relation: &Relation, kind: &str) -> Result<()> {
    let generated = relation.attributes.values().filter(|attribute| attribute.computed).map(|attribute| &attribute.column.name);
    if let Some(name) = generated.into_iter().find(|name| options::names_column(kind, name)) {
        return Err(Error::invalid(format!("option kind: column {name} is generated"))
            .detail("Postgres computes it after the trigger has seen the row.")
            .hint("Name what it is computed from."));
    }
    let alias = options::alias_in(kind, &relation.name);
    let sql = format!(
        "SELECT (\n{kind}\n) FROM pg_catalog.unnest(NULL::{}[]) AS {alias}",
        qualified(&relation.schema, &relation.name)
    );
    let parsed = rehearse(|| acting_as(relation.owner, || Ok(Spi::run(&sql)?)));
    parsed.map_err(|error| {
        Error::invalid(format!("option kind: \"{kind}\" takes more than the columns of a row"))
            .detail(error.summary())
            .hint("System columns, such as tableoid, are not among them.")
    })
}

fn of_type(option: &str, found: Oid, allowed: &[Oid], words: &str) -> Result<()> {
    if allowed.contains(&found) {
        return Ok(());
    }
    Err(Error::invalid(format!("option {option} must be {words}")))
}

/// The table under the name by which `expression` calls its row.
fn row_of(relation: &Relation, expression: &str) -> String {
    format!("{} AS {}", qualified(&relation.schema, &relation.name), options::alias_in(expression, &relation.name))
}

/// Parses `text` as an expression over a row of `relation`, with the owner's rights; returns its type.
fn expression(relation: &Relation, option: &str, text: &str) -> Result<Oid> {
    let table = row_of(relation, text);
    // In WHERE, Postgres itself refuses what is no function of one row: aggregates, window functions, sets.
    let sql = format!("SELECT (\n{text}\n) FROM {table} WHERE (\n{text}\n) IS NULL LIMIT 0");
    let parsed = rehearse(|| {
        acting_as(relation.owner, || {
            if !is_one_expression(text) {
                return Err(Error::invalid("it is not one expression"));
            }
            Spi::connect(|client| Ok(client.select(sql.as_str(), Some(1), &[])?.column_type_oid(1)?.value()))
        })
    });
    parsed.map_err(|error| {
        Error::invalid(format!("option {option}: \"{text}\" is no expression over a row of {}", relation.title()))
            .detail(error.summary())
            .hint("Names resolve with search_path = pg_catalog and the table owner's rights: qualify functions and other tables with their schema.")
    })
}
