//! ALTER TABLE … ALTER COLUMN … TYPE of a managed table, before it happens; afterwards nothing would tell how values were converted.
//!
//! Layout archive: the bin gets the new type by the same USING, before the table does, as a plain cast may give other values.
//! Layout in_place: the column that marks tombstones keeps their moments between timestamptz and timestamp, which is UTC there. Without
//! a USING, Postgres would convert them by the time zone of the session.

use core::ffi::{CStr, c_char};
use std::ffi::CString;

use pgrx::pg_sys::panic::{ErrorReport, ErrorReportable};
use pgrx::{PgList, pg_sys};

use super::drift::cannot_follow;
use crate::backend::expression::parsed;
use crate::backend::identity::{caller, has_privileges_of};
use crate::backend::relation::{LockFor, lock, own, owner_of};
use crate::backend::subtransaction::reworded;
use crate::backend::transaction::with_snapshot;
use crate::error::Result;
use crate::table::catalog::{self, Relation};
use crate::table::options::IN_PLACE;
use crate::table::{ColumnType, marker};

/// Before an ALTER TABLE.
///
/// # Safety
/// `statement` is as parsed, `text` the text it was parsed from.
pub unsafe fn before_alter_table(statement: *mut pg_sys::AlterTableStmt, text: *const c_char) {
    // SAFETY: by contract of this function.
    unsafe { with_snapshot(|| before(statement, text)) }.map_err(ErrorReport::from).unwrap_or_report();
}

/// # Safety
/// `statement` is as parsed, `text` the text it was parsed from.
unsafe fn before(statement: *mut pg_sys::AlterTableStmt, text: *const c_char) -> Result<()> {
    // SAFETY: by contract of this function; what is looked up by name may be gone.
    unsafe {
        if (*statement).objtype != pg_sys::ObjectType::OBJECT_TABLE || retypes(statement).is_empty() {
            return Ok(());
        }
        let flags = pg_sys::RVROption::RVR_MISSING_OK;
        let table =
            pg_sys::RangeVarGetRelidExtended((*statement).relation, pg_sys::NoLock as i32, flags, None, std::ptr::null_mut());
        if own(c"managed") == pg_sys::InvalidOid || !has_privileges_of(caller(), owner_of(table)) {
            return Ok(()); // Postgres refuses it, or it is none of ours
        }
        keep_stamps(statement, table)?;
        if conversions(statement).is_empty() {
            return Ok(());
        }
        let Some(archive) = catalog::bin_of(table)? else { return Ok(()) };
        // The table first, as everybody else locks them.
        lock(table, LockFor::Ending);
        let (Some(table), Some(bin)) = (catalog::relation(table)?, catalog::relation(archive)?) else { return Ok(()) };
        reworded(|| convert(statement, text, &bin), |error| cannot_follow(&table, &bin, &error))
    }
}

/// Has the column that marks the tombstones of `table`, with layout in_place, converted in UTC.
///
/// # Safety
/// `statement` is as parsed.
unsafe fn keep_stamps(statement: *mut pg_sys::AlterTableStmt, table: pg_sys::Oid) -> Result<()> {
    let Some((_, options)) = catalog::options_of(table)? else { return Ok(()) };
    // SAFETY: reads the session's time zone. In one that is UTC in all but name the values stay, and Postgres does not rewrite the table.
    if options.layout.as_deref() != Some(IN_PLACE) || unsafe { !pg_sys::TimestampTimestampTzRequiresRewrite() } {
        return Ok(());
    }
    let Some(relation) = catalog::relation(table)? else { return Ok(()) };
    let Some(marker) = relation.attribute(options.marker()).map(|attribute| &attribute.column) else { return Ok(()) };
    // SAFETY: by contract of this function.
    unsafe {
        for command in retypes(statement) {
            let definition = (*command).def.cast::<pg_sys::ColumnDef>();
            let becomes = type_of(command);
            if (*definition).raw_default.is_null()
                && CStr::from_ptr((*command).name).to_string_lossy() == marker.name
                && becomes.base() != marker.type_of.base()
                && [&becomes, &marker.type_of].into_iter().all(marker::fits)
            {
                (*definition).raw_default = parsed(&format!("pg_catalog.timezone('UTC', {})", marker.sql()));
            }
        }
    }
    Ok(())
}

/// The parts of the statement that give a column a type.
///
/// # Safety
/// `statement` is as parsed.
unsafe fn retypes(statement: *mut pg_sys::AlterTableStmt) -> Vec<*mut pg_sys::AlterTableCmd> {
    // SAFETY: by contract of this function: a list of commands.
    unsafe {
        let commands = PgList::<pg_sys::AlterTableCmd>::from_pg((*statement).cmds);
        let retypes = |command: &*mut pg_sys::AlterTableCmd| (**command).subtype == pg_sys::AlterTableType::AT_AlterColumnType;
        commands.iter_ptr().filter(retypes).collect()
    }
}

/// Those of them that say how to convert it.
///
/// # Safety
/// `statement` is as parsed.
unsafe fn conversions(statement: *mut pg_sys::AlterTableStmt) -> Vec<*mut pg_sys::AlterTableCmd> {
    // SAFETY: by contract of this function; a command that sets a type has a column's definition.
    unsafe {
        let says_how =
            |command: &*mut pg_sys::AlterTableCmd| !(*(**command).def.cast::<pg_sys::ColumnDef>()).raw_default.is_null();
        retypes(statement).into_iter().filter(says_how).collect()
    }
}

/// Does the same to the bin, but for what is done already.
///
/// # Safety
/// `statement` is as parsed, `text` the text it was parsed from.
unsafe fn convert(statement: *mut pg_sys::AlterTableStmt, text: *const c_char, bin: &Relation) {
    // SAFETY: by contract of this function; what is changed is a copy.
    unsafe {
        let copy = pg_sys::copyObjectImpl(statement.cast()).cast::<pg_sys::AlterTableStmt>();
        let mut commands = PgList::<pg_sys::AlterTableCmd>::new();
        conversions(copy).into_iter().filter(|command| !is_done(*command, bin)).for_each(|command| commands.push(command));
        if commands.is_empty() {
            return;
        }
        let (Ok(schema), Ok(name)) = (CString::new(bin.schema.as_str()), CString::new(bin.name.as_str())) else { return };
        (*copy).cmds = commands.into_pg();
        (*copy).relation = pg_sys::makeRangeVar(pg_sys::pstrdup(schema.as_ptr()), pg_sys::pstrdup(name.as_ptr()), -1);
        let mut planned = pg_sys::PlannedStmt {
            type_: pg_sys::NodeTag::T_PlannedStmt,
            commandType: pg_sys::CmdType::CMD_UTILITY,
            canSetTag: false,
            utilityStmt: copy.cast(),
            stmt_location: -1,
            ..Default::default()
        };
        let part = pg_sys::ProcessUtilityContext::PROCESS_UTILITY_SUBCOMMAND;
        let (nothing, nowhere) = (std::ptr::null_mut(), pg_sys::None_Receiver);
        pg_sys::ProcessUtility(&mut planned, text, false, part, nothing, std::ptr::null_mut(), nowhere, std::ptr::null_mut());
        pg_sys::CommandCounterIncrement();
    }
}

/// Whether the column has the type already: its owner has converted the bin by hand.
///
/// # Safety
/// `command` sets a column's type, as parsed.
unsafe fn is_done(command: *mut pg_sys::AlterTableCmd, bin: &Relation) -> bool {
    // SAFETY: by contract of this function.
    unsafe {
        let name = CStr::from_ptr((*command).name).to_string_lossy();
        bin.attribute(&name).is_some_and(|attribute| attribute.column.type_of.is_same(&type_of(command)))
    }
}

/// The type that the column gets.
///
/// # Safety
/// `command` sets a column's type, as parsed.
unsafe fn type_of(command: *mut pg_sys::AlterTableCmd) -> ColumnType {
    // SAFETY: by contract of this function.
    unsafe {
        let definition = (*command).def.cast::<pg_sys::ColumnDef>();
        let (mut type_of, mut modifier) = (pg_sys::InvalidOid, -1);
        pg_sys::typenameTypeIdAndMod(std::ptr::null_mut(), (*definition).typeName, &mut type_of, &mut modifier);
        ColumnType::new(type_of, modifier)
    }
}
