//! Foreign keys between managed tables: along them a soft delete cascades, or is refused.

use pgrx::pg_sys;

use super::{Column, ColumnType};
use crate::backend::own_table::own_statements;
use crate::error::Result;

/// What happens to live children when their parent is soft-deleted: what the foreign key is declared as, or what the child's option
/// `on_delete` says instead, where the parent's tombstones stay in place. With an archive Postgres' own foreign key acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnDelete {
    /// CASCADE: the live children go with the parent.
    Cascade,
    /// RESTRICT, NO ACTION: live children keep the parent alive.
    Refuse,
    /// SET NULL, SET DEFAULT: nothing until the parent is purged.
    Wait,
}

impl OnDelete {
    /// The words for each in the option `on_delete`.
    const WORDS: [(&str, OnDelete); 3] =
        [("cascade", OnDelete::Cascade), ("restrict", OnDelete::Refuse), ("ignore", OnDelete::Wait)];

    /// What the option may say of a foreign key.
    pub fn words() -> [&'static str; 3] {
        OnDelete::WORDS.map(|(word, _)| word)
    }

    /// What the option says; `None`: it is none of the words.
    fn of_option(word: &str) -> Option<OnDelete> {
        OnDelete::WORDS.iter().find(|(other, _)| *other == word).map(|(_, on_delete)| *on_delete)
    }

    /// What pg_constraint calls it.
    fn declared(action: &str) -> Option<OnDelete> {
        match action {
            "c" => Some(OnDelete::Cascade),
            "n" | "d" => Some(OnDelete::Wait),
            "r" | "a" => Some(OnDelete::Refuse),
            _ => None,
        }
    }
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
                CASE parent.layout WHEN 'in_place' THEN child.on_delete ->> c.conname::pg_catalog.text END,
                pg_catalog.array_agg(ca.attname::pg_catalog.text ORDER BY k.n),
                pg_catalog.array_agg(pa.attname::pg_catalog.text ORDER BY k.n),
                pg_catalog.array_agg(pg_catalog.format('OPERATOR(%I.%s)', s.nspname, o.oprname) ORDER BY k.n),
                pg_catalog.array_agg(pa.atttypid ORDER BY k.n), pg_catalog.array_agg(ca.atttypid ORDER BY k.n), c.oid
         FROM pg_catalog.pg_constraint c
         JOIN tombstone.managed child ON child.relation = c.conrelid
         JOIN tombstone.managed parent ON parent.relation = c.confrelid
         {PAIRS}
         WHERE c.contype = 'f' AND c.conparentid = 0 AND $1 IN (c.conrelid, c.confrelid)
         GROUP BY c.oid, c.conname, c.conrelid, c.confrelid, c.confdeltype, child.on_delete, parent.layout
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
            oid: row.get::<pg_sys::Oid>(11)?.to_u32(),
            name: row.get(1)?,
            child: row.get(2)?,
            parent: row.get(3)?,
            on_delete: match row.nullable::<String>(5)? {
                Some(_) => row.parsed(5, OnDelete::of_option)?,
                None => row.parsed(4, OnDelete::declared)?,
            },
            child_columns: columns(row.get(6)?, row.get(10)?),
            parent_columns: columns(row.get(7)?, row.get(9)?),
            operators: row.get(8)?,
        })
    })
}
