//! pg_tombstone: a deletion lifecycle for PostgreSQL tables. This file is the map.
//!
//! `worker` (the processes) uses `watch` (what an outside source has deleted); they, `capture` (the triggers) and `manage` (what puts
//! tables under management) use `lifecycle` (the doors), which uses `log`, which uses `table` (what is managed), which uses `backend`
//! (the server we live in). Arrows run that way
//! only. The crate `counting` finds the missing by counting, and knows nothing of Postgres.

mod backend;
mod capture;
mod error;
mod lifecycle;
mod log;
mod manage;
mod settings;
mod table;
mod watch;
mod worker;

#[cfg(any(test, feature = "pg_test"))]
#[path = "../pgrx-tests/mod.rs"]
mod pgrx_tests;

pgrx::pg_module_magic!(name, version);

pgrx::extension_sql_file!("../sql/00_schema.sql", name = "schema");
pgrx::extension_sql_file!("../sql/10_managed.sql", name = "managed", requires = ["schema"]);
pgrx::extension_sql_file!("../sql/20_event.sql", name = "event", requires = ["managed"]);
pgrx::extension_sql_file!("../sql/30_hold.sql", name = "hold", requires = ["event"]);
pgrx::extension_sql_file!("../sql/35_unlinked.sql", name = "unlinked", requires = ["hold"]);
pgrx::extension_sql_file!("../sql/40_trigger.sql", name = "trigger", requires = ["unlinked"]);
pgrx::extension_sql_file!("../sql/50_manage.sql", name = "manage", requires = ["trigger"]);
pgrx::extension_sql_file!("../sql/60_lifecycle.sql", name = "lifecycle", requires = ["manage"]);
pgrx::extension_sql_file!("../sql/70_replay.sql", name = "replay", requires = ["lifecycle"]);
pgrx::extension_sql_file!("../sql/80_maintenance.sql", name = "maintenance", requires = ["replay"]);
pgrx::extension_sql_file!("../sql/90_watch.sql", name = "watch", requires = ["maintenance"]);
pgrx::extension_sql_file!("../sql/95_runs.sql", name = "runs", requires = ["watch"]);
pgrx::extension_sql_file!("../sql/99_own_tables.sql", name = "own_tables", requires = ["runs"]);

#[pgrx::pg_guard]
pub extern "C-unwind" fn _PG_init() {
    settings::init();
    table::init();
    capture::init();
    manage::init();
    worker::init();
}

/// What `cargo test` with `pg_test` asks of the crate root.
#[cfg(test)]
pub mod pg_test {
    pub fn setup(_options: Vec<&str>) {}

    #[must_use]
    pub fn postgresql_conf_options() -> Vec<&'static str> {
        vec![]
    }
}
