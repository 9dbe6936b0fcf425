//! How many changes the next batch has: more while they arrive quickly, fewer where the line or the time is not enough.

use std::time::Duration;

use gatehouse_central::error::SyncError;

/// Changes of the first batch: a line of 64 kbit/s takes them in a third of the time that a batch is given.
const FIRST: usize = 500;

/// A batch that arrived within this lets the next one be twice as wide: so wide that its round trips no longer count, and
/// not so wide that a line which gets worse has much to send again.
const QUICK: Duration = Duration::from_secs(2);

/// See the module.
#[derive(Debug)]
pub(super) struct BatchSize {
    now: usize,
    most: usize,
}

impl BatchSize {
    /// Never more than `most`.
    pub(super) fn new(most: usize) -> Self {
        let most = most.max(1);
        Self { now: most.min(FIRST), most }
    }

    /// Changes to read.
    pub(super) fn get(&self) -> usize {
        self.now
    }

    /// A full batch arrived.
    pub(super) fn arrived(&mut self, took: Duration) {
        if took < QUICK {
            self.now = self.now.saturating_mul(2).min(self.most);
        }
    }

    /// A batch did not arrive. What the server refuses would not be taken in a smaller batch either.
    pub(super) fn failed(&mut self, error: &SyncError) {
        if matches!(error, SyncError::Deadline { .. } | SyncError::Unreachable { .. }) {
            self.now = (self.now / 2).max(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_grows_with_success_and_shrinks_with_the_line() {
        let mut batch_size = BatchSize::new(1500);
        let quick = QUICK / 2;
        let grown: Vec<usize> =
            [quick, QUICK, quick].map(|took| (batch_size.arrived(took), batch_size.get()).1).into();
        assert_eq!(grown, [1000, 1000, 1500]);
        let broken = SyncError::Unreachable { doing: "write", words: String::new() };
        let late = SyncError::Deadline { doing: "write", after: QUICK };
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
