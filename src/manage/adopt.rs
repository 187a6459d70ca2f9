//! Tables that came without their rows of `tombstone.managed`, as `pg_dump --schema-only` copies them: with their triggers, and with
//! their bins. adopt() manages them again. Their options are kept where such a copy brings them along: in the comment of a trigger.

use std::ffi::CStr;

use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::bin::run_as;
use super::doors::begin_one;
use super::tree;
use crate::backend::ident::{ident, literal, qualified};
use crate::backend::identity::{caller, with_settings};
use crate::backend::own_table::own_statements;
use crate::backend::relation::has_trigger;
use crate::error::{Error, Result};
use crate::table::catalog::{self, Relation};
use crate::table::option_field::json;
use crate::table::options::{self, ARCHIVE, IN_PLACE, Options};
use crate::table::triggers::{RETURN_TRIGGER, UPDATE_TRIGGER};

/// What the comment says before the options.
const KEPT: &str = "Read by tombstone.adopt(): ";

own_statements! {
    SAID(OID) =
        format!("SELECT jsonb_strip_nulls(jsonb_build_object({}))::text FROM tombstone.managed WHERE relation = $1", options::said());
    // Those that a role owns, and what their triggers say.
    ORPHANS(OID) =
        "SELECT c.oid, pg_catalog.obj_description(t.oid, 'pg_trigger')
         FROM pg_catalog.pg_trigger t
         JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid AND NOT c.relispartition
         WHERE t.tgname = 'zz_tombstone_update' AND t.tgfoid = 'tombstone.on_update()'::pg_catalog.regprocedure
           AND pg_catalog.pg_has_role($1, c.relowner, 'USAGE')
           AND NOT EXISTS (SELECT FROM tombstone.managed m WHERE m.relation = c.oid)
         ORDER BY c.oid::pg_catalog.regclass::pg_catalog.text";
}

/// Keeps the options of a managed table, as they are by now, where a copy of its definition has them as well.
pub fn keep_options(relation: &Relation) -> Result<()> {
    const PLAIN: [(&CStr, &CStr); 1] = [(c"IntervalStyle", c"postgres")];
    let said: String = with_settings(&PLAIN, || SAID.one(&[relation.oid.into()], |row| row.get(1)))?;
    let (trigger, table) = (ident(UPDATE_TRIGGER), qualified(&relation.schema, &relation.name));
    run_as(relation.owner, &[format!("COMMENT ON TRIGGER {trigger} ON {table} IS {}", literal(&format!("{KEPT}{said}")))])
}

/// Manages again what the caller owns of such tables; returns them.
#[pg_extern(sql = false)]
fn adopt() -> Result<SetOfIterator<'static, pg_sys::Oid>, ErrorReport> {
    let adopt = || -> Result<Vec<pg_sys::Oid>> {
        let orphans: Vec<(pg_sys::Oid, Option<String>)> =
            ORPHANS.rows(&[caller().into()], |row| Ok((row.get(1)?, row.nullable(2)?)))?;
        let begin = |(oid, comment): (pg_sys::Oid, Option<String>)| begin_one(Some(oid), kept_options(oid, comment)?);
        let tables = orphans.into_iter().map(begin).collect::<Result<Vec<Relation>>>()?;
        // What refers to what is known when all of them are managed.
        tables.iter().try_for_each(tree::refuse_mixed)?;
        Ok(tables.iter().map(|table| table.oid).collect())
    };
    adopt().map(SetOfIterator::new).map_err(Into::into)
}

/// The options that the comment of its trigger says; where that was not copied, its layout, by the triggers that it has.
fn kept_options(table: pg_sys::Oid, comment: Option<String>) -> Result<Options> {
    if let Some(kept) = comment.as_deref().and_then(|comment| comment.strip_prefix(KEPT)) {
        let said = json("of a trigger's comment", kept)?;
        return said.iter().try_fold(Options::defaults(), |options, (name, value)| options.with(name, value.as_str()));
    }
    let layout = if has_trigger(table, RETURN_TRIGGER) { ARCHIVE } else { IN_PLACE };
    let options = Options { layout: Some(layout.into()), ..Options::defaults() };
    match catalog::relation(table)? {
        // manage() would add it, and what it is called here nobody knows.
        Some(relation) if layout == IN_PLACE && relation.attribute(options.marker()).is_none() => {
            Err(Error::not_ready(format!("nothing says which column marks the tombstones of table {}", relation.title()))
                .detail("Its definition was copied without the comment of its triggers, which has the options.")
                .hint(format!("SELECT tombstone.manage('{}', deleted_at => …);", relation.title())))
        }
        _ => Ok(options),
    }
}
