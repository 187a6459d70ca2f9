//! References that ON DELETE SET NULL or SET DEFAULT has overwritten: kept with the deletion that did it, and put back when its parent
//! comes back, where the child still has what the action wrote. Writes `tombstone.unlinked`, alone.

use std::cell::RefCell;
use std::collections::BTreeMap;

use pgrx::datum::DatumWithOid;
use pgrx::pg_sys;

use super::discretion::withholding;
use super::layout::archive::revive::Lot;
use super::layout::returning;
use super::rows::{key_equals, keys_from};
use crate::backend::own_table::own_statements;
use crate::backend::query::Statement;
use crate::backend::stamp::stamp_argument;
use crate::backend::transaction::current_subtransaction;
use crate::error::Result;
use crate::log::account;
use crate::log::deletion;
use crate::table::key::{Key, columns_of};
use crate::table::{ForeignKey, OnDelete, Table, by_oid};

/// One reference, as the trigger of its table saw it.
pub struct Unlinked {
    pub managed: i32,
    pub parent: i32,
    pub reference: String,
    pub id: String,
    pub version: Option<i64>,
    pub before: String,
    pub after: String,
    pub stamp: i64,
}

/// Kept in memory up to this many, then written.
const MOST: usize = 1000;

thread_local! {
    static NOTED: RefCell<Vec<(pg_sys::SubTransactionId, Unlinked)>> = const { RefCell::new(Vec::new()) };
}

own_statements! {
    KEEP(INT8, INT4, INT4, TEXT, TEXT_ARRAY, INT8_ARRAY, TEXT_ARRAY, TEXT_ARRAY, TIMESTAMPTZ) =
        "INSERT INTO tombstone.unlinked (deletion, managed, parent, reference, id, version, before, after, deleted_at)
         SELECT $1, $2, $3, $4, u.id, u.version, u.before::json, u.after::json, $9
         FROM ROWS FROM (unnest($5), unnest($6), unnest($7), unnest($8)) AS u (id, version, before, after)
         ON CONFLICT DO NOTHING";
    OF(INT8, INT4, TEXT) =
        "SELECT id, version, before::text, after::text FROM tombstone.unlinked
         WHERE deletion = $1 AND managed = $2 AND reference = $3 ORDER BY id, version";
    FORGET(INT8, INT4, TEXT, TEXT_ARRAY) =
        "DELETE FROM tombstone.unlinked WHERE deletion = $1 AND managed = $2 AND reference = $3 AND id = ANY ($4)";
    FORGET_OLD() =
        "DELETE FROM tombstone.unlinked u USING tombstone.managed m
         WHERE m.managed = u.parent AND u.deleted_at < clock_timestamp() - least(m.retention, interval '4000 years')";
}

/// Notes one that the running statement has overwritten.
pub fn note(unlinked: Unlinked) -> Result<()> {
    let is_full = NOTED.with_borrow_mut(|noted| {
        noted.push((current_subtransaction(), unlinked));
        noted.len() >= MOST
    });
    if is_full { keep() } else { Ok(()) }
}

/// Writes what was noted in the subtransaction we are in. What an outer one overwrote waits for its own statement's end: written here
/// it would be rolled back with this one, and the references stay overwritten.
pub fn keep() -> Result<()> {
    let here = current_subtransaction();
    let noted = NOTED.with_borrow_mut(|all| {
        let (noted, others): (Vec<_>, Vec<_>) = std::mem::take(all).into_iter().partition(|(of, _)| *of >= here);
        *all = others;
        noted
    });
    if noted.is_empty() {
        return Ok(());
    }
    let mut parts: BTreeMap<(i32, i32, String), Vec<Unlinked>> = BTreeMap::new();
    for (_, one) in noted {
        parts.entry((one.managed, one.parent, one.reference.clone())).or_default().push(one);
    }
    for ((managed, parent, reference), part) in parts {
        let text = |of: fn(&Unlinked) -> &String| part.iter().map(|one| of(one).clone()).collect::<Vec<String>>();
        KEEP.run(&[
            deletion::number().into(),
            managed.into(),
            parent.into(),
            reference.into(),
            text(|one| &one.id).into(),
            part.iter().map(|one| one.version).collect::<Vec<_>>().into(),
            text(|one| &one.before).into(),
            text(|one| &one.after).into(),
            stamp_argument(part.first().map(|one| one.stamp)),
        ])?;
    }
    Ok(())
}

/// The transaction ended.
pub fn forget_all() {
    drop(NOTED.take());
}

/// A subtransaction was rolled back, and whatever began inside it. Nothing else was written there.
pub fn forget_from(subtransaction: pg_sys::SubTransactionId) {
    NOTED.with_borrow_mut(|noted| noted.retain(|(of, _)| *of < subtransaction));
}

/// Forgets those whose parents' tombstones are due.
pub fn forget_old() -> Result<()> {
    FORGET_OLD.run(&[])
}

/// Puts back what the deletion of these records, which are back, has overwritten elsewhere.
pub fn put_back(deletion: i64, lots: &[Lot]) -> Result<()> {
    for lot in lots {
        for key in lot.table.children.iter().filter(|key| key.on_delete == OnDelete::Wait) {
            let child = by_oid(key.child)?;
            put_back_along(deletion, &lot.table, &child, key)?;
        }
    }
    Ok(())
}

/// One that is to be put back.
struct Kept {
    key: Key,
    version: Option<i64>,
    before: String,
    after: String,
}

fn put_back_along(deletion: i64, parent: &Table, child: &Table, key: &ForeignKey) -> Result<()> {
    let of = [deletion.into(), child.number.into(), key.name.as_str().into()];
    let kept = OF.rows(&of, |row| Ok((row.get::<String>(1)?, row.nullable(2)?, row.get(3)?, row.get(4)?)))?;
    let kept = kept.into_iter().map(|(id, version, before, after)| Ok(Kept { key: child.key(&id)?, version, before, after }));
    let kept = kept.collect::<Result<Vec<_>>>()?;
    if kept.is_empty() {
        return Ok(());
    }
    let is_there = there_again(parent, key, &kept)?;
    let kept: Vec<Kept> = kept.into_iter().zip(is_there).filter_map(|(kept, is_there)| is_there.then_some(kept)).collect();
    account::as_cascade(|| withholding(&[child], || returning::keeping(|| write(child, key, &kept))))?;
    let ids: Vec<String> = kept.into_iter().map(|kept| kept.key.text).collect();
    FORGET.run(&[deletion.into(), child.number.into(), key.name.as_str().into(), ids.into()])
}

/// For each whether the parent that it referred to is there.
fn there_again(parent: &Table, key: &ForeignKey, kept: &[Kept]) -> Result<Vec<bool>> {
    let same = key.parent_columns.iter().enumerate().map(|(i, column)| {
        let equals = column.type_of.equality();
        format!(
            "t.{} {equals} (k.c0::pg_catalog.json OPERATOR(pg_catalog.->>) {i})::{}",
            column.sql(),
            column.type_of.base_sql()
        )
    });
    let sql = format!(
        "SELECT EXISTS (SELECT FROM {} AS t WHERE {}) FROM {} ORDER BY k.n",
        parent.sql(),
        same.collect::<Vec<_>>().join(" AND "),
        keys_from("k", 1),
    );
    let before: Vec<String> = kept.iter().map(|kept| kept.before.clone()).collect();
    let statement = Statement::new(sql, [pg_sys::TEXTARRAYOID]);
    parent.as_owner(|| statement.rows(&[before.into()], |row| Ok(row.get::<bool>(1)?.unwrap_or_default())))
}

/// In the owner's name, as the action wrote.
fn write(child: &Table, key: &ForeignKey, kept: &[Kept]) -> Result<()> {
    let keys: Vec<Key> = kept.iter().map(|kept| kept.key.clone()).collect();
    let mut types: Vec<pg_sys::Oid> = child.id.iter().map(|column| column.type_of.array()).collect();
    let mut arguments: Vec<DatumWithOid> = columns_of(child, &keys);
    let mut condition = key_equals(child, "t", |i| format!("k.c{i}"));
    if let Some(version) = &child.version {
        condition += &format!(" AND t.{} OPERATOR(pg_catalog.=) k.c{}", version.sql(), types.len());
        types.push(pg_sys::INT8ARRAYOID);
        arguments.push(kept.iter().map(|kept| kept.version).collect::<Vec<_>>().into());
    }
    let (before, after) = (types.len(), types.len() + 1);
    for texts in
        [kept.iter().map(|kept| kept.before.clone()).collect::<Vec<_>>(), kept.iter().map(|kept| kept.after.clone()).collect()]
    {
        types.push(pg_sys::TEXTARRAYOID);
        arguments.push(texts.into());
    }
    let value = |of: usize, i: usize| {
        let kind = key.child_columns[i].type_of.base_sql();
        format!("(k.c{of}::pg_catalog.json OPERATOR(pg_catalog.->>) {i})::{kind}")
    };
    let set = key.child_columns.iter().enumerate().map(|(i, column)| format!("{} = {}", column.sql(), value(before, i)));
    let still = key
        .child_columns
        .iter()
        .enumerate()
        .map(|(i, column)| format!("t.{} IS NOT DISTINCT FROM {}", column.sql(), value(after, i)));
    let sql = format!(
        "UPDATE {} AS t SET {} FROM {} WHERE {condition} AND {}",
        child.sql(),
        set.collect::<Vec<_>>().join(", "),
        keys_from("k", types.len()),
        still.collect::<Vec<_>>().join(" AND "),
    );
    child.as_owner_firing(|| Statement::new(sql, types).execute(&arguments)).map(drop)
}
