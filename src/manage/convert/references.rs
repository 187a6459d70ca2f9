//! Who refers to the tombstones of a table by foreign key. In an archive they are not there to be referred to.

use pgrx::pg_sys;
use pgrx::spi::SpiHeapTupleData;

use super::group::Member;
use crate::backend::ident::{ident, qualified};
use crate::backend::identity::acting_as;
use crate::backend::own_table::own_statements;
use crate::backend::query::Statement;
use crate::backend::relation::keeper;
use crate::error::{Error, Result};
use crate::table::catalog;
use crate::table::foreign_key::PAIRS;
use crate::table::options::IN_PLACE;

own_statements! {
    // Those that name one partition are among them; those that Postgres has made of them for partitions are not.
    REFERRING(OID) = format!(
        "SELECT c.conname::pg_catalog.text, c.conrelid, c.confrelid,
                pg_catalog.array_agg(ca.attname::pg_catalog.text ORDER BY k.n),
                pg_catalog.array_agg(pa.attname::pg_catalog.text ORDER BY k.n),
                pg_catalog.array_agg(pg_catalog.format('OPERATOR(%I.%s)', s.nspname, o.oprname) ORDER BY k.n),
                r.relkind = 'p', pg_catalog.to_jsonb(c) OPERATOR(pg_catalog.->>) 'conperiod' OPERATOR(pg_catalog.=) 'true'
         FROM pg_catalog.pg_constraint c
         JOIN pg_catalog.pg_class r ON r.oid = c.conrelid
         {PAIRS}
         WHERE c.contype = 'f' AND c.conparentid = 0
           AND (c.confrelid = $1 OR c.confrelid IN (SELECT t.relid FROM pg_catalog.pg_partition_tree($1) AS t))
         GROUP BY c.oid, c.conname, c.conrelid, c.confrelid, r.relkind
         ORDER BY c.conrelid::pg_catalog.regclass::pg_catalog.text, c.conname"
    );
}

struct Reference {
    name: String,
    child: pg_sys::Oid,
    parent: pg_sys::Oid,
    child_columns: Vec<String>,
    parent_columns: Vec<String>,
    operators: Vec<String>,
    is_partitioned: bool,
    of_a_period: bool,
}

fn referring(parent: pg_sys::Oid) -> Result<Vec<Reference>> {
    REFERRING.rows(&[parent.into()], |row| {
        Ok(Reference {
            name: row.get(1)?,
            child: row.get(2)?,
            parent: row.get(3)?,
            child_columns: row.get(4)?,
            parent_columns: row.get(5)?,
            operators: row.get(6)?,
            is_partitioned: row.get(7)?,
            of_a_period: row.nullable(8)?.unwrap_or_default(),
        })
    })
}

/// 23503 where a row that stays refers to a tombstone that goes.
pub fn refuse_dangling(members: &[Member]) -> Result<()> {
    for member in members {
        for key in referring(member.relation.oid)? {
            refuse_along(member, &key, members)?;
        }
    }
    Ok(())
}

fn refuse_along(member: &Member, key: &Reference, members: &[Member]) -> Result<()> {
    let (child, parent) = (catalog::title(key.child), member.relation.title());
    if key.of_a_period {
        return Err(Error::unsupported(format!("table {parent} cannot be converted to layout archive"))
            .detail(format!("Foreign key \"{}\" of table {child} refers to its periods.", key.name)));
    }
    let root = catalog::with_ancestors(key.child)?.pop().unwrap_or(key.child);
    let goes_too = members.iter().find(|member| member.relation.oid == root);
    let options = match goes_too {
        Some(member) => Some(member.options.clone()),
        None => catalog::options_of(root)?.map(|(_, options)| options),
    };
    // Of a table that goes as well tombstones do not stay.
    let marker = options.filter(|options| options.layout.as_deref() == Some(IN_PLACE)).map(|options| ident(options.marker()));
    let stays = match (&marker, goes_too) {
        (Some(marker), Some(_)) => format!(" AND c.{marker} IS NULL"),
        _ => String::new(),
    };
    let is_tombstone = marker.map_or("false".into(), |marker| format!("c.{marker} IS NOT NULL"));
    let (child_name, parent_name) = (catalog::name_of(key.child), catalog::name_of(key.parent));
    let same = key.parent_columns.iter().zip(&key.child_columns).zip(&key.operators);
    let same = same.map(|((parent, child), operator)| format!("p.{} {operator} c.{}", ident(parent), ident(child)));
    let referred = key.parent_columns.iter().map(|column| format!("p.{}", ident(column))).collect::<Vec<_>>().join(", ");
    let sql = format!(
        "SELECT pg_catalog.concat_ws(', ', {referred}), {is_tombstone} FROM {}{} AS c JOIN {} AS p ON {}
         WHERE p.{} IS NOT NULL{stays} LIMIT 1",
        if key.is_partitioned { "" } else { "ONLY " },
        qualified(&child_name.0, &child_name.1),
        qualified(&parent_name.0, &parent_name.1),
        same.collect::<Vec<_>>().join(" AND "),
        ident(member.options.marker()),
    );
    let read =
        |row: &SpiHeapTupleData| Ok((row.get::<String>(1)?.unwrap_or_default(), row.get::<bool>(2)?.unwrap_or_default()));
    let found = acting_as(keeper(), || Statement::new(sql, []).rows(&[], read))?;
    let Some((referred, by_a_tombstone)) = found.into_iter().next() else { return Ok(()) };
    let columns = key.parent_columns.join(", ");
    let error = Error::foreign_key(format!("tombstones of table {parent} are referred to, and cannot leave it"))
        .detail(format!("Key ({columns})=({referred}) is referred to from table {child} by foreign key \"{}\".", key.name));
    Err(match by_a_tombstone {
        true => error.hint(format!("By tombstones: CALL tombstone.convert('{child}', 'archive'); first.")),
        false => error.hint(format!("Restore or purge the tombstone, or change the rows of {child}; then CALL it again.")),
    })
}
