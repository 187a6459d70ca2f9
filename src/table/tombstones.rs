//! Where the tombstones of a managed table are: in the table itself, or in its bin, a table beside it.

use pgrx::pg_sys;
use pgrx::spi::quote_qualified_identifier;

use super::catalog::{self, Relation};
use super::{Column, ColumnType, Marker, Table};
use crate::backend::ident::qualified;
use crate::error::{Error, Result};

/// Where the tombstones of a managed table are. Whoever depends on it has to say what holds for each.
#[allow(clippy::large_enum_variant, reason = "one for each table, kept")]
#[derive(Debug, Clone)]
pub enum Tombstones {
    /// Layout in_place: in the table. This column is NULL while a record is live.
    InPlace { deleted_at: Marker },
    /// Layout archive: in a table beside it. Whatever is in the table is live.
    Archive(Bin),
}

/// The table that holds the tombstones of a managed one: its columns, and then those that say of which deletion a row is.
#[derive(Debug, Clone)]
pub struct Bin {
    pub oid: pg_sys::Oid,
    schema: String,
    name: String,
    /// The columns that it shares with the table and that can be inserted: all but generated ones.
    pub columns: Vec<Column>,
    /// Those of which it stores a value: all but what is generated whenever it is read.
    pub stored: Vec<Column>,
    pub own: OwnColumns,
    /// Its partitions, in no order.
    pub parts: Vec<Part>,
}

/// What a bin says of its rows besides, each by the name it has beside the table's own columns.
#[derive(Debug, Clone)]
pub struct OwnColumns {
    pub deletion: Column,
    pub deleted_at: Column,
    pub actor: Column,
    pub cause: Column,
    pub reason: Column,
    pub app_actor: Column,
}

/// A partition of a bin: rows whose stamps lie in `from .. to`. One without bounds is open: it takes what no other one does.
#[derive(Debug, Clone, Copy)]
pub struct Part {
    pub oid: pg_sys::Oid,
    pub bounds: Option<(i64, i64)>,
}

impl OwnColumns {
    /// Their names and types, in their order.
    pub const ALL: [(&'static str, pg_sys::Oid, &'static str); 6] = [
        ("deletion", pg_sys::INT8OID, "pg_catalog.int8 NOT NULL"),
        ("deleted_at", pg_sys::TIMESTAMPTZOID, "pg_catalog.timestamptz NOT NULL"),
        ("actor", pg_sys::TEXTOID, "pg_catalog.text NOT NULL"),
        ("cause", pg_sys::TEXTOID, "pg_catalog.text NOT NULL"),
        ("reason", pg_sys::TEXTOID, "pg_catalog.text"),
        ("app_actor", pg_sys::TEXTOID, "pg_catalog.text"),
    ];

    /// What the bin of a table calls its own column `name`: a column of the table that is called so keeps its name.
    pub fn name_beside(name: &str, is_taken: impl Fn(&str) -> bool) -> String {
        if is_taken(name) { format!("tombstone_{name}") } else { name.to_string() }
    }

    fn beside(table: &Relation) -> OwnColumns {
        let column = |i: usize| {
            let (name, type_of, _) = Self::ALL[i];
            let name = Self::name_beside(name, |name| table.attribute(name).is_some());
            Column { name, type_of: ColumnType::new(type_of, -1) }
        };
        OwnColumns {
            deletion: column(0),
            deleted_at: column(1),
            actor: column(2),
            cause: column(3),
            reason: column(4),
            app_actor: column(5),
        }
    }

    pub fn all(&self) -> [&Column; 6] {
        [&self.deletion, &self.deleted_at, &self.actor, &self.cause, &self.reason, &self.app_actor]
    }
}

impl Bin {
    /// The bin `oid` of `table`; 55000 where it does not fit any more.
    pub fn load(oid: pg_sys::Oid, table: &Relation) -> Result<Bin> {
        let Some(bin) = catalog::relation(oid)? else {
            return Err(Error::not_ready(format!("the archive of managed table {} is gone", table.title()))
                .detail("It held the table's tombstones. Until it is there again nothing can be deleted from the table.")
                .hint(format!(
                    "Begin anew: SELECT tombstone.unmanage('{0}', discard => true), tombstone.manage('{0}');",
                    table.title()
                )));
        };
        let own = OwnColumns::beside(table);
        for column in table.attributes_in_order().into_iter().map(|attribute| &attribute.column).chain(own.all()) {
            let fits = bin.attribute(&column.name).is_some_and(|other| other.column.type_of.is_same(&column.type_of));
            if !fits {
                return Err(Error::not_ready(format!("archive {} does not fit table {} any more", bin.title(), table.title()))
                    .detail(format!("It has no column {} of type {}.", column.name, column.type_of.sql()))
                    .hint(format!("ALTER TABLE {} so that it has, then try again.", bin.title())));
            }
        }
        let attributes = table.attributes_in_order();
        let columns = attributes.iter().filter(|attribute| !attribute.computed);
        let stored = attributes.iter().filter(|attribute| attribute.virtual_expression.is_none());
        Ok(Bin {
            oid,
            columns: columns.map(|attribute| attribute.column.clone()).collect(),
            stored: stored.map(|attribute| attribute.column.clone()).collect(),
            own,
            parts: catalog::parts_of(oid)?,
            schema: bin.schema,
            name: bin.name,
        })
    }

    /// The qualified name, for SQL.
    pub fn sql(&self) -> String {
        qualified(&self.schema, &self.name)
    }

    /// The name, for messages.
    pub fn title(&self) -> String {
        quote_qualified_identifier(&self.schema, &self.name)
    }

    /// The columns that no two live rows have in common: the id, the version, and of a partitioned table, where those may not do, its
    /// primary key. `None` where nothing is known to tell them apart.
    pub fn identity_of(&self, table: &Table) -> Result<Option<Vec<Column>>> {
        let mut columns: Vec<Column> = table.id.iter().chain(&table.version).cloned().collect();
        if table.is_partitioned {
            let names = catalog::primary_key_of(table.oid)?;
            if names.is_empty() {
                return Ok(None);
            }
            for column in self.stored.iter().filter(|column| names.contains(&column.name)) {
                if columns.iter().all(|other| other.name != column.name) {
                    columns.push(column.clone());
                }
            }
        }
        Ok(Some(columns))
    }
}

/// The one of these partitions that rows of this stamp belong in.
pub fn part_for(parts: &[Part], stamp: i64) -> Option<pg_sys::Oid> {
    let holds = |part: &&Part| part.bounds.is_some_and(|(from, to)| (from..to).contains(&stamp));
    let closed = parts.iter().find(holds);
    closed.or(parts.iter().find(|part| part.bounds.is_none())).map(|part| part.oid)
}

/// A relation of a bin has no key: where a publication takes it along, as one FOR ALL TABLES does, its rows are told apart by all they
/// have, or nothing could be taken out of it.
pub fn identifiable(relation: &str) -> String {
    format!("ALTER TABLE {relation} REPLICA IDENTITY FULL")
}

/// A name made of that of a table and a suffix, cut where Postgres would cut it.
pub fn derived_name(table: &str, suffix: &str) -> String {
    let longest = pg_sys::NAMEDATALEN as usize - 1;
    let mut keep = table.len().min(longest - suffix.len());
    while !table.is_char_boundary(keep) {
        keep -= 1;
    }
    format!("{}{suffix}", &table[..keep])
}

impl Table {
    /// That the row of `alias` is a live record, as an SQL condition.
    pub fn is_live(&self, alias: &str) -> String {
        match &self.tombstones {
            Tombstones::InPlace { deleted_at } => format!("{alias}.{} IS NULL", deleted_at.sql()),
            Tombstones::Archive(_) => "true".to_string(),
        }
    }

    /// What a tombstone of this table has of the stamp of its deletion.
    pub fn held(&self, stamp: i64) -> i64 {
        match &self.tombstones {
            Tombstones::InPlace { deleted_at } => deleted_at.held(stamp),
            Tombstones::Archive(_) => stamp,
        }
    }

    /// Whether it refers to one of `tables`, itself among them.
    pub fn parents_in(&self, tables: &[pg_sys::Oid]) -> bool {
        self.parents.iter().any(|key| tables.contains(&key.parent)) || self.children.iter().any(|key| key.child == self.oid)
    }

    /// The table's bin, if it has one.
    pub fn bin(&self) -> Option<&Bin> {
        match &self.tombstones {
            Tombstones::InPlace { .. } => None,
            Tombstones::Archive(bin) => Some(bin),
        }
    }
}
