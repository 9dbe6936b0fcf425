//! A batch: records sealed into one buffer in the order of their numbers, for one write and one sync.

use gatehouse_vault::seal::SealError;
use tokio::sync::oneshot;

use super::frame::{self, Label};
use super::queue::Queued;
use super::segment::Active;
use super::{Committed, Location};

/// Most records in a batch: a wider batch is no faster, and its first record waits longer.
const BATCH_RECORDS_MAX: usize = 1024;
/// Size at which a batch is full: bounds the buffer and the time of one write on slow flash.
const BATCH_BYTES_MAX: usize = 4 * 1024 * 1024;

/// A batch that is being filled or written.
pub(super) struct Batch {
    /// The frames.
    pub(super) bytes: Vec<u8>,
    pub(super) records: Vec<Committed>,
    /// Pings to be answered with this batch.
    pub(super) pings: Vec<oneshot::Sender<()>>,
    /// Queue capacity that its records take.
    pub(super) cost: usize,
    /// Whether a caller waits for one of its records, because it is not an event.
    pub(super) urgent: bool,
    /// Its offset in the segment's file.
    pub(super) at: u64,
    /// Offset at which the segment is full.
    limit: u64,
}

impl Batch {
    /// An empty batch for offset `at`, with a reused buffer.
    pub(super) fn new(mut buffer: Vec<u8>, at: u64, limit: u64) -> Self {
        buffer.clear();
        Self { bytes: buffer, records: Vec::new(), pings: Vec::new(), cost: 0, urgent: false, at, limit }
    }

    /// Offset of the next batch.
    pub(super) fn end(&self) -> u64 {
        self.at + self.bytes.len() as u64
    }

    /// Whether it accepts no further record.
    pub(super) fn is_full(&self) -> bool {
        let full = self.records.len() >= BATCH_RECORDS_MAX || self.bytes.len() >= BATCH_BYTES_MAX;
        full || (!self.records.is_empty() && self.end() >= self.limit)
    }

    /// The last lsn in it.
    pub(super) fn last_lsn(&self) -> Option<u64> {
        self.records.last().map(|record| record.position.lsn)
    }

    /// Seals and appends a record.
    pub(super) fn push(&mut self, active: &Active, queued: Queued) -> Result<(), SealError> {
        self.cost += queued.cost() as usize;
        let offset = self.end();
        let (position, is_event) = (queued.position, queued.entry.is_event);
        let starts_batch = self.records.is_empty();
        let label = Label { segment: active.first, position, is_event, starts_batch };
        frame::push(&mut self.bytes, &active.key, label, &queued.entry.payload)?;
        self.urgent |= !is_event;
        // Below SEGMENT_BYTES_MAX and one batch more.
        let location = Location { segment: active.first, offset: offset as u32 };
        self.records.push(Committed { position, location, is_event, payload: queued.entry.payload });
        Ok(())
    }
}
