//! Back-off before the next connection attempt.

use std::time::Duration;

/// Longest delay before the first retry: about what a broker needs to restart.
const FIRST_DELAY_MAX: Duration = Duration::from_millis(500);

/// Longest delay before any retry: how late an operator may see that the broker is back.
const DELAY_MAX: Duration = Duration::from_secs(15);

/// After a connection of this length the delays start again from the shortest. Two appliances with the same client id
/// disconnect each other at once, and must not do that in a hot loop.
const STABLE_UPTIME_MIN: Duration = Duration::from_secs(10);

/// Grows with each failure. It is random over the whole range, so that appliances do not reconnect all at once.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The delay after a connection that lasted `uptime`.
    pub(crate) fn next(&mut self, uptime: Duration) -> Duration {
        if uptime >= STABLE_UPTIME_MIN {
            self.failures = 0;
        }
        let most = FIRST_DELAY_MAX.saturating_mul(1 << self.failures.min(10)).min(DELAY_MAX);
        self.failures = self.failures.saturating_add(1);
        // At least a tenth: retries without a delay are a hot loop.
        most.mul_f64(0.1 + 0.9 * fastrand::f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_their_bound_and_start_over_after_a_good_connection() {
        let mut backoff = Backoff::default();
        for _ in 0..100 {
            let wait = backoff.next(Duration::ZERO);
            assert!(wait >= FIRST_DELAY_MAX / 10 && wait <= DELAY_MAX);
        }
        assert!(backoff.next(Duration::ZERO) >= DELAY_MAX / 10);
        assert!(backoff.next(STABLE_UPTIME_MIN) <= FIRST_DELAY_MAX);
    }
}
