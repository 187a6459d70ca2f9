//! ALTER TABLE … ALTER COLUMN … TYPE … USING, of a table with layout archive: its bin gets the new type by the same expression, before
//! the table does. Afterwards nothing would tell how the values were converted, and a plain cast may give others.

use core::ffi::{CStr, c_char};
use std::ffi::CString;

use pgrx::pg_sys::panic::{ErrorReport, ErrorReportable};
use pgrx::{PgList, pg_sys};

use super::drift::cannot_follow;
use crate::backend::executor;
use crate::backend::identity::{caller, has_privileges_of};
use crate::backend::relation::{LockFor, lock, own, owner_of};
use crate::backend::subtransaction::reworded;
use crate::backend::transaction::with_snapshot;
use crate::error::Result;
use crate::table::catalog::{self, Relation};

/// Called at load.
pub fn init() {
    executor::before_alter_table(|statement, text| {
        // SAFETY: a statement as parsed, and its text.
        unsafe { with_snapshot(|| before(statement, text)) }.map_err(ErrorReport::from).unwrap_or_report();
    });
}

/// # Safety
/// `statement` is as parsed, `text` the text it was parsed from.
unsafe fn before(statement: *mut pg_sys::AlterTableStmt, text: *const c_char) -> Result<()> {
    // SAFETY: by contract of this function; what is looked up by name may be gone.
    unsafe {
        if (*statement).objtype != pg_sys::ObjectType::OBJECT_TABLE || !conversions(statement).any(|_| true) {
            return Ok(());
        }
        let flags = pg_sys::RVROption::RVR_MISSING_OK;
        let table =
            pg_sys::RangeVarGetRelidExtended((*statement).relation, pg_sys::NoLock as i32, flags, None, std::ptr::null_mut());
        if own(c"managed") == pg_sys::InvalidOid || !has_privileges_of(caller(), owner_of(table)) {
            return Ok(()); // Postgres refuses it, or it is none of ours
        }
        let Some(archive) = catalog::bin_of(table)? else { return Ok(()) };
        // The table first, as everybody else locks them.
        lock(table, LockFor::Ending);
        let (Some(table), Some(bin)) = (catalog::relation(table)?, catalog::relation(archive)?) else { return Ok(()) };
        reworded(|| convert(statement, text, &bin), |error| cannot_follow(&table, &bin, &error))
    }
}

/// The parts of the statement that say how to convert a column.
///
/// # Safety
/// `statement` is as parsed.
unsafe fn conversions(statement: *mut pg_sys::AlterTableStmt) -> impl Iterator<Item = *mut pg_sys::AlterTableCmd> {
    // SAFETY: by contract of this function: a list of commands; one that sets a type has a column's definition.
    unsafe {
        let commands = PgList::<pg_sys::AlterTableCmd>::from_pg((*statement).cmds);
        let commands: Vec<_> = commands.iter_ptr().collect();
        commands.into_iter().filter(|command| {
            (**command).subtype == pg_sys::AlterTableType::AT_AlterColumnType
                && !(*(**command).def.cast::<pg_sys::ColumnDef>()).raw_default.is_null()
        })
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
        conversions(copy).filter(|command| !is_done(*command, bin)).for_each(|command| commands.push(command));
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
        let definition = (*command).def.cast::<pg_sys::ColumnDef>();
        let (mut type_of, mut modifier) = (pg_sys::InvalidOid, -1);
        pg_sys::typenameTypeIdAndMod(std::ptr::null_mut(), (*definition).typeName, &mut type_of, &mut modifier);
        let wanted = crate::table::ColumnType::new(type_of, modifier);
        bin.attribute(&name).is_some_and(|attribute| attribute.column.type_of.is_same(&wanted))
    }
}
