//! The writer thread: takes what waits, seals it, has it written and synced once, and tells.
//!
//! While a wide batch is on its way to the disk the next is sealed already, up to the segment's end; it is written when
//! the one before is durable. A narrow one is written by this thread itself: to wake another would take longer than what
//! could be done meanwhile.

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
use super::shared::{Durable, Known, Shared, locked};
use super::syncer::Syncer;
use super::{JournalError, OnCommit};

/// After a commit, events that come gather for so long before the next: one fdatasync for several, as flash and processor
/// like it. Nobody waits for them: the answer has left, and a broker takes its acknowledgement a moment later. It bounds a
/// broker that sends only 20 messages ahead to 5,000 events per second.
const GATHER: Duration = Duration::from_millis(4);
/// Events that wait for no more: as many as make a commit that is as wide as it need be.
const GATHER_RECORDS: usize = 256;
/// Bytes from which on a batch is handed to the syncer: to seal as many takes longer than to wake a thread.
const WIDE_BYTES: usize = 32 * 1024;
/// Records that are worth waking up for while a batch is on its way.
const AHEAD_RECORDS: usize = 64;
/// Largest segment that a configuration can ask for: a [`super::Location`] counts its bytes in 32 bits.
const SEGMENT_BYTES_MAX: u64 = 1024 * 1024 * 1024;

pub(super) fn start(shared: Arc<Shared>, on_commit: OnCommit) -> Result<JoinHandle<()>, IoError> {
    let directory = shared.options.directory.clone();
    let writer = Writer {
        durable: shared.durable(),
        stop: Stop(shared),
        on_commit,
        active: None,
        syncer: None,
        taken: VecDeque::new(),
        pings: Vec::new(),
        spare: Vec::new(),
        marked: true,
        tried: 0,
        began: None,
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
    /// None until the first wide batch.
    syncer: Option<Syncer>,
    taken: VecDeque<Queued>,
    pings: Vec<oneshot::Sender<()>>,
    /// Buffers for frames, kept for the next batches: two at most, one is written and one is filled.
    spare: Vec<Vec<u8>>,
    durable: Durable,
    /// Whether the segment's end proves that the last batch is durable.
    marked: bool,
    /// Last lsn of the batch in work: who waits for one up to it is told the error itself.
    tried: u64,
    /// When the last write began.
    began: Option<Instant>,
}

impl Writer {
    fn run(mut self) {
        while self.wait() {
            if let Err(error) = self.commit() {
                self.stop.0.fail(self.tried, error);
                return;
            }
        }
        self.mark();
        if let Some(active) = &self.active {
            // The next start does it otherwise.
            let _ = active.target.file.give_back();
            // All records are durable already; this is for the mark, and the next start can do without it.
            let _ = active.target.file.sync();
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
            queue.sleep(Some(Wakes { records: 1, urgent: true }));
            queue = shared.filled.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        queue.sleep(None);
        drop(queue);
        self.take()
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

    /// Writes what was taken, and what comes while a wide batch is on its way.
    fn commit(&mut self) -> Result<(), JournalError> {
        if self.taken.is_empty() {
            answer(&mut self.pings);
            return Ok(());
        }
        self.tried = self.durable.position.lsn + self.taken.len() as u64;
        let mut active = self.when_there_is_room(Self::turn)?;
        let done = self.write(&mut active);
        self.active = Some(active);
        done
    }

    /// Batch after batch into one segment, until one is narrow, or nothing waits any more.
    fn write(&mut self, active: &mut Active) -> Result<(), JournalError> {
        let mut batch = self.batch(active.end);
        self.fill(active, &mut batch, false)?;
        let mut durable: Option<Batch> = None;
        loop {
            let end = batch.end();
            self.tried = batch.last_lsn().unwrap_or(self.tried);
            self.began = Some(Instant::now());
            let given = self.give(active, &mut batch);
            // The disk first: whoever waits is told while it works.
            if let Some(durable) = durable.take() {
                self.tell(durable);
            }
            let mut next = self.batch(end);
            let ahead = given && end < self.limit();
            let filled = if ahead { self.fill(active, &mut next, true) } else { Ok(()) };
            self.settle(active, &mut batch, given)?;
            if filled.is_err() || next.records.is_empty() {
                self.tell(batch);
                // Nothing came to fill it, but who asked is answered.
                answer(&mut next.pings);
                self.spare.push(next.bytes);
                return filled;
            }
            let ready = std::mem::replace(&mut batch, next);
            if self.gathering(&batch).is_zero() {
                durable = Some(ready);
            } else {
                self.tell(ready);
                self.fill(active, &mut batch, false)?;
            }
        }
    }

    /// An empty batch that is to lie at `at`.
    fn batch(&mut self, at: u64) -> Batch {
        Batch::new(self.spare.pop().unwrap_or_default(), at, self.limit())
    }

    /// Seals what waits, and what comes until it is time to write: where another batch is `flying` until the disk is free,
    /// else until events had their moment to gather.
    fn fill(&mut self, active: &Active, batch: &mut Batch, flying: bool) -> Result<(), JournalError> {
        batch.pings.append(&mut self.pings);
        loop {
            while !batch.is_full()
                && let Some(queued) = self.taken.pop_front()
            {
                batch.push(active, queued)?;
            }
            if batch.is_full() || !self.more(batch, flying) {
                return Ok(());
            }
        }
    }

    /// Takes what came meanwhile, and waits for it where there is time; false when that is over.
    fn more(&mut self, batch: &mut Batch, flying: bool) -> bool {
        let shared = Arc::clone(&self.stop.0);
        let mut queue = locked(&shared.queue);
        loop {
            batch.pings.append(&mut queue.pings);
            if !queue.waiting.is_empty() {
                std::mem::swap(&mut self.taken, &mut queue.waiting);
                return true;
            }
            if flying {
                if queue.written.is_some() {
                    return false;
                }
                queue.sleep(Some(Wakes { records: AHEAD_RECORDS, urgent: false }));
                queue = shared.filled.wait(queue).unwrap_or_else(PoisonError::into_inner);
            } else {
                let left = self.gathering(batch);
                if left.is_zero() || queue.closed {
                    return false;
                }
                let records = GATHER_RECORDS.saturating_sub(batch.records.len());
                queue.sleep(Some(Wakes { records, urgent: true }));
                (queue, _) = shared.filled.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner);
            }
            queue.sleep(None);
        }
    }

    /// How long the events of a batch are still to wait for others.
    fn gathering(&self, batch: &Batch) -> Duration {
        if batch.urgent || !batch.pings.is_empty() || batch.records.len() >= GATHER_RECORDS {
            return Duration::ZERO;
        }
        self.began.map_or(Duration::ZERO, |began| GATHER.saturating_sub(began.elapsed()))
    }

    /// Hands a wide batch to the syncer, with its bytes.
    fn give(&mut self, active: &Active, batch: &mut Batch) -> bool {
        if batch.bytes.len() < WIDE_BYTES {
            return false;
        }
        if self.syncer.is_none() {
            self.syncer = Syncer::start(&self.stop.0);
        }
        let Some(syncer) = &self.syncer else { return false };
        let given = syncer.give(&active.target, std::mem::take(&mut batch.bytes), batch.at);
        given.map_err(|bytes| batch.bytes = bytes).is_ok()
    }

    /// The batch is durable on return: waits for the syncer where it was `given` away, else writes it here.
    fn settle(&mut self, active: &mut Active, batch: &mut Batch, given: bool) -> Result<(), JournalError> {
        let mut first = None;
        if let Some(syncer) = self.syncer.as_ref().filter(|_| given) {
            let (bytes, result) = syncer.finish();
            batch.bytes = bytes;
            first = Some(result);
        }
        let put = |_: &mut Self| Ok(active.target.put(&batch.bytes, batch.at)?);
        let written = self.when_there_is_room(|writer| first.take().unwrap_or_else(|| put(writer)));
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

    /// Tells of a durable batch. Pings are answered after every one, not only when all is done: a full queue is work, not
    /// a standstill.
    fn tell(&mut self, mut batch: Batch) {
        (self.on_commit)(batch.records);
        self.stop.0.publish(self.durable);
        self.stop.0.room.add_permits(batch.cost);
        answer(&mut batch.pings);
        self.spare.push(batch.bytes);
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
    fn turn(&mut self) -> Result<Active, JournalError> {
        let (shared, limit) = (&self.stop.0, self.limit());
        match self.active.take() {
            Some(active) if active.end < limit => return Ok(active),
            // Kept a little wide until the file is forgotten, if it cannot be done.
            Some(full) => drop(full.target.file.give_back()),
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

    /// Leaves the proof that the last batch is durable, before the thread sleeps. It costs no sync: where it is
    /// lost with the power, the next start takes an undamaged tail all the same.
    fn mark(&mut self) {
        if std::mem::replace(&mut self.marked, true) {
            return;
        }
        if let Some(active) = &mut self.active {
            let mark = frame::mark(active.first, self.durable.position);
            match active.target.file.write_at(&mark, active.end) {
                Ok(()) => active.end += mark.len() as u64,
                // A part of a mark is cut off, or overwritten by the next batch.
                Err(_) => drop(active.target.file.set_len(active.end)),
            }
        }
    }
}

fn answer(pings: &mut Vec<oneshot::Sender<()>>) {
    for ping in pings.drain(..) {
        // Whoever asked may have gone.
        let _ = ping.send(());
    }
}
