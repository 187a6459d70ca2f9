//! Giving something only so long, also inside something that has been given so long itself.

#[pgrx::pg_schema]
mod tests {
    use std::time::{Duration, Instant};

    use pgrx::prelude::*;

    use crate::backend::subtransaction::attempt_for_now;
    use crate::backend::timeout::{at_most, at_most_and_whether};
    use crate::error::Result;
    use crate::pgrx_tests::sql::{run, value};

    const LONG: Duration = Duration::from_secs(600);
    const SHORT: Duration = Duration::from_millis(20);

    fn sleep_long() -> Result<()> {
        attempt_for_now(|| Ok(Spi::run("SELECT pg_sleep(600)")?))
    }

    #[pg_test]
    fn what_takes_too_long_is_cancelled() {
        let (slept, had_its_time) = at_most_and_whether(SHORT, sleep_long);
        assert!(slept.is_err_and(|error| error.is_cancellation()));
        assert!(had_its_time);
    }

    #[pg_test]
    fn what_is_done_in_time_is_not() {
        let (one, had_its_time) = at_most_and_whether(LONG, || value::<i32>("SELECT 1"));
        assert_eq!((one, had_its_time), (1, false));
    }

    #[pg_test]
    fn an_outer_time_that_is_up_ends_the_inner() {
        let began = Instant::now();
        let (slept, had_its_time) = at_most(SHORT, || at_most_and_whether(LONG, sleep_long));
        assert!(slept.is_err_and(|error| error.is_cancellation()));
        assert!(!had_its_time, "it is not the inner one's time that was up");
        assert!(began.elapsed() < LONG);
    }

    #[pg_test]
    fn the_outer_time_goes_on_after_the_inner() {
        let outcome = at_most(Duration::from_millis(200), || {
            assert!(at_most(SHORT, sleep_long).is_err());
            assert_eq!(at_most(LONG, || value::<i32>("SELECT 1")), 1);
            sleep_long()
        });
        assert!(outcome.is_err_and(|error| error.is_cancellation()));
    }

    #[pg_test]
    fn nothing_is_cancelled_afterwards() {
        assert!(at_most(SHORT, sleep_long).is_err());
        run("SELECT pg_sleep(0.1)");
    }
}
