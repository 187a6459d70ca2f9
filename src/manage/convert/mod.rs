//! The way from one layout to the other: CALL convert(). To an archive tombstones are copied batch by batch, while everybody goes on,
//! and change places in one last transaction; back to their table they come in one. What was deleted stays deleted, by the same
//! deletions, and held if it was on hold: no event, no trigger of the application, no second deletion.

mod copying;
mod group;
mod references;
mod to_archive;
mod to_in_place;
mod unknown;

use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use self::group::Member;
use crate::backend::identity::{caller, has_privileges_of};
use crate::backend::procedure::committing;
use crate::error::{Error, Result};
use crate::table::catalog;
use crate::table::options::{ARCHIVE, IN_PLACE};

/// Moves the tombstones of a managed table that the caller owns to where the other layout has them (DESIGN §3).
#[pg_extern(sql = false)]
fn convert(relation: Option<pg_sys::Oid>, layout: Option<String>, call: pg_sys::FunctionCallInfo) -> Result<(), ErrorReport> {
    let convert = || -> Result<()> {
        let table = relation.ok_or_else(|| Error::invalid("relation must not be NULL"))?;
        let run: fn(pg_sys::Oid) -> Result<()> = match layout.as_deref() {
            Some(ARCHIVE) => to_archive::run,
            Some(IN_PLACE) => to_in_place::run,
            other => return Err(no_such_layout(other)),
        };
        let found =
            catalog::relation(table)?.ok_or_else(|| Error::undefined(format!("there is no table {}", table.to_u32())))?;
        if !has_privileges_of(caller(), found.owner) {
            return Err(Error::denied(format!("must be owner of table {}", found.title())));
        }
        catalog::options_of(table)?.ok_or_else(|| catalog::not_managed(table))?;
        // SAFETY: the call that we are in.
        unsafe { committing(call, || run(table)) }?
    };
    convert().map_err(Into::into)
}

fn no_such_layout(said: Option<&str>) -> Error {
    let said = said.map_or("NULL".into(), |said| format!("\"{said}\""));
    Error::invalid(format!("layout must be archive or in_place, not {said}")).hint(
        "archive: tombstones move to a table beside this one, and DELETE is the soft delete. in_place: they move back, marked by deleted_at.",
    )
}

/// So many tombstones, in words.
fn counted(tombstones: u64) -> String {
    if tombstones == 1 { "1 tombstone".into() } else { format!("{tombstones} tombstones") }
}

/// A notice that says what to do next.
fn tell(message: String, hint: String) {
    ErrorReport::new(PgSqlErrorCode::ERRCODE_SUCCESSFUL_COMPLETION, message, "pg_tombstone")
        .set_hint(hint)
        .report(PgLogLevel::NOTICE);
}

/// What was decided of an option that means something else, or nothing, with the other layout.
fn tell_truncate(member: &Member, now: Option<&str>) {
    let before = member.options.truncate.as_deref();
    if before != now {
        let (before, now) = (before.unwrap_or_default(), now.unwrap_or_default());
        notice!("option truncate of table {} is {now} from here on, and was {before}", member.relation.title());
    }
}
