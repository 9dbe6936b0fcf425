//! What the journal's handle, its writer thread and its readers share.

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

/// How far the journal is durable, and where that is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Durable {
    pub(super) position: Position,
    /// The segment written last.
    pub(super) segment: u64,
    /// End of what is durable in it.
    pub(super) end: u64,
}

/// What is known of a segment without reading it; nothing where its header is damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Known {
    pub(super) key: Option<KeyId>,
    /// Number of the last event before it.
    pub(super) before_seq: Option<u64>,
}

/// Why the writer stopped.
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
    /// Tells a sleeping writer that the queue has something.
    pub(super) filled: Condvar,
    /// Room in the queue, in bytes.
    pub(super) room: Semaphore,
    /// All segments by first lsn.
    pub(super) segments: Mutex<BTreeMap<u64, Known>>,
    pub(super) watch: watch::Sender<Position>,
    durable: Mutex<Durable>,
    /// The durable lsn once more, for those who only wait for it.
    answered: AtomicU64,
    /// Who waits for which lsn.
    waiting: Mutex<Vec<(u64, Waker)>>,
    failure: OnceLock<Failure>,
}

impl Shared {
    pub(super) fn new(
        disk: Arc<dyn Disk>,
        options: JournalOptions,
        keys: Arc<KeyTable>,
        segments: BTreeMap<u64, Known>,
        durable: Durable,
    ) -> Self {
        Self {
            disk,
            options,
            keys,
            queue: Mutex::new(Queue::new(durable.position)),
            filled: Condvar::new(),
            room: Semaphore::new(QUEUE_BYTES_MAX as usize),
            segments: Mutex::new(segments),
            watch: watch::Sender::new(durable.position),
            durable: Mutex::new(durable),
            answered: AtomicU64::new(durable.position.lsn),
            waiting: Mutex::default(),
            failure: OnceLock::new(),
        }
    }

    pub(super) fn durable(&self) -> Durable {
        *locked(&self.durable)
    }

    /// Moves the head: readers first, then the waiters, then the watch.
    pub(super) fn publish(&self, durable: Durable) {
        *locked(&self.durable) = durable;
        self.answered.store(durable.position.lsn, Ordering::Release);
        self.wake(durable.position.lsn);
        self.watch.send_replace(durable.position);
    }

    /// Stops the journal for good. The first failure counts.
    pub(super) fn fail(&self, upto: u64, error: JournalError) {
        let _ = self.failure.set(Failure { upto, error });
        self.close();
        locked(&self.queue).drop_all();
        self.wake(u64::MAX);
    }

    /// Refuses new records.
    pub(super) fn close(&self) {
        locked(&self.queue).closed = true;
        self.room.close();
        self.filled.notify_all();
    }

    /// Why nothing more is taken.
    pub(super) fn refusal(&self) -> JournalError {
        if self.failure.get().is_some() { JournalError::Poisoned } else { JournalError::Closed }
    }

    /// The answer for a record, where there is one.
    pub(super) fn answer(&self, position: Position) -> Option<Result<Position, JournalError>> {
        if self.answered.load(Ordering::Acquire) >= position.lsn {
            return Some(Ok(position));
        }
        let failure = self.failure.get()?;
        Some(Err(if position.lsn <= failure.upto { failure.error.clone() } else { JournalError::Poisoned }))
    }

    /// Has `waker` called when the answer for `lsn` is there. The caller looks for the answer again afterwards:
    /// it may have come in between.
    pub(super) fn wait(&self, lsn: u64, waker: Waker) {
        locked(&self.waiting).push((lsn, waker));
    }

    fn wake(&self, upto: u64) {
        let mut waiting = locked(&self.waiting);
        // One by one under the lock: to wake is short, and nobody but waiters takes this lock.
        waiting.retain(|(lsn, waker)| {
            let waits_on = *lsn > upto;
            if !waits_on {
                waker.wake_by_ref();
            }
            waits_on
        });
    }
}

/// A thread that panicked with the lock left whole state behind: nothing is changed in more than one step under
/// any of these locks.
pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
