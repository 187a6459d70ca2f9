//! live_view(): a view of the live rows of a table in place, to be read and written like a table without tombstones. It is its owner's, a
//! view like any other; what makes it ours is the trigger that takes its deletes, and that it shows what we have it show. By that we know
//! which views follow a table: one that an application has made with our trigger, of fewer columns or rows, stays as it is.
//!
//! Postgres lets no column go, or change its type, that a view shows. So before an ALTER TABLE that does such a thing the view is
//! dropped, and afterwards made anew, with its rights and its comment.

use core::ffi::CStr;

use pgrx::pg_sys::panic::{ErrorReport, ErrorReportable};
use pgrx::prelude::*;
use pgrx::spi::{quote_identifier, quote_qualified_identifier};
use pgrx::{PgList, pg_sys};

use super::bin::run_as;
use super::doors::{owned, require_deleted_at, require_in_place};
use crate::backend::executor::After;
use crate::backend::ident::{ident, literal, qualified};
use crate::backend::identity::{caller, has_privileges_of, role_name};
use crate::backend::own_table::own_statements;
use crate::backend::relation::{LockFor, keeper, lock, own, owner_of};
use crate::backend::subtransaction::reworded;
use crate::backend::transaction::with_snapshot;
use crate::error::{Error, Result};
use crate::table::catalog::{self, Attribute, Relation};
use crate::table::options::{ARCHIVE, Options};
use crate::table::triggers::LIVE_VIEW_TRIGGER;

own_statements! {
    // Views with our trigger, and whether there is nothing in them that we would not make again; what they show, and their options.
    VIEWS(OID) =
        "SELECT v.oid, pg_catalog.obj_description(v.oid, 'pg_class'),
                pg_catalog.pg_get_viewdef(v.oid),
                pg_catalog.array_to_string(v.reloptions, ', '),
                NOT EXISTS (SELECT FROM pg_catalog.pg_trigger o WHERE o.tgrelid = v.oid AND o.oid <> t.oid)
                AND NOT EXISTS (SELECT FROM pg_catalog.pg_rewrite o WHERE o.ev_class = v.oid AND o.oid <> r.oid)
                AND NOT EXISTS (SELECT FROM pg_catalog.pg_attrdef d WHERE d.adrelid = v.oid)
         FROM (SELECT DISTINCT d.objid FROM pg_catalog.pg_depend d
               WHERE d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refobjid = $1
                 AND d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass) AS d
         JOIN pg_catalog.pg_rewrite r ON r.oid = d.objid AND r.rulename = '_RETURN'
         JOIN pg_catalog.pg_class v ON v.oid = r.ev_class AND v.relkind = 'v'
         JOIN pg_catalog.pg_trigger t ON t.tgrelid = v.oid AND t.tgfoid = 'tombstone.on_live_delete'::pg_catalog.regproc
              AND t.tgname = 'tombstone_delete'
         ORDER BY v.oid";
    GRANTS(OID) =
        "SELECT g.attname, g.privilege_type, CASE g.grantee WHEN 0 THEN 'PUBLIC' ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(g.grantee)) END,
                g.is_grantable
         FROM (SELECT NULL::pg_catalog.text AS attname, a.* FROM pg_catalog.pg_class c, pg_catalog.aclexplode(c.relacl) AS a
               WHERE c.oid = $1 AND a.grantee <> c.relowner
               UNION ALL
               SELECT c.attname, a.* FROM pg_catalog.pg_attribute c, pg_catalog.aclexplode(c.attacl) AS a
               WHERE c.attrelid = $1 AND NOT c.attisdropped) AS g";
}

/// With the rights of whoever reads it.
const OPTIONS: &str = "security_invoker = true";

/// A right that somebody has been granted on a view, or on one of its columns.
struct Grant {
    column: Option<String>,
    privilege: String,
    grantee: String,
    is_grantable: bool,
}

/// A view of the live rows of a table.
struct LiveView {
    view: Relation,
    comment: Option<String>,
    /// What stands in its WITH.
    options: String,
    grants: Vec<Grant>,
    /// Whether nobody has added anything to it that would be lost if it were made anew.
    is_plain: bool,
}

/// Those of `table`.
fn views_of(table: pg_sys::Oid) -> Result<Vec<LiveView>> {
    let Some(table) = catalog::relation(table)? else { return Ok(Vec::new()) };
    let found = VIEWS.rows(&[table.oid.into()], |row| {
        Ok(Candidate {
            oid: row.get(1)?,
            comment: row.nullable(2)?,
            shows: row.get(3)?,
            options: row.nullable(4)?.unwrap_or_default(),
            is_plain: row.get(5)?,
        })
    })?;
    let mut views = Vec::new();
    for Candidate { oid, comment, shows, options, is_plain } in found {
        let Some(view) = catalog::relation(oid)?.filter(|view| is_live_view(&table, view, &shows)) else { continue };
        let grants = GRANTS.rows(&[oid.into()], |row| {
            Ok(Grant { column: row.nullable(1)?, privilege: row.get(2)?, grantee: row.get(3)?, is_grantable: row.get(4)? })
        })?;
        views.push(LiveView { view, comment, options, grants, is_plain });
    }
    Ok(views)
}

/// A view with our trigger.
struct Candidate {
    oid: pg_sys::Oid,
    comment: Option<String>,
    /// As Postgres words it.
    shows: String,
    options: String,
    is_plain: bool,
}

/// Whether `view`, which `shows` that, shows what we have a view of `table` show, if perhaps not the columns it has got since.
fn is_live_view(table: &Relation, view: &Relation, shows: &str) -> bool {
    let (columns, shown) = (table.attributes_in_order(), view.attributes_in_order());
    // Where the lines break says nothing.
    let in_one_line = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let shows = in_one_line(shows.trim_end_matches(';'));
    // Some versions qualify a column, some do not.
    let as_worded = |prefix: &str| {
        let named = columns.iter().zip(&shown).map(|(column, shown)| {
            let (column, name) = (&column.column.name, &shown.column.name);
            let renamed = if column == name { String::new() } else { format!(" AS {}", quote_identifier(name)) };
            format!("{prefix}{}{renamed}", quote_identifier(column))
        });
        let target = quote_qualified_identifier(table.schema.as_str(), table.name.as_str());
        let all = in_one_line(&format!("SELECT {} FROM {target} t", named.collect::<Vec<_>>().join(", ")));
        let Some(condition) = shows.strip_prefix(&all) else { return false };
        // The marker may have been renamed, and the option not yet.
        let is_of_live = |column: &&Attribute| {
            let live = in_one_line(&format!("{prefix}{} IS NULL", quote_identifier(&column.column.name)));
            [format!(" WHERE {live}"), format!(" WHERE ({live})")].iter().any(|live| live == condition)
        };
        condition.is_empty() || columns.iter().any(is_of_live)
    };
    shown.len() <= columns.len() && ["", "t."].into_iter().any(as_worded)
}

impl LiveView {
    /// Changes the view. Not in its owner's name: who may make no views in that schema owns this one all the same.
    fn run(&self, commands: &[String]) -> Result<()> {
        if commands.is_empty() {
            return Ok(());
        }
        lock(self.view.oid, LockFor::Ending);
        if catalog::title(self.view.oid) != self.view.title() {
            return Err(Error::changed(format!("view {} was renamed by another session", self.view.title())));
        }
        run_as(keeper(), commands)
    }

    fn sql(&self) -> String {
        qualified(&self.view.schema, &self.view.name)
    }

    /// Drops it for the length of a command.
    fn suspend(&self, table: &Relation) -> Result<()> {
        let drop = || self.run(&[format!("DROP VIEW {}", self.sql())]);
        reworded(drop, |error| {
            Error::needed(format!("view {} cannot follow this change of table {}", self.view.title(), table.title()))
                .detail(error.summary())
                .hint("Drop what stands on the view first, and make it again afterwards.")
        })?
    }

    /// Makes it anew, as `table` is now.
    fn resume(&self, table: &Relation, options: &Options) -> Result<()> {
        let name = self.sql();
        let mut commands = definition(table, options, &name, &self.options)?;
        commands.push(format!("ALTER VIEW {name} OWNER TO {}", ident(&role_name(self.view.owner))));
        commands.extend(self.comment.as_ref().map(|comment| comment_on(&name, comment)));
        let has = |grant: &&Grant| grant.column.as_ref().is_none_or(|column| table.attribute(column).is_some());
        commands.extend(self.grants.iter().filter(has).map(|grant| grant.sql(&name)));
        run_as(keeper(), &commands)
    }

    /// Its columns follow those of the table, which only are called otherwise, or more of them.
    fn follow(&self, table: &Relation, options: &Options) -> Result<()> {
        let (columns, shown) = (table.attributes_in_order(), self.view.attributes_in_order());
        let mut commands = Vec::new();
        for (column, shown) in columns.iter().zip(&shown) {
            let (now, before) = (&column.column, &shown.column);
            if now.name != before.name && now.type_of.is_same(&before.type_of) {
                commands.push(format!("ALTER VIEW {} RENAME COLUMN {} TO {}", self.sql(), before.sql(), now.sql()));
            }
        }
        if columns.len() > shown.len() {
            commands.push(self.replaced(table, options)?);
        }
        self.run(&commands)
    }

    fn replaced(&self, table: &Relation, options: &Options) -> Result<String> {
        select(table, options, "CREATE OR REPLACE", &self.sql(), &self.options)
    }
}

impl Grant {
    fn sql(&self, view: &str) -> String {
        let Grant { column, privilege, grantee, is_grantable } = self;
        let column = column.as_ref().map_or(String::new(), |column| format!(" ({})", ident(column)));
        let option = if *is_grantable { " WITH GRANT OPTION" } else { "" };
        format!("GRANT {privilege}{column} ON {view} TO {grantee}{option}")
    }
}

/// Makes a view of the live rows of a table in place, in the table's schema.
#[pg_extern(sql = false)]
fn live_view(relation: Option<pg_sys::Oid>, name: Option<&CStr>) -> Result<pg_sys::Oid, ErrorReport> {
    let make = || -> Result<pg_sys::Oid> {
        let relation = owned(relation, LockFor::Configuring)?;
        let (_, options) = catalog::options_of(relation.oid)?.ok_or_else(|| catalog::not_managed(relation.oid))?;
        require_in_place(&relation, &options, "Tombstones are not in it: whoever reads it reads live rows alone.")?;
        let name = name.ok_or_else(|| Error::invalid("name must not be NULL"))?.to_string_lossy();
        if cfg!(feature = "pg14") {
            return Err(Error::unsupported("a view of live rows needs PostgreSQL 15")
                .detail("Before that a view reads its table with the rights of its owner, not of whoever reads it."));
        }
        let view = qualified(&relation.schema, &name);
        let mut commands = definition(&relation, &options, &view, OPTIONS)?;
        commands.push(comment_on(&view, &format!("The live rows of {}.", relation.title())));
        run_as(relation.owner, &commands)?;
        let made = catalog::oid_of(&relation.schema, &name)?;
        made.ok_or_else(|| Error::not_ready(format!("view {} was not made", title_of(&relation, &name))))
    };
    make().map_err(Into::into)
}

fn title_of(table: &Relation, view: &str) -> String {
    quote_qualified_identifier(table.schema.as_str(), view)
}

/// What makes the view, and has its deletes be soft deletes.
fn definition(table: &Relation, options: &Options, view: &str, with: &str) -> Result<Vec<String>> {
    let trigger = format!("CREATE TRIGGER {LIVE_VIEW_TRIGGER} INSTEAD OF DELETE ON {view} FOR EACH ROW");
    Ok(vec![select(table, options, "CREATE", view, with)?, format!("{trigger} EXECUTE FUNCTION tombstone.on_live_delete()")])
}

/// All columns, so that the view can stand in for the table: its deleted_at is NULL, and setting it is a soft delete, too. Where the
/// table has been converted to layout archive all of its rows are live.
fn select(table: &Relation, options: &Options, create: &str, view: &str, with: &str) -> Result<String> {
    let condition = match options.layout.as_deref() {
        Some(ARCHIVE) => String::new(),
        _ => {
            require_deleted_at(table, options, "")?;
            format!(" WHERE t.{} IS NULL", ident(options.marker()))
        }
    };
    let columns =
        table.attributes_in_order().iter().map(|attribute| format!("t.{}", attribute.column.sql())).collect::<Vec<_>>();
    let with = if with.is_empty() { String::new() } else { format!(" WITH ({with})") };
    Ok(format!(
        "{create} VIEW {view}{with} AS SELECT {} FROM {} AS t{condition}",
        columns.join(", "),
        qualified(&table.schema, &table.name),
    ))
}

fn comment_on(view: &str, comment: &str) -> String {
    format!("COMMENT ON VIEW {view} IS {}", literal(comment))
}

/// The views of `table` follow a change of it that they have not stood in the way of.
pub fn follow(table: pg_sys::Oid) -> Result<()> {
    let views = views_of(table)?;
    let (Some((_, options)), false) = (catalog::options_of(table)?, views.is_empty()) else { return Ok(()) };
    let Some(table) = catalog::relation(table)? else { return Ok(()) };
    views.iter().try_for_each(|view| view.follow(&table, &options))
}

/// The table has its tombstones back: its views leave them out.
pub fn leave_out_tombstones(table: &Relation, options: &Options) -> Result<()> {
    views_of(table.oid)?.iter().try_for_each(|view| view.run(&[view.replaced(table, options)?]))
}

/// The table is managed no longer: its views are views like any other, and a delete through them is a delete.
pub fn release(table: &Relation) -> Result<()> {
    for view in views_of(table.oid)? {
        view.run(&[format!("DROP TRIGGER {LIVE_VIEW_TRIGGER} ON {}", view.sql())])?;
        notice!("view {} stays, and a DELETE from it deletes rows of {}", view.view.title(), table.title());
    }
    Ok(())
}

/// Before an ALTER TABLE: drops the views that it would be refused for; what is returned makes them again.
///
/// # Safety
/// `statement` is as parsed.
pub unsafe fn before_alter_table(statement: *mut pg_sys::AlterTableStmt) -> Option<After> {
    // SAFETY: by contract of this function.
    let suspended = unsafe { with_snapshot(|| suspend(statement)) }.map_err(ErrorReport::from).unwrap_or_report()?;
    let resume = move || with_snapshot(|| suspended.resume()).map_err(ErrorReport::from).unwrap_or_report();
    Some(Box::new(resume))
}

struct Suspended {
    table: pg_sys::Oid,
    views: Vec<LiveView>,
}

/// # Safety
/// `statement` is as parsed.
unsafe fn suspend(statement: *mut pg_sys::AlterTableStmt) -> Result<Option<Suspended>> {
    // SAFETY: by contract of this function; what is looked up by name may be gone.
    let table = unsafe {
        if (*statement).objtype != pg_sys::ObjectType::OBJECT_TABLE || !changes_columns(statement) {
            return Ok(None);
        }
        let flags = pg_sys::RVROption::RVR_MISSING_OK;
        pg_sys::RangeVarGetRelidExtended((*statement).relation, pg_sys::NoLock as i32, flags, None, std::ptr::null_mut())
    };
    if own(c"managed") == pg_sys::InvalidOid || !has_privileges_of(caller(), owner_of(table)) {
        return Ok(None); // Postgres refuses it, or it is none of ours
    }
    if catalog::options_of(table)?.is_none() || views_of(table)?.is_empty() {
        return Ok(None);
    }
    // The table first, as everybody else locks them.
    lock(table, LockFor::Ending);
    let Some(relation) = catalog::relation(table)? else { return Ok(None) };
    // What others have made of a view would be lost: Postgres then says that the view is in the way.
    let views: Vec<LiveView> = views_of(table)?.into_iter().filter(|view| view.is_plain).collect();
    views.iter().try_for_each(|view| view.suspend(&relation))?;
    Ok(Some(Suspended { table, views }))
}

/// Whether the statement has a column go, or its type change.
///
/// # Safety
/// `statement` is as parsed.
unsafe fn changes_columns(statement: *mut pg_sys::AlterTableStmt) -> bool {
    use pg_sys::AlterTableType::{AT_AlterColumnType, AT_DropColumn};
    // SAFETY: by contract of this function: a list of commands.
    unsafe {
        let commands = PgList::<pg_sys::AlterTableCmd>::from_pg((*statement).cmds);
        commands.iter_ptr().any(|command| [AT_DropColumn, AT_AlterColumnType].contains(&(*command).subtype))
    }
}

impl Suspended {
    fn resume(&self) -> Result<()> {
        let (Some((_, options)), Some(table)) = (catalog::options_of(self.table)?, catalog::relation(self.table)?) else {
            return Ok(());
        };
        self.views.iter().try_for_each(|view| view.resume(&table, &options))
    }
}
