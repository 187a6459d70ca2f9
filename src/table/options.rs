//! The options of a managed table, each in one place: from the list below come the fields of `Options`, their defaults, what
//! configure() may set and how, and what the statements on `tombstone.managed` say of them. Beside it stand a parameter of
//! manage() (src/manage/doors.rs, sql/50_manage.sql) and a column (sql/10_managed.sql, also of the view); pgrx-tests/options.rs
//! compares them. Here is also what can be said of a value without its table; `manage::validate` says the rest.

use pgrx::datum::{DatumWithOid, Interval};
use pgrx::pg_sys;
use serde_json::{Map, Value};

use super::option_field::{Carrier, FOREVER, Field, interval, json, names, number, retention, text, word, words};
use super::{Announce, RestoredBy, Truncate};
use crate::backend::ident::ident;
use crate::backend::own_table::OwnRow;
use crate::error::{Error, Result};

/// The `deleted_at` column where no other is named.
const DELETED_AT: &str = "deleted_at";
/// The layout whose tombstones stay in the table.
pub const IN_PLACE: &str = "in_place";
/// The layout whose tombstones go to a table of their own.
pub const ARCHIVE: &str = "archive";
/// The option `events` where creates and updates are events, too.
const ALL_EVENTS: &str = "all";
/// The option `events` where nothing is.
const NO_EVENTS: &str = "none";
/// What the option `events` may say; the first is its default.
pub const EVENTS: [&str; 3] = ["delete", ALL_EVENTS, NO_EVENTS];
/// What the option `payload` may say; the first is its default.
pub const PAYLOADS: [&str; 2] = ["short", "full"];
/// What the option `purge_events` may say; the first is its default.
pub const PURGE_EVENTS: [&str; 2] = ["record", "none"];
/// What an expression may call the row that it is over, whatever its table is called.
const THIS: &str = "this";
/// What the type of a column says besides where it is never NULL.
const NOT_NULL: &str = " NOT NULL";

/// An option as SQL and configure() know it.
pub struct Descriptor {
    pub name: &'static str,
    /// Its column in `tombstone.managed`, as sql/10_managed.sql declares it.
    pub column: &'static str,
    carrier: Carrier,
    /// The name of what reads its text.
    reads: &'static str,
    /// Sets it to what a text says; to its default without one.
    set: fn(&mut Options, Option<&str>) -> Result<()>,
}

impl Descriptor {
    /// The type of its column, and of manage()'s parameter.
    pub fn sql_type(&self) -> &'static str {
        self.column.trim_end_matches(NOT_NULL)
    }
}

/// Whether a column that is declared like this may be NULL.
fn may_be_null(column: &str) -> bool {
    !column.ends_with(NOT_NULL)
}

/// Declares the options: `FIELD: ITS TYPE, COLUMN IN SQL, HOW ITS TEXT IS READ, DEFAULT;` each.
macro_rules! options {
    ($($name:ident: $type:ty, $column:literal, $read:ident, $default:expr;)*) => {
        /// Every option, by the name it has in manage(). `None` in layout, id, deleted_at and truncate: to be found out.
        #[derive(Debug, Clone)]
        pub struct Options {
            $(pub $name: $type,)*
        }

        /// The same in their order, for SQL and configure().
        pub static ALL: &[Descriptor] = &[$(Descriptor {
            name: stringify!($name),
            column: $column,
            carrier: <$type as Field>::CARRIER,
            reads: stringify!($read),
            set: |options, said| {
                options.$name = said.map(|said| $read(stringify!($name), said)).transpose()?.unwrap_or_else(|| $default);
                Ok(())
            },
        },)*];

        impl Options {
            /// What manage() takes for those it is not told.
            pub fn defaults() -> Options {
                Options { $($name: $default,)* }
            }

            /// Those in the columns of `row` from `first` on.
            pub fn read(row: OwnRow, first: usize) -> Result<Options> {
                let mut column = first - 1;
                Ok(Options { $($name: {
                    column += 1;
                    Field::read(row, column, may_be_null($column))?
                },)* })
            }

            /// What writes them, in the same order.
            pub fn arguments(&self) -> Vec<DatumWithOid<'static>> {
                vec![$(self.$name.write(),)*]
            }
        }
    };
}

options! {
    layout: Option<String>, "text NOT NULL", text, None;
    id: Option<Vec<String>>, "name[] NOT NULL", names, None;
    version: Option<String>, "name", text, None;
    deleted_at: Option<String>, "name", text, None;
    redact: Map<String, Value>, "jsonb NOT NULL", json, Map::new();
    kind: Option<String>, "text", text, None;
    owners: Option<String>, "text", text, None;
    retention: Option<Interval>, "interval", retention, days(30);
    expire_after: Option<Interval>, "interval", interval, None;
    expire_from: Option<String>, "text", text, None;
    events: String, "text NOT NULL", word, EVENTS[0].into();
    notify: String, "text NOT NULL", word, "record".into();
    channel: String, "name NOT NULL", word, "tombstone".into();
    event_retention: Option<Interval>, "interval", retention, days(30);
    max_purge: Option<String>, "text", text, None;
    truncate: Option<String>, "text NOT NULL", text, None;
    purge_events: String, "text NOT NULL", word, PURGE_EVENTS[0].into();
    on_delete: Map<String, Value>, "jsonb NOT NULL", json, Map::new();
    restore: String, "text NOT NULL", word, RestoredBy::words()[0].into();
    payload: String, "text NOT NULL", word, PAYLOADS[0].into();
    mute: Vec<String>, "text[] NOT NULL", words, Vec::new();
    purge_after: Option<String>, "text", text, None;
    keep_versions: Option<i32>, "integer", number, None;
    keep_versions_for: Option<Interval>, "interval", interval, None;
}

fn days(days: i32) -> Option<Interval> {
    Interval::new(0, days, 0).ok()
}

impl Options {
    /// The same with one of them set to what `text` says; to its default without one.
    pub fn with(mut self, option: &str, text: Option<&str>) -> Result<Options> {
        let descriptor = ALL.iter().find(|descriptor| descriptor.name == option).ok_or_else(|| {
            Error::invalid(format!("there is no option \"{option}\"")).hint(format!("The options are {}.", columns()))
        })?;
        (descriptor.set)(&mut self, text)?;
        Ok(self)
    }

    /// The name of the column that marks tombstones.
    pub fn marker(&self) -> &str {
        self.deleted_at.as_deref().unwrap_or(DELETED_AT)
    }

    /// Whether creates and updates are events, too.
    pub fn follows_creates(&self) -> bool {
        self.events == ALL_EVENTS
    }

    /// Whether anything is an event.
    pub fn has_events(&self) -> bool {
        self.events != NO_EVENTS
    }

    /// What TRUNCATE does. Options that were checked have it.
    pub fn truncate(&self) -> Result<Truncate> {
        let said = self.truncate.as_deref().unwrap_or_default();
        Truncate::of_option(said).ok_or_else(|| Error::misread(format!("option truncate of a managed table is \"{said}\"")))
    }

    /// Who may restore by clearing deleted_at.
    pub fn restored_by(&self) -> Result<RestoredBy> {
        RestoredBy::of_option(&self.restore)
            .ok_or_else(|| Error::misread(format!("option restore of a managed table is \"{}\"", self.restore)))
    }

    /// How events are announced.
    pub fn announce(&self) -> Result<Announce> {
        Announce::of_option(&self.notify)
            .ok_or_else(|| Error::misread(format!("option notify of a managed table is \"{}\"", self.notify)))
    }
}

/// Their columns, for SQL that writes them.
pub fn columns() -> String {
    listed(|_, descriptor| descriptor.name.into())
}

/// The same for SQL that reads them.
pub fn columns_read() -> String {
    listed(|_, descriptor| format!("{}::{}", descriptor.name, descriptor.carrier.name))
}

/// The arguments of jsonb_build_object() that say them as configure() takes them.
pub fn said() -> String {
    listed(|_, descriptor| {
        // Of a retention NULL has a word, as nothing stands for the default.
        let null = if descriptor.reads == "retention" { format!("'{FOREVER}'") } else { "NULL".to_string() };
        format!("'{0}', COALESCE({0}::text, {null})", descriptor.name)
    })
}

/// The values of those columns: parameters from number `first` on.
pub fn values(first: usize) -> String {
    listed(|i, descriptor| format!("${}::{}", first + i, descriptor.sql_type()))
}

/// The types of those parameters.
pub fn types() -> Vec<pg_sys::Oid> {
    ALL.iter().map(|descriptor| descriptor.carrier.oid).collect()
}

fn listed(word: impl Fn(usize, &Descriptor) -> String) -> String {
    ALL.iter().enumerate().map(|(i, descriptor)| word(i, descriptor)).collect::<Vec<_>>().join(", ")
}

/// Refuses a value that is not one of `allowed`, in words.
pub fn one_of(option: &str, value: &str, allowed: &[&str]) -> core::result::Result<(), String> {
    if allowed.contains(&value) {
        return Ok(());
    }
    Err(format!("option {option} must be one of {}, not \"{value}\"", allowed.join(", ")))
}

/// Whether a retention or age is '0': at once.
pub fn is_nothing(interval: &Interval) -> bool {
    (interval.months(), interval.days(), interval.micros()) == (0, 0, 0)
}

/// Whether a retention or age of `months`, `days` and `microseconds` is longer than nothing, months counted as 30 days.
pub fn is_positive(months: i32, days: i32, microseconds: i64) -> bool {
    let days = i128::from(months) * 30 + i128::from(days);
    days * 86_400_000_000 + i128::from(microseconds) > 0
}

/// The text that a `redact` value stands for in a column of type `kind`: JSON as JSON, all else by its own text.
pub fn redact_text(value: &Value, kind: pg_sys::Oid) -> Option<String> {
    match value {
        Value::Null => None,
        value if kind == pg_sys::JSONOID || kind == pg_sys::JSONBOID => Some(value.to_string()),
        Value::String(text) => Some(text.clone()),
        value => Some(value.to_string()),
    }
}

/// Whether the word `name` occurs in an expression, in whatever case.
pub fn names_column(expression: &str, name: &str) -> bool {
    after_word(expression, name, |_| true)
}

/// What an expression calls the row that it is over, as SQL: `this`, if it says so (`this.id`), or the name of its table. Unlike
/// that name, `this` survives the table's renaming.
pub fn alias_in(expression: &str, table: &str) -> String {
    let qualifies = |rest: &str| rest.trim_start().starts_with('.');
    ident(if after_word(expression, THIS, qualifies) { THIS } else { table })
}

/// Whether the word `name` occurs in an expression, in whatever case, and what comes after it `fits`.
fn after_word(expression: &str, name: &str, fits: impl Fn(&str) -> bool) -> bool {
    let of_a_word = |c: char| c.is_alphanumeric() || c == '_' || c == '$';
    let (expression, name) = (expression.to_lowercase(), name.to_lowercase());
    expression.match_indices(&name).any(|(at, _)| {
        let (before, rest) = (expression[..at].chars().next_back(), &expression[at + name.len()..]);
        !before.is_some_and(of_a_word) && !rest.chars().next().is_some_and(of_a_word) && fits(rest)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_outside_the_list_is_named_with_the_list() {
        assert_eq!(one_of("events", "all", &["delete", "all"]), Ok(()));
        assert_eq!(
            one_of("events", "none", &["delete", "all"]),
            Err("option events must be one of delete, all, not \"none\"".into())
        );
    }

    #[test]
    fn intervals_compare_as_postgres_compares_them() {
        assert!(is_positive(0, 0, 1));
        assert!(is_positive(1, -29, 0));
        assert!(!is_positive(1, -30, 0));
        assert!(!is_positive(0, 0, 0));
        assert!(is_positive(i32::MAX, i32::MAX, i64::MAX));
    }

    #[test]
    fn redact_values_are_text_except_in_json_columns() {
        assert_eq!(redact_text(&Value::Null, pg_sys::TEXTOID), None);
        assert_eq!(redact_text(&"x".into(), pg_sys::TEXTOID), Some("x".into()));
        assert_eq!(redact_text(&7.into(), pg_sys::INT4OID), Some("7".into()));
        assert_eq!(redact_text(&"x".into(), pg_sys::JSONBOID), Some("\"x\"".into()));
    }

    #[test]
    fn a_column_is_named_as_a_word() {
        assert!(names_column("upper(Kind)", "kind"));
        assert!(names_column("t.\"kind\"", "kind"));
        assert!(!names_column("kinds || a_kind || mankind", "kind"));
    }

    #[test]
    fn an_expression_may_call_its_row_this() {
        assert_eq!(alias_in("(SELECT max(at) FROM chat.message m WHERE m.channel = This.id)", "channel"), "\"this\"");
        assert_eq!(alias_in("born(this . *)", "channel"), "\"this\"");
        assert_eq!(alias_in("channel.at", "channel"), "\"channel\"");
        assert_eq!(alias_in("'all of this' || this_one.at", "channel"), "\"channel\"");
    }
}
