//! Putting tables under management: the doors manage, configure and unmanage, the checks of their options, the triggers they
//! attach. Writes the definitions of managed tables, in their owners' names; the catalog row through `table`.

mod bin;
mod doors;
mod triggers;
mod validate;
