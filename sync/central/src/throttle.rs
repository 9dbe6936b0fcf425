//! The limit of bytes per second that all sinks share.
//!
//! It is held on average and not within a piece: an object of up to 5 MiB, or a part of that size, leaves as fast as the line
//! takes it, and the next one waits until what has left is paid for. Rows are paid for and never wait: visits and
//! erasures are small and come first, pictures and clips take what is left.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// What has left, as a time: before it nothing else is due.
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

    /// Waits until this many bytes may leave.
    pub async fn wait(&self, bytes: u64) {
        tokio::time::sleep_until(self.pay(bytes)).await;
    }

    /// Bytes have left or are about to; when they were due.
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
        // Rows do not wait for it; who comes after them does.
        assert_eq!((due(1, 1000), due(1, 2000)), (5, 6));
        assert_eq!(due(66, 9000), 66, "silence saves nothing up, and owes nothing");
        assert_eq!(due(67, 1), 75);
    }

    #[tokio::test]
    async fn without_a_limit_nobody_waits() {
        let (throttle, begin) = (Throttle::new(None), Instant::now());
        for _ in 0..100 {
            throttle.wait(1 << 40).await;
        }
        assert!(begin.elapsed().as_secs() < 60);
    }
}
