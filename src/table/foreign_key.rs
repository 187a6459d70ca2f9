//! Foreign keys between managed tables: along them a soft delete cascades, or is refused.

use pgrx::datum::DatumWithOid;
use pgrx::pg_sys;

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
    pub name: String,
    pub child: pg_sys::Oid,
    pub parent: pg_sys::Oid,
    pub on_delete: OnDelete,
    pub child_columns: Vec<String>,
    pub parent_columns: Vec<String>,
    /// `OPERATOR(schema.=)` between parent column and child column.
    pub operators: Vec<String>,
    /// The parent columns' types, to cast to.
    pub types: Vec<String>,
}

const FOREIGN_KEYS: &str = "
    SELECT c.conname::pg_catalog.text, c.conrelid, c.confrelid, c.confdeltype::pg_catalog.text,
           pg_catalog.array_agg(ca.attname::pg_catalog.text ORDER BY k.n),
           pg_catalog.array_agg(pa.attname::pg_catalog.text ORDER BY k.n),
           pg_catalog.array_agg(pg_catalog.format('OPERATOR(%I.%s)', s.nspname, o.oprname) ORDER BY k.n),
           pg_catalog.array_agg(pg_catalog.format('%I.%I', ts.nspname, t.typname) ORDER BY k.n)
    FROM pg_catalog.pg_constraint c
    CROSS JOIN LATERAL ROWS FROM (pg_catalog.unnest(c.conkey), pg_catalog.unnest(c.confkey), pg_catalog.unnest(c.conpfeqop))
        WITH ORDINALITY AS k (child, parent, op, n)
    JOIN pg_catalog.pg_attribute ca ON ca.attrelid = c.conrelid AND ca.attnum = k.child
    JOIN pg_catalog.pg_attribute pa ON pa.attrelid = c.confrelid AND pa.attnum = k.parent
    JOIN pg_catalog.pg_operator o ON o.oid = k.op
    JOIN pg_catalog.pg_namespace s ON s.oid = o.oprnamespace
    JOIN pg_catalog.pg_type t ON t.oid = pa.atttypid
    JOIN pg_catalog.pg_namespace ts ON ts.oid = t.typnamespace
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
            Ok(ForeignKey {
                name: row.get(1)?.unwrap_or_default(),
                child: row.get(2)?.unwrap_or(pg_sys::InvalidOid),
                parent: row.get(3)?.unwrap_or(pg_sys::InvalidOid),
                on_delete,
                child_columns: row.get(5)?.unwrap_or_default(),
                parent_columns: row.get(6)?.unwrap_or_default(),
                operators: row.get(7)?.unwrap_or_default(),
                types: row.get(8)?.unwrap_or_default(),
            })
        })
    })
}
