//! The bin of a table with layout archive: made by manage(), kept by unmanage(). Everything here is done in the name of the table's
//! owner, who owns the bin.

use pgrx::spi::{quote_identifier, quote_qualified_identifier};
use pgrx::{Spi, pg_sys};

use crate::backend::ident::{ident, literal, qualified};
use crate::backend::identity::acting_as;
use crate::backend::own_table::own_statements;
use crate::error::{Error, Result};
use crate::lifecycle::layout::archive::altering;
use crate::table::catalog::{self, Attribute, Relation};
use crate::table::options::Options;
use crate::table::triggers::truncate_guard;
use crate::table::{Bin, OwnColumns, derived_name, identifiable};

/// What the name of a bin adds to that of its table; its open partition adds OPEN to that.
const SUFFIX: &str = "_tombstone";
const OPEN: &str = "_open";
/// What the name of a closed partition says before the moment it was closed.
const UNTIL: &str = "_until_";

own_statements! {
    IS_LEFT_OVER(OID, OID) =
        "SELECT FROM pg_catalog.pg_trigger t JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid
         WHERE c.oid = $1 AND c.relowner = $2 AND c.relkind = 'p' AND t.tgfoid = 'tombstone.on_bin_delete()'::pg_catalog.regprocedure
           AND NOT EXISTS (SELECT FROM tombstone.managed m WHERE m.archive = c.oid)";
}

/// Makes the bin of `table`; returns its OID.
pub fn create(table: &Relation, options: &Options) -> Result<pg_sys::Oid> {
    refuse_unfit_names(table)?;
    let (name, open) = (derived_name(&table.name, SUFFIX), derived_name(&table.name, &format!("{SUFFIX}{OPEN}")));
    refuse_used_names(table, &[&name, &open])?;
    let own = |name: &str| ident(&OwnColumns::name_beside(name, |name| table.attribute(name).is_some()));
    let columns = table.attributes_in_order().into_iter().map(definition);
    let own_columns = OwnColumns::ALL.iter().map(|(name, _, definition)| format!("{} {definition}", own(name)));
    let columns = columns.chain(own_columns).collect::<Vec<_>>().join(", ");
    let (bin, open) = (qualified(&table.schema, &name), qualified(&table.schema, &open));
    let id = options.id.iter().flatten().map(|name| ident(name)).collect::<Vec<_>>().join(", ");
    let (deletion, deleted_at) = (own("deletion"), own("deleted_at"));
    run_as(
        table.owner,
        &[
            format!("CREATE TABLE {bin} ({columns}) PARTITION BY RANGE ({deleted_at})"),
            format!("CREATE TABLE {open} PARTITION OF {bin} DEFAULT USING heap"),
            truncate_guard(&open),
            identifiable(&bin),
            identifiable(&open),
            format!("CREATE INDEX ON {bin} ({id})"),
            by_deletion_and_age(&bin, &deletion, &deleted_at),
            comment(&bin, table),
        ],
    )?;
    storages(table, &bin)?;
    catalog::oid_of(&table.schema, &name)?.ok_or_else(|| Error::not_ready(format!("archive {bin} was not made")))
}

/// The bin that came along with a copy of `table`'s definition, and of which no row of `tombstone.managed` knows. 55000 where it does not
/// fit. What unmanage() has left is none: it is a table like any other.
pub fn left_over(table: &Relation) -> Result<Option<pg_sys::Oid>> {
    let Some(bin) = catalog::oid_of(&table.schema, &derived_name(&table.name, SUFFIX))? else { return Ok(None) };
    if !IS_LEFT_OVER.any(&[bin.into(), table.owner.into()])? {
        return Ok(None);
    }
    Bin::load(bin, table).map(|bin| Some(bin.oid))
}

/// The index by which a deletion is found, and what is old enough. Both numbers rise as the bin grows, so that it is enough to know
/// which of them some pages have; a DELETE pays for that next to nothing, which an entry for each row would double. Several spans of
/// them for the same pages, as transactions that delete at the same time take turns.
fn by_deletion_and_age(bin: &str, deletion: &str, deleted_at: &str) -> String {
    format!(
        "CREATE INDEX ON {bin} USING brin
         ({deletion} pg_catalog.int8_minmax_multi_ops, {deleted_at} pg_catalog.timestamptz_minmax_multi_ops)
         WITH (pages_per_range = 64)"
    )
}

/// What a relation of the bin of `table` is to be called: the bin itself, where `part` is none, or that partition of it. `None` of
/// a partition that somebody made by hand.
pub fn name_for(table: &Relation, part: Option<&str>) -> Option<String> {
    let suffix = match part {
        None => SUFFIX.to_string(),
        Some(part) if part.ends_with(OPEN) => format!("{SUFFIX}{OPEN}"),
        Some(part) => format!("{SUFFIX}{}", &part[part.rfind(UNTIL)?..]),
    };
    Some(derived_name(&table.name, &suffix))
}

/// What a bin says of itself.
pub fn comment(bin: &str, table: &Relation) -> String {
    format!("COMMENT ON TABLE {bin} IS {}", literal(&format!("What was deleted from {}.", table.title())))
}

/// A column of the bin: the table's own, without what makes sense for a live row only.
pub fn definition(attribute: &Attribute) -> String {
    let (name, kind) = (attribute.column.sql(), attribute.column.type_of.sql());
    let collation = attribute.collation.as_ref().map_or(String::new(), |collation| format!(" COLLATE {collation}"));
    let generated =
        attribute.virtual_expression.as_ref().map_or(String::new(), |text| format!(" GENERATED ALWAYS AS ({text}) VIRTUAL"));
    format!("{name} {kind}{collation}{generated}")
}

/// Where the table's owner has chosen how values are stored, the bin stores them likewise.
fn storages(table: &Relation, bin: &str) -> Result<()> {
    let word = |storage: &str| match storage {
        "e" => "EXTERNAL",
        "m" => "MAIN",
        "x" => "EXTENDED",
        _ => "PLAIN",
    };
    let chosen =
        table.attributes_in_order().into_iter().filter(|attribute| attribute.storage != attribute.column.type_of.storage());
    let changes: Vec<String> = chosen
        .map(|attribute| format!("ALTER COLUMN {} SET STORAGE {}", attribute.column.sql(), word(&attribute.storage)))
        .collect();
    if changes.is_empty() {
        return Ok(());
    }
    run_as(table.owner, &[format!("ALTER TABLE {bin} {}", changes.join(", "))])
}

/// 22023 where the table has both a column that is called like one of the bin's own and the one that would stand in for it.
fn refuse_unfit_names(table: &Relation) -> Result<()> {
    for (name, _, _) in OwnColumns::ALL {
        let other = OwnColumns::name_beside(name, |name| table.attribute(name).is_some());
        if other != name && table.attribute(&other).is_some() {
            return Err(Error::invalid(format!("{} has both a column {name} and a column {other}", table.title()))
                .detail(format!("Its archive would have no name left for its own column {name}."))
                .hint("Rename one of them."));
        }
    }
    Ok(())
}

pub fn refuse_used_names(table: &Relation, names: &[&str]) -> Result<()> {
    for name in names {
        if catalog::oid_of(&table.schema, name)?.is_some() {
            return Err(Error::duplicate(format!(
                "there is a table {} already",
                quote_qualified_identifier(table.schema.as_str(), *name)
            ))
            .detail(format!("The tombstones of {} are to go to a table of that name.", table.title()))
            .hint(format!(
                "Rename it, or drop it if nobody needs what is in it: ALTER TABLE {}.{} RENAME TO …;",
                quote_identifier(&table.schema),
                quote_identifier(name)
            )));
        }
    }
    Ok(())
}

/// Drops a bin that no table calls its archive any more.
pub fn discard(bin: pg_sys::Oid) -> Result<()> {
    let Some(bin) = catalog::relation(bin)? else { return Ok(()) };
    run_as(bin.owner, &[format!("DROP TABLE {}", qualified(&bin.schema, &bin.name))])
}

/// Runs definitions in the name of `owner`.
pub fn run_as(owner: pg_sys::Oid, commands: &[String]) -> Result<()> {
    altering::ourselves(|| acting_as(owner, || commands.iter().try_for_each(|command| Ok(Spi::run(command)?))))
}
