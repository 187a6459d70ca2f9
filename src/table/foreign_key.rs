//! Foreign keys between managed tables: along them a soft delete cascades, or is refused.

use pgrx::pg_sys;

use super::{Column, ColumnType};
use crate::backend::own_table::own_statements;
use crate::error::Result;

/// What the foreign key asks for when its parent is deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnDelete {
    /// CASCADE: the live children go with the parent.
    Cascade,
    /// RESTRICT, NO ACTION: live children keep the parent alive.
    Refuse,
    /// SET NULL, SET DEFAULT: nothing until the parent is purged.
    Wait,
}

/// A foreign key whose two sides are both managed.
#[derive(Debug, Clone)]
pub struct ForeignKey {
    pub oid: u32,
    pub name: String,
    pub child: pg_sys::Oid,
    pub parent: pg_sys::Oid,
    pub on_delete: OnDelete,
    pub child_columns: Vec<Column>,
    pub parent_columns: Vec<Column>,
    /// `OPERATOR(schema.=)`, parent column to the left, child column to the right.
    pub operators: Vec<String>,
}

/// What joins to a foreign key `c` its pairs of columns `k`: the child's `ca`, the parent's `pa`, and the operator `o` of schema `s` that
/// compares them.
pub const PAIRS: &str = "
    CROSS JOIN LATERAL ROWS FROM (pg_catalog.unnest(c.conkey), pg_catalog.unnest(c.confkey), pg_catalog.unnest(c.conpfeqop))
        WITH ORDINALITY AS k (child, parent, op, n)
    JOIN pg_catalog.pg_attribute ca ON ca.attrelid = c.conrelid AND ca.attnum = k.child
    JOIN pg_catalog.pg_attribute pa ON pa.attrelid = c.confrelid AND pa.attnum = k.parent
    JOIN pg_catalog.pg_operator o ON o.oid = k.op
    JOIN pg_catalog.pg_namespace s ON s.oid = o.oprnamespace";

own_statements! {
    REFERS_TO(OID) = "SELECT FROM pg_catalog.pg_constraint WHERE contype = 'f' AND confrelid = $1 LIMIT 1";
    OF(OID) = format!(
        "SELECT c.conname::pg_catalog.text, c.conrelid, c.confrelid, c.confdeltype::pg_catalog.text,
                pg_catalog.array_agg(ca.attname::pg_catalog.text ORDER BY k.n),
                pg_catalog.array_agg(pa.attname::pg_catalog.text ORDER BY k.n),
                pg_catalog.array_agg(pg_catalog.format('OPERATOR(%I.%s)', s.nspname, o.oprname) ORDER BY k.n),
                pg_catalog.array_agg(pa.atttypid ORDER BY k.n), pg_catalog.array_agg(ca.atttypid ORDER BY k.n), c.oid
         FROM pg_catalog.pg_constraint c
         {PAIRS}
         WHERE c.contype = 'f' AND c.conparentid = 0 AND $1 IN (c.conrelid, c.confrelid)
           AND EXISTS (SELECT FROM tombstone.managed m WHERE m.relation = c.conrelid)
           AND EXISTS (SELECT FROM tombstone.managed m WHERE m.relation = c.confrelid)
         GROUP BY c.oid, c.conname, c.conrelid, c.confrelid, c.confdeltype
         ORDER BY c.conname"
    );
}

/// Whether a foreign key refers to `relation`, of whichever table.
pub fn refers_to(relation: pg_sys::Oid) -> Result<bool> {
    REFERS_TO.any(&[relation.into()])
}

/// The foreign keys at either end of which `relation` stands, both ends managed.
pub fn of(relation: pg_sys::Oid) -> Result<Vec<ForeignKey>> {
    let columns = |names: Vec<String>, types: Vec<pg_sys::Oid>| -> Vec<Column> {
        names.into_iter().zip(types).map(|(name, kind)| Column { name, type_of: ColumnType::new(kind, -1) }).collect()
    };
    OF.rows(&[relation.into()], |row| {
        Ok(ForeignKey {
            oid: row.get::<pg_sys::Oid>(10)?.to_u32(),
            name: row.get(1)?,
            child: row.get(2)?,
            parent: row.get(3)?,
            on_delete: row.parsed(4, on_delete)?,
            child_columns: columns(row.get(5)?, row.get(9)?),
            parent_columns: columns(row.get(6)?, row.get(8)?),
            operators: row.get(7)?,
        })
    })
}

/// What pg_constraint calls it.
fn on_delete(action: &str) -> Option<OnDelete> {
    match action {
        "c" => Some(OnDelete::Cascade),
        "n" | "d" => Some(OnDelete::Wait),
        "r" | "a" => Some(OnDelete::Refuse),
        _ => None,
    }
}
