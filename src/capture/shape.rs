//! Where the columns of a managed table stand in the rows of one relation, and what its layout needs besides: worked out once for
//! each relation, and kept while what is known of managed tables holds.

use std::cell::RefCell;
use std::collections::HashMap;
use std::mem::ManuallyDrop;
use std::num::NonZeroUsize;
use std::rc::Rc;

use pgrx::htup::heap_getattr_raw;
use pgrx::{PgTupleDesc, pg_sys};

use super::archive::Target;
use super::in_place::Marks;
use super::pending::{Noted, note};
use super::row::RowOf;
use super::unlinked::Reference;
use crate::error::{Error, Result};
use crate::log::event::Change;
use crate::table::{self, Column, ColumnType, Kind, Table, Tombstones};

/// Where a managed table's columns stand in the rows of one relation: of the table, or of a partition with its own order.
pub struct Shape {
    generation: u64,
    pub relation: pg_sys::Oid,
    pub table: Rc<Table>,
    id: Vec<NonZeroUsize>,
    version: Option<(NonZeroUsize, ColumnType)>,
    /// Where the kind stands, if it is a column.
    kind: Option<NonZeroUsize>,
    pub layout: OfLayout,
    /// Foreign keys whose columns are overwritten when a parent is deleted.
    pub references: Vec<Reference>,
}

/// What a layout's triggers need to know of a relation.
#[allow(clippy::large_enum_variant, reason = "one for each relation, kept")]
pub enum OfLayout {
    InPlace(Marks),
    Archive(Target),
}

thread_local! {
    // Never dropped: at the process's end there is no memory context left to free a value in.
    /// The one used last: a statement's rows mostly have the same.
    static LAST: ManuallyDrop<RefCell<Option<Rc<Shape>>>> = ManuallyDrop::new(RefCell::default());
    static SHAPES: ManuallyDrop<RefCell<HashMap<pg_sys::Oid, Rc<Shape>>>> = ManuallyDrop::new(RefCell::default());
}

/// # Safety
/// `relation` is open.
pub unsafe fn shape_of(relation: pg_sys::Relation) -> Result<Rc<Shape>> {
    // SAFETY: by contract of this function.
    let oid = unsafe { (*relation).rd_id };
    let fits = |shape: &&Rc<Shape>| shape.relation == oid && shape.generation == table::generation();
    if let Some(shape) = LAST.with(|last| last.borrow().as_ref().filter(fits).map(Rc::clone)) {
        return Ok(shape);
    }
    let known = SHAPES.with(|shapes| shapes.borrow().get(&oid).filter(fits).map(Rc::clone));
    let shape = match known {
        Some(shape) => shape,
        None => {
            // SAFETY: by contract of this function.
            let shape = Rc::new(unsafe { Shape::new(relation) }?);
            SHAPES.with(|shapes| {
                let mut shapes = shapes.borrow_mut();
                shapes.retain(|_, other| other.generation == shape.generation);
                shapes.insert(oid, Rc::clone(&shape));
            });
            shape
        }
    };
    LAST.with(|last| last.replace(Some(Rc::clone(&shape))));
    Ok(shape)
}

impl Shape {
    /// # Safety
    /// `relation` is open.
    unsafe fn new(relation: pg_sys::Relation) -> Result<Shape> {
        let generation = table::generation();
        // SAFETY: by contract of this function.
        let (oid, table, row) = unsafe { ((*relation).rd_id, table::by_trigger((*relation).rd_id)?, (*relation).rd_att) };
        let place = |column: &Column| position(row, column);
        let layout = match &table.tombstones {
            // SAFETY: by contract of this function.
            Tombstones::InPlace { deleted_at } => OfLayout::InPlace(unsafe { Marks::new(&table, deleted_at, relation)? }),
            // SAFETY: as above.
            Tombstones::Archive(bin) => OfLayout::Archive(unsafe { Target::new(&table, bin, relation)? }),
        };
        Ok(Shape {
            generation,
            relation: oid,
            id: table.id.iter().map(place).collect::<Result<_>>()?,
            version: table
                .version
                .as_ref()
                .map(|column| Ok::<_, Error>((place(column)?, column.type_of.clone())))
                .transpose()?,
            kind: match &table.kind {
                Kind::Column(column) => Some(place(column)?),
                _ => None,
            },
            layout,
            references: Reference::all(&table, row)?,
            table,
        })
    }

    /// # Safety
    /// Both tuples are of descriptor `row`, which is of this shape.
    pub unsafe fn same_key(&self, old: pg_sys::HeapTuple, new: pg_sys::HeapTuple, row: pg_sys::TupleDesc) -> bool {
        // SAFETY: by contract of this function.
        self.id.iter().zip(&self.table.id).all(|(position, column)| unsafe {
            match (heap_getattr_raw(old, *position, row), heap_getattr_raw(new, *position, row)) {
                (Some(old), Some(new)) => column.type_of.identical(old, new),
                (None, None) => true,
                _ => false,
            }
        })
    }

    /// # Safety
    /// `tuple` and `kind_of` are of descriptor `row`, which is of this shape.
    pub unsafe fn note(
        &self,
        change: Option<Change>,
        tuple: pg_sys::HeapTuple,
        kind_of: pg_sys::HeapTuple,
        row: pg_sys::TupleDesc,
        by_foreign_key: bool,
    ) -> Result<()> {
        // SAFETY: by contract of this function.
        unsafe {
            let (id, version) = self.identity(tuple, row)?;
            let row = RowOf { tuple: kind_of, shape: row, kind: self.kind.as_ref() };
            let binned = match (&self.layout, change) {
                (OfLayout::Archive(target), Some(Change::SoftDelete { .. })) => Some(target),
                _ => None,
            };
            note(&self.table, Noted { change, id, version, row, by_foreign_key, binned })
        }
    }

    /// Whether a row has NULL in its version, or in an id that `has_changed`, where the column is NOT NULL: Postgres refuses it, in its
    /// own words.
    ///
    /// # Safety
    /// `tuple` is of descriptor `row`, which is of this shape.
    pub unsafe fn is_refused(&self, tuple: pg_sys::HeapTuple, row: pg_sys::TupleDesc, has_changed: bool) -> bool {
        let id = if has_changed { self.id.as_slice() } else { &[] };
        let places = id.iter().chain(self.version.as_ref().map(|(place, _)| place));
        // SAFETY: by contract of this function; the descriptor is read and left as it is.
        let is_null = |place: &NonZeroUsize| unsafe { heap_getattr_raw(tuple, *place, row).is_none() };
        let mut nulls = places.filter(|place| is_null(place)).peekable();
        if nulls.peek().is_none() {
            return false;
        }
        // SAFETY: as above.
        let columns = unsafe { PgTupleDesc::from_pg_unchecked(row) };
        nulls.any(|place| columns.get(place.get() - 1).is_some_and(|column| column.attnotnull))
    }

    /// The id and the version of a row.
    ///
    /// # Safety
    /// `tuple` is of descriptor `row`, which is of this shape.
    pub unsafe fn identity(&self, tuple: pg_sys::HeapTuple, row: pg_sys::TupleDesc) -> Result<(String, Option<i64>)> {
        // SAFETY: by contract of this function.
        unsafe {
            let value = |position| heap_getattr_raw(tuple, position, row).ok_or_else(|| self.nameless());
            let id = self.id.iter().map(|position| value(*position)).collect::<Result<Vec<_>>>()?;
            let version = match &self.version {
                Some((position, kind)) => Some(kind.integer(value(*position)?)),
                None => None,
            };
            Ok((self.table.key_text(&id), version))
        }
    }

    /// 55000: the key's columns were NOT NULL when the table was put under management.
    fn nameless(&self) -> Error {
        Error::not_ready(format!("a row of managed table {} has NULL in its id or version", self.table.title()))
            .detail("Nothing names such a record: neither the log nor a hold.")
            .hint("Give the row a key, and its columns NOT NULL.")
    }
}

/// Where `column` stands in rows of descriptor `row`; 55000 where it does not.
pub fn position(row: pg_sys::TupleDesc, column: &Column) -> Result<NonZeroUsize> {
    // SAFETY: a valid descriptor, read and left as it is.
    let row = unsafe { PgTupleDesc::from_pg_unchecked(row) };
    let found = row.iter().position(|attribute| !attribute.is_dropped() && attribute.name() == column.name);
    found
        .and_then(|i| NonZeroUsize::new(i + 1))
        .ok_or_else(|| Error::not_ready(format!("the managed table has no column {} any more", column.name)))
}
