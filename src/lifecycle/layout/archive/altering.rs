//! Who alters a bin: we, step by step, or its owner by hand. What must be so after every command by hand need not be so between our
//! own steps.

use std::cell::Cell;

thread_local! {
    static OURS: Cell<bool> = const { Cell::new(false) };
}

/// Runs `act`, whose commands about bins are ours.
pub fn ourselves<T>(act: impl FnOnce() -> T) -> T {
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            OURS.set(self.0);
        }
    }
    let _restore = Restore(OURS.replace(true));
    act()
}

/// Whether the running command is ours.
pub fn is_ours() -> bool {
    OURS.get()
}
