//! Adaptive batch size: larger while batches arrive quickly, smaller when the connection or the deadline does not
//! suffice.

use std::time::Duration;

use gatehouse_central::error::SyncError;

/// Changes of the first batch. At 64 kbit/s it takes a third of the timeout of a batch.
const FIRST_BATCH_CHANGES: usize = 500;

/// A full batch within this time doubles the next one. Then round trips no longer matter, and a connection that
/// becomes worse has little to send again.
const FAST_BATCH_DURATION: Duration = Duration::from_secs(2);

/// The number of changes of the next batch.
#[derive(Debug)]
pub(super) struct BatchSize {
    current: usize,
    max: usize,
}

impl BatchSize {
    /// Never more than `max`.
    pub(super) fn new(max: usize) -> Self {
        let max = max.max(1);
        Self { current: max.min(FIRST_BATCH_CHANGES), max }
    }

    /// Changes to read.
    pub(super) fn get(&self) -> usize {
        self.current
    }

    /// A full batch arrived.
    pub(super) fn arrived(&mut self, took: Duration) {
        if took < FAST_BATCH_DURATION {
            self.current = self.current.saturating_mul(2).min(self.max);
        }
    }

    /// A batch failed. Only a timeout or a broken connection makes the next one smaller: a smaller batch does not help
    /// against a refusal.
    pub(super) fn failed(&mut self, error: &SyncError) {
        if matches!(error, SyncError::Deadline { .. } | SyncError::Unreachable { .. }) {
            self.current = (self.current / 2).max(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_grows_with_success_and_shrinks_with_the_line() {
        let mut batch_size = BatchSize::new(1500);
        let quick = FAST_BATCH_DURATION / 2;
        let grown: Vec<usize> = [quick, FAST_BATCH_DURATION, quick]
            .map(|took| (batch_size.arrived(took), batch_size.get()).1)
            .into();
        assert_eq!(grown, [1000, 1000, 1500]);
        let broken = SyncError::Unreachable { doing: "write", message: String::new() };
        let late = SyncError::Deadline { doing: "write", after: FAST_BATCH_DURATION };
        let refused = SyncError::Setup(String::new());
        let shrunk: Vec<usize> =
            [&broken, &refused, &late].map(|error| (batch_size.failed(error), batch_size.get()).1).into();
        assert_eq!(shrunk, [750, 750, 375]);
        for _ in 0..20 {
            batch_size.failed(&late);
        }
        assert_eq!(batch_size.get(), 1);
        assert_eq!(BatchSize::new(10).get(), 10);
    }
}
