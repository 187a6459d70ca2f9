//! The option `on_delete`: checked against the table's foreign keys when it is set, and kept in line with them afterwards. It names
//! them, as a person does and as a dump has to: so it follows a renamed one, and forgets one that is dropped.

use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{PgLogLevel, PgSqlErrorCode};
use serde_json::Value;

use super::adopt;
use super::doors::forget_all;
use crate::backend::own_table::own_statements;
use crate::error::{Error, Result};
use crate::table::OnDelete;
use crate::table::catalog::{self, Relation};
use crate::table::options::{ARCHIVE, Options};

own_statements! {
    KEYS(OID) =
        "SELECT c.conname::pg_catalog.text, c.confrelid, parent.layout FROM pg_catalog.pg_constraint c
         LEFT JOIN tombstone.managed parent ON parent.relation = c.confrelid
         WHERE c.contype = 'f' AND c.conparentid = 0 AND c.conrelid = $1 ORDER BY c.conname";
    // By the running ALTER TABLE … RENAME CONSTRAINT.
    RENAMED() =
        "SELECT m.relation::pg_catalog.oid, c.conname::pg_catalog.text FROM pg_catalog.pg_event_trigger_ddl_commands() d
         JOIN pg_catalog.pg_constraint c ON c.oid = d.objid AND c.contype = 'f'
         JOIN tombstone.managed m ON m.relation = c.conrelid AND m.on_delete <> '{}'
         WHERE d.classid = 'pg_catalog.pg_constraint'::pg_catalog.regclass";
    // Whose tables stay.
    DROPPED() =
        "SELECT m.relation::pg_catalog.oid, d.address_names[3] FROM pg_catalog.pg_event_trigger_dropped_objects() d
         JOIN tombstone.managed m ON m.on_delete ? d.address_names[3]
         JOIN pg_catalog.pg_class c ON c.oid = m.relation AND c.relname = d.address_names[2]
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace AND n.nspname = d.address_names[1]
         WHERE d.classid = 'pg_catalog.pg_constraint'::pg_catalog.regclass";
}

/// A foreign key of a table.
struct Key {
    name: String,
    parent: pg_sys::Oid,
    /// Where the parent is managed.
    parent_layout: Option<String>,
}

fn keys(table: pg_sys::Oid) -> Result<Vec<Key>> {
    KEYS.rows(&[table.into()], |row| Ok(Key { name: row.get(1)?, parent: row.get(2)?, parent_layout: row.nullable(3)? }))
}

/// 22023 where the option names what is no foreign key of `relation`, or says of one what cannot be.
pub fn check(relation: &Relation, options: &Options) -> Result<()> {
    let keys = keys(relation.oid)?;
    for (name, word) in &options.on_delete {
        let key = keys.iter().find(|key| key.name == *name).ok_or_else(|| no_such_key(relation, &keys, name))?;
        require_word(name, word)?;
        let layout = if key.parent == relation.oid { &options.layout } else { &key.parent_layout };
        if layout.as_deref() == Some(ARCHIVE) {
            let parent = catalog::title(key.parent);
            return Err(Error::invalid(format!("option on_delete: \"{name}\" refers to {parent}, whose layout is archive"))
                .detail("A soft delete is a DELETE there, and the foreign key itself acts.")
                .hint("Declare the foreign key as it is to act."));
        }
    }
    Ok(())
}

fn no_such_key(relation: &Relation, keys: &[Key], name: &str) -> Error {
    let error = Error::invalid(format!("option on_delete: {} has no foreign key \"{name}\"", relation.title()));
    match keys {
        [] => error.detail("It has none."),
        keys => error.detail(format!(
            "Its foreign keys are {}.",
            keys.iter().map(|key| key.name.as_str()).collect::<Vec<_>>().join(", ")
        )),
    }
}

fn require_word(name: &str, word: &Value) -> Result<()> {
    let words = OnDelete::words();
    if word.as_str().is_some_and(|word| words.contains(&word)) {
        return Ok(());
    }
    Err(Error::invalid(format!("option on_delete: \"{name}\" must be one of {}, not {word}", words.join(", "))))
}

/// A foreign key has another name: so it has in the option. What is called there as no foreign key is any more is the one.
pub fn follow_renamed() -> Result<()> {
    let renamed: Vec<(pg_sys::Oid, String)> = RENAMED.rows(&[], |row| Ok((row.get(1)?, row.get(2)?)))?;
    for (table, name) in renamed {
        let keys = keys(table)?;
        change(table, |options| {
            let before = options.on_delete.keys().find(|known| keys.iter().all(|key| key.name != **known)).cloned();
            if let Some(word) = before.and_then(|before| options.on_delete.remove(&before)) {
                options.on_delete.insert(name, word);
            }
        })?;
    }
    Ok(())
}

/// A foreign key is gone, and what the option says of it: another one of that name need not be the same.
pub fn forget_dropped() -> Result<()> {
    let dropped: Vec<(pg_sys::Oid, String)> = DROPPED.rows(&[], |row| Ok((row.get(1)?, row.get(2)?)))?;
    for (table, name) in dropped {
        change(table, |options| warn_of_dropped(table, &name, options.on_delete.remove(&name)))?;
    }
    Ok(())
}

fn warn_of_dropped(table: pg_sys::Oid, name: &str, word: Option<Value>) {
    let Some(word) = word else { return };
    let title = catalog::title(table);
    ErrorReport::new(
        PgSqlErrorCode::ERRCODE_WARNING,
        format!("option on_delete of table {title} says nothing of \"{name}\" any more: the foreign key is dropped"),
        "pg_tombstone",
    )
    .set_detail(format!("It said {word}."))
    .set_hint(format!("If you declare it again: SELECT tombstone.configure('{title}', 'on_delete', …);"))
    .report(PgLogLevel::WARNING);
}

fn change(table: pg_sys::Oid, act: impl FnOnce(&mut Options)) -> Result<()> {
    let Some((_, mut options)) = catalog::options_of(table)? else { return Ok(()) };
    act(&mut options);
    catalog::update(table, &options)?;
    catalog::relation(table)?.map_or(Ok(()), |relation| adopt::keep_options(&relation))?;
    forget_all(table)
}
