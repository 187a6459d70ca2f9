//! Layout archive: what a DELETE means, and what it writes. The row goes to the table's bin, with the deletion it belongs to; a row
//! that a restore brings back is put back as it was.

use std::cell::RefCell;
use std::num::NonZeroUsize;
use std::rc::Rc;

use pgrx::htup::heap_getattr_raw;
use pgrx::spi::quote_identifier;
use pgrx::{IntoDatum, PgTupleDesc, pg_sys};

use super::shape::{Shape, position};
use crate::backend::identity::actor;
use crate::backend::load::Load;
use crate::backend::owned::Owned;
use crate::backend::relation::{LockFor, lock};
use crate::backend::transaction;
use crate::error::{Error, Result};
use crate::lifecycle::layout::archive::awaited::is_like_one;
use crate::lifecycle::layout::returning;
use crate::log::account::Account;
use crate::log::deletion;
use crate::log::event::Change;
use crate::table::tombstones::{self, part_for};
use crate::table::triggers::RETURN_TRIGGER;
use crate::table::{self, Bin, Column, Table, catalog};

/// How rows of one relation become rows of a bin.
pub struct Target {
    bin: Bin,
    /// The other BEFORE INSERT triggers of the relation: they may change a row that comes back.
    pub others: Vec<String>,
    /// Whether none of them fires after ours.
    is_last: bool,
    redactions: Vec<(String, pg_sys::Datum, bool)>,
    /// The partitions as they were read last, and in which generation of what is known.
    parts: RefCell<Option<Known>>,
    /// How it is for the partition that was written last.
    part: RefCell<Option<Rc<Part>>>,
}

type Known = (u64, Rc<[tombstones::Part]>);

/// A partition of the bin, and where each of its columns comes from.
pub struct Part {
    oid: pg_sys::Oid,
    /// A copy of its descriptor: it lives as long as the session.
    row: pg_sys::TupleDesc,
    columns: Vec<From>,
}

/// Where a column of the bin comes from.
#[derive(Clone, Copy)]
enum From {
    Row(NonZeroUsize),
    Value(pg_sys::Datum),
    Deletion,
    DeletedAt,
    Actor,
    Cause,
    Reason,
    AppActor,
    /// Nowhere: dropped, or generated whenever it is read.
    Nothing,
}

impl Drop for Part {
    fn drop(&mut self) {
        // SAFETY: a copy of ours.
        unsafe { pg_sys::FreeTupleDesc(self.row) };
    }
}

/// Rows on their way to the bin, of one deletion and on one account.
pub struct Binned {
    /// The type of the rows as they come.
    rows_of: pg_sys::Oid,
    /// Of the partition's shape, so it is dropped before that.
    rows: Load,
    part: Rc<Part>,
    /// The row that came last, and what becomes of it: filled anew for each, but for the columns that are the same in all.
    from: Columns,
    to: Columns,
    /// What those columns point to.
    _same: Same,
}

/// What is the same in all rows of one deletion and account.
struct Same {
    deletion: i64,
    stamp: i64,
    actor: Option<Owned>,
    cause: Option<Owned>,
    reason: Option<Owned>,
    app_actor: Option<Owned>,
}

impl Same {
    fn of(stamp: i64, account: &Account) -> Same {
        // SAFETY: texts are of variable length.
        let owned = |text: &str| text.into_datum().map(|text| unsafe { Owned::copy_of(text) });
        Same {
            deletion: deletion::number(),
            stamp,
            actor: owned(&actor()),
            cause: owned(account.cause.name()),
            reason: account.reason.as_deref().and_then(owned),
            app_actor: account.app_actor.as_deref().and_then(owned),
        }
    }

    fn value(&self, source: From) -> Option<pg_sys::Datum> {
        match source {
            From::Value(value) => Some(value),
            From::Deletion => Some(self.deletion.into()),
            From::DeletedAt => Some(self.stamp.into()),
            From::Actor => self.actor.as_ref().map(Owned::datum),
            From::Cause => self.cause.as_ref().map(Owned::datum),
            From::Reason => self.reason.as_ref().map(Owned::datum),
            From::AppActor => self.app_actor.as_ref().map(Owned::datum),
            From::Row(_) | From::Nothing => None,
        }
    }
}

/// The columns of a row.
struct Columns {
    values: Vec<pg_sys::Datum>,
    nulls: Vec<bool>,
}

impl Columns {
    fn of(values: Vec<Option<pg_sys::Datum>>) -> Columns {
        let nulls = values.iter().map(Option::is_none).collect();
        Columns { values: values.into_iter().map(|value| value.unwrap_or(pg_sys::Datum::from(0))).collect(), nulls }
    }
}

impl Target {
    /// # Safety
    /// `relation` is open.
    pub unsafe fn new(table: &Table, bin: &Bin, relation: pg_sys::Relation) -> Result<Target> {
        let redaction = |redaction: &table::Redaction| {
            Ok((redaction.column.name.clone(), redaction.value(table)?, redaction.text.is_none()))
        };
        // SAFETY: by contract of this function.
        let others = unsafe { other_triggers(relation) };
        Ok(Target {
            bin: bin.clone(),
            is_last: others.iter().all(|name| name.as_str() < RETURN_TRIGGER),
            others,
            redactions: table.redactions.iter().map(redaction).collect::<Result<_>>()?,
            parts: RefCell::default(),
            part: RefCell::default(),
        })
    }

    /// Rows of this deletion on their way, none yet. `row` is the descriptor of the rows to come.
    pub fn begin(&self, table: &Table, row: pg_sys::TupleDesc, stamp: i64, account: &Account) -> Result<Binned> {
        let part = self.part_of(table, row, stamp)?;
        let same = Same::of(stamp, account);
        let values = part.columns.iter().map(|source| same.value(*source)).collect();
        Ok(Binned {
            // SAFETY: the descriptor of an open relation.
            rows_of: unsafe { (*row).tdtypeid },
            // SAFETY: the copy of that partition's descriptor that `part` keeps.
            rows: unsafe { Load::new(part.oid, part.row) },
            part,
            // SAFETY: the descriptor of an open relation.
            from: Columns::of(vec![None; unsafe { (*row).natts } as usize]),
            to: Columns::of(values),
            _same: same,
        })
    }

    /// The partition for rows of this stamp, locked. Partitions may have been closed, dropped or detached while the lock was waited for:
    /// then it is chosen again, by what is known since. One that is chosen twice had its lock before it was chosen, and is right; the
    /// open one keeps others from being attached as long as it is locked, so that there is an end to it.
    fn part_of(&self, table: &Table, row: pg_sys::TupleDesc, stamp: i64) -> Result<Rc<Part>> {
        let mut locked = Vec::new();
        loop {
            let (read_in, parts) = self.parts()?;
            let oid = part_for(&parts, stamp).ok_or_else(|| no_partition(table, &self.bin))?;
            if !locked.contains(&oid) {
                lock(oid, LockFor::Writing);
                locked.push(oid);
                if read_in != table::generation() {
                    continue;
                }
            }
            return self.part(table, row, oid);
        }
    }

    /// The bin's partitions, read anew if anything of managed tables has changed since, and the generation they were read in.
    fn parts(&self) -> Result<Known> {
        let known = self.parts.borrow().clone();
        if let Some(known) = known.filter(|(read_in, _)| *read_in == table::generation()) {
            return Ok(known);
        }
        let known = (table::generation(), catalog::parts_of(self.bin.oid)?.into());
        self.parts.replace(Some(Known::clone(&known)));
        Ok(known)
    }

    /// The partition `oid`, which is locked, as it is by now.
    fn part(&self, table: &Table, row: pg_sys::TupleDesc, oid: pg_sys::Oid) -> Result<Rc<Part>> {
        // SAFETY: locked, so it stays as it is; its descriptor is copied to memory that lasts.
        let part = unsafe {
            let relation = pg_sys::try_relation_open(oid, pg_sys::NoLock as i32);
            if relation.is_null() {
                return Err(no_partition(table, &self.bin));
            }
            let (of, is_part) = ((*relation).rd_att, (*(*relation).rd_rel).relispartition);
            let is_heap = (*(*relation).rd_rel).relkind as u8 == pg_sys::RELKIND_RELATION
                && (*relation).rd_tableam == pg_sys::GetHeapamTableAmRoutine();
            let known = self.part.borrow().clone().filter(|part| part.oid == oid && pg_sys::equalTupleDescs(part.row, of));
            let copy = known.is_none().then(|| {
                let before = pg_sys::MemoryContextSwitchTo(pg_sys::TopMemoryContext);
                let copy = pg_sys::CreateTupleDescCopyConstr(of);
                pg_sys::MemoryContextSwitchTo(before);
                copy
            });
            pg_sys::relation_close(relation, pg_sys::NoLock as i32);
            match (known, copy) {
                _ if !is_part => return Err(no_partition(table, &self.bin)),
                _ if !is_heap => return Err(no_heap(table, &self.bin, oid)),
                (Some(part), _) => return Ok(part),
                (None, Some(copy)) => Rc::new(Part { oid, row: copy, columns: self.sources(table, copy, row)? }),
                (None, None) => return Err(no_partition(table, &self.bin)),
            }
        };
        self.part.replace(Some(Rc::clone(&part)));
        Ok(part)
    }

    /// Where each column of the partition comes from, in rows of descriptor `row`. Postgres plans by NOT NULL, and nothing else sees to it
    /// that it holds.
    fn sources(&self, table: &Table, part: pg_sys::TupleDesc, row: pg_sys::TupleDesc) -> Result<Vec<From>> {
        let own = &self.bin.own;
        let own = [
            (&own.deletion.name, From::Deletion),
            (&own.deleted_at.name, From::DeletedAt),
            (&own.actor.name, From::Actor),
            (&own.cause.name, From::Cause),
            (&own.reason.name, From::Reason),
            (&own.app_actor.name, From::AppActor),
        ];
        // SAFETY: valid descriptors, read and left as they are.
        let (part, row) = unsafe { (PgTupleDesc::from_pg_copy(part), PgTupleDesc::from_pg_copy(row)) };
        let mut sources = Vec::with_capacity(part.len());
        for attribute in part.iter() {
            let name = attribute.name();
            let is_virtual = attribute.attgenerated as u8 == b'v';
            let source = if attribute.is_dropped() || is_virtual {
                From::Nothing
            } else if let Some((_, source)) = own.iter().find(|(own, _)| own.as_str() == name) {
                *source
            } else if let Some((_, value, null)) = self.redactions.iter().find(|(column, _, _)| column == name) {
                if *null { From::Nothing } else { From::Value(*value) }
            } else {
                let found = row.iter().position(|other| !other.is_dropped() && other.name() == name);
                let same = found.filter(|i| row.get(*i).is_some_and(|other| other.atttypid == attribute.atttypid));
                match (found, same) {
                    (_, Some(i)) => NonZeroUsize::new(i + 1).map_or(From::Nothing, From::Row),
                    (None, None) => From::Nothing, // a column that somebody has added to the bin
                    (Some(_), None) => return Err(type_differs(table, &self.bin, name)),
                }
            };
            let is_never_null = match source {
                From::Row(place) => row.get(place.get() - 1).is_some_and(|other| other.attnotnull),
                From::Nothing | From::Reason | From::AppActor => false,
                From::Value(_) | From::Deletion | From::DeletedAt | From::Actor | From::Cause => true,
            };
            if attribute.attnotnull && !is_never_null {
                return Err(not_null(table, &self.bin, name));
            }
            sources.push(source);
        }
        Ok(sources)
    }
}

impl Binned {
    /// Whether rows of descriptor `row` are of the same shape as those so far.
    pub fn takes(&self, row: pg_sys::TupleDesc) -> bool {
        // SAFETY: the descriptor of an open relation.
        self.rows_of == unsafe { (*row).tdtypeid }
    }

    /// Adds a row; it is time to write when this returns true.
    ///
    /// # Safety
    /// `tuple` is of descriptor `row`, which `begin` was given.
    pub unsafe fn add(&mut self, tuple: pg_sys::HeapTuple, row: pg_sys::TupleDesc) -> bool {
        // SAFETY: by contract of this function; the values are copied before the row goes.
        unsafe {
            let Binned { from, to, .. } = self;
            pg_sys::heap_deform_tuple(tuple, row, from.values.as_mut_ptr(), from.nulls.as_mut_ptr());
            for (i, source) in self.part.columns.iter().enumerate() {
                if let From::Row(place) = source {
                    to.values[i] = from.values[place.get() - 1];
                    to.nulls[i] = from.nulls[place.get() - 1];
                }
            }
            self.rows.add(&mut to.values, &mut to.nulls)
        }
    }

    /// Writes what has gathered.
    pub fn write(&mut self) {
        self.rows.write();
    }
}

fn no_partition(table: &Table, bin: &Bin) -> Error {
    Error::not_ready(format!("archive {} of table {} has no partition for what is deleted now", bin.title(), table.title()))
        .detail("Its open partition was dropped or detached by hand.")
        .hint(format!("CREATE TABLE … PARTITION OF {} DEFAULT;", bin.title()))
}

fn no_heap(table: &Table, bin: &Bin, part: pg_sys::Oid) -> Error {
    Error::not_ready(format!("archive {} of table {} cannot take what is deleted now", bin.title(), table.title()))
        .detail(format!("Its partition {} is no table with the access method heap.", catalog::title(part)))
        .hint(format!("Drop or detach it, then: CREATE TABLE … PARTITION OF {} DEFAULT USING heap;", bin.title()))
}

fn not_null(table: &Table, bin: &Bin, column: &str) -> Error {
    Error::not_ready(format!("archive {} of table {} cannot take what is deleted now", bin.title(), table.title()))
        .detail(format!("Its column {column} is NOT NULL, and what is deleted may have no value for it."))
        .hint(format!("ALTER TABLE {} ALTER COLUMN {} DROP NOT NULL;", bin.title(), quote_identifier(column)))
}

fn type_differs(table: &Table, bin: &Bin, column: &str) -> Error {
    Error::not_ready(format!("archive {} does not fit table {} any more", bin.title(), table.title()))
        .detail(format!("Column {column} has another type there."))
        .hint(format!("ALTER TABLE {} ALTER COLUMN … TYPE …;", bin.title()))
}

/// A row that is updated: its key may change, which holds must hear of; and where they are wanted, updates are events.
///
/// # Safety
/// `trigger` is of a BEFORE UPDATE FOR EACH ROW trigger on the relation of `shape`.
pub unsafe fn on_update(shape: &Shape, trigger: &pg_sys::TriggerData) -> Result<pg_sys::Datum> {
    // SAFETY: such a trigger has both tuples, of its relation's descriptor.
    unsafe {
        let (old, new, row) = (trigger.tg_trigtuple, trigger.tg_newtuple, (*trigger.tg_relation).rd_att);
        let which = || shape.identity(old, row).map(|(id, version)| (shape.table.number, id, version));
        if returning::stays(old, which)? {
            return Ok(pg_sys::Datum::from(old));
        }
        let has_new_key = !shape.same_key(old, new, row);
        if shape.is_refused(new, row, has_new_key) {
            return Ok(pg_sys::Datum::from(new));
        }
        if has_new_key {
            shape.note(None, old, old, row, false)?;
        }
        if shape.table.all_events {
            shape.note(Some(Change::Update), new, new, row, false)?;
        }
        Ok(pg_sys::Datum::from(new))
    }
}

/// A row that is inserted: if it is one that comes back, it comes back as it was; if a trigger makes one that is to come back, that one is
/// left out.
///
/// # Safety
/// `trigger` is of a BEFORE INSERT FOR EACH ROW trigger on the relation of `shape`.
pub unsafe fn on_return(shape: &Shape, target: &Target, trigger: &pg_sys::TriggerData) -> Result<pg_sys::Datum> {
    // SAFETY: such a trigger has the new tuple, of its relation's descriptor.
    unsafe {
        let (tuple, row) = (trigger.tg_trigtuple, (*trigger.tg_relation).rd_att);
        let Some(stamp) = returning::next(shape.table.number, target.is_last) else {
            let is_left_out = is_like_one(&shape.table, |column| value_of(tuple, row, column))?;
            return Ok(pg_sys::Datum::from(if is_left_out { std::ptr::null_mut() } else { tuple }));
        };
        let tuple = if target.others.is_empty() { tuple } else { returning::as_it_was(shape.table.number, tuple, row) };
        shape.note(Some(Change::Restore { stamp }), tuple, tuple, row, false)?;
        Ok(pg_sys::Datum::from(tuple))
    }
}

/// What a row has in a column, as text; `None` is NULL.
///
/// # Safety
/// `tuple` is of descriptor `row`.
unsafe fn value_of(tuple: pg_sys::HeapTuple, row: pg_sys::TupleDesc, column: &Column) -> Result<Option<String>> {
    let place = position(row, column)?;
    // SAFETY: by contract of this function; the column is of its own type.
    Ok(unsafe { heap_getattr_raw(tuple, place, row).map(|value| column.type_of.write_key(value)) })
}

/// The stamp of what is deleted now.
pub fn stamp() -> i64 {
    transaction::started()
}

/// The enabled BEFORE INSERT row triggers besides ours, in the order in which they fire.
///
/// # Safety
/// `relation` is open.
unsafe fn other_triggers(relation: pg_sys::Relation) -> Vec<String> {
    const BEFORE_INSERT: u32 = pg_sys::TRIGGER_TYPE_ROW | pg_sys::TRIGGER_TYPE_BEFORE | pg_sys::TRIGGER_TYPE_INSERT;
    // SAFETY: the triggers of an open relation.
    unsafe {
        let triggers = (*relation).trigdesc;
        if triggers.is_null() {
            return Vec::new();
        }
        let all = core::slice::from_raw_parts((*triggers).triggers, (*triggers).numtriggers as usize);
        let name = |trigger: &pg_sys::Trigger| core::ffi::CStr::from_ptr(trigger.tgname).to_string_lossy().into_owned();
        let fires = |trigger: &&pg_sys::Trigger| {
            trigger.tgtype as u32 & BEFORE_INSERT == BEFORE_INSERT && trigger.tgenabled as u8 != pg_sys::TRIGGER_DISABLED
        };
        all.iter().filter(fires).map(name).filter(|name| name != RETURN_TRIGGER).collect()
    }
}
