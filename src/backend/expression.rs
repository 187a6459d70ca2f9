//! SQL expressions as Postgres' own parser reads them: is a text one, whole and alone, so that it may stand in generated SQL?

use pgrx::{PgList, pg_sys};

use crate::backend::identity::c_string;

/// Whether `text` is exactly one expression: no second column, no FROM, no second statement, no parenthesis that closes
/// what it did not open. A syntax error is raised as Postgres words it.
pub fn is_one_expression(text: &str) -> bool {
    // In ROW(text) any text that is more or less than one expression changes the shape of the whole.
    let sql = c_string(&format!("SELECT ROW(\n{text}\n)"));
    // SAFETY: walks a parse tree by the node tags it checks; the tree lives in the current memory context.
    unsafe {
        let statements =
            PgList::<pg_sys::RawStmt>::from_pg(pg_sys::raw_parser(sql.as_ptr(), pg_sys::RawParseMode::RAW_PARSE_DEFAULT));
        let Some(statement) = only(&statements) else { return false };
        if !is_a((*statement).stmt, pg_sys::NodeTag::T_SelectStmt) {
            return false;
        }
        let select = (*statement).stmt as *mut pg_sys::SelectStmt;
        let bare = (*select).op == pg_sys::SetOperation::SETOP_NONE
            && [
                (*select).fromClause,
                (*select).groupClause,
                (*select).windowClause,
                (*select).sortClause,
                (*select).lockingClause,
            ]
            .iter()
            .all(|clause| clause.is_null())
            && [(*select).whereClause, (*select).havingClause, (*select).limitCount, (*select).limitOffset]
                .iter()
                .all(|clause| clause.is_null())
            && (*select).withClause.is_null()
            && (*select).intoClause.is_null();
        let columns = PgList::<pg_sys::ResTarget>::from_pg((*select).targetList);
        let Some(column) = only(&columns).filter(|_| bare) else { return false };
        if !(*column).name.is_null() || !is_a((*column).val, pg_sys::NodeTag::T_RowExpr) {
            return false;
        }
        let row = (*column).val as *mut pg_sys::RowExpr;
        PgList::<pg_sys::Node>::from_pg((*row).args).len() == 1
    }
}

/// The parse tree of `text`, an expression of our own; NULL where it is none.
pub fn parsed(text: &str) -> *mut pg_sys::Node {
    let sql = c_string(&format!("SELECT {text}"));
    // SAFETY: as above.
    unsafe {
        let statements =
            PgList::<pg_sys::RawStmt>::from_pg(pg_sys::raw_parser(sql.as_ptr(), pg_sys::RawParseMode::RAW_PARSE_DEFAULT));
        let select = only(&statements).map(|statement| (*statement).stmt);
        let select =
            select.filter(|select| is_a(*select, pg_sys::NodeTag::T_SelectStmt)).map(|node| node.cast::<pg_sys::SelectStmt>());
        let column = select.and_then(|select| only(&PgList::<pg_sys::ResTarget>::from_pg((*select).targetList)));
        column.map_or(std::ptr::null_mut(), |column| (*column).val)
    }
}

fn only<T>(list: &PgList<T>) -> Option<*mut T> {
    (list.len() == 1).then(|| list.get_ptr(0)).flatten()
}

/// # Safety
/// `node` is NULL or a parse tree node.
unsafe fn is_a(node: *mut pg_sys::Node, tag: pg_sys::NodeTag) -> bool {
    // SAFETY: by contract of this function.
    !node.is_null() && unsafe { (*node).type_ == tag }
}
