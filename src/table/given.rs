//! Ids as callers give them: of any type, such as the integers that drivers bind, or a uuid column. From here on they are text.

use pgrx::datum::{AnyArray, AnyElement};
use pgrx::pg_sys;

use super::ColumnType;

/// The text of an id, by its type's output, whatever the session has set.
pub fn text_of(id: AnyElement) -> String {
    // SAFETY: Postgres has said what type the value has.
    unsafe { text(&ColumnType::new(id.oid(), -1), id.datum()) }
}

/// The same of each of them, in their order.
pub fn texts_of(ids: AnyArray) -> Vec<Option<String>> {
    // SAFETY: as above; the elements of an array are of one type.
    unsafe {
        let element = ColumnType::new(pg_sys::get_base_element_type(ids.oid()), -1);
        element.elements(ids.datum()).into_iter().map(|id| id.map(|id| text(&element, id))).collect()
    }
}

/// # Safety
/// `value` is of type `kind`.
unsafe fn text(kind: &ColumnType, value: pg_sys::Datum) -> String {
    // SAFETY: by contract of this function.
    let text = unsafe { kind.write_key(value) };
    // As the cast to text has it: what fills a char(n) up means nothing.
    if kind.base() == pg_sys::BPCHAROID { text.trim_end_matches(' ').to_string() } else { text }
}
