//! By what rule records are due: a live one for expiry, a tombstone for the purge. An age counts from a moment that the row
//! itself says; what is exactly as old as the limit is not due yet.

use pgrx::datum::Interval;

use crate::log::account::Cause;
use crate::table::Terms;
use crate::table::options::is_nothing;

/// What becomes of records that are due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// Live records are soft-deleted.
    Expire,
    /// Tombstones are purged.
    Purge,
}

impl Action {
    pub const ALL: [Action; 2] = [Action::Expire, Action::Purge];

    pub fn name(self) -> &'static str {
        match self {
            Action::Expire => "expire",
            Action::Purge => "purge",
        }
    }

    pub fn participle(self) -> &'static str {
        match self {
            Action::Expire => "expired",
            Action::Purge => "purged",
        }
    }

    pub fn cause(self) -> Cause {
        match self {
            Action::Expire => Cause::Expiry,
            Action::Purge => Cause::Retention,
        }
    }
}

/// Versions that stay: so many of the newest, one at least, and of the others those that are younger.
#[derive(Debug, Clone)]
pub struct KeptVersions {
    pub newest: i32,
    pub younger_than: Option<Interval>,
}

impl KeptVersions {
    fn of(terms: &Terms) -> Option<KeptVersions> {
        let (newest, younger_than) = (terms.keep_versions, terms.keep_versions_for);
        (newest.is_some() || younger_than.is_some()).then(|| KeptVersions { newest: newest.unwrap_or(1), younger_than })
    }
}

/// One table's rule for one action.
#[derive(Debug, Clone)]
pub struct Rule {
    pub action: Action,
    /// The age at which a record is due.
    pub after: Interval,
    /// Expression over the row: the moment its age counts from. Of a purge that is deleted_at.
    pub from: Option<String>,
    /// Expression over the row: an age of its own at which a tombstone is due, if that is sooner.
    pub sooner: Option<String>,
    /// Which versions of a live record are not due for being old ones; `None`: age alone decides.
    pub keeps: Option<KeptVersions>,
    /// Whether no tombstone is kept at all: what expires may go for ever at once.
    pub keeps_nothing: bool,
}

impl Rule {
    /// Whether it may ask other rows than the one in question. A bare word is a column of it.
    pub fn looks_further(&self) -> bool {
        self.keeps.is_some()
            || self.expression().is_some_and(|expression| !expression.trim().chars().all(|c| c.is_alphanumeric() || c == '_'))
    }

    /// The expression over the row that it has, if any.
    pub fn expression(&self) -> Option<&str> {
        self.from.as_deref().or(self.sooner.as_deref())
    }

    /// What `terms` say of `action`; `None` where it never happens.
    pub fn of(terms: &Terms, action: Action) -> Option<Rule> {
        let (after, from, sooner, keeps) = match action {
            Action::Expire => (terms.expire_after, terms.expire_from.clone(), None, KeptVersions::of(terms)),
            Action::Purge => (terms.retention, None, terms.purge_after.clone(), None),
        };
        let has_another = sooner.is_some() || keeps.is_some();
        let keeps_nothing = terms.retention.as_ref().is_some_and(is_nothing);
        let after = after.or_else(|| longest().filter(|_| has_another));
        after.map(|after| Rule { action, after, from, sooner, keeps, keeps_nothing })
    }
}

/// For ever, as far as an age goes: beyond 4,000 years there is no date to count from.
fn longest() -> Option<Interval> {
    Interval::new(4_000 * 12, 0, 0).ok()
}
