//! What can go wrong, once: each failure with its SQLSTATE, message, DETAIL and HINT.
//! The SQLSTATEs are the contract services map to HTTP (400, 403, 404, 409, 423).

use pgrx::PgSqlErrorCode;
use pgrx::pg_sys::panic::ErrorReport;

/// Ours, unless it is an answer to Postgres: a door's error is the report that Postgres raises as it stands.
pub type Result<T, E = Error> = core::result::Result<T, E>;

/// A failure a user can meet. `Postgres` and Rust never meet: an error that Postgres itself raises passes through untouched.
#[derive(Debug, Clone, PartialEq)]
pub struct Error {
    code: PgSqlErrorCode,
    message: String,
    detail: Option<String>,
    hint: Option<String>,
    nature: Nature,
}

/// What some errors are, whatever their code: others may raise the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Nature {
    Ordinary,
    /// Somebody, or a timeout, wanted the statement to end.
    Cancellation,
    /// The triggers of a managed table did not fire.
    TriggersSlept,
}

impl Error {
    fn new(code: PgSqlErrorCode, message: impl Into<String>) -> Self {
        Error { code, message: message.into(), detail: None, hint: None, nature: Nature::Ordinary }
    }

    /// 22023: an argument or option that cannot be (HTTP 400).
    pub fn invalid(message: impl Into<String>) -> Self {
        Error::new(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE, message)
    }

    /// 42501: the caller may not do this (HTTP 403).
    pub fn denied(message: impl Into<String>) -> Self {
        Error::new(PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE, message)
    }

    /// P0002: no such record, or none in the state asked for (HTTP 404).
    pub fn no_data_found(message: impl Into<String>) -> Self {
        Error::new(PgSqlErrorCode::ERRCODE_NO_DATA_FOUND, message)
    }

    /// 55006: the record is on hold (HTTP 423).
    pub fn on_hold(message: impl Into<String>) -> Self {
        Error::new(PgSqlErrorCode::ERRCODE_OBJECT_IN_USE, message)
    }

    /// 23503: live children, or a deleted parent, forbid it (HTTP 409).
    pub fn foreign_key(message: impl Into<String>) -> Self {
        Error::new(PgSqlErrorCode::ERRCODE_FOREIGN_KEY_VIOLATION, message)
    }

    /// 42704: not a managed table, no such deletion (HTTP 404).
    pub fn undefined(message: impl Into<String>) -> Self {
        Error::new(PgSqlErrorCode::ERRCODE_UNDEFINED_OBJECT, message)
    }

    /// 2BP01: something else depends on it.
    pub fn needed(message: impl Into<String>) -> Self {
        Error::new(PgSqlErrorCode::ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST, message)
    }

    /// 42710: managed already.
    pub fn duplicate(message: impl Into<String>) -> Self {
        Error::new(PgSqlErrorCode::ERRCODE_DUPLICATE_OBJECT, message)
    }

    /// 55000: not in the state this needs.
    pub fn not_ready(message: impl Into<String>) -> Self {
        Error::new(PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE, message)
    }

    /// 25001: not inside a transaction block.
    pub fn in_transaction(message: impl Into<String>) -> Self {
        Error::new(PgSqlErrorCode::ERRCODE_ACTIVE_SQL_TRANSACTION, message)
    }

    /// 40001: somebody else was faster.
    pub fn changed(message: impl Into<String>) -> Self {
        Error::new(PgSqlErrorCode::ERRCODE_T_R_SERIALIZATION_FAILURE, message)
    }

    /// 08000: an outside source could not be asked, or has given no answer that can be.
    pub fn no_answer(message: impl Into<String>) -> Self {
        Error::new(PgSqlErrorCode::ERRCODE_CONNECTION_EXCEPTION, message)
    }

    /// 0A000: a thing this version does not do.
    pub fn unsupported(message: impl Into<String>) -> Self {
        Error::new(PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED, message)
    }

    /// 39P01: a trigger function called as something else.
    pub fn not_a_trigger(message: impl Into<String>) -> Self {
        Error::new(PgSqlErrorCode::ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED, message)
    }

    /// 22000: our SQL and our Rust disagree.
    pub fn misread(what: impl core::fmt::Display) -> Self {
        Error::new(PgSqlErrorCode::ERRCODE_DATA_EXCEPTION, format!("pg_tombstone misread its own query: {what}"))
            .hint("This is a defect of pg_tombstone; please report it.")
    }

    /// An error Postgres raised and we caught: its words, its code.
    pub fn caught(code: PgSqlErrorCode, message: &str, detail: Option<&str>, hint: Option<&str>) -> Self {
        let (detail, hint) = (detail.map(Into::into), hint.map(Into::into));
        Error { code, message: message.into(), detail, hint, nature: Nature::Ordinary }
    }

    /// The same: somebody, or a timeout, wanted the statement to end.
    pub fn cancelled(mut self) -> Self {
        self.nature = Nature::Cancellation;
        self
    }

    /// The same: it is the triggers of a managed table that did not fire.
    pub fn saying_triggers_slept(mut self) -> Self {
        self.nature = Nature::TriggersSlept;
        self
    }

    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The hint, where whoever raised the error gave none.
    pub fn hint_where_none(mut self, hint: impl Into<String>) -> Self {
        self.hint.get_or_insert_with(|| hint.into());
        self
    }

    /// The same code under another message.
    pub fn reworded(mut self, message: impl Into<String>) -> Self {
        self.message = message.into();
        self
    }

    /// The same for somebody who may not see the rows of table `title`: Postgres shows them in DETAIL, and in the message where a value
    /// cannot be what it is to be (class 22). What names a constraint, or a right that is missing, stays.
    pub fn without_values(mut self, title: &str) -> Self {
        use PgSqlErrorCode::*;
        let says_none = [
            ERRCODE_FEATURE_NOT_SUPPORTED,
            ERRCODE_SYNTAX_ERROR_OR_ACCESS_RULE_VIOLATION,
            ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
        ];
        if !says_none.iter().any(|class| class_of(*class) == class_of(self.code)) {
            self.detail = None;
        }
        if class_of(self.code) == class_of(ERRCODE_DATA_EXCEPTION) {
            self.message = format!("a value does not fit table {title}");
            self.hint = None;
        }
        self
    }

    /// Whether it is 23503.
    pub fn is_foreign_key(&self) -> bool {
        self.code == PgSqlErrorCode::ERRCODE_FOREIGN_KEY_VIOLATION
    }

    /// Whether a constraint says so of the values that are there.
    pub fn is_of_constraint(&self) -> bool {
        use PgSqlErrorCode::*;
        matches!(
            self.code,
            ERRCODE_UNIQUE_VIOLATION | ERRCODE_EXCLUSION_VIOLATION | ERRCODE_CHECK_VIOLATION | ERRCODE_NOT_NULL_VIOLATION
        )
    }

    /// Whether a name could not be resolved.
    pub fn is_undefined_name(&self) -> bool {
        use PgSqlErrorCode::*;
        [ERRCODE_UNDEFINED_TABLE, ERRCODE_UNDEFINED_FUNCTION].contains(&self.code)
    }

    /// Whether a lock was not to be had in time.
    pub fn is_lock_timeout(&self) -> bool {
        self.code == PgSqlErrorCode::ERRCODE_LOCK_NOT_AVAILABLE
    }

    /// Whether somebody, or a timeout, wanted the statement to end: not whoever raises the same SQLSTATE, such as another server on
    /// which a statement timed out.
    pub fn is_cancellation(&self) -> bool {
        self.nature == Nature::Cancellation
    }

    /// Whether it is the triggers of a managed table that did not fire, whichever of its records was written.
    pub fn says_triggers_slept(&self) -> bool {
        self.nature == Nature::TriggersSlept
    }

    /// Whether the same may well succeed a little later: others were in the way.
    pub fn is_transient(&self) -> bool {
        use PgSqlErrorCode::*;
        [ERRCODE_LOCK_NOT_AVAILABLE, ERRCODE_T_R_DEADLOCK_DETECTED, ERRCODE_T_R_SERIALIZATION_FAILURE].contains(&self.code)
    }

    /// Whether it may lie with single records, so that others can be written without them: unlike a wrong definition or a
    /// lack of something, which is the same for all.
    pub fn may_be_of_a_record(&self) -> bool {
        use PgSqlErrorCode::*;
        let classes = [
            ERRCODE_CONNECTION_EXCEPTION,
            ERRCODE_FEATURE_NOT_SUPPORTED,
            ERRCODE_INVALID_TRANSACTION_STATE,
            ERRCODE_TRANSACTION_ROLLBACK,
            ERRCODE_SYNTAX_ERROR_OR_ACCESS_RULE_VIOLATION,
            ERRCODE_INSUFFICIENT_RESOURCES,
            ERRCODE_QUERY_CANCELED,
            ERRCODE_SYSTEM_ERROR,
        ];
        let of_all = self.code == ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE;
        !of_all && !classes.iter().any(|class| class_of(*class) == class_of(self.code))
    }

    pub fn code(&self) -> PgSqlErrorCode {
        self.code
    }

    /// The message, and the DETAIL behind it, on one line.
    pub fn summary(&self) -> String {
        let summary = match &self.detail {
            Some(detail) => format!("{} ({detail})", self.message),
            None => self.message.clone(),
        };
        summary.replace('\n', " ")
    }
}

/// The first two characters of an SQLSTATE, as Postgres packs them.
fn class_of(code: PgSqlErrorCode) -> isize {
    code as isize & 0xFFF
}

impl From<Error> for ErrorReport {
    fn from(error: Error) -> ErrorReport {
        let mut report = ErrorReport::new(error.code, error.message, "pg_tombstone");
        if let Some(detail) = error.detail {
            report = report.set_detail(detail);
        }
        if let Some(hint) = error.hint {
            report = report.set_hint(hint);
        }
        report
    }
}

/// SPI's own complaints (a wrong argument count, a datum of an unforeseen type) mean that our SQL and our Rust disagree.
impl From<pgrx::spi::Error> for Error {
    fn from(error: pgrx::spi::Error) -> Self {
        Error::misread(error)
    }
}
