//! Options against the table they are for: everything that can be checked when they are set is checked then.

use pgrx::datum::{DatumWithOid, Interval};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::spi::quote_identifier;
use pgrx::{PgLogLevel, PgSqlErrorCode, pg_sys};
use serde_json::Value;

use super::expressions;
use crate::backend::analysis::refutes;
use crate::backend::ident::{literal, qualified};
use crate::backend::identity::acting_as;
use crate::backend::query::Statement;
use crate::error::{Error, Result};
use crate::log::account::Cause;
use crate::table::catalog::{Attribute, Relation};
use crate::table::marker::MARKER_TYPES;
use crate::table::options::{self, ARCHIVE, EVENTS, IN_PLACE, Options, PAYLOADS, PURGE_EVENTS};
use crate::table::{Announce, Column, Marker, MaxPurge, RestoredBy, Truncate};

/// The options made whole and found good, or the first thing wrong with them.
pub fn complete(relation: &Relation, mut options: Options) -> Result<Options> {
    fit_for_management(relation)?;
    options.layout = Some(layout(relation, &options)?);
    if let Some(version) = &options.version {
        version_column(relation, version)?;
    }
    options.id = Some(id_columns(relation, &options)?);
    options.deleted_at = match options.layout.as_deref() {
        Some(ARCHIVE) => no_deleted_at(&options)?,
        _ => Some(deleted_at_column(relation, &options)?),
    };
    options.truncate = Some(truncate(&options)?);
    redactions(relation, &options)?;
    options::one_of("purge_events", &options.purge_events, &PURGE_EVENTS).map_err(Error::invalid)?;
    // With layout archive nothing else restores, whatever it says.
    options::one_of("restore", &options.restore, &RestoredBy::words()).map_err(Error::invalid)?;
    options::one_of("events", &options.events, &EVENTS).map_err(Error::invalid)?;
    options::one_of("payload", &options.payload, &PAYLOADS).map_err(Error::invalid)?;
    options::one_of("notify", &options.notify, &Announce::words()).map_err(Error::invalid)?;
    options
        .mute
        .iter()
        .try_for_each(|cause| options::one_of("mute", cause, &Cause::ALL.map(Cause::name)))
        .map_err(Error::invalid)?;
    channel(&options.channel)?;
    not_negative("retention", options.retention, "NULL means for ever, and 0 until the next pass.")?;
    not_negative("expire_after", options.expire_after, "NULL means never, and 0 at the moment that expire_from says.")?;
    positive("event_retention", options.event_retention, "NULL means for ever.")?;
    kept_versions(&options)?;
    options.max_purge = options.max_purge.map(|said| MaxPurge::of_option(&said)).transpose()?.map(|most| most.to_string());
    expressions::check(relation, &options)?;
    Ok(options)
}

/// 22023 of a table from which others inherit.
pub fn inherited(relation: &Relation) -> Error {
    cannot_be_managed(relation, "inherited by other tables, whose rows its triggers do not reach")
}

fn cannot_be_managed(relation: &Relation, why: &str) -> Error {
    Error::invalid(format!("{} cannot be managed: it is {why}", relation.title()))
}

fn fit_for_management(relation: &Relation) -> Result<()> {
    let unfit = |why: &str| Err(cannot_be_managed(relation, why));
    match relation {
        Relation { is_partition: true, .. } => {
            return Err(Error::invalid(format!("{} cannot be managed: it is a partition", relation.title()))
                .hint("Manage the partitioned table itself: its partitions come along."));
        }
        Relation { kind: 'r' | 'p', .. } => (),
        Relation { kind: 'v', .. } => return unfit("a view"),
        Relation { kind: 'm', .. } => return unfit("a materialized view"),
        Relation { kind: 'f', .. } => return unfit("a foreign table"),
        _ => return unfit("not a table"),
    }
    match relation {
        Relation { persistence: 't', .. } => unfit("a temporary table"),
        Relation { has_children: true, .. } => Err(inherited(relation)),
        _ if ["pg_catalog", "information_schema", "tombstone"].contains(&relation.schema.as_str()) => unfit("a system table"),
        _ => Ok(()),
    }
}

fn layout(relation: &Relation, options: &Options) -> Result<String> {
    match options.layout.as_deref() {
        Some(IN_PLACE) => Ok(IN_PLACE.into()),
        Some(ARCHIVE) => Ok(ARCHIVE.into()),
        Some(other) => Err(Error::invalid(format!("option layout must be archive or in_place, not \"{other}\""))
            .detail(format!("Table {} was to be managed.", relation.title()))
            .hint(
                "archive: a DELETE moves its rows to a table beside this one. in_place: tombstones stay in the table, marked by deleted_at.",
            )),
        None => match relation.attribute(options.marker()) {
            Some(_) => Ok(IN_PLACE.into()),
            // Whoever names the column wants it.
            None if options.deleted_at.is_some() => Ok(IN_PLACE.into()),
            None => Ok(ARCHIVE.into()),
        },
    }
}

/// What TRUNCATE means: as a DELETE of every row does with layout archive; in place it cannot leave tombstones.
fn truncate(options: &Options) -> Result<String> {
    let is_archived = options.layout.as_deref() == Some(ARCHIVE);
    let Some(said) = options.truncate.as_deref() else {
        return Ok(if is_archived { "archive" } else { "purge" }.into());
    };
    match Truncate::of_option(said) {
        Some(Truncate::Archive) if !is_archived => Err(Error::invalid("option truncate: \"archive\" needs layout archive")
            .detail("TRUNCATE empties the table; with layout in_place there is nowhere else for a tombstone.")
            .hint("Say refuse, and let people DELETE; or purge.")),
        Some(_) => Ok(said.into()),
        None => options::one_of("truncate", said, &Truncate::words()).map_err(Error::invalid).map(|()| said.into()),
    }
}

fn existing<'a>(relation: &'a Relation, option: &str, name: &str) -> Result<&'a Attribute> {
    relation.attribute(name).ok_or_else(|| {
        let mut names: Vec<&str> = relation.attributes.keys().map(String::as_str).collect();
        names.sort_unstable();
        Error::invalid(format!("option {option}: {} has no column \"{name}\"", relation.title()))
            .detail(format!("Its columns are {}.", names.join(", ")))
    })
}

fn version_column(relation: &Relation, name: &str) -> Result<()> {
    let attribute = existing(relation, "version", name)?;
    if !attribute.column.type_of.is_integer() {
        return Err(Error::invalid(format!("option version: column {name} is not smallint, integer or bigint"))
            .detail("Versions are compared as numbers."));
    }
    not_null("version", attribute)
}

fn not_null(option: &str, attribute: &Attribute) -> Result<()> {
    if attribute.not_null {
        return Ok(());
    }
    Err(Error::invalid(format!("option {option}: column {} may be NULL", attribute.column.name))
        .hint(format!("ALTER TABLE … ALTER COLUMN {} SET NOT NULL;", attribute.column.sql())))
}

fn id_columns(relation: &Relation, options: &Options) -> Result<Vec<String>> {
    let (unique, deferrable): (Vec<_>, Vec<_>) = all_unique_keys(relation)?.into_iter().partition(|key| key.immediate);
    let without_version = |key: &[String]| -> Vec<String> {
        key.iter().filter(|name| Some(*name) != options.version.as_ref()).cloned().collect()
    };
    let id = match &options.id {
        Some(id) => id.clone(),
        None => match unique.iter().find(|key| key.primary) {
            Some(primary) => without_version(&primary.columns),
            None => Vec::new(),
        },
    };
    if id.is_empty() {
        let error = Error::invalid(format!("{} has no primary key to name its records by", relation.title()));
        return Err(match deferrable.iter().find(|key| key.primary) {
            Some(primary) => holds_too_late(error, relation, primary),
            None => error.hint("Name the columns that do: id => '{column, …}'."),
        });
    }
    for (i, name) in id.iter().enumerate() {
        let attribute = existing(relation, "id", name)?;
        not_null("id", attribute)?;
        if id[..i].contains(name) || Some(name) == options.version.as_ref() {
            return Err(Error::invalid(format!("option id: column {name} is named twice")));
        }
        if attribute.column.type_of.is_row() {
            return Err(Error::invalid(format!("option id: column {name} is of a composite type"))
                .hint("Have a column for each of its parts, and name these: id => '{column, …}'."));
        }
        if !attribute.column.type_of.names_records() {
            return Err(Error::invalid(format!("option id: values of column {name} cannot be compared, or not be listed")));
        }
    }
    let named = |name: &String| id.contains(name) || Some(name) == options.version.as_ref();
    // A unique key of a partitioned table has to hold the partition key as well: there the id is taken at its word.
    if relation.kind != 'p' && !unique.iter().any(|key| key.columns.iter().all(named)) {
        let columns = id.iter().chain(&options.version).cloned().collect::<Vec<_>>().join(", ");
        let error = Error::invalid(format!("option id: nothing makes ({columns}) unique in {}", relation.title()));
        return Err(match deferrable.iter().find(|key| key.columns.iter().all(named)) {
            Some(key) => holds_too_late(error, relation, key),
            None => error.hint("Add a primary key or a unique index on these columns, or name the version column."),
        });
    }
    Ok(id)
}

/// Of a key that is DEFERRABLE.
fn holds_too_late(error: Error, relation: &Relation, key: &UniqueKey) -> Error {
    let (what, how) = if key.primary { ("primary key", "PRIMARY KEY") } else { ("unique constraint", "UNIQUE") };
    let columns = key.columns.iter().map(quote_identifier).collect::<Vec<_>>().join(", ");
    let (table, constraint) = (relation.title(), quote_identifier(&key.constraint));
    error
        .detail(format!(
            "Its {what} \"{}\" is DEFERRABLE: two records may bear one id until the statement, or the transaction, ends.",
            key.constraint
        ))
        .hint(format!("ALTER TABLE {table} DROP CONSTRAINT {constraint}, ADD CONSTRAINT {constraint} {how} ({columns});"))
}

/// The columns that tell the rows of a managed table apart: its id and version, and where these are taken at their word (in a
/// partitioned table) those of its primary key besides. 0A000 where there is none.
pub fn telling_apart(relation: &Relation, id: &[Column], version: Option<&Column>) -> Result<Vec<Column>> {
    let mut columns: Vec<Column> = id.iter().chain(version).cloned().collect();
    if relation.kind != 'p' {
        return Ok(columns);
    }
    let primary = unique_keys(relation)?.into_iter().find(|key| key.primary).ok_or_else(|| {
        Error::unsupported(format!("nothing tells the rows of partitioned table {} apart", relation.title()))
            .hint("Add a primary key.")
    })?;
    for name in primary.columns {
        if !columns.iter().any(|column| column.name == name) {
            columns.push(existing(relation, "id", &name)?.column.clone());
        }
    }
    Ok(columns)
}

struct UniqueKey {
    constraint: String,
    primary: bool,
    /// Not DEFERRABLE.
    immediate: bool,
    columns: Vec<String>,
}

thread_local! {
    static UNIQUE_KEYS: &'static Statement = Box::leak(Box::new(Statement::new(
        "SELECT i.indisprimary, pg_catalog.array_agg(a.attname::pg_catalog.text ORDER BY k.n), i.indimmediate, c.relname::pg_catalog.text
         FROM pg_catalog.pg_index i
         CROSS JOIN LATERAL pg_catalog.unnest(i.indkey::pg_catalog.int2[]) WITH ORDINALITY AS k (attnum, n)
         JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
         JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
         WHERE i.indrelid = $1 AND i.indisunique AND i.indisvalid
           AND i.indpred IS NULL AND i.indexprs IS NULL AND k.n <= i.indnkeyatts
         GROUP BY i.indexrelid, i.indisprimary, i.indimmediate, c.relname",

        [pg_sys::OIDOID],
    )));
    // Before PostgreSQL 15 an index has no indnullsnotdistinct.
    static UNIQUE_INDEXES: &'static Statement = Box::leak(Box::new(Statement::new(
        "SELECT c.relname::pg_catalog.text,
             ARRAY(SELECT a.attname::pg_catalog.text FROM pg_catalog.pg_attribute a
                   WHERE a.attrelid = i.indrelid AND a.attnum > 0
                     AND (a.attnum = ANY ((i.indkey::pg_catalog.int2[])[0:i.indnkeyatts - 1])
                         OR i.indexprs IS NOT NULL AND EXISTS (
                             SELECT FROM pg_catalog.pg_depend d
                             WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = i.indexrelid
                               AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refobjid = i.indrelid
                               AND d.refobjsubid = a.attnum))
                   ORDER BY a.attnum),
             COALESCE((pg_catalog.to_jsonb(i) OPERATOR(pg_catalog.->>) 'indnullsnotdistinct')::pg_catalog.bool, false),
             pg_catalog.pg_get_expr(i.indpred, i.indrelid)
         FROM pg_catalog.pg_index i
         JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
         WHERE i.indrelid = $1 AND i.indisunique
         ORDER BY c.relname",
        [pg_sys::OIDOID],
    )));
    static DELETE_RULES: &'static Statement = Box::leak(Box::new(Statement::new(
        "SELECT pg_catalog.quote_ident(r.rulename) FROM pg_catalog.pg_rewrite r
         WHERE r.ev_class = $1 AND r.ev_type = '4' AND r.is_instead AND r.ev_enabled IN ('O', 'A') ORDER BY r.rulename",
        [pg_sys::OIDOID],
    )));
    static REFERENCED: &'static Statement = Box::leak(Box::new(Statement::new(
        "SELECT 1 FROM pg_catalog.pg_constraint c
         JOIN pg_catalog.pg_attribute a ON a.attrelid = c.confrelid AND a.attnum = ANY (c.confkey)
         WHERE c.contype = 'f' AND c.confrelid = $1 AND a.attname = $2::pg_catalog.name",
        [pg_sys::OIDOID, pg_sys::TEXTOID],
    )));
}

/// A unique index, whatever it is of.
struct UniqueIndex {
    name: String,
    /// Those of its key, and those that expressions in its key read.
    columns: Vec<String>,
    nulls_are_equal: bool,
    predicate: Option<String>,
}

fn unique_indexes(relation: &Relation) -> Result<Vec<UniqueIndex>> {
    acting_as(crate::backend::relation::keeper(), || {
        UNIQUE_INDEXES.with(|statement| {
            statement.rows(&[DatumWithOid::from(relation.oid)], |row| {
                Ok(UniqueIndex {
                    name: row.get(1)?.unwrap_or_default(),
                    columns: row.get(2)?.unwrap_or_default(),
                    nulls_are_equal: row.get(3)?.unwrap_or_default(),
                    predicate: row.get(4)?,
                })
            })
        })
    })
}

/// Those that hold at any time.
fn unique_keys(relation: &Relation) -> Result<Vec<UniqueKey>> {
    Ok(all_unique_keys(relation)?.into_iter().filter(|key| key.immediate).collect())
}

fn all_unique_keys(relation: &Relation) -> Result<Vec<UniqueKey>> {
    acting_as(crate::backend::relation::keeper(), || {
        UNIQUE_KEYS.with(|statement| {
            statement.rows(&[DatumWithOid::from(relation.oid)], |row| {
                Ok(UniqueKey {
                    constraint: row.get(4)?.unwrap_or_default(),
                    primary: row.get(1)?.unwrap_or_default(),
                    immediate: row.get(3)?.unwrap_or_default(),
                    columns: row.get(2)?.unwrap_or_default(),
                })
            })
        })
    })
}

/// An archive needs no such column: whatever is in the table is live.
fn no_deleted_at(options: &Options) -> Result<Option<String>> {
    match &options.deleted_at {
        None => Ok(None),
        Some(name) => Err(Error::invalid(format!("option deleted_at: \"{name}\" marks nothing with layout archive"))
            .detail("Tombstones leave the table.")
            .hint("Leave the option out, or say layout => 'in_place'.")),
    }
}

fn deleted_at_column(relation: &Relation, options: &Options) -> Result<String> {
    let name = options.marker().to_string();
    let named_elsewhere = options.id.iter().flatten().chain(&options.version).any(|other| *other == name);
    if named_elsewhere {
        return Err(Error::invalid(format!("option deleted_at: column {name} belongs to the key")));
    }
    let Some(attribute) = relation.attribute(&name) else { return Ok(name) };
    marker(relation, attribute)?;
    if attribute.not_null || attribute.generated || attribute.has_default {
        return Err(Error::invalid(format!("option deleted_at: column {name} must be NULL in a live record"))
            .hint("It may be neither NOT NULL nor generated, and have no default."));
    }
    Ok(name)
}

/// The column, provided that it can mark tombstones.
pub fn marker(relation: &Relation, attribute: &Attribute) -> Result<Marker> {
    let column = &attribute.column;
    Marker::new(column.clone()).ok_or_else(|| {
        let error = Error::invalid(format!("option deleted_at: column {} is not of type {MARKER_TYPES}", column.name));
        if column.type_of.base() == pg_sys::BOOLOID {
            return says_nothing_of_when(relation, column, error);
        }
        let error =
            error.detail("It says when a record was deleted: by that, retention counts, and restore() tells deletions apart.");
        let (table, name) = (relation.title(), quote_identifier(&column.name));
        match as_marker(column) {
            Some(using) => error.hint(format!("ALTER TABLE {table} ALTER COLUMN {name} TYPE timestamptz USING {using};")),
            None => error.hint("Name another column, or leave the option out: then a column deleted_at is added."),
        }
    })
}

/// How values of another type become stamps that mean the same moment, whatever time zone the session has; a number may count anything.
fn as_marker(column: &Column) -> Option<String> {
    let name = quote_identifier(&column.name);
    match column.type_of.base() {
        pg_sys::TIMESTAMPTZOID => Some(format!("{name}::timestamptz")),
        pg_sys::TIMESTAMPOID | pg_sys::DATEOID => Some(format!("{name}::timestamp AT TIME ZONE 'UTC'")),
        _ => None,
    }
}

/// As Hibernate's @SoftDelete has it.
fn says_nothing_of_when(relation: &Relation, column: &Column, error: Error) -> Error {
    let (table, name) = (relation.title(), quote_identifier(&column.name));
    error
        .detail("It says that a record is deleted, and not when: neither could retention count, nor undo() tell deletions apart.")
        .hint(format!(
            "With layout archive nothing marks a tombstone. SELECT tombstone.manage('{table}', layout => 'archive'); then move what is marked there, DELETE FROM {table} WHERE {name}; and have the application DELETE."
        ))
}

fn redactions(relation: &Relation, options: &Options) -> Result<()> {
    for (name, value) in &options.redact {
        let attribute = existing(relation, "redact", name)?;
        let refused = |why: &str| Err(Error::invalid(format!("option redact: column {name} {why}")));
        let is_key = options.id.iter().flatten().chain(&options.version).chain(&options.deleted_at).any(|other| other == name);
        if is_key {
            return refused("belongs to the key, or is deleted_at");
        }
        if attribute.generated {
            return refused("is generated");
        }
        if is_referenced(relation, name)? {
            return refused("is referenced by a foreign key");
        }
        match options::redact_text(value, attribute.column.type_of.base()) {
            None if attribute.not_null => return refused("is NOT NULL, and its value is null"),
            None => (),
            Some(text) => {
                let what = format!("option redact: the value {value} of column {name}");
                acting_as(relation.owner, || attribute.column.type_of.read(&text, &what))?;
            }
        }
        if matches!(value, Value::Object(_) | Value::Array(_))
            && ![pg_sys::JSONOID, pg_sys::JSONBOID].contains(&attribute.column.type_of.base())
        {
            return refused("is not of type json or jsonb, and its value is");
        }
    }
    unique_redactions(relation, options)
}

/// 22023 where redaction would give all tombstones the same unique key: the second record deleted, or restored from the bin, would
/// violate it.
fn unique_redactions(relation: &Relation, options: &Options) -> Result<()> {
    let redacted_to = |name: &String| {
        let (value, column) = (options.redact.get(name)?, &relation.attribute(name)?.column);
        Some((column, options::redact_text(value, column.type_of.base())))
    };
    for index in unique_indexes(relation)? {
        let is_constant = |name: &&String| redacted_to(name).is_some_and(|(_, text)| text.is_some() || index.nulls_are_equal);
        let is_null = |name: &String| redacted_to(name).is_some_and(|(_, text)| text.is_none() && !index.nulls_are_equal);
        let Some(column) = index.columns.iter().find(is_constant) else { continue };
        let differs = |name: &String| index.columns.contains(name) && !is_constant(&name);
        let key_differs = options.id.iter().flatten().chain(&options.version).all(differs);
        if key_differs || index.columns.iter().any(is_null) || leaves_tombstones_out(relation, options, &index)? {
            continue;
        }
        let (when, hint) = match options.layout.as_deref() {
            Some(ARCHIVE) => ("restored", "Redact it to null."),
            _ => ("deleted", "Redact it to null, or have the index leave tombstones out: WHERE deleted_at IS NULL."),
        };
        return Err(Error::invalid(format!("option redact: column {column} is unique, and its value is the same for all"))
            .detail(format!("The second record {when} would violate unique index {}.", quote_identifier(&index.name)))
            .hint(hint));
    }
    Ok(())
}

/// Whether the predicate of a partial index is false of every tombstone, as it is redacted.
fn leaves_tombstones_out(relation: &Relation, options: &Options, index: &UniqueIndex) -> Result<bool> {
    let Some(predicate) = &index.predicate else { return Ok(false) };
    let marker = options.deleted_at.iter().filter(|name| relation.attribute(name).is_some());
    let mut facts: Vec<String> = marker.map(|name| format!("{} IS NOT NULL", quote_identifier(name))).collect();
    for (name, value) in &options.redact {
        let column = &existing(relation, "redact", name)?.column;
        match (options::redact_text(value, column.type_of.base()), column.type_of.equals()) {
            (None, _) => facts.push(format!("{} IS NULL", column.sql())),
            (Some(text), Some(equals)) => {
                facts.push(format!("{} {equals} {}::{}", column.sql(), literal(&text), column.type_of.sql()));
            }
            (Some(_), None) => (),
        }
    }
    let table = qualified(&relation.schema, &relation.name);
    Ok(!facts.is_empty() && acting_as(relation.owner, || refutes(&table, &facts.join(" AND "), predicate)))
}

fn is_referenced(relation: &Relation, column: &str) -> Result<bool> {
    let arguments = [DatumWithOid::from(relation.oid), DatumWithOid::from(column)];
    acting_as(crate::backend::relation::keeper(), || REFERENCED.with(|statement| Ok(statement.execute(&arguments)? > 0)))
}

/// A rule of the table that has something else done instead of a DELETE, as soft deletes of one's own are often made.
pub fn warn_of_rules(relation: &Relation) -> Result<()> {
    let arguments = [DatumWithOid::from(relation.oid)];
    let name = |row: &pgrx::spi::SpiHeapTupleData| Ok(row.get::<String>(1)?);
    let rules =
        acting_as(crate::backend::relation::keeper(), || DELETE_RULES.with(|statement| statement.rows(&arguments, name)))?;
    let title = relation.title();
    for rule in rules.into_iter().flatten() {
        let message = format!("rule {rule} has something else done instead of a DELETE of table {title}");
        ErrorReport::new(PgSqlErrorCode::ERRCODE_WARNING, message, "pg_tombstone")
            .set_detail("With layout archive a DELETE moves the row to the archive; what the rule does instead leaves no tombstone there.")
            .set_hint(format!("DROP RULE {rule} ON {title};"))
            .report(PgLogLevel::WARNING);
    }
    Ok(())
}

fn channel(name: &str) -> Result<()> {
    if (1..pg_sys::NAMEDATALEN as usize).contains(&name.len()) {
        return Ok(());
    }
    Err(Error::invalid("option channel must be a name of 1 to 63 bytes"))
}

fn not_negative(option: &str, interval: Option<Interval>, hint: &str) -> Result<()> {
    let Some(interval) = interval else { return Ok(()) };
    if options::is_nothing(&interval) || options::is_positive(interval.months(), interval.days(), interval.micros()) {
        return Ok(());
    }
    Err(Error::invalid(format!("option {option} must be 0 or longer")).hint(hint))
}

fn positive(option: &str, interval: Option<Interval>, hint: &str) -> Result<()> {
    let Some(interval) = interval else { return Ok(()) };
    if options::is_positive(interval.months(), interval.days(), interval.micros()) {
        return Ok(());
    }
    Err(Error::invalid(format!("option {option} must be longer than nothing")).hint(hint))
}

fn kept_versions(options: &Options) -> Result<()> {
    let (newest, younger_than) = (options.keep_versions, options.keep_versions_for);
    let needs = |option: &str, what: &str| Error::invalid(format!("option {option} needs {what}"));
    if newest.is_some_and(|newest| newest < 1) {
        return Err(
            Error::invalid("option keep_versions must be 1 or more").hint("NULL means that no version is one too many.")
        );
    }
    positive("keep_versions_for", younger_than, "NULL means that no version stays for being young.")?;
    let option = if newest.is_some() { "keep_versions" } else { "keep_versions_for" };
    if (newest.is_some() || younger_than.is_some()) && options.version.is_none() {
        return Err(needs(option, "version").hint("Name the column that tells the versions of a record apart."));
    }
    if younger_than.is_some() && options.expire_from.is_none() {
        return Err(needs("keep_versions_for", "expire_from")
            .hint("Say from which moment a version's age counts: expire_from => 'written_at'."));
    }
    Ok(())
}
