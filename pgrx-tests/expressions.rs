//! Expressions: what counts as one, before it may stand in generated SQL.

#[pgrx::pg_schema]
mod tests {
    use pgrx::prelude::*;

    use crate::backend::expression::is_one_expression;
    use crate::pgrx_tests::sql::refusal;

    #[pg_test]
    fn one_expression_is_accepted() {
        for text in
            ["a", "a + 1", "coalesce(a, b)", "(SELECT max(x) FROM s.t)", "a -- why", "a AND b OR c", "row(a, b)", "'x) FROM y'"]
        {
            assert!(is_one_expression(text), "{text}");
        }
    }

    #[pg_test]
    fn more_or_less_than_one_is_not() {
        for text in [
            "a, b",
            "*",
            "a) FROM t WHERE (true",
            "a), ROW(b",
            "a) OR ROW(b",
            "a) UNION SELECT ROW(b",
            "a); DROP TABLE t; SELECT ROW(b",
            "a) AS b, ROW(c",
            "a) ORDER BY ROW(b",
            "a) LIMIT (1",
            "",
        ] {
            let accepted = crate::backend::subtransaction::attempt(|| Ok(is_one_expression(text)));
            assert!(!matches!(accepted, Ok(true)), "{text}");
        }
    }

    #[pg_test]
    fn a_syntax_error_is_a_bad_argument() {
        crate::pgrx_tests::sql::run("CREATE TABLE t (id int PRIMARY KEY, deleted_at timestamptz)");
        let (code, message) = refusal("SELECT tombstone.manage('t', kind => 'a ||')");
        assert_eq!(code, PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE);
        assert!(message.contains("syntax error"), "{message}");
    }
}
