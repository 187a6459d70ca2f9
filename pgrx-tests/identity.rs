//! Acting as somebody else: for the length of a closure, and not a moment longer, whatever happens inside.

#[pgrx::pg_schema]
mod tests {
    use pgrx::prelude::*;

    use crate::backend::identity::{acting_as, actor, writing_as};
    use crate::backend::subtransaction::attempt;
    use crate::pgrx_tests::sql::{run, value};

    fn role(name: &str) -> pg_sys::Oid {
        run(&format!("CREATE ROLE {name}"));
        value(&format!("SELECT '{name}'::regrole::oid"))
    }

    fn who() -> String {
        value("SELECT current_user || ' ' || current_setting('search_path')")
    }

    #[pg_test]
    fn the_caller_is_back_afterwards() {
        let (before, other) = (who(), role("other"));
        let inside = acting_as(other, who);
        assert_eq!(inside, "other pg_catalog, pg_temp");
        assert_eq!(who(), before);
    }

    #[pg_test]
    fn the_caller_is_back_after_an_error() {
        let (before, other) = (who(), role("other"));
        let failed = attempt(|| acting_as(other, || Ok(Spi::run("SELECT 1/0")?)));
        assert_eq!(failed.expect_err("division").code(), PgSqlErrorCode::ERRCODE_DIVISION_BY_ZERO);
        assert_eq!(who(), before);
    }

    #[pg_test]
    fn nobody_escapes() {
        let other = role("other");
        for escape in ["RESET ROLE", "SET ROLE postgres", "RESET SESSION AUTHORIZATION", "CREATE TEMP TABLE hidden ()"] {
            let outcome = attempt(|| acting_as(other, || Ok(Spi::run(escape)?)));
            assert!(outcome.is_err(), "{escape}");
        }
    }

    /// What writes rows for an owner is less restricted (deferred constraints must work), but no way out either.
    #[pg_test]
    fn nobody_escapes_while_writing() {
        let other = role("other");
        for escape in ["RESET ROLE", "SET ROLE postgres", "RESET SESSION AUTHORIZATION"] {
            let outcome = attempt(|| writing_as(other, || Ok(Spi::run(escape)?)));
            assert!(outcome.is_err(), "{escape}");
        }
        assert_eq!(writing_as(other, who), "other pg_catalog, pg_temp");
    }

    #[pg_test]
    fn the_actor_is_who_set_role_says() {
        let other = role("other");
        assert_eq!(acting_as(other, actor), value::<String>("SELECT session_user::text"));
        run("SET LOCAL ROLE other");
        assert_eq!(actor(), "other");
    }
}
