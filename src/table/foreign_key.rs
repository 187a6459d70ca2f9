//! Foreign keys between managed tables: along them a soft delete cascades, or is refused.

use pgrx::datum::DatumWithOid;
use pgrx::pg_sys;

use super::{Column, ColumnType};
use crate::backend::query::Statement;
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

const FOREIGN_KEYS: &str = "
    SELECT c.conname::pg_catalog.text, c.conrelid, c.confrelid, c.confdeltype::pg_catalog.text,
           pg_catalog.array_agg(ca.attname::pg_catalog.text ORDER BY k.n),
           pg_catalog.array_agg(pa.attname::pg_catalog.text ORDER BY k.n),
           pg_catalog.array_agg(pg_catalog.format('OPERATOR(%I.%s)', s.nspname, o.oprname) ORDER BY k.n),
           pg_catalog.array_agg(pa.atttypid ORDER BY k.n), pg_catalog.array_agg(ca.atttypid ORDER BY k.n), c.oid
    FROM pg_catalog.pg_constraint c
    CROSS JOIN LATERAL ROWS FROM (pg_catalog.unnest(c.conkey), pg_catalog.unnest(c.confkey), pg_catalog.unnest(c.conpfeqop))
        WITH ORDINALITY AS k (child, parent, op, n)
    JOIN pg_catalog.pg_attribute ca ON ca.attrelid = c.conrelid AND ca.attnum = k.child
    JOIN pg_catalog.pg_attribute pa ON pa.attrelid = c.confrelid AND pa.attnum = k.parent
    JOIN pg_catalog.pg_operator o ON o.oid = k.op
    JOIN pg_catalog.pg_namespace s ON s.oid = o.oprnamespace
    WHERE c.contype = 'f' AND c.conparentid = 0 AND $1 IN (c.conrelid, c.confrelid)
      AND EXISTS (SELECT FROM tombstone.managed m WHERE m.relation = c.conrelid)
      AND EXISTS (SELECT FROM tombstone.managed m WHERE m.relation = c.confrelid)
    GROUP BY c.oid, c.conname, c.conrelid, c.confrelid, c.confdeltype
    ORDER BY c.conname";

thread_local! {
    static STATEMENT: &'static Statement = Box::leak(Box::new(Statement::new(FOREIGN_KEYS, [pg_sys::OIDOID])));
}

/// The foreign keys at either end of which `relation` stands, both ends managed. Called with the keeper's rights.
pub fn of(relation: pg_sys::Oid) -> Result<Vec<ForeignKey>> {
    STATEMENT.with(|statement| {
        statement.rows(&[DatumWithOid::from(relation)], |row| {
            let on_delete = match row.get::<String>(4)?.as_deref() {
                Some("c") => OnDelete::Cascade,
                Some("n" | "d") => OnDelete::Wait,
                _ => OnDelete::Refuse,
            };
            let columns = |names: Option<Vec<String>>, types: Option<Vec<pg_sys::Oid>>| -> Vec<Column> {
                let pairs = names.unwrap_or_default().into_iter().zip(types.unwrap_or_default());
                pairs.map(|(name, kind)| Column { name, type_of: ColumnType::new(kind, -1) }).collect()
            };
            Ok(ForeignKey {
                oid: row.get::<pg_sys::Oid>(10)?.map_or(0, pg_sys::Oid::to_u32),
                name: row.get(1)?.unwrap_or_default(),
                child: row.get(2)?.unwrap_or(pg_sys::InvalidOid),
                parent: row.get(3)?.unwrap_or(pg_sys::InvalidOid),
                on_delete,
                child_columns: columns(row.get(5)?, row.get(9)?),
                parent_columns: columns(row.get(6)?, row.get(8)?),
                operators: row.get(7)?.unwrap_or_default(),
            })
        })
    })
}
