//! A batch: records sealed into one buffer, in the order of their numbers, for one write and one sync.

use gatehouse_vault::seal::SealError;
use tokio::sync::oneshot;

use super::frame::{self, Label};
use super::queue::Queued;
use super::segment::Active;
use super::{Committed, Location};

/// Records in a batch: beyond this a wider batch is no faster, and its first record waits longer.
const BATCH_RECORDS_MAX: usize = 1024;
/// Bytes after which a batch takes no further record: bounds the buffer and the time of one write on slow flash.
const BATCH_BYTES_MAX: usize = 4 * 1024 * 1024;

/// A batch on its way to the disk.
pub(super) struct Batch {
    /// The frames.
    pub(super) bytes: Vec<u8>,
    pub(super) records: Vec<Committed>,
    /// Who asked for a sign of life meanwhile.
    pub(super) pings: Vec<oneshot::Sender<()>>,
    /// What its records take of the room in the queue.
    pub(super) cost: usize,
    /// Whether somebody waits for one of its records: it is no event.
    pub(super) urgent: bool,
    /// Where it lies in the segment's file.
    pub(super) at: u64,
    /// Where the segment is to end.
    limit: u64,
}

impl Batch {
    /// An empty one that is to lie at `at`, in a buffer of before.
    pub(super) fn new(mut buffer: Vec<u8>, at: u64, limit: u64) -> Self {
        buffer.clear();
        Self { bytes: buffer, records: Vec::new(), pings: Vec::new(), cost: 0, urgent: false, at, limit }
    }

    /// Where the next one begins.
    pub(super) fn end(&self) -> u64 {
        self.at + self.bytes.len() as u64
    }

    /// Whether it takes no further record.
    pub(super) fn is_full(&self) -> bool {
        let full = self.records.len() >= BATCH_RECORDS_MAX || self.bytes.len() >= BATCH_BYTES_MAX;
        full || (!self.records.is_empty() && self.end() >= self.limit)
    }

    /// The last lsn in it.
    pub(super) fn last_lsn(&self) -> Option<u64> {
        self.records.last().map(|record| record.position.lsn)
    }

    /// Seals a record behind the others.
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
