//! State that is shared by the journal's handle, its writer thread and its readers.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::Waker;

use gatehouse_model::KeyId;
use gatehouse_vault::disk::Disk;
use gatehouse_vault::keys::KeyTable;
use tokio::sync::{Semaphore, watch};

use super::queue::{QUEUE_BYTES_MAX, Queue};
use super::{JournalError, JournalOptions, Position};

/// The durable end of the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Durable {
    pub(super) position: Position,
    /// The segment written last.
    pub(super) segment: u64,
    /// Offset of its durable end.
    pub(super) end: u64,
}

/// Metadata of a segment; empty if its header is damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct SegmentInfo {
    pub(super) key: Option<KeyId>,
    /// Number of the last event before it.
    pub(super) before_seq: Option<u64>,
}

/// The error that stopped the writer.
pub(super) struct Failure {
    /// Last lsn of the batch that failed.
    upto: u64,
    error: JournalError,
}

pub(super) struct Shared {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) options: JournalOptions,
    pub(super) keys: Arc<KeyTable>,
    pub(super) queue: Mutex<Queue>,
    /// Wakes the writer when the queue changes.
    pub(super) filled: Condvar,
    /// Free capacity of the queue, in bytes.
    pub(super) capacity: Semaphore,
    /// All segments by first lsn.
    pub(super) segments: Mutex<BTreeMap<u64, SegmentInfo>>,
    pub(super) watch: watch::Sender<Position>,
    durable: Mutex<Durable>,
    /// The durable lsn again, without a lock, for waiting appends.
    durable_lsn: AtomicU64,
    /// Waiting appends by lsn.
    waiting: Mutex<Vec<(u64, Waker)>>,
    failure: OnceLock<Failure>,
}

impl Shared {
    pub(super) fn new(
        disk: Arc<dyn Disk>,
        options: JournalOptions,
        keys: Arc<KeyTable>,
        segments: BTreeMap<u64, SegmentInfo>,
        durable: Durable,
    ) -> Self {
        Self {
            disk,
            options,
            keys,
            queue: Mutex::new(Queue::new(durable.position)),
            filled: Condvar::new(),
            capacity: Semaphore::new(QUEUE_BYTES_MAX as usize),
            segments: Mutex::new(segments),
            watch: watch::Sender::new(durable.position),
            durable: Mutex::new(durable),
            durable_lsn: AtomicU64::new(durable.position.lsn),
            waiting: Mutex::default(),
            failure: OnceLock::new(),
        }
    }

    pub(super) fn durable(&self) -> Durable {
        *locked(&self.durable)
    }

    /// Moves the head: first for readers, then for waiting appends, then for the watch.
    pub(super) fn publish(&self, durable: Durable) {
        *locked(&self.durable) = durable;
        self.durable_lsn.store(durable.position.lsn, Ordering::Release);
        self.wake(durable.position.lsn);
        self.watch.send_replace(durable.position);
    }

    /// Stops the journal permanently. The first failure is kept.
    pub(super) fn fail(&self, upto: u64, error: JournalError) {
        let _ = self.failure.set(Failure { upto, error });
        self.close();
        locked(&self.queue).drop_all();
        self.wake(u64::MAX);
    }

    /// Refuses new records.
    pub(super) fn close(&self) {
        locked(&self.queue).closed = true;
        self.capacity.close();
        self.filled.notify_all();
    }

    /// The error of a refused append.
    pub(super) fn refusal(&self) -> JournalError {
        if self.failure.get().is_some() { JournalError::Poisoned } else { JournalError::Closed }
    }

    /// The result of an append, if there is one.
    pub(super) fn answer(&self, position: Position) -> Option<Result<Position, JournalError>> {
        if self.durable_lsn.load(Ordering::Acquire) >= position.lsn {
            return Some(Ok(position));
        }
        let failure = self.failure.get()?;
        Some(Err(if position.lsn <= failure.upto { failure.error.clone() } else { JournalError::Poisoned }))
    }

    /// Registers a waker for the result for `lsn`. The caller must check for the result again afterwards, because it
    /// may have arrived in between.
    pub(super) fn wait(&self, lsn: u64, waker: Waker) {
        locked(&self.waiting).push((lsn, waker));
    }

    fn wake(&self, upto: u64) {
        let mut waiting = locked(&self.waiting);
        // Under the lock: waking is short, and only waiting appends take this lock.
        waiting.retain(|(lsn, waker)| {
            let waits_on = *lsn > upto;
            if !waits_on {
                waker.wake_by_ref();
            }
            waits_on
        });
    }
}

/// State is consistent even after a panic under the lock: no change under any of these locks has more than one step.
pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
