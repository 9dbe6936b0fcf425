//! The bandwidth limit that all sinks share.
//!
//! It holds on average. An object, or a part of it, of up to 5 MiB is sent at full speed. The next one waits until the
//! bytes sent are within the limit again. Rows count and never wait: events and erasures are small and have priority
//! over media files.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The moment before which no more bytes are due.
#[derive(Debug)]
pub struct Throttle {
    bytes_per_second: Option<u64>,
    paid: Mutex<Instant>,
}

impl Throttle {
    /// Without a number there is no limit.
    pub fn new(bytes_per_second: Option<u64>) -> Self {
        Self { bytes_per_second, paid: Mutex::new(Instant::now()) }
    }

    /// Waits until this many bytes may be sent.
    pub async fn wait(&self, bytes: u64) {
        tokio::time::sleep_until(self.pay(bytes)).await;
    }

    /// Counts bytes that were or will be sent. Returns when they are due.
    pub fn pay(&self, bytes: u64) -> Instant {
        self.pay_at(Instant::now(), bytes)
    }

    fn pay_at(&self, now: Instant, bytes: u64) -> Instant {
        let Some(rate) = self.bytes_per_second else { return now };
        let mut paid = self.paid.lock().unwrap_or_else(PoisonError::into_inner);
        let due = (*paid).max(now);
        *paid = due + Duration::from_millis(bytes.saturating_mul(1000) / rate.max(1));
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_left_is_paid_for_before_the_next_leaves() {
        let throttle = Throttle::new(Some(1000));
        let begin = Instant::now();
        let due = |second: u64, bytes: u64| {
            let now = begin + Duration::from_secs(second);
            throttle.pay_at(now, bytes).saturating_duration_since(begin).as_secs()
        };
        assert_eq!(due(0, 5000), 0, "the first leaves at once");
        // Rows do not wait. Later transfers wait for them.
        assert_eq!((due(1, 1000), due(1, 2000)), (5, 6));
        assert_eq!(due(66, 9000), 66, "silence saves nothing up, and owes nothing");
        assert_eq!(due(67, 1), 75);
    }

    #[tokio::test]
    async fn without_a_limit_nothing_waits() {
        let (throttle, begin) = (Throttle::new(None), Instant::now());
        for _ in 0..100 {
            throttle.wait(1 << 40).await;
        }
        assert!(begin.elapsed().as_secs() < 60);
    }
}
