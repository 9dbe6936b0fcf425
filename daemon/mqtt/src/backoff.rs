//! Waiting before the next connection.

use std::time::Duration;

/// Longest wait before the first retry: a broker that restarts is back within about this.
const FIRST: Duration = Duration::from_millis(500);

/// Longest wait before any retry: how late an operator may see a broker that came back.
const LONGEST: Duration = Duration::from_secs(15);

/// A connection that stood this long counts as good: the next failure starts with short waits again. Two
/// appliances with the same client id throw each other out at once, and must not do that in a hot loop.
const STABLE: Duration = Duration::from_secs(10);

/// Grows with each failure, jittered over its whole range so that appliances do not come back all at once.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The wait after a connection that stood for `stood`.
    pub(crate) fn next(&mut self, stood: Duration) -> Duration {
        if stood >= STABLE {
            self.failures = 0;
        }
        let most = FIRST.saturating_mul(1 << self.failures.min(10)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        // Never below a tenth: a retry without any wait is a hot loop.
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
            assert!(wait >= FIRST / 10 && wait <= LONGEST);
        }
        assert!(backoff.next(Duration::ZERO) >= LONGEST / 10);
        assert!(backoff.next(STABLE) <= FIRST);
    }
}
