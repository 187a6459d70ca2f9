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
    /// Whether no tombstone is kept at all: what expires may go for ever at once.
    pub keeps_nothing: bool,
}

impl Rule {
    /// Whether it may ask other rows than the one in question. A bare word is a column of it.
    pub fn looks_further(&self) -> bool {
        self.expression().is_some_and(|expression| !expression.trim().chars().all(|c| c.is_alphanumeric() || c == '_'))
    }

    /// The expression over the row that it has, if any.
    pub fn expression(&self) -> Option<&str> {
        self.from.as_deref().or(self.sooner.as_deref())
    }

    /// What `terms` say of `action`; `None` where it never happens.
    pub fn of(terms: &Terms, action: Action) -> Option<Rule> {
        let (after, from, sooner) = match action {
            Action::Expire => (terms.expire_after, terms.expire_from.clone(), None),
            Action::Purge => {
                let sooner = terms.purge_after.clone();
                (terms.retention.or(sooner.as_ref().and_then(|_| longest())), None, sooner)
            }
        };
        let keeps_nothing = terms.retention.as_ref().is_some_and(is_nothing);
        after.map(|after| Rule { action, after, from, sooner, keeps_nothing })
    }
}

/// For ever, as far as an age goes: beyond 4,000 years there is no date to count from.
fn longest() -> Option<Interval> {
    Interval::new(4_000 * 12, 0, 0).ok()
}
