//! The thread that writes and syncs a batch while the writer seals the next one.
//!
//! It has one batch at a time: the writer collects the result of one before it gives the next, so that nothing is written
//! before all that comes before it is durable. It tries once and decides nothing; what a failure means is the writer's.

use std::panic::AssertUnwindSafe;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;

use super::JournalError;
use super::segment::Target;
use super::shared::{Shared, locked};

/// Batches that wait for the thread: none but the one it is given.
const JOBS: usize = 1;

/// A batch's bytes and where they go.
struct Job {
    target: Arc<Target>,
    bytes: Vec<u8>,
    at: u64,
}

/// What became of a batch, with its bytes.
pub(super) type Written = (Vec<u8>, Result<(), JournalError>);

/// Handle to the thread, which ends with it.
pub(super) struct Syncer {
    shared: Arc<Shared>,
    jobs: Option<SyncSender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Syncer {
    /// Starts the thread; none where the system gives none, and then the writer does all itself.
    pub(super) fn start(shared: &Arc<Shared>) -> Option<Self> {
        let (jobs, given) = sync_channel(JOBS);
        let shared = Arc::clone(shared);
        let answers = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("journal-sync".into());
        let thread = thread.spawn(move || run(&answers, &given)).ok()?;
        Some(Self { shared, jobs: Some(jobs), thread: Some(thread) })
    }

    /// Has the bytes written and synced; [`Syncer::finish`] gives them back. Without the thread they come back at once.
    pub(super) fn give(&self, target: &Arc<Target>, bytes: Vec<u8>, at: u64) -> Result<(), Vec<u8>> {
        let job = Job { target: Arc::clone(target), bytes, at };
        match &self.jobs {
            Some(jobs) => jobs.send(job).map_err(|unsent| unsent.0.bytes),
            None => Err(job.bytes),
        }
    }

    /// Waits for what was given.
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
        // It never panics, see `run`.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn run(shared: &Shared, jobs: &Receiver<Job>) {
    while let Ok(Job { target, bytes, at }) = jobs.recv() {
        let written = std::panic::catch_unwind(AssertUnwindSafe(|| target.put(&bytes, at)));
        let result = written.map_or(Err(JournalError::Poisoned), |written| Ok(written?));
        // The file may be closed by the writer only, and is when it goes on.
        drop(target);
        locked(&shared.queue).written = Some((bytes, result));
        shared.filled.notify_all();
    }
}
