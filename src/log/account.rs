//! On whose account things happen: the cause that events get while a door is open, the reason, and for whom the application acts.

use std::cell::RefCell;

use crate::settings;

/// Why a change happens, as the log says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// Somebody asked for it: through a function or in plain SQL.
    User,
    /// A foreign key asked for it.
    Cascade,
    /// An undo asked for it.
    Undo,
    /// The record's age did.
    Expiry,
    /// The tombstone's age did.
    Retention,
    /// The outside source did, which has the record no more, or has it again.
    Reconcile,
}

impl Cause {
    pub const ALL: [Cause; 6] = [Cause::User, Cause::Cascade, Cause::Undo, Cause::Expiry, Cause::Retention, Cause::Reconcile];

    pub fn name(self) -> &'static str {
        match self {
            Cause::User => "user",
            Cause::Cascade => "cascade",
            Cause::Undo => "undo",
            Cause::Expiry => "expiry",
            Cause::Retention => "retention",
            Cause::Reconcile => "reconcile",
        }
    }

    /// Whether restores made for this cause bring back, by themselves, what a cascade took with them.
    pub fn follows_foreign_keys(self) -> bool {
        self != Cause::Undo
    }
}

/// On whose account changes are made: what the open door says, and what the application does.
#[derive(Debug, Clone, PartialEq)]
pub struct Account {
    pub cause: Cause,
    /// What began it: of a cascade, the cause of what it followed from.
    pub origin: Cause,
    pub reason: Option<String>,
    /// For whom the application acts, as it says. The role is another thing: that is who asks the server.
    pub app_actor: Option<String>,
    /// The deletion being undone: its restores take exactly what it took, and follow no foreign key of their own accord.
    pub undoes: Option<i64>,
}

impl Account {
    /// The account of a door that opens now. A reason that it was given comes before the one that is set.
    pub fn new(cause: Cause, reason: Option<String>) -> Account {
        Account { cause, origin: cause, reason: reason.or_else(settings::reason), app_actor: settings::actor(), undoes: None }
    }
}

thread_local! {
    /// That of the open door, if one is.
    static CURRENT: RefCell<Option<Account>> = const { RefCell::new(None) };
}

/// The account in force; plain SQL is on its user's.
pub fn current() -> Account {
    CURRENT.with_borrow(Option::clone).unwrap_or_else(|| Account::new(Cause::User, None))
}

/// Whether `account` is the one in force, or `by_foreign_key` what follows from that. Asked for each row, and so makes none.
pub fn is_current(account: &Account, by_foreign_key: bool) -> bool {
    CURRENT.with_borrow(|current| {
        let (cause, origin) = current.as_ref().map_or((Cause::User, Cause::User), |current| (current.cause, current.origin));
        let cause = if by_foreign_key { Cause::Cascade } else { cause };
        (account.cause, account.origin) == (cause, origin)
            && match current {
                Some(Account { reason, app_actor, undoes, .. }) => {
                    (reason, app_actor, undoes) == (&account.reason, &account.app_actor, &account.undoes)
                }
                None => {
                    account.undoes.is_none()
                        && settings::reason_is(account.reason.as_deref())
                        && settings::actor_is(account.app_actor.as_deref())
                }
            }
    })
}

/// Runs `act` on `account`.
pub fn on<T>(account: Account, act: impl FnOnce() -> T) -> T {
    let _restore = Restore(CURRENT.replace(Some(account)));
    act()
}

/// Runs `act` as a consequence: the account in force, but the cause is a foreign key.
pub fn as_cascade<T>(act: impl FnOnce() -> T) -> T {
    on(Account { cause: Cause::Cascade, ..current() }, act)
}

/// Puts the former account back, also when an error unwinds.
struct Restore(Option<Account>);

impl Drop for Restore {
    fn drop(&mut self) {
        CURRENT.replace(self.0.take());
    }
}
