//! The writer thread: takes queued records, seals them into a batch, writes and syncs it once, and publishes it.
//!
//! While the syncer writes a wide batch, the next batch is sealed, up to the segment's end. It is written when the one
//! before is durable. A narrow batch is written by this thread itself, because waking another thread takes longer than
//! sealing the next batch.

use std::collections::VecDeque;
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use gatehouse_vault::error::IoError;
use tokio::sync::oneshot;

use super::batch::Batch;
use super::frame;
use super::queue::{Queued, Wakes};
use super::segment::{self, Active};
use super::shared::{Durable, SegmentInfo, Shared, locked};
use super::syncer::Syncer;
use super::{JournalError, OnCommit};

/// Delay of the next commit if it contains only events: one fdatasync for several of them saves flash writes and
/// processor time. No caller waits: the answer has left, and the broker accepts a later acknowledgement. A broker
/// with 20 messages in flight is limited to 5,000 events per second by it.
const COMMIT_DELAY: Duration = Duration::from_millis(4);
/// Number of events that are committed without further delay: a wider commit gains little.
const DELAYED_RECORDS_MAX: usize = 256;
/// Size from which on a batch is given to the syncer: sealing as many bytes takes longer than waking a thread.
const WIDE_BYTES: usize = 32 * 1024;
/// Number of queued records that wake the writer while a batch is being written.
const WAKE_RECORDS: usize = 64;
/// Largest size of a segment: a [`super::Location`] has an offset of 32 bits.
const SEGMENT_BYTES_MAX: u64 = 1024 * 1024 * 1024;

pub(super) fn start(shared: Arc<Shared>, on_commit: OnCommit) -> Result<JoinHandle<()>, IoError> {
    let directory = shared.options.directory.clone();
    let writer = Writer {
        durable: shared.durable(),
        guard: PoisonOnPanic(shared),
        on_commit,
        active: None,
        syncer: None,
        taken: VecDeque::new(),
        pings: Vec::new(),
        spare: Vec::new(),
        marked: true,
        unfinished_lsn: 0,
        began: None,
    };
    std::thread::Builder::new()
        .name("journal".into())
        .spawn(move || writer.run())
        .map_err(IoError::at("start the journal's thread for", &directory))
}

/// Poisons the journal if the thread panics, so that no append waits forever.
struct PoisonOnPanic(Arc<Shared>);

impl Drop for PoisonOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.fail(0, JournalError::Poisoned);
        }
    }
}

struct Writer {
    guard: PoisonOnPanic,
    on_commit: OnCommit,
    /// None until the first record: a journal that is opened and not written to creates no file.
    active: Option<Active>,
    /// None until the first wide batch.
    syncer: Option<Syncer>,
    taken: VecDeque<Queued>,
    pings: Vec<oneshot::Sender<()>>,
    /// Buffers for the next batches: at most two, one being written and one being filled.
    spare: Vec<Vec<u8>>,
    durable: Durable,
    /// Whether the segment ends with proof that the last batch is durable.
    marked: bool,
    /// Last lsn of the unfinished batch: appends up to it return the error itself.
    unfinished_lsn: u64,
    /// Start of the last write.
    began: Option<Instant>,
}

impl Writer {
    fn run(mut self) {
        while self.wait() {
            if let Err(error) = self.commit() {
                self.guard.0.fail(self.unfinished_lsn, error);
                return;
            }
        }
        self.mark();
        if let Some(active) = &self.active {
            // If this fails, the next start does it.
            let _ = active.target.file.release_reserved();
            // Only for the mark, which the next start does not need.
            let _ = active.target.file.sync();
        }
    }

    /// Waits for work; false when the journal is closed and all is written.
    fn wait(&mut self) -> bool {
        if self.take() {
            return true;
        }
        self.mark();
        let shared = &self.guard.0;
        let mut queue = locked(&shared.queue);
        while queue.is_empty() {
            if queue.closed {
                return false;
            }
            queue.sleep(Some(Wakes { records: 1, urgent: true }));
            queue = shared.filled.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        queue.sleep(None);
        drop(queue);
        self.take()
    }

    /// Takes all queued records and pings.
    fn take(&mut self) -> bool {
        let mut queue = locked(&self.guard.0.queue);
        self.pings.append(&mut queue.pings);
        if self.taken.is_empty() {
            std::mem::swap(&mut self.taken, &mut queue.waiting);
        }
        !self.taken.is_empty() || !self.pings.is_empty()
    }

    /// Writes the taken records, and those that arrive while a wide batch is being written.
    fn commit(&mut self) -> Result<(), JournalError> {
        if self.taken.is_empty() {
            answer(&mut self.pings);
            return Ok(());
        }
        self.unfinished_lsn = self.durable.position.lsn + self.taken.len() as u64;
        let mut active = self.retry_while_full(Self::active_segment)?;
        let done = self.write(&mut active);
        self.active = Some(active);
        done
    }

    /// Writes batches to one segment, until a batch is narrow or the queue is empty.
    fn write(&mut self, active: &mut Active) -> Result<(), JournalError> {
        let mut batch = self.batch(active.end);
        self.fill(active, &mut batch, false)?;
        let mut durable: Option<Batch> = None;
        loop {
            let end = batch.end();
            self.unfinished_lsn = batch.last_lsn().unwrap_or(self.unfinished_lsn);
            self.began = Some(Instant::now());
            let submitted = self.submit(active, &mut batch);
            // After the next write was started, so that the disk is busy meanwhile.
            if let Some(durable) = durable.take() {
                self.publish(durable);
            }
            let mut next = self.batch(end);
            let ahead = submitted && end < self.limit();
            let filled = if ahead { self.fill(active, &mut next, true) } else { Ok(()) };
            self.finish(active, &mut batch, submitted)?;
            if filled.is_err() || next.records.is_empty() {
                self.publish(batch);
                // The next batch is empty, but its pings must be answered.
                answer(&mut next.pings);
                self.spare.push(next.bytes);
                return filled;
            }
            let ready = std::mem::replace(&mut batch, next);
            if self.delay(&batch).is_zero() {
                durable = Some(ready);
            } else {
                self.publish(ready);
                self.fill(active, &mut batch, false)?;
            }
        }
    }

    /// An empty batch for offset `at`.
    fn batch(&mut self, at: u64) -> Batch {
        Batch::new(self.spare.pop().unwrap_or_default(), at, self.limit())
    }

    /// Seals queued records, and those that arrive until the batch is to be written. If another batch is `in_flight`, that
    /// is when the disk is free, otherwise after the delay of events.
    fn fill(&mut self, active: &Active, batch: &mut Batch, in_flight: bool) -> Result<(), JournalError> {
        batch.pings.append(&mut self.pings);
        loop {
            while !batch.is_full()
                && let Some(queued) = self.taken.pop_front()
            {
                batch.push(active, queued)?;
            }
            if batch.is_full() || !self.more(batch, in_flight) {
                return Ok(());
            }
        }
    }

    /// Takes records that arrived meanwhile, or waits for them; false when the batch is to be written.
    fn more(&mut self, batch: &mut Batch, in_flight: bool) -> bool {
        let shared = Arc::clone(&self.guard.0);
        let mut queue = locked(&shared.queue);
        loop {
            batch.pings.append(&mut queue.pings);
            if !queue.waiting.is_empty() {
                std::mem::swap(&mut self.taken, &mut queue.waiting);
                return true;
            }
            if in_flight {
                if queue.written.is_some() {
                    return false;
                }
                queue.sleep(Some(Wakes { records: WAKE_RECORDS, urgent: false }));
                queue = shared.filled.wait(queue).unwrap_or_else(PoisonError::into_inner);
            } else {
                let left = self.delay(batch);
                if left.is_zero() || queue.closed {
                    return false;
                }
                let records = DELAYED_RECORDS_MAX.saturating_sub(batch.records.len());
                queue.sleep(Some(Wakes { records, urgent: true }));
                (queue, _) = shared.filled.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner);
            }
            queue.sleep(None);
        }
    }

    /// Remaining delay of a batch.
    fn delay(&self, batch: &Batch) -> Duration {
        if batch.urgent || !batch.pings.is_empty() || batch.records.len() >= DELAYED_RECORDS_MAX {
            return Duration::ZERO;
        }
        self.began.map_or(Duration::ZERO, |began| COMMIT_DELAY.saturating_sub(began.elapsed()))
    }

    /// Moves the bytes of a wide batch to the syncer.
    fn submit(&mut self, active: &Active, batch: &mut Batch) -> bool {
        if batch.bytes.len() < WIDE_BYTES {
            return false;
        }
        if self.syncer.is_none() {
            self.syncer = Syncer::start(&self.guard.0);
        }
        let Some(syncer) = &self.syncer else { return false };
        let submitted = syncer.submit(&active.target, std::mem::take(&mut batch.bytes), batch.at);
        submitted.map_err(|bytes| batch.bytes = bytes).is_ok()
    }

    /// Makes the batch durable: waits for the syncer if it was `submitted`, otherwise writes it here.
    fn finish(
        &mut self,
        active: &mut Active,
        batch: &mut Batch,
        submitted: bool,
    ) -> Result<(), JournalError> {
        let mut first = None;
        if let Some(syncer) = self.syncer.as_ref().filter(|_| submitted) {
            let (bytes, result) = syncer.finish();
            batch.bytes = bytes;
            first = Some(result);
        }
        let put = |_: &mut Self| Ok(active.target.put(&batch.bytes, batch.at)?);
        let written = self.retry_while_full(|writer| first.take().unwrap_or_else(|| put(writer)));
        if let Err(error) = written {
            active.target.cut(active.end);
            return Err(error);
        }
        active.end = batch.end();
        if let Some(last) = batch.records.last() {
            self.durable = Durable { position: last.position, segment: active.first, end: active.end };
        }
        self.marked = false;
        Ok(())
    }

    /// Publishes a durable batch. Pings are answered after every batch: a full queue is progress, not a hang.
    fn publish(&mut self, mut batch: Batch) {
        (self.on_commit)(batch.records);
        self.guard.0.publish(self.durable);
        self.guard.0.capacity.add_permits(batch.cost);
        answer(&mut batch.pings);
        self.spare.push(batch.bytes);
    }

    /// Repeats an operation while the disk is full. Returns the error if the journal closes meanwhile.
    fn retry_while_full<T>(
        &mut self,
        mut operation: impl FnMut(&mut Self) -> Result<T, JournalError>,
    ) -> Result<T, JournalError> {
        let space = Arc::clone(&self.guard.0.options.space);
        let mut waiting = None;
        loop {
            match operation(self) {
                Err(error) if error.is_full() => {
                    if !space.release_ballast() {
                        waiting.get_or_insert_with(|| space.wait());
                        if !self.pause() {
                            return Err(error);
                        }
                    }
                }
                done => return done,
            }
        }
    }

    /// Waits for the retry interval; false when the journal is closed.
    fn pause(&mut self) -> bool {
        let shared = &self.guard.0;
        let queue = locked(&shared.queue);
        if queue.closed {
            return false;
        }
        let wait = shared.options.space.retry_interval();
        let (queue, _) = shared.filled.wait_timeout(queue, wait).unwrap_or_else(PoisonError::into_inner);
        !queue.closed
    }

    /// The segment to append to: a new one if there is none or it is full.
    fn active_segment(&mut self) -> Result<Active, JournalError> {
        let (shared, limit) = (&self.guard.0, self.limit());
        match self.active.take() {
            Some(active) if active.end < limit => return Ok(active),
            // If this fails, the file takes a little more space until it is erased.
            Some(full) => drop(full.target.file.release_reserved()),
            None => {}
        }
        let directory = &shared.options.directory;
        let reserve = shared.options.space.has_space_for(limit).then_some(limit);
        let active = segment::create(&*shared.disk, directory, &shared.keys, self.durable.position, reserve)?;
        let known = SegmentInfo { key: Some(active.key_id), before_seq: Some(self.durable.position.seq) };
        let replaced = locked(&shared.segments).insert(active.first, known);
        if let Some(key) = replaced.and_then(|replaced| replaced.key) {
            // It sealed no confirmed record. If this fails, the next start destroys the key without a segment.
            let _ = shared.keys.destroy(&key);
        }
        Ok(active)
    }

    fn limit(&self) -> u64 {
        self.guard.0.options.segment_bytes.min(SEGMENT_BYTES_MAX)
    }

    /// Appends the proof that the last batch is durable, before the thread sleeps. It is not synced: without it, the next
    /// start accepts an undamaged tail as well.
    fn mark(&mut self) {
        if std::mem::replace(&mut self.marked, true) {
            return;
        }
        if let Some(active) = &mut self.active {
            let mark = frame::mark(active.first, self.durable.position);
            match active.target.file.write_at(&mark, active.end) {
                Ok(()) => active.end += mark.len() as u64,
                // A partial mark is truncated, or overwritten by the next batch.
                Err(_) => drop(active.target.file.set_len(active.end)),
            }
        }
    }
}

fn answer(pings: &mut Vec<oneshot::Sender<()>>) {
    for ping in pings.drain(..) {
        // The caller may have been cancelled.
        let _ = ping.send(());
    }
}
