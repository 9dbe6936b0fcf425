//! The delay before a retry. It has full jitter, so that many appliances do not reconnect at the same moment after an
//! outage.

use std::time::Duration;

/// Doublings after which the upper limit no longer grows: 2^20 times any sensible minimum is above any maximum.
const DOUBLINGS_MAX: u32 = 20;

/// Random delays, evenly distributed below an upper limit that doubles with every failure.
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    min: Duration,
    max: Duration,
    failures: u32,
}

impl Backoff {
    /// A back-off without failures.
    pub(crate) fn new(min: Duration, max: Duration) -> Self {
        Self { min, max: max.max(min), failures: 0 }
    }

    /// After a success the next failure has a short delay again.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }

    /// The delay after one more failure.
    pub(crate) fn next(&mut self) -> Duration {
        let ceiling =
            self.min.saturating_mul(1 << self.failures.min(DOUBLINGS_MAX)).saturating_mul(2).min(self.max);
        self.failures = self.failures.saturating_add(1);
        between(self.min, ceiling)
    }

    /// The delay if only an operator can help: near the maximum.
    pub(crate) fn rare(&self) -> Duration {
        between((self.max / 2).max(self.min), self.max)
    }
}

fn between(low: Duration, high: Duration) -> Duration {
    low + high.saturating_sub(low).mul_f64(fastrand::f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_within_bounds_and_restart_after_a_success() {
        let (min, max) = (Duration::from_secs(1), Duration::from_secs(300));
        let mut backoff = Backoff::new(min, max);
        let waits: Vec<_> = (0..1000).map(|_| backoff.next()).collect();
        assert!(waits.iter().all(|w| *w >= min && *w <= max));
        assert!(waits[0] <= min * 2);
        let late = &waits[100..];
        assert!(late.iter().any(|w| *w < max / 4) && late.iter().any(|w| *w > max * 3 / 4), "full jitter");
        assert!((0..100).all(|_| backoff.rare() >= max / 2 && backoff.rare() <= max));
        backoff.reset();
        assert!(backoff.next() <= min * 2);
    }

    #[test]
    fn a_maximum_below_the_minimum_does_no_harm() {
        let mut backoff = Backoff::new(Duration::from_secs(9), Duration::from_secs(1));
        assert_eq!(backoff.next(), Duration::from_secs(9));
    }
}
