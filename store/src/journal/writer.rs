//! The writer thread: takes what waits, seals it into one buffer, writes and syncs it once, and tells.

use std::collections::VecDeque;
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::frame::{self, Label};
use super::queue::Queued;
use super::segment::{self, Active};
use super::shared::{Durable, Known, Shared, locked};
use super::{Committed, JournalError, Location, OnCommit};
use crate::error::IoError;

/// Records in a batch: beyond this a wider batch is no faster, and its first record waits longer.
const BATCH_RECORDS_MAX: usize = 1024;
/// Bytes after which a batch takes no further record: bounds the buffer and the time of one write on slow flash.
const BATCH_BYTES_MAX: usize = 4 * 1024 * 1024;
/// After a commit, events that come gather for so long before the next: one fdatasync for several, as flash and processor
/// like it. Nobody waits for them: the answer has left, and a broker takes its acknowledgement a moment later. It bounds a
/// broker that sends only 20 messages ahead to 5,000 events per second.
const GATHER: Duration = Duration::from_millis(4);
/// Events that wait for no more: as many as make a commit that is as wide as it need be.
const GATHER_RECORDS: usize = 256;
/// Largest segment that a configuration can ask for: [`Location`] counts its bytes in 32 bits.
const SEGMENT_BYTES_MAX: u64 = 1024 * 1024 * 1024;

pub(super) fn start(shared: Arc<Shared>, on_commit: OnCommit) -> Result<JoinHandle<()>, IoError> {
    let directory = shared.options.directory.clone();
    let writer = Writer {
        durable: shared.durable(),
        stop: Stop(shared),
        on_commit,
        active: None,
        taken: VecDeque::new(),
        pings: Vec::new(),
        buffer: Vec::new(),
        marked: true,
        tried: 0,
        committed_at: None,
    };
    std::thread::Builder::new()
        .name("journal".into())
        .spawn(move || writer.run())
        .map_err(IoError::at("start the journal's thread for", &directory))
}

/// Whatever ends the thread early, nobody waits for ever.
struct Stop(Arc<Shared>);

impl Drop for Stop {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.fail(0, JournalError::Poisoned);
        }
    }
}

struct Writer {
    stop: Stop,
    on_commit: OnCommit,
    /// None until the first record: an opened journal that is never written to leaves nothing behind.
    active: Option<Active>,
    taken: VecDeque<Queued>,
    pings: Vec<oneshot::Sender<()>>,
    /// The batch's frames; kept for the next one.
    buffer: Vec<u8>,
    durable: Durable,
    /// Whether the segment's end proves that the last batch is durable.
    marked: bool,
    /// Last lsn of the batch in work: who waits for one up to it is told the error itself.
    tried: u64,
    /// When the last commit began.
    committed_at: Option<Instant>,
}

/// A sealed batch, on its way to the disk.
struct Batch {
    records: Vec<Committed>,
    cost: usize,
}

impl Writer {
    fn run(mut self) {
        while self.wait() {
            self.gather();
            if !self.taken.is_empty()
                && let Err(error) = self.commit()
            {
                self.stop.0.fail(self.tried, error);
                return;
            }
            // After every batch, not only when all is done: a full queue is work, not a standstill.
            for ping in self.pings.drain(..) {
                // Whoever asked may have gone.
                let _ = ping.send(());
            }
        }
        self.mark();
        if let Some(active) = &self.active {
            // The next start does it otherwise.
            let _ = active.file.give_back();
            // All records are durable already; this is for the mark, and the next start can do without it.
            let _ = active.file.sync();
        }
    }

    /// Waits until there is something to do; false when the journal is closed and all is done.
    fn wait(&mut self) -> bool {
        if self.take() {
            return true;
        }
        self.mark();
        let shared = &self.stop.0;
        let mut queue = locked(&shared.queue);
        while queue.is_empty() {
            if queue.closed {
                return false;
            }
            queue.asleep = true;
            queue = shared.filled.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        drop(queue);
        self.take()
    }

    /// Waits for more events where the last commit was a moment ago.
    fn gather(&mut self) {
        let now = Instant::now();
        let until = self.committed_at.map_or(now, |last| last + GATHER);
        let shared = &self.stop.0;
        let mut queue = locked(&shared.queue);
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let enough = self.taken.len() + queue.waiting.len() >= GATHER_RECORDS;
            let asked = queue.urgent || queue.closed || !queue.pings.is_empty() || !self.pings.is_empty();
            if left.is_zero() || enough || asked {
                queue.urgent = false;
                return;
            }
            (queue, _) = shared.filled.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Takes all that waits in the queue.
    fn take(&mut self) -> bool {
        let mut queue = locked(&self.stop.0.queue);
        self.pings.append(&mut queue.pings);
        if self.taken.is_empty() {
            std::mem::swap(&mut self.taken, &mut queue.waiting);
        }
        !self.taken.is_empty() || !self.pings.is_empty()
    }

    /// Writes one batch of what was taken, and what came meanwhile.
    fn commit(&mut self) -> Result<(), JournalError> {
        self.committed_at = Some(Instant::now());
        self.tried = self.durable.position.lsn + self.taken.len() as u64;
        let mut active = self.when_there_is_room(Self::segment)?;
        let batch = self.seal(&active)?;
        self.tried = self.durable.position.lsn + batch.records.len() as u64;
        let written = self.when_there_is_room(|writer| Ok(writer.write(&active)?));
        if let Err(error) = written {
            // What the kernel still holds of the batch must not be taken for durable by the next start.
            let _ = active.file.set_len(active.end).and_then(|()| active.file.sync());
            return Err(error);
        }
        active.end += self.buffer.len() as u64;
        if let Some(last) = batch.records.last() {
            self.durable = Durable { position: last.position, segment: active.first, end: active.end };
        }
        self.active = Some(active);
        self.marked = false;
        (self.on_commit)(batch.records);
        self.stop.0.publish(self.durable);
        self.stop.0.room.add_permits(batch.cost);
        Ok(())
    }

    /// The batch, all of it: what an earlier try left is written again before it is synced.
    fn write(&self, active: &Active) -> Result<(), IoError> {
        active.file.write_at(&self.buffer, active.end).map_err(IoError::at("write", &active.path))?;
        active.file.sync().map_err(IoError::at("sync", &active.path))
    }

    /// Tries again as long as the disk is full. The error itself where the journal closes meanwhile.
    fn when_there_is_room<T>(
        &mut self,
        mut act: impl FnMut(&mut Self) -> Result<T, JournalError>,
    ) -> Result<T, JournalError> {
        let space = Arc::clone(&self.stop.0.options.space);
        let mut waiting = None;
        loop {
            match act(self) {
                Err(error) if error.is_full() => {
                    if !space.give() {
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

    /// Waits a moment; false when the journal is closed.
    fn pause(&mut self) -> bool {
        let shared = &self.stop.0;
        let queue = locked(&shared.queue);
        if queue.closed {
            return false;
        }
        let wait = shared.options.space.retry();
        let (queue, _) = shared.filled.wait_timeout(queue, wait).unwrap_or_else(PoisonError::into_inner);
        !queue.closed
    }

    /// The segment to write to: a new one where there is none or where it is full.
    fn segment(&mut self) -> Result<Active, JournalError> {
        let (shared, limit) = (&self.stop.0, self.limit());
        match self.active.take() {
            Some(active) if active.end < limit => return Ok(active),
            // Kept a little wide until the file is forgotten, if it cannot be done.
            Some(full) => drop(full.file.give_back()),
            None => {}
        }
        let directory = &shared.options.directory;
        let reserve = shared.options.space.has_room_for(limit).then_some(limit);
        let active = segment::create(&*shared.disk, directory, &shared.keys, self.durable.position, reserve)?;
        let known = Known { key: Some(active.key_id), before_seq: Some(self.durable.position.seq) };
        let replaced = locked(&shared.segments).insert(active.first, known);
        if let Some(key) = replaced.and_then(|replaced| replaced.key) {
            // It sealed nothing that counts. Where this fails, the next start finds a key without a segment.
            let _ = shared.keys.destroy(&key);
        }
        Ok(active)
    }

    fn limit(&self) -> u64 {
        self.stop.0.options.segment_bytes.min(SEGMENT_BYTES_MAX)
    }

    fn seal(&mut self, active: &Active) -> Result<Batch, JournalError> {
        let limit = self.limit();
        self.buffer.clear();
        let mut batch =
            Batch { records: Vec::with_capacity(self.taken.len().min(BATCH_RECORDS_MAX)), cost: 0 };
        while batch.records.len() < BATCH_RECORDS_MAX && self.buffer.len() < BATCH_BYTES_MAX {
            let offset = active.end + self.buffer.len() as u64;
            let starts_batch = batch.records.is_empty();
            if !starts_batch && (offset >= limit || (self.taken.is_empty() && !self.take())) {
                break;
            }
            let Some(queued) = self.taken.pop_front() else { break };
            batch.cost += queued.cost() as usize;
            let (position, is_event) = (queued.position, queued.entry.is_event);
            let label = Label { segment: active.first, position, is_event, starts_batch };
            frame::push(&mut self.buffer, &active.key, label, &queued.entry.payload)?;
            // Below SEGMENT_BYTES_MAX and one record more.
            let location = Location { segment: active.first, offset: offset as u32 };
            batch.records.push(Committed { position, location, is_event, payload: queued.entry.payload });
        }
        Ok(batch)
    }

    /// Leaves the proof that the last batch is durable, before the thread sleeps. It costs no sync: where it is
    /// lost with the power, the next start takes an undamaged tail all the same.
    fn mark(&mut self) {
        if std::mem::replace(&mut self.marked, true) {
            return;
        }
        if let Some(active) = &mut self.active {
            let mark = frame::mark(active.first, self.durable.position);
            match active.file.write_at(&mark, active.end) {
                Ok(()) => active.end += mark.len() as u64,
                // A part of a mark is cut off, or overwritten by the next batch.
                Err(_) => drop(active.file.set_len(active.end)),
            }
        }
    }
}
