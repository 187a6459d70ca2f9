//! On whose account things happen: the cause and the reason that events get while a door is open.

use std::cell::RefCell;

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

/// What the open door says of the changes made through it.
#[derive(Debug, Clone, PartialEq)]
pub struct Account {
    pub cause: Cause,
    pub reason: Option<String>,
    /// The deletion being undone: its restores take exactly what it took, and follow no foreign key of their own accord.
    pub undoes: Option<i64>,
}

const NOBODYS: Account = Account { cause: Cause::User, reason: None, undoes: None };

thread_local! {
    static CURRENT: RefCell<Account> = const { RefCell::new(NOBODYS) };
}

/// The account in force; plain SQL is on its user's.
pub fn current() -> Account {
    CURRENT.with_borrow(Account::clone)
}

/// Whether `account` is the one in force.
pub fn is_current(account: &Account) -> bool {
    CURRENT.with_borrow(|current| current == account)
}

/// Runs `act` on `account`.
pub fn on<T>(account: Account, act: impl FnOnce() -> T) -> T {
    let _restore = Restore(CURRENT.replace(account));
    act()
}

/// Runs `act` as a consequence: the account in force, but the cause is a foreign key.
pub fn as_cascade<T>(act: impl FnOnce() -> T) -> T {
    on(Account { cause: Cause::Cascade, ..current() }, act)
}

/// Puts the former account back, also when an error unwinds.
struct Restore(Account);

impl Drop for Restore {
    fn drop(&mut self) {
        CURRENT.replace(std::mem::replace(&mut self.0, NOBODYS));
    }
}
