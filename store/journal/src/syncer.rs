//! The thread that writes and syncs a batch while the writer seals the next one.
//!
//! It has one batch at a time. The writer takes its result before it submits the next, so that nothing is written before
//! all earlier data is durable. The thread tries once; the writer decides what a failure means.

use std::panic::AssertUnwindSafe;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;

use super::JournalError;
use super::segment::Target;
use super::shared::{Shared, locked};

/// Queued batches: only the one that is submitted.
const QUEUE_LEN: usize = 1;

/// The bytes of a batch and their place.
struct Job {
    target: Arc<Target>,
    bytes: Vec<u8>,
    at: u64,
}

/// Bytes and result of a written batch.
pub(super) type Written = (Vec<u8>, Result<(), JournalError>);

/// Handle to the thread, which ends when this is dropped.
pub(super) struct Syncer {
    shared: Arc<Shared>,
    jobs: Option<SyncSender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Syncer {
    /// Starts the thread. If the system refuses one, the writer writes all batches itself.
    pub(super) fn start(shared: &Arc<Shared>) -> Option<Self> {
        let (jobs, given) = sync_channel(QUEUE_LEN);
        let shared = Arc::clone(shared);
        let answers = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("journal-sync".into());
        let thread = thread.spawn(move || run(&answers, &given)).ok()?;
        Some(Self { shared, jobs: Some(jobs), thread: Some(thread) })
    }

    /// Submits bytes to be written and synced; [`Syncer::finish`] returns them. Without the thread, they are returned here.
    pub(super) fn submit(&self, target: &Arc<Target>, bytes: Vec<u8>, at: u64) -> Result<(), Vec<u8>> {
        let job = Job { target: Arc::clone(target), bytes, at };
        match &self.jobs {
            Some(jobs) => jobs.send(job).map_err(|unsent| unsent.0.bytes),
            None => Err(job.bytes),
        }
    }

    /// Waits for the submitted batch.
    pub(super) fn finish(&self) -> Written {
        let mut queue = locked(&self.shared.queue);
        loop {
            if let Some(written) = queue.written.take() {
                return written;
            }
            queue = self.shared.filled.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Drop for Syncer {
    fn drop(&mut self) {
        self.jobs = None;
        // The thread never panics, see `run`.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn run(shared: &Shared, jobs: &Receiver<Job>) {
    while let Ok(Job { target, bytes, at }) = jobs.recv() {
        let written = std::panic::catch_unwind(AssertUnwindSafe(|| target.put(&bytes, at)));
        let result = written.map_or(Err(JournalError::Poisoned), |written| Ok(written?));
        // Must be dropped before the result is visible: only the writer may close the file.
        drop(target);
        locked(&shared.queue).written = Some((bytes, result));
        shared.filled.notify_all();
    }
}
