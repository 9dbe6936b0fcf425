//! Bounds the messages and bytes in progress between the broker and the disk.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Payload bytes are counted in blocks, so that a large budget fits the counter of a semaphore.
const BLOCK: usize = 1024;

/// Bounds the payload bytes and the messages of one input. The bytes are returned when the payload is dropped, the message
/// when its acknowledgement is written.
#[derive(Debug, Clone)]
pub struct Budget {
    bytes: Arc<Semaphore>,
    messages: Arc<Semaphore>,
    blocks_max: u32,
    messages_max: usize,
}

/// The permits of one message in progress.
#[derive(Debug)]
pub(crate) struct Admission {
    /// To be dropped with the payload.
    pub(crate) bytes: OwnedSemaphorePermit,
    /// To be dropped once the acknowledgement was written.
    pub(crate) message: OwnedSemaphorePermit,
}

impl Budget {
    /// A budget of so many payload bytes and so many messages.
    pub fn new(bytes: usize, messages: usize) -> Self {
        let blocks_max = blocks(bytes);
        Self {
            bytes: Arc::new(Semaphore::new(blocks_max as usize)),
            messages: Arc::new(Semaphore::new(messages)),
            blocks_max,
            messages_max: messages,
        }
    }

    /// Waits until the budget has space. A payload above the whole budget is admitted when nothing else is in progress.
    /// None only if the budget was dropped.
    pub(crate) async fn admit(&self, bytes: usize) -> Option<Admission> {
        let message = self.messages.clone().acquire_owned().await.ok()?;
        let wanted = blocks(bytes).min(self.blocks_max);
        let bytes = self.bytes.clone().acquire_many_owned(wanted).await.ok()?;
        Some(Admission { bytes, message })
    }

    /// The same without waiting.
    pub(crate) fn try_admit(&self, bytes: usize) -> Option<Admission> {
        let message = self.messages.clone().try_acquire_owned().ok()?;
        let wanted = blocks(bytes).min(self.blocks_max);
        let bytes = self.bytes.clone().try_acquire_many_owned(wanted).ok()?;
        Some(Admission { bytes, message })
    }

    /// Payload bytes in progress, rounded up to blocks.
    pub fn bytes_in_flight(&self) -> u64 {
        (self.blocks_max as usize).saturating_sub(self.bytes.available_permits()) as u64 * BLOCK as u64
    }

    /// Messages in progress.
    pub fn messages_in_flight(&self) -> u64 {
        self.messages_max.saturating_sub(self.messages.available_permits()) as u64
    }
}

fn blocks(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(BLOCK).max(1)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::time::timeout;

    const SHORT_TIMEOUT: Duration = Duration::from_millis(20);

    #[tokio::test]
    async fn a_message_waits_until_bytes_are_given_back() {
        let budget = Budget::new(4096, 10);
        let first = budget.admit(3000).await.unwrap();
        assert_eq!((budget.bytes_in_flight(), budget.messages_in_flight()), (3072, 1));
        assert!(timeout(SHORT_TIMEOUT, budget.admit(2000)).await.is_err());
        assert!(budget.try_admit(2000).is_none() && budget.try_admit(1000).is_some());
        drop(first.bytes);
        assert!(timeout(Duration::from_secs(5), budget.admit(2000)).await.unwrap().is_some());
    }

    #[tokio::test]
    async fn a_payload_above_the_budget_gets_in_alone() {
        let budget = Budget::new(4096, 10);
        let big = budget.admit(1 << 20).await.unwrap();
        assert!(timeout(SHORT_TIMEOUT, budget.admit(1)).await.is_err());
        drop(big);
        assert_eq!((budget.bytes_in_flight(), budget.messages_in_flight()), (0, 0));
    }

    #[tokio::test]
    async fn the_number_of_messages_is_bounded() {
        let budget = Budget::new(1 << 20, 1);
        let first = budget.admit(1).await.unwrap();
        assert!(timeout(SHORT_TIMEOUT, budget.admit(1)).await.is_err());
        drop(first);
        assert!(budget.admit(1).await.is_some());
    }
}
