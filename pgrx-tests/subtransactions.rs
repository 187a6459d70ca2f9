//! Trying something that may fail: what it did is gone, what was done before it stays.

#[pgrx::pg_schema]
mod tests {
    use pgrx::prelude::*;

    use crate::backend::subtransaction::{attempt, rehearse};
    use crate::pgrx_tests::sql::{run, value};

    #[pg_test]
    fn a_failed_attempt_leaves_what_was_before() {
        run("CREATE TABLE t (id int PRIMARY KEY)");
        run("INSERT INTO t VALUES (1)");
        let failed = attempt(|| {
            Spi::run("INSERT INTO t VALUES (2)")?;
            Ok(Spi::run("INSERT INTO t VALUES (1)")?)
        });
        let error = failed.expect_err("a duplicate key");
        assert_eq!(error.code(), PgSqlErrorCode::ERRCODE_UNIQUE_VIOLATION);
        assert_eq!(value::<i64>("SELECT count(*) FROM t"), 1);
    }

    #[pg_test]
    fn a_rehearsal_leaves_nothing() {
        run("CREATE TABLE t (id int PRIMARY KEY)");
        let seen = rehearse(|| {
            Spi::run("INSERT INTO t VALUES (1)")?;
            Ok(value::<i64>("SELECT count(*) FROM t"))
        });
        assert_eq!(seen, Ok(1));
        assert_eq!(value::<i64>("SELECT count(*) FROM t"), 0);
    }

    #[pg_test]
    fn attempts_nest() {
        run("CREATE TABLE t (id int PRIMARY KEY)");
        let outer = attempt(|| {
            Spi::run("INSERT INTO t VALUES (1)")?;
            assert!(attempt(|| Ok(Spi::run("INSERT INTO t VALUES (1)")?)).is_err());
            Ok(Spi::run("INSERT INTO t VALUES (2)")?)
        });
        assert_eq!(outer, Ok(()));
        assert_eq!(value::<i64>("SELECT count(*) FROM t"), 2);
    }
}
