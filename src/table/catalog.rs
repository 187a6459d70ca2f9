//! The rows of `tombstone.managed`, read and written in the keeper's name, and what Postgres' catalogs say beside them.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::CStr;
use std::rc::Rc;

use pgrx::datum::{Interval, TimestampWithTimeZone};
use pgrx::pg_sys;
use pgrx::spi::{quote_identifier, quote_qualified_identifier};

use super::marker::{MARKER_TYPES, Marker};
use super::options::{self, Options, PAYLOADS, PURGE_EVENTS};
use super::tombstones::{Bin, Part};
use super::triggers::UPDATE_TRIGGER;
use super::{Column, ColumnType, ForeignKey, Kind, MaxPurge, OnDelete, Redaction, Table, Tombstones, foreign_key};
use crate::backend::identity::{c_string, with_settings};
use crate::backend::own_table::{OwnRow, own_statement, own_statements};
use crate::backend::query::Statement;
use crate::backend::relation::has_trigger;
use crate::error::{Error, Result};

/// A column as pg_attribute has it.
#[derive(Debug, Clone)]
pub struct Attribute {
    pub column: Column,
    pub not_null: bool,
    /// Generated, or an identity column: not ours to write.
    pub generated: bool,
    /// Generated, but not as an identity.
    pub computed: bool,
    pub has_default: bool,
    /// Its place among the columns.
    pub number: i16,
    /// For definitions: generated anew whenever it is read, by this expression.
    pub virtual_expression: Option<String>,
    pub collation: Option<String>,
    /// How its values are stored: p, e, m or x.
    pub storage: String,
}

/// A relation as pg_class has it.
#[derive(Debug, Clone)]
pub struct Relation {
    pub oid: pg_sys::Oid,
    pub schema: String,
    pub name: String,
    pub owner: pg_sys::Oid,
    pub kind: char,
    pub persistence: char,
    pub is_partition: bool,
    pub has_children: bool,
    pub attributes: HashMap<String, Attribute>,
}

impl Relation {
    pub fn title(&self) -> String {
        quote_qualified_identifier(&self.schema, &self.name)
    }

    /// Its columns, as they stand.
    pub fn attributes_in_order(&self) -> Vec<&Attribute> {
        let mut attributes: Vec<&Attribute> = self.attributes.values().collect();
        attributes.sort_by_key(|attribute| attribute.number);
        attributes
    }

    pub fn attribute(&self, name: &str) -> Option<&Attribute> {
        self.attributes.get(name)
    }
}

own_statements! {
    OPTIONS(OID) =
        format!("SELECT managed, {} FROM tombstone.managed WHERE relation = $1", options::columns_read());
    BY_NUMBER(INT4) =
        "SELECT relation::oid FROM tombstone.managed WHERE managed = $1";
    ALL() =
        "SELECT m.managed, m.relation::oid, m.version IS NOT NULL, m.event_retention, m.layout = 'archive' FROM tombstone.managed m
         JOIN pg_catalog.pg_class c ON c.oid = m.relation ORDER BY m.managed";
    TERMS(INT4) =
        "SELECT m.managed, m.relation::oid, m.retention, m.expire_after, m.expire_from, m.max_purge, m.purge_after,
                m.keep_versions, m.keep_versions_for, m.paused_at IS NOT NULL, m.home <> log.incarnation
         FROM tombstone.managed m
         JOIN pg_catalog.pg_class c ON c.oid = m.relation CROSS JOIN tombstone.log
         WHERE $1 IS NULL OR m.managed = $1 ORDER BY m.managed";
    PAUSE(INT4, TEXT) =
        "UPDATE tombstone.managed SET paused_at = clock_timestamp(), paused_by = $2 WHERE managed = $1 AND paused_at IS NULL";
    RESUME(INT4) =
        "UPDATE tombstone.managed m SET paused_at = NULL, paused_by = NULL, home = log.incarnation
         FROM tombstone.log WHERE m.managed = $1 AND (m.paused_at IS NOT NULL OR m.home <> log.incarnation)";
    RELATION(OID) =
        "SELECT n.nspname::text, c.relname::text, c.relowner, c.relkind::text, c.relpersistence::text, c.relispartition,
                c.relkind = 'r' AND EXISTS (SELECT FROM pg_catalog.pg_inherits i WHERE i.inhparent = c.oid)
         FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = $1";
    ATTRIBUTES(OID) =
        "SELECT a.attname::text, a.atttypid, a.atttypmod, a.attnotnull, a.attgenerated <> '' OR a.attidentity <> '', a.atthasdef,
                a.attgenerated <> '', a.attnum,
                CASE a.attgenerated WHEN 'v' THEN pg_catalog.pg_get_expr(d.adbin, d.adrelid) END,
                CASE WHEN a.attcollation <> t.typcollation
                     THEN (SELECT pg_catalog.format('%I.%I', n.nspname, c.collname) FROM pg_catalog.pg_collation c
                           JOIN pg_catalog.pg_namespace n ON n.oid = c.collnamespace WHERE c.oid = a.attcollation) END,
                a.attstorage::text
         FROM pg_catalog.pg_attribute a
         LEFT JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
         LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
         WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped";
    ANCESTORS(OID) =
        "SELECT a.relid::oid FROM pg_catalog.pg_partition_ancestors($1) WITH ORDINALITY AS a (relid, n) ORDER BY n";
    DELETE(OID) =
        "DELETE FROM tombstone.managed WHERE relation = $1";
    HOLDS_IN(INT4) =
        "SELECT pg_catalog.count(*)::pg_catalog.text FROM tombstone.held WHERE managed = $1";
    // As text: values stay as they are spelt, and in their order.
    RENAME_HOLDS(INT4, TEXT_ARRAY, TEXT_ARRAY) =
        "UPDATE tombstone.held h
         SET id = (SELECT '{' || string_agg(to_json(COALESCE($3[array_position($2, e.key)], e.key)) || ':' || e.value::text, ',' ORDER BY e.n) || '}'
                   FROM json_each(h.id::json) WITH ORDINALITY AS e (key, value, n))
         WHERE h.managed = $1";
    ANNOUNCING() =
        "SELECT FROM tombstone.managed WHERE notify <> 'none' AND events <> 'none' LIMIT 1";
    ARCHIVE(OID) =
        "SELECT archive::oid FROM tombstone.managed WHERE relation = $1 AND layout = 'archive'";
    BIN(OID) =
        "SELECT archive::oid FROM tombstone.managed WHERE relation = $1 AND archive IS NOT NULL";
    SET_BIN(OID, OID) =
        "UPDATE tombstone.managed SET archive = $2::regclass WHERE relation = $1";
    OF_ARCHIVE(OID) =
        "SELECT relation::oid FROM tombstone.managed WHERE archive = $1 AND layout = 'archive'";
    OF_LIVE_VIEW(OID) =
        "SELECT m.relation::oid FROM pg_catalog.pg_rewrite r
         JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_rewrite'::regclass AND d.objid = r.oid
                                    AND d.refclassid = 'pg_catalog.pg_class'::regclass
         JOIN tombstone.managed m ON m.relation = d.refobjid
         WHERE r.ev_class = $1 AND r.rulename = '_RETURN' ORDER BY m.managed LIMIT 1";
    // A partition's bounds, as their text says: it has been written, and is read, under the same settings. It is asked of no relation:
    // Postgres would lock that one for a moment, and so wait for whoever drops it, and whom we may keep waiting.
    PARTS(OID) =
        "SELECT c.oid, (b.bounds)[1]::timestamptz, (b.bounds)[2]::timestamptz
         FROM pg_catalog.pg_inherits i
         JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid
         CROSS JOIN LATERAL (SELECT replace(replace(pg_catalog.pg_get_expr(c.relpartbound, 0::oid),
             'MINVALUE', '-infinity'), 'MAXVALUE', 'infinity')) AS t (text)
         CROSS JOIN LATERAL (SELECT pg_catalog.regexp_match(t.text, '^FOR VALUES FROM \\(''?(.*?)''?\\) TO \\(''?(.*?)''?\\)$')) AS b (bounds)
         WHERE i.inhparent = $1 AND t.text IS NOT NULL ORDER BY c.oid";
    PRIMARY_KEY(OID) =
        "SELECT a.attname::text FROM pg_catalog.pg_index i
         JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)
         WHERE i.indrelid = $1 AND i.indisprimary";
}

own_statement!(
    INSERT = {
        let sql = format!(
            "INSERT INTO tombstone.managed (relation, archive, home, {})
         SELECT $1, $2::regclass, incarnation, {} FROM tombstone.log RETURNING managed",
            options::columns(),
            options::values(3)
        );
        Statement::new(sql, [vec![pg_sys::OIDOID, pg_sys::OIDOID], options::types()].concat())
    }
);

own_statement!(
    UPDATE = {
        let (columns, values) = (options::columns(), options::values(2));
        let sql = format!("UPDATE tombstone.managed SET ({columns}) = ROW ({values}) WHERE relation = $1");
        Statement::new(sql, [vec![pg_sys::OIDOID], options::types()].concat())
    }
);

/// The options of `relation` as they stand, with its number; `None` where it is not managed.
pub fn options_of(relation: pg_sys::Oid) -> Result<Option<(i32, Options)>> {
    OPTIONS.first(&[relation.into()], |row| Ok((row.get(1)?, Options::read(row, 2)?)))
}

/// What pg_class and pg_attribute say of `relation`; `None` where there is none.
pub fn relation(relation: pg_sys::Oid) -> Result<Option<Relation>> {
    let attributes: HashMap<String, Attribute> = ATTRIBUTES.rows(&[relation.into()], attribute)?.into_iter().collect();
    RELATION.first(&[relation.into()], |row| {
        Ok(Relation {
            oid: relation,
            schema: row.get(1)?,
            name: row.get(2)?,
            owner: row.get(3)?,
            kind: row.parsed(4, |kind| kind.chars().next())?,
            persistence: row.parsed(5, |persistence| persistence.chars().next())?,
            is_partition: row.get(6)?,
            has_children: row.get(7)?,
            attributes: attributes.clone(),
        })
    })
}

fn attribute(row: OwnRow) -> Result<(String, Attribute)> {
    let name: String = row.get(1)?;
    let attribute = Attribute {
        column: Column { name: name.clone(), type_of: ColumnType::new(row.get(2)?, row.get(3)?) },
        not_null: row.get(4)?,
        generated: row.get(5)?,
        has_default: row.get(6)?,
        computed: row.get(7)?,
        number: row.get(8)?,
        virtual_expression: row.nullable(9)?,
        collation: row.nullable(10)?,
        storage: row.get(11)?,
    };
    Ok((name, attribute))
}

/// The managed table `oid`, whole; `None` where it is not managed.
pub fn load(oid: pg_sys::Oid) -> Result<Option<Table>> {
    let Some((number, options)) = options_of(oid)? else { return Ok(None) };
    let Some(relation) = relation(oid)? else { return Ok(None) };
    let keys = foreign_key::of(oid)?;
    let column = |option: &str, name: &str| column_of(&relation, option, name);
    let id: Vec<Column> = options.id.iter().flatten().map(|name| column("id", name)).collect::<Result<_>>()?;
    if let Some(column) = id.iter().find(|column| !column.type_of.names_records()) {
        return Err(type_changed(&relation, column, "a type that can name records"));
    }
    let version = options.version.as_deref().map(|name| column("version", name)).transpose()?;
    let tombstones = match archive_of(oid)? {
        Some(bin) => Tombstones::Archive(Bin::load(bin, &relation)?),
        None => {
            let deleted_at = column("deleted_at", options.marker())?;
            match Marker::new(deleted_at.clone()) {
                Some(deleted_at) => Tombstones::InPlace { deleted_at },
                None => return Err(type_changed(&relation, &deleted_at, &format!("type {MARKER_TYPES}"))),
            }
        }
    };
    if let Some(version) = version.as_ref().filter(|version| !version.type_of.is_integer()) {
        return Err(type_changed(&relation, version, "type smallint, integer or bigint"));
    }
    let redaction = |(name, value): (&String, &serde_json::Value)| -> Result<Redaction> {
        let column = column("redact", name)?;
        Ok(Redaction { text: options::redact_text(value, column.type_of.base()), column })
    };
    let ours =
        |select: fn(&ForeignKey) -> pg_sys::Oid| keys.iter().filter(|key| select(key) == oid).cloned().collect::<Vec<_>>();
    let children = ours(|key| key.parent);
    let references = ours(|key| key.child);
    let parents = references.iter().filter(|key| key.on_delete != OnDelete::Wait).cloned().collect();
    Ok(Some(Table {
        number,
        oid,
        owner: relation.owner,
        id,
        version,
        tombstones,
        redactions: options.redact.iter().map(redaction).collect::<Result<_>>()?,
        owners: options.owners.clone(),
        kind: Kind::of_option(options.kind.as_deref(), &relation),
        all_events: options.follows_creates(),
        announce: options.announce()?,
        channel: Rc::from(options.channel.as_str()),
        full_payload: options.payload == PAYLOADS[1],
        truncate: options.truncate()?,
        has_events: options.has_events(),
        logs_maintenance: options.has_events() && options.purge_events == PURGE_EVENTS[0],
        mute: options.mute.clone(),
        is_referred_to: foreign_key::refers_to(oid)?,
        restored_by: options.restored_by()?,
        children,
        parents,
        references,
        statements: RefCell::default(),
        schema: relation.schema.clone(),
        name: relation.name.clone(),
        is_partitioned: relation.kind == 'p',
    }))
}

fn column_of(relation: &Relation, option: &str, name: &str) -> Result<Column> {
    relation.attribute(name).map(|attribute| attribute.column.clone()).ok_or_else(|| {
        Error::not_ready(format!("managed table {} has no column {name} any more", relation.title()))
            .detail(format!("The option {option} names that column."))
            .hint(format!("Was it renamed? Say so: SELECT tombstone.configure('{}', '{option}', …);", relation.title()))
    })
}

fn type_changed(relation: &Relation, column: &Column, wanted: &str) -> Error {
    Error::not_ready(format!("column {} of managed table {} is not of {wanted} any more", column.name, relation.title()))
        .hint("Change it back, or tombstone.unmanage() the table.")
}

/// The bin of the managed table `relation`, if its layout is archive.
pub fn archive_of(relation: pg_sys::Oid) -> Result<Option<pg_sys::Oid>> {
    ARCHIVE.first(&[relation.into()], |row| row.get(1))
}

/// The names of the columns of the primary key of `relation`, in no order.
pub fn primary_key_of(relation: pg_sys::Oid) -> Result<Vec<String>> {
    PRIMARY_KEY.rows(&[relation.into()], |row| row.get(1))
}

/// The same, also of a table whose bin is being filled: its layout is in_place still, and convert() is under way.
pub fn bin_of(relation: pg_sys::Oid) -> Result<Option<pg_sys::Oid>> {
    BIN.first(&[relation.into()], |row| row.get(1))
}

/// Says that `bin` is, or is to be, the archive of a managed table; or that it has none.
pub fn set_bin(relation: pg_sys::Oid, bin: Option<pg_sys::Oid>) -> Result<()> {
    SET_BIN.run(&[relation.into(), bin.into()])
}

/// The managed table whose bin is `relation`; not while it is being filled.
pub fn table_of_archive(relation: pg_sys::Oid) -> Result<Option<pg_sys::Oid>> {
    OF_ARCHIVE.first(&[relation.into()], |row| row.get(1))
}

/// The managed table that the view `view` is about.
pub fn table_of_live_view(view: pg_sys::Oid) -> Result<Option<pg_sys::Oid>> {
    OF_LIVE_VIEW.first(&[view.into()], |row| row.get(1))
}

/// The partitions of a bin, and their bounds, as they are committed by now.
pub fn parts_of(bin: pg_sys::Oid) -> Result<Vec<Part>> {
    const PLAIN: [(&CStr, &CStr); 2] = [(c"DateStyle", c"ISO, YMD"), (c"TimeZone", c"UTC")];
    let stamp = |at: Option<TimestampWithTimeZone>| at.map(|at| at.into_inner());
    let part = |row: OwnRow| {
        let bounds = stamp(row.nullable(2)?).zip(stamp(row.nullable(3)?));
        Ok(Part { oid: row.get(1)?, bounds })
    };
    with_settings(&PLAIN, || PARTS.rows_latest(&[bin.into()], part))
}

/// Adds a managed table; returns its number.
pub fn insert(relation: pg_sys::Oid, options: &Options, archive: Option<pg_sys::Oid>) -> Result<i32> {
    let mut arguments = vec![relation.into(), archive.into()];
    arguments.extend(options.arguments());
    INSERT.one(&arguments, |row| row.get(1))
}

/// Writes a managed table's options.
pub fn update(relation: pg_sys::Oid, options: &Options) -> Result<()> {
    let mut arguments = vec![relation.into()];
    arguments.extend(options.arguments());
    UPDATE.run(&arguments)
}

/// Takes a managed table, and the holds in it, out of the catalog.
pub fn delete(relation: pg_sys::Oid) -> Result<()> {
    DELETE.run(&[relation.into()])
}

/// The holds of a table whose key's columns are called otherwise now: a composite key names them.
pub fn rename_in_holds(number: i32, before: &[String], after: &[String]) -> Result<()> {
    if before == after || before.len() != after.len() || before.len() < 2 {
        return Ok(());
    }
    RENAME_HOLDS.run(&[number.into(), before.to_vec().into(), after.to_vec().into()])
}

/// How many records of the table numbered `number` are on hold.
pub fn holds_in(number: i32) -> Result<i64> {
    let count = HOLDS_IN.latest(&[number.into()])?;
    Ok(count.and_then(|count| count.parse().ok()).unwrap_or_default())
}

/// A managed table without its particulars: it may be locked, or lack a column that an option names.
#[derive(Debug, Clone, Copy)]
pub struct Managed {
    pub number: i32,
    pub relation: pg_sys::Oid,
    pub has_versions: bool,
    pub event_retention: Option<Interval>,
    pub is_archived: bool,
}

/// Every managed table, by number.
pub fn all() -> Result<Vec<Managed>> {
    ALL.rows(&[], |row| {
        Ok(Managed {
            number: row.get(1)?,
            relation: row.get(2)?,
            has_versions: row.get(3)?,
            event_retention: row.nullable(4)?,
            is_archived: row.get(5)?,
        })
    })
}

/// By what terms records of a table are due: what expiry and purge go by.
#[derive(Debug, Clone)]
pub struct Terms {
    pub number: i32,
    pub relation: pg_sys::Oid,
    /// The table's name, for messages.
    pub title: String,
    pub retention: Option<Interval>,
    pub expire_after: Option<Interval>,
    pub expire_from: Option<String>,
    pub max_purge: Option<MaxPurge>,
    pub purge_after: Option<String>,
    pub keep_versions: Option<i32>,
    pub keep_versions_for: Option<Interval>,
    /// By pause().
    pub paused: bool,
    /// It came with a dump, and was not resumed since.
    pub restored: bool,
}

/// The terms of every managed table, by number.
pub fn terms() -> Result<Vec<Terms>> {
    TERMS.rows(&[None::<i32>.into()], read_terms)
}

/// The terms of the table numbered `number`, as they are at this moment; `None` where it is not managed any more.
pub fn terms_of(number: i32) -> Result<Option<Terms>> {
    TERMS.first(&[number.into()], read_terms)
}

fn read_terms(row: OwnRow) -> Result<Terms> {
    let relation = row.get(2)?;
    Ok(Terms {
        number: row.get(1)?,
        relation,
        title: title(relation),
        retention: row.nullable(3)?,
        expire_after: row.nullable(4)?,
        expire_from: row.nullable(5)?,
        max_purge: row.nullable::<String>(6)?.map(|said| MaxPurge::of_option(&said)).transpose()?,
        purge_after: row.nullable(7)?,
        keep_versions: row.nullable(8)?,
        keep_versions_for: row.nullable(9)?,
        paused: row.get(10)?,
        restored: row.get(11)?,
    })
}

/// Pauses the table numbered `number`, in the name of `actor`; one that is paused stays as it is.
pub fn pause(number: i32, actor: &str) -> Result<()> {
    PAUSE.run(&[number.into(), actor.into()])
}

/// Ends the pause of the table numbered `number`, also the one that a dump has brought about.
pub fn resume(number: i32) -> Result<()> {
    RESUME.run(&[number.into()])
}

/// Whether any of them announces its events.
pub fn any_announces() -> Result<bool> {
    ANNOUNCING.any(&[])
}

/// The table numbered `number`.
pub fn relation_of(number: i32) -> Result<Option<pg_sys::Oid>> {
    BY_NUMBER.first(&[number.into()], |row| row.get(1))
}

/// `relation` and, if it is a partition, its ancestors up to the root.
pub fn with_ancestors(relation: pg_sys::Oid) -> Result<Vec<pg_sys::Oid>> {
    let above = ANCESTORS.rows(&[relation.into()], |row| row.get(1))?;
    Ok(if above.is_empty() { vec![relation] } else { above })
}

/// The relation of that name in that schema.
pub fn oid_of(schema: &str, name: &str) -> Result<Option<pg_sys::Oid>> {
    // SAFETY: catalog look-ups by name.
    let oid = unsafe {
        pg_sys::get_relname_relid(c_string(name).as_ptr(), pg_sys::get_namespace_oid(c_string(schema).as_ptr(), true))
    };
    Ok((oid != pg_sys::InvalidOid).then_some(oid))
}

/// Schema and name of a relation; both empty where there is none.
pub fn name_of(relation: pg_sys::Oid) -> (String, String) {
    // SAFETY: catalog look-ups that return NULL or a fresh C string.
    unsafe {
        let text = |text: *mut core::ffi::c_char| {
            if text.is_null() { String::new() } else { CStr::from_ptr(text).to_string_lossy().into_owned() }
        };
        let schema = pg_sys::get_namespace_name(pg_sys::get_rel_namespace(relation));
        (text(schema), text(pg_sys::get_rel_name(relation)))
    }
}

/// The qualified name of a relation as a person would write it, or its number where there is none.
pub fn title(relation: pg_sys::Oid) -> String {
    match name_of(relation) {
        (_, name) if name.is_empty() => relation.to_u32().to_string(),
        (schema, name) if schema.is_empty() => quote_identifier(name),
        (schema, name) => quote_qualified_identifier(schema, name),
    }
}

/// 42704, with the way out.
pub fn not_managed(relation: pg_sys::Oid) -> Error {
    if has_trigger(relation, UPDATE_TRIGGER) {
        return copied(relation);
    }
    let name = title(relation);
    Error::undefined(format!("table {name} is not managed"))
        .detail("It is not in tombstone.tables.")
        .hint(format!("Put it under management first: SELECT tombstone.manage('{name}');"))
}

/// 42704 of a table that has our triggers and is not managed.
pub fn copied(relation: pg_sys::Oid) -> Error {
    Error::undefined(format!("table {} has the triggers of a managed table, but is not managed", title(relation)))
        .detail("Its definition was copied without the row that says so, as pg_dump --schema-only does.")
        .hint("SELECT tombstone.adopt(); manages such tables again, with the options that they had. Or drop its triggers that execute functions of tombstone.")
}
