//! What is managed: options, the catalog row, keys as text and as values, foreign keys between managed tables.
//! Config in, plans out. Its `catalog` is the one place that reads and writes `tombstone.managed`.

mod announce;
mod cache;
pub mod catalog;
pub mod foreign_key;
pub mod given;
pub mod key;
pub mod key_text;
mod kind;
pub mod marker;
mod max_purge;
pub mod option_field;
pub mod options;
mod resolve;
mod restored_by;
pub mod tombstones;
pub mod triggers;
mod truncate;
pub mod value;

use std::cell::RefCell;
use std::collections::HashMap;
use std::panic::Location;
use std::rc::Rc;

use pgrx::pg_sys;
use pgrx::spi::quote_qualified_identifier;

pub use announce::Announce;
pub use cache::{by_live_view, by_number, by_oid, by_trigger, generation};
pub use catalog::{
    Managed, Terms, all as all_managed, any_announces, name_of, not_managed, pause, resume, terms, terms_of, title,
};
pub use foreign_key::{ForeignKey, OnDelete};
pub use kind::Kind;
pub use marker::Marker;
pub use max_purge::MaxPurge;
pub use resolve::{Fits, resolve};
pub use restored_by::RestoredBy;
pub use tombstones::{Bin, OwnColumns, Tombstones, derived_name, identifiable};
pub use truncate::Truncate;
pub use value::ColumnType;

use crate::backend::ident::{ident, qualified};
use crate::backend::identity::{acting_as, writing_as, writing_as_foreign_keys};
use crate::backend::query::Statement;
use crate::error::Result;

/// Hooks the cache of managed tables to Postgres' invalidation; called at load.
pub fn init() {
    cache::init();
}

/// A column of a managed table.
#[derive(Debug, Clone)]
pub struct Column {
    pub name: String,
    pub type_of: ColumnType,
}

impl Column {
    pub fn sql(&self) -> String {
        ident(&self.name)
    }
}

/// A column that a soft delete blanks, and the text of the value it gets.
#[derive(Debug, Clone)]
pub struct Redaction {
    pub column: Column,
    pub text: Option<String>,
}

impl Redaction {
    /// Its value, kept for the session; read with the rights of the owner of `table`. Zero where that is NULL.
    pub fn value(&self, table: &Table) -> Result<pg_sys::Datum> {
        let Some(text) = &self.text else { return Ok(pg_sys::Datum::from(0)) };
        let (kind, what) = (
            &self.column.type_of,
            format!("option redact of table {}: the value of column {}", table.title(), self.column.name),
        );
        Ok(kind.keep(table.evaluating(|| kind.read(text, &what))?))
    }
}

/// A managed table as this session knows it: a copy of its catalog row, and the statements planned for it.
pub struct Table {
    /// What events and holds call it; never reused.
    pub number: i32,
    pub oid: pg_sys::Oid,
    pub owner: pg_sys::Oid,
    schema: String,
    name: String,
    pub is_partitioned: bool,
    pub id: Vec<Column>,
    pub version: Option<Column>,
    pub tombstones: Tombstones,
    pub redactions: Vec<Redaction>,
    pub owners: Option<String>,
    pub kind: Kind,
    /// Whether creates and updates are events, too.
    pub all_events: bool,
    pub announce: Announce,
    pub channel: Rc<str>,
    /// Whether announcements say who did it, why and when.
    pub full_payload: bool,
    pub truncate: Truncate,
    /// Whether anything that happens to it is an event.
    pub has_events: bool,
    /// Whether what maintenance purges is an event, record by record.
    pub logs_maintenance: bool,
    /// Causes of events that are not announced.
    pub mute: Vec<String>,
    /// Whether any foreign key refers to this table, of a managed one or not.
    pub is_referred_to: bool,
    /// Who may restore by clearing deleted_at.
    pub restored_by: RestoredBy,
    /// Foreign keys of other managed tables that refer to this one.
    pub children: Vec<ForeignKey>,
    /// Foreign keys of this table that refer to other managed ones.
    pub parents: Vec<ForeignKey>,
    /// The same with those whose ON DELETE overwrites this table's columns.
    pub references: Vec<ForeignKey>,
    statements: RefCell<HashMap<(Purpose, &'static Location<'static>), Rc<Statement>>>,
}

/// What a statement about one table is for: what it does, to which selection of rows, along which foreign key. The plan cache also
/// tells apart from which line of the code it is asked for, so two places that choose the same words get each their own statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Purpose(pub &'static str, pub &'static str, pub u32);

/// Whether `relation`, whose trigger is one of `table`, is its bin or a partition of it.
pub fn is_of_bin(table: &Table, relation: pg_sys::Oid) -> bool {
    table.bin().is_some_and(|bin| bin.oid == relation || bin.parts.iter().any(|part| part.oid == relation))
}

impl Table {
    /// The qualified name, for SQL.
    pub fn sql(&self) -> String {
        qualified(&self.schema, &self.name)
    }

    /// The name without its schema, for SQL: what qualifies its columns where the table has no alias.
    pub fn alias(&self) -> String {
        ident(&self.name)
    }

    /// What `expression`, an option of the table, calls the row that it is over, as SQL.
    pub fn alias_in(&self, expression: &str) -> String {
        options::alias_in(expression, &self.name)
    }

    /// The name, for messages: as a person would write it.
    pub fn title(&self) -> String {
        quote_qualified_identifier(&self.schema, &self.name)
    }

    /// A statement about this table, planned once: `build` gives its SQL and the types of its parameters.
    #[track_caller]
    pub fn statement(&self, purpose: Purpose, build: impl FnOnce() -> (String, Vec<pg_sys::Oid>)) -> Rc<Statement> {
        self.made(purpose, || {
            let (sql, types) = build();
            Statement::new(sql, types)
        })
    }

    /// The same, but planned for its arguments each time: where a plan for any of them would read the whole table for few rows.
    #[track_caller]
    pub fn planned_statement(&self, purpose: Purpose, build: impl FnOnce() -> (String, Vec<pg_sys::Oid>)) -> Rc<Statement> {
        self.made(purpose, || {
            let (sql, types) = build();
            Statement::new(sql, types).planned_each_time()
        })
    }

    #[track_caller]
    fn made(&self, purpose: Purpose, make: impl FnOnce() -> Statement) -> Rc<Statement> {
        let purpose = (purpose, Location::caller());
        if let Some(statement) = self.statements.borrow().get(&purpose) {
            return Rc::clone(statement);
        }
        let statement = Rc::new(make());
        self.statements.borrow_mut().insert(purpose, Rc::clone(&statement));
        statement
    }

    /// The same table, for whoever keeps it longer.
    pub fn shared(&self) -> Result<Rc<Table>> {
        by_oid(self.oid)
    }

    /// Runs `act` with the rights of the table's owner, to read or write its rows.
    pub fn as_owner<T>(&self, act: impl FnOnce() -> Result<T>) -> Result<T> {
        writing_as(self.owner, act)
    }

    /// The same for one statement on whose rows the application's triggers fire, as they would on a foreign key's own.
    pub fn as_owner_firing<T>(&self, act: impl FnOnce() -> Result<T>) -> Result<T> {
        writing_as_foreign_keys(self.owner, act)
    }

    /// Runs `act` with the rights of the table's owner, to evaluate what the owner wrote: nothing of it can linger.
    pub fn evaluating<T>(&self, act: impl FnOnce() -> Result<T>) -> Result<T> {
        acting_as(self.owner, act)
    }
}
