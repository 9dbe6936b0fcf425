//! The queue from appends to the writer, bounded in bytes, and the result of an append.
//!
//! Numbers are assigned under the queue's lock, so that queue order, lsn order and file order are the same. A result
//! is not a message: a waiting append compares its lsn with the durable one, which costs nothing per record.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;

use tokio::sync::oneshot;

use super::shared::{Shared, locked};
use super::syncer::Written;
use super::{Entry, JournalError, Position, RECORD_BYTES_MAX};

/// Capacity in bytes of queued and unfinished records with their overhead: two full batches, so that one fills while
/// the other is written.
pub(super) const QUEUE_BYTES_MAX: u32 = 8 * 1024 * 1024;
/// Overhead of a record in memory, rounded up.
const ENTRY_BYTES: u32 = 128;

/// A record with its numbers.
pub(super) struct Queued {
    pub(super) position: Position,
    pub(super) entry: Entry,
}

impl Queued {
    /// Queue capacity that it takes.
    pub(super) fn cost(&self) -> u32 {
        cost(self.entry.payload.len())
    }
}

fn cost(payload: usize) -> u32 {
    ENTRY_BYTES + u32::try_from(payload).unwrap_or(QUEUE_BYTES_MAX)
}

/// Conditions that wake the writer, in addition to a ping, the end of a sync, and the close of the journal. Waking costs
/// more than appending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wakes {
    /// Number of queued records.
    pub(super) records: usize,
    /// A record that is not an event, because a caller waits for it.
    pub(super) urgent: bool,
}

/// The writer is awake.
const AWAKE: Wakes = Wakes { records: usize::MAX, urgent: false };

/// The queue. The writer takes all records at once by a swap.
pub(super) struct Queue {
    pub(super) waiting: VecDeque<Queued>,
    pub(super) pings: Vec<oneshot::Sender<()>>,
    pub(super) closed: bool,
    /// Result of the batch that was given to the syncer.
    pub(super) written: Option<Written>,
    wakes: Wakes,
    last: Position,
}

impl Queue {
    pub(super) fn new(last: Position) -> Self {
        Self { waiting: VecDeque::new(), pings: Vec::new(), closed: false, written: None, wakes: AWAKE, last }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.pings.is_empty()
    }

    /// Sets the conditions that wake the writer; none while it is awake.
    pub(super) fn sleep(&mut self, wakes: Option<Wakes>) {
        self.wakes = wakes.unwrap_or(AWAKE);
    }

    /// Appends and numbers a record. Returns whether the writer must be woken.
    fn push(&mut self, entry: Entry) -> (Position, bool) {
        self.last.lsn += 1;
        self.last.seq += u64::from(entry.is_event);
        let (position, urgent) = (self.last, !entry.is_event);
        self.waiting.push_back(Queued { position, entry });
        let wake = self.waiting.len() >= self.wakes.records || (urgent && self.wakes.urgent);
        if wake {
            self.wakes = AWAKE;
        }
        (position, wake)
    }

    pub(super) fn drop_all(&mut self) {
        self.waiting.clear();
        self.pings.clear();
    }
}

pub(super) async fn append(shared: &Arc<Shared>, entry: Entry) -> Result<Pending, JournalError> {
    if entry.payload.len() > RECORD_BYTES_MAX {
        return Err(JournalError::TooLarge(entry.payload.len()));
    }
    let permit =
        shared.capacity.acquire_many(cost(entry.payload.len())).await.map_err(|_| shared.refusal())?;
    let mut queue = locked(&shared.queue);
    if queue.closed {
        return Err(shared.refusal());
    }
    // The writer returns the capacity when the record is durable.
    permit.forget();
    let (position, wake) = queue.push(entry);
    drop(queue);
    if wake {
        shared.filled.notify_one();
    }
    Ok(Pending { shared: Arc::clone(shared), position, waker: None })
}

pub(super) async fn ping(shared: &Shared) -> Result<(), JournalError> {
    let (answer, answered) = oneshot::channel();
    {
        let mut queue = locked(&shared.queue);
        if queue.closed {
            return Err(shared.refusal());
        }
        queue.pings.push(answer);
    }
    shared.filled.notify_one();
    answered.await.map_err(|_| shared.refusal())
}

/// The result of an append: the position of the record, once it is durable. Dropping this does not cancel the append.
#[must_use = "an appended record is durable only when this has resolved"]
pub struct Pending {
    shared: Arc<Shared>,
    position: Position,
    /// The registered waker, so that a repeated poll does not register it again.
    waker: Option<Waker>,
}

impl Pending {
    /// The numbers of the record, known before it is durable.
    pub fn position(&self) -> Position {
        self.position
    }

    /// Waits on a thread outside of an async runtime.
    ///
    /// # Errors
    /// As the future: [`JournalError::Io`] or [`JournalError::Poisoned`].
    pub fn wait_blocking(self) -> Result<Position, JournalError> {
        block_on(self)
    }
}

impl Future for Pending {
    type Output = Result<Position, JournalError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(answer) = self.shared.answer(self.position) {
            return Poll::Ready(answer);
        }
        if !self.waker.as_ref().is_some_and(|known| known.will_wake(context.waker())) {
            self.shared.wait(self.position.lsn, context.waker().clone());
            self.waker = Some(context.waker().clone());
        }
        match self.shared.answer(self.position) {
            Some(answer) => Poll::Ready(answer),
            None => Poll::Pending,
        }
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

thread_local! {
    /// Wakes this thread; created once, because appends must be cheap.
    static UNPARK: Waker = Waker::from(Arc::new(Unpark(std::thread::current())));
}

/// Runs a future on this thread, parking it in between.
pub(super) fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    UNPARK.with(|waker| {
        loop {
            match future.as_mut().poll(&mut Context::from_waker(waker)) {
                Poll::Ready(output) => return output,
                Poll::Pending => std::thread::park(),
            }
        }
    })
}
