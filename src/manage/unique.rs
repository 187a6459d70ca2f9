//! Unique keys of a table in place. Its tombstones take part in them: manage() says in which, and unique_among_live() makes of one a
//! key in which live rows alone do.

use core::ffi::CStr;

use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use pgrx::spi::quote_identifier;
use serde_json::Value;

use super::bin::run_as;
use super::doors::{owned, require_in_place};
use crate::backend::ident::{ident, literal, qualified};
use crate::backend::identity::acting_as;
use crate::backend::own_table::own_statements;
use crate::backend::relation::{LockFor, index_definition};
use crate::error::{Error, Result};
use crate::table::catalog::{self, Relation};
use crate::table::options::{Options, names_column};

own_statements! {
    // A constraint and its index have one name.
    KEYS(OID) =
        "SELECT i.indexrelid, x.relname::pg_catalog.text, k.contype::pg_catalog.text, i.indimmediate, i.indisvalid, i.indisreplident,
                pg_catalog.pg_get_expr(i.indpred, i.indrelid),
                ARRAY(SELECT pg_catalog.pg_get_indexdef(i.indexrelid, n, false) FROM pg_catalog.generate_series(1, i.indnkeyatts) AS n),
                ARRAY(SELECT a.attname::pg_catalog.text FROM pg_catalog.unnest(i.indkey::pg_catalog.int2[]) WITH ORDINALITY AS c (attnum, n)
                      JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = c.attnum
                      WHERE c.n <= i.indnkeyatts ORDER BY c.n),
                pg_catalog.to_jsonb(i) ->> 'indnullsnotdistinct' = 'true',
                COALESCE(pg_catalog.obj_description(i.indexrelid, 'pg_class'), pg_catalog.obj_description(k.oid, 'pg_constraint'))
         FROM pg_catalog.pg_index i
         JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid
         LEFT JOIN pg_catalog.pg_constraint k ON k.conindid = i.indexrelid AND k.conrelid = i.indrelid AND k.contype IN ('p', 'u', 'x')
         WHERE i.indrelid = $1 AND (i.indisunique OR k.contype = 'x') ORDER BY x.relname";
    REFERENCING(OID) =
        "SELECT c.conrelid, c.conname::pg_catalog.text FROM pg_catalog.pg_constraint c
         WHERE c.contype = 'f' AND c.conparentid = 0 AND c.conindid = $1
         ORDER BY c.conrelid::pg_catalog.regclass::pg_catalog.text, c.conname";
}

/// What a unique key is there as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Declared {
    Index,
    Unique,
    Primary,
    Exclusion,
}

impl Declared {
    /// What pg_constraint calls it, if it is a constraint.
    fn of_constraint(kind: Option<&str>) -> Declared {
        match kind {
            Some("p") => Declared::Primary,
            Some("x") => Declared::Exclusion,
            Some(_) => Declared::Unique,
            None => Declared::Index,
        }
    }
}

/// A unique index of a table, or the constraint that stands on it.
struct UniqueKey {
    index: pg_sys::Oid,
    name: String,
    declared: Declared,
    is_immediate: bool,
    is_valid: bool,
    identifies_rows: bool,
    predicate: Option<String>,
    /// Its columns and expressions, as ON CONFLICT names them.
    targets: Vec<String>,
    /// Those that are columns, by name.
    columns: Vec<String>,
    nulls_are_equal: bool,
    comment: Option<String>,
}

impl UniqueKey {
    fn all(table: pg_sys::Oid) -> Result<Vec<UniqueKey>> {
        KEYS.rows(&[table.into()], |row| {
            Ok(UniqueKey {
                index: row.get(1)?,
                name: row.get(2)?,
                declared: Declared::of_constraint(row.nullable::<String>(3)?.as_deref()),
                is_immediate: row.get(4)?,
                is_valid: row.get(5)?,
                identifies_rows: row.get(6)?,
                predicate: row.nullable(7)?,
                targets: row.get(8)?,
                columns: row.get(9)?,
                nulls_are_equal: row.nullable(10)?.unwrap_or_default(),
                comment: row.nullable(11)?,
            })
        })
    }

    /// Whether it tells records apart, live or deleted.
    fn is_of_id(&self, options: &Options) -> bool {
        let named = |column: &String| options.id.iter().flatten().chain(&options.version).any(|other| other == column);
        self.columns.len() == self.targets.len() && self.columns.iter().all(named)
    }

    /// Whether its predicate speaks of tombstones.
    fn looks_at(&self, marker: &str) -> bool {
        self.predicate.as_ref().is_some_and(|predicate| names_column(predicate, marker))
    }

    /// Whether a soft delete blanks it so that it is taken no more.
    fn is_blanked(&self, options: &Options) -> bool {
        !self.nulls_are_equal && self.columns.iter().any(|column| options.redact.get(column) == Some(&Value::Null))
    }

    /// What ON CONFLICT has to say to mean it, once live rows alone take part.
    fn on_conflict(&self, marker: &str) -> String {
        let others = match &self.predicate {
            Some(predicate) if self.looks_at(marker) => return self.on_conflict_where(predicate),
            Some(predicate) => format!("{predicate} AND "),
            None => String::new(),
        };
        self.on_conflict_where(&format!("{others}{} IS NULL", quote_identifier(marker)))
    }

    fn on_conflict_where(&self, predicate: &str) -> String {
        format!("ON CONFLICT ({}) WHERE {predicate}", self.targets.join(", "))
    }
}

/// Makes of a unique constraint, or index, of a table in place one in which live rows alone take part; returns what ON CONFLICT has to
/// say to mean it.
#[pg_extern(sql = false)]
fn unique_among_live(relation: Option<pg_sys::Oid>, constraint: Option<&CStr>) -> Result<String, ErrorReport> {
    let change = || -> Result<String> {
        let relation = owned(relation, LockFor::Ending)?;
        let (_, options) = catalog::options_of(relation.oid)?.ok_or_else(|| catalog::not_managed(relation.oid))?;
        require_in_place(&relation, &options, "Tombstones are not in it: its unique keys are of live rows alone.")?;
        let name = constraint.ok_or_else(|| Error::invalid("constraint must not be NULL"))?.to_string_lossy();
        let keys = UniqueKey::all(relation.oid)?;
        let key = keys.iter().find(|key| key.name == name).ok_or_else(|| no_such_key(&relation, &keys, &name))?;
        if key.looks_at(options.marker()) {
            notice!("\"{name}\" of table {} looks at {} already", relation.title(), quote_identifier(options.marker()));
        } else {
            refuse_unfit(&relation, &options, key)?;
            replace(&relation, options.marker(), key)?;
        }
        Ok(key.on_conflict(options.marker()))
    };
    change().map_err(Into::into)
}

fn no_such_key(relation: &Relation, keys: &[UniqueKey], name: &str) -> Error {
    let known = keys.iter().filter(|key| key.declared != Declared::Primary).map(|key| key.name.as_str()).collect::<Vec<_>>();
    let error = Error::undefined(format!("table {} has no unique constraint or index \"{name}\"", relation.title()));
    if known.is_empty() { error } else { error.detail(format!("It has {}.", known.join(", "))) }
}

fn refuse_unfit(relation: &Relation, options: &Options, key: &UniqueKey) -> Result<()> {
    let title = format!("\"{}\" of table {}", key.name, relation.title());
    match key {
        UniqueKey { declared: Declared::Primary, .. } => {
            Err(Error::unsupported(format!("{title} is a primary key")).detail("It is of all rows, tombstones among them."))
        }
        UniqueKey { declared: Declared::Exclusion, .. } => {
            Err(Error::unsupported(format!("{title} is an exclusion constraint"))
                .hint(format!("Make it anew: EXCLUDE … WHERE ({} IS NULL).", quote_identifier(options.marker()))))
        }
        UniqueKey { is_immediate: false, .. } => Err(Error::unsupported(format!("{title} is DEFERRABLE"))
            .detail("A key of live rows alone is a partial index, and Postgres cannot defer that.")
            .hint("Make it anew without DEFERRABLE first.")),
        UniqueKey { is_valid: false, .. } => {
            Err(Error::not_ready(format!("{title} is not valid")).hint("Build it anew, or drop it."))
        }
        UniqueKey { identifies_rows: true, .. } => Err(Error::unsupported(format!("{title} is the table's replica identity"))
            .hint(format!("ALTER TABLE {} REPLICA IDENTITY …;", relation.title()))),
        key if key.is_of_id(options) => Err(Error::invalid(format!("{title} tells its records apart"))
            .detail("A tombstone is a record, too, and its id is its own.")),
        key => refuse_referenced(&title, key),
    }
}

fn refuse_referenced(title: &str, key: &UniqueKey) -> Result<()> {
    let referencing: Vec<(pg_sys::Oid, String)> =
        REFERENCING.rows(&[key.index.into()], |row| Ok((row.get(1)?, row.get(2)?)))?;
    if referencing.is_empty() {
        return Ok(());
    }
    let keys = referencing.iter().map(|(table, name)| format!("\"{name}\" of table {}", catalog::title(*table)));
    Err(Error::needed(format!("{title} is referred to by foreign keys"))
        .detail(format!("They are {}.", keys.collect::<Vec<_>>().join(", ")))
        .hint("A foreign key refers to a key of all rows: let them refer to another one, such as the primary key."))
}

/// The same index with a condition more, under the same name.
fn replace(relation: &Relation, marker: &str, key: &UniqueKey) -> Result<()> {
    let (table, index) = (qualified(&relation.schema, &relation.name), qualified(&relation.schema, &key.name));
    let definition = acting_as(relation.owner, || index_definition(key.index));
    // What the definition ends with is one condition, in parentheses where it wants them.
    let condition = if key.predicate.is_some() { "AND" } else { "WHERE" };
    let mut commands = vec![
        match key.declared {
            Declared::Index => format!("DROP INDEX {index}"),
            _ => format!("ALTER TABLE {table} DROP CONSTRAINT {}", ident(&key.name)),
        },
        format!("{definition} {condition} {} IS NULL", ident(marker)),
    ];
    commands.extend(key.comment.as_ref().map(|comment| format!("COMMENT ON INDEX {index} IS {}", literal(comment))));
    run_as(relation.owner, &commands)
}

/// Says in which unique keys the tombstones of `relation`, which stay in it, take part.
pub fn tell_of_tombstones(relation: &Relation, options: &Options) -> Result<()> {
    let blocks = |key: &UniqueKey| {
        !matches!(key.declared, Declared::Primary | Declared::Exclusion)
            && !key.is_of_id(options)
            && !key.looks_at(options.marker())
            && !key.is_blanked(options)
    };
    let keys: Vec<UniqueKey> = UniqueKey::all(relation.oid)?.into_iter().filter(blocks).collect();
    if keys.is_empty() {
        return Ok(());
    }
    let names = keys.iter().map(|key| format!("\"{}\"", key.name)).collect::<Vec<_>>().join(", ");
    let message = format!("tombstones of table {} take part in unique keys: {names}", relation.title());
    ErrorReport::new(PgSqlErrorCode::ERRCODE_SUCCESSFUL_COMPLETION, message, "pg_tombstone")
        .set_detail("Their values cannot be used again before the purge.")
        .set_hint(format!(
            "SELECT tombstone.unique_among_live('{}', …); makes of one a key of live rows alone.",
            relation.title()
        ))
        .report(PgLogLevel::NOTICE);
    Ok(())
}
