//! What a utility statement is about to do to a database or an extension.

use std::ffi::{CStr, CString, c_char};

use pgrx::{PgList, pg_sys};

/// Such a command, with the names it was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// DROP DATABASE; ALTER DATABASE … RENAME or SET TABLESPACE.
    TakeDatabase(CString),
    /// CREATE DATABASE, by its template.
    CopyDatabase(CString),
    /// ALTER DATABASE with other options, such as whether it can be connected to.
    AlterDatabase,
    CreateExtension,
    DropExtensions(Vec<CString>),
    /// COMMIT PREPARED, of whatever.
    CommitPrepared,
}

impl Command {
    /// # Safety
    /// `statement` is a utility statement, as parsed.
    pub unsafe fn of(statement: *mut pg_sys::Node) -> Option<Command> {
        use pg_sys::NodeTag::*;
        use pg_sys::ObjectType::{OBJECT_DATABASE, OBJECT_EXTENSION};
        // SAFETY: a node's tag says what it is.
        unsafe {
            match (*statement).type_ {
                T_DropdbStmt => Some(Command::TakeDatabase(copy((*statement.cast::<pg_sys::DropdbStmt>()).dbname))),
                T_CreatedbStmt => Some(Command::CopyDatabase(template(statement.cast()))),
                T_AlterDatabaseStmt => Some(altering(statement.cast())),
                T_RenameStmt => {
                    let rename = statement.cast::<pg_sys::RenameStmt>();
                    ((*rename).renameType == OBJECT_DATABASE).then(|| Command::TakeDatabase(copy((*rename).subname)))
                }
                T_CreateExtensionStmt => Some(Command::CreateExtension),
                T_DropStmt => {
                    let drop = statement.cast::<pg_sys::DropStmt>();
                    ((*drop).removeType == OBJECT_EXTENSION).then(|| Command::DropExtensions(names((*drop).objects)))
                }
                T_TransactionStmt => {
                    let kind = (*statement.cast::<pg_sys::TransactionStmt>()).kind;
                    (kind == pg_sys::TransactionStmtKind::TRANS_STMT_COMMIT_PREPARED).then_some(Command::CommitPrepared)
                }
                _ => None,
            }
        }
    }
}

/// # Safety
/// As parsed.
unsafe fn template(create: *mut pg_sys::CreatedbStmt) -> CString {
    // SAFETY: by contract of this function; an option without a value means the default.
    unsafe {
        match option((*create).options, c"template") {
            Some(template) if !(*template).arg.is_null() => copy(pg_sys::defGetString(template)),
            _ => c"template1".to_owned(),
        }
    }
}

/// # Safety
/// As parsed.
unsafe fn altering(alter: *mut pg_sys::AlterDatabaseStmt) -> Command {
    // SAFETY: by contract of this function.
    unsafe {
        match option((*alter).options, c"tablespace") {
            Some(_) => Command::TakeDatabase(copy((*alter).dbname)),
            None => Command::AlterDatabase,
        }
    }
}

/// # Safety
/// `options` is a list of them.
unsafe fn option(options: *mut pg_sys::List, name: &CStr) -> Option<*mut pg_sys::DefElem> {
    // SAFETY: by contract of this function.
    unsafe {
        let options = PgList::<pg_sys::DefElem>::from_pg(options);
        options.iter_ptr().find(|option| CStr::from_ptr((**option).defname) == name)
    }
}

/// # Safety
/// `list` is one of names.
unsafe fn names(list: *mut pg_sys::List) -> Vec<CString> {
    // SAFETY: by contract of this function.
    unsafe {
        #[cfg(feature = "pg14")]
        return PgList::<pg_sys::Value>::from_pg(list).iter_ptr().map(|name| copy((*name).val.str_)).collect();
        #[cfg(not(feature = "pg14"))]
        PgList::<pg_sys::String>::from_pg(list).iter_ptr().map(|name| copy((*name).sval)).collect()
    }
}

/// # Safety
/// `name` is a C string.
unsafe fn copy(name: *const c_char) -> CString {
    // SAFETY: by contract of this function.
    unsafe { CStr::from_ptr(name).to_owned() }
}
