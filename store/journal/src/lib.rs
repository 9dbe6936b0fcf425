//! The journal: the one truth of the appliance. What it acknowledged survives a power cut.
//!
//! Segments `<first lsn, 20 digits>.gj` hold one sealed, checksummed frame per record. `lsn` numbers the records and
//! `seq` the event records, both from 1 and without a hole or a double over the life of the state directory.
//!
//! Constraints:
//! - one writer thread; a batch is one write and one fdatasync, and nothing of it is told to anybody before that. While a
//!   wide batch is on its way, which another thread waits for, the next is sealed, and not written;
//! - a segment's key seals each number once: the number is the lsn, and every opening starts a new segment with a
//!   new key at its first record, so that numbers of an unfinished tail never meet a key again;
//! - a segment is a file and a key: destroying the key forgets the records wherever copies of the file lie.
//!
//! Order of a new segment: key (durable), file under a temporary name, sync, rename, sync of the folder, first
//! batch. Its room is taken in advance and the rest given back at its end, or by the next opening; nothing rests on that.
//! Order of a batch: write, fdatasync, `on_commit`, then the head moves (readers see the records), then the
//! waiters are answered, then the watch. The next batch may be on its way by then: all before it is durable. Events that
//! come right after a batch gather for a moment, since nobody waits for them; everything else is written at once.
//!
//! After a crash only the last batch can be incomplete. That a batch was durable is proven by what was written after
//! it: the first frame of the next batch (a flag says so), the next segment, or a mark that the writer leaves when
//! it has nothing to do. So opening reads the last segment alone and can tell a damaged record (proven to have been
//! durable: reported, its numbers stay taken) from an unfinished tail (nobody was told: ignored, its numbers are
//! given again). What it accepts without proof it writes again and syncs before it builds on it, since a killed
//! process leaves pages behind that no disk has seen. A segment without any record is replaced by the next one of the same name.
//!
//! Where the disk is full the writer waits for room and writes the same batch again; meanwhile nothing is
//! acknowledged, the queue fills, and who appends waits. Any other failed write or sync poisons the journal: the batch
//! is cut off the file, its waiters get the error, and every later append is refused. The process is to end and start
//! again.

mod batch;
mod frame;
mod open;
mod queue;
mod reader;
mod scan;
mod segment;
mod segments;
mod shared;
mod syncer;
mod writer;

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use gatehouse_vault::disk::{Disk, RealDisk};
use gatehouse_vault::error::IoError;
use gatehouse_vault::keys::{KeyError, KeyTable};
use gatehouse_vault::seal::SealError;
use gatehouse_vault::space::Space;
use thiserror::Error;
use tokio::sync::watch;

pub use queue::Pending;
pub use reader::Reader;
pub use segments::{Listed, Segments};

use shared::{Shared, locked};

/// Longest payload of a record in bytes: several times the largest event (256 KiB) with its identification, small
/// enough that a batch buffer stays small.
pub const RECORD_BYTES_MAX: usize = 1024 * 1024;
/// Default size of a segment in bytes: the grain of retention and of what one lost key costs, large enough that
/// the syncs of a new segment do not show.
pub const SEGMENT_BYTES: u64 = 16 * 1024 * 1024;

/// How far the journal, or somebody who follows it, has come.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
pub struct Position {
    /// Number of the record, from 1; 0 before the first.
    pub lsn: u64,
    /// Number of the last event record up to and including this one.
    pub seq: u64,
}

/// Where a record lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct Location {
    /// First lsn of the segment, which is its file name.
    pub segment: u64,
    /// Offset of the frame in the file.
    pub offset: u32,
}

/// A record to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The plaintext, at most [`RECORD_BYTES_MAX`].
    pub payload: Vec<u8>,
    /// Whether it takes the next event number.
    pub is_event: bool,
}

/// A record that is durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// Its numbers.
    pub position: Position,
    /// Its place, for [`Journal::read_at`].
    pub location: Location,
    /// Whether it has an event number of its own.
    pub is_event: bool,
    /// The plaintext.
    pub payload: Vec<u8>,
}

/// Called with every batch once it is durable, on the writer thread, before anybody else hears of it. It must not
/// wait for an append of its own: the thread that would serve it is the one that waits.
pub type OnCommit = Box<dyn FnMut(Vec<Committed>) + Send>;

/// Where and how the journal lies.
#[derive(Debug, Clone)]
pub struct JournalOptions {
    /// Its folder; it must exist and hold nothing else.
    pub directory: PathBuf,
    /// Size in bytes at which a segment is closed; exceeded by one record at most.
    pub segment_bytes: u64,
    /// A position that somebody outside is known to have seen: numbers up to it are never given again, even where
    /// the journal has lost its tail.
    pub floor: Position,
    /// What is done while the disk is full.
    pub space: Arc<Space>,
}

impl JournalOptions {
    /// The defaults, in this folder.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
            segment_bytes: SEGMENT_BYTES,
            floor: Position::default(),
            space: Arc::default(),
        }
    }
}

/// A damaged place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The segment.
    pub segment: u64,
    /// Offset of the place in the file.
    pub offset: u64,
    /// Records that were lost by it.
    pub lost: u64,
    /// What happened, for the operator.
    pub words: String,
}

impl std::fmt::Display for Damage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "journal segment {}, byte {}: {}", self.segment, self.offset, self.words)
    }
}

/// What was found when the journal was opened.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OpenReport {
    /// The last record.
    pub head: Position,
    /// Bytes of an unfinished batch behind it, which nobody was ever told of.
    pub torn_bytes: u64,
    /// Damage in the last segment; that of earlier ones is found by whoever reads them.
    pub damaged: Vec<Damage>,
}

/// What can go wrong in the journal.
#[derive(Debug, Clone, Error)]
pub enum JournalError {
    /// The disk failed.
    #[error("journal: {0}")]
    Io(Arc<IoError>),
    /// The key of a segment could not be made or read.
    #[error("journal: {0}")]
    Key(Arc<KeyError>),
    /// An earlier failure stopped the writer; restart the program once the disk is well.
    #[error("the journal has stopped after a failure of the disk; see the log, then restart gatehoused")]
    Poisoned,
    /// The journal was closed.
    #[error("the journal is closed; gatehoused is stopping")]
    Closed,
    /// The payload exceeds [`RECORD_BYTES_MAX`].
    #[error("a record of {0} bytes is too large; at most {RECORD_BYTES_MAX} are possible")]
    TooLarge(usize),
    /// There is no readable record at a place.
    #[error(
        "the record at byte {offset} of journal segment {segment} is damaged; the disk may be failing: look at dmesg"
    )]
    Damaged {
        /// The segment.
        segment: u64,
        /// Offset of the frame.
        offset: u32,
    },
}

impl JournalError {
    fn is_full(&self) -> bool {
        match self {
            Self::Io(error) => error.is_full(),
            Self::Key(error) => error.is_full(),
            _ => false,
        }
    }
}

impl From<IoError> for JournalError {
    fn from(error: IoError) -> Self {
        Self::Io(Arc::new(error))
    }
}

impl From<KeyError> for JournalError {
    fn from(error: KeyError) -> Self {
        Self::Key(Arc::new(error))
    }
}

impl From<SealError> for JournalError {
    fn from(error: SealError) -> Self {
        Self::from(KeyError::from(error))
    }
}

/// The journal. [`Journal::close`] it: dropping it closes it as well, but says nothing.
pub struct Journal {
    shared: Arc<Shared>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl Journal {
    /// Opens the journal and starts its writer thread.
    ///
    /// # Errors
    /// [`JournalError::Io`], [`JournalError::Key`]. Damage is no error, it is in the report.
    pub fn open(
        options: JournalOptions,
        keys: Arc<KeyTable>,
        on_commit: OnCommit,
    ) -> Result<(Self, OpenReport), JournalError> {
        Self::open_on(Arc::new(RealDisk), options, keys, on_commit)
    }

    /// As [`Journal::open`], on another disk.
    ///
    /// # Errors
    /// As [`Journal::open`].
    pub fn open_on(
        disk: Arc<dyn Disk>,
        options: JournalOptions,
        keys: Arc<KeyTable>,
        on_commit: OnCommit,
    ) -> Result<(Self, OpenReport), JournalError> {
        let mut found = open::open(&*disk, &options.directory, &keys)?;
        found.raise(options.floor);
        let shared = Arc::new(Shared::new(disk, options, keys, found.segments, found.durable));
        let writer = writer::start(Arc::clone(&shared), on_commit)?;
        Ok((Self { shared, writer: Mutex::new(Some(writer)) }, found.report))
    }

    /// Queues a record; waits while the queue is full. The numbers are taken in the order of the queue.
    ///
    /// # Errors
    /// [`JournalError::TooLarge`], [`JournalError::Poisoned`], [`JournalError::Closed`].
    pub async fn append(&self, entry: Entry) -> Result<Pending, JournalError> {
        queue::append(&self.shared, entry).await
    }

    /// As [`Journal::append`], for threads outside of a runtime.
    ///
    /// # Errors
    /// As [`Journal::append`].
    pub fn append_blocking(&self, entry: Entry) -> Result<Pending, JournalError> {
        queue::block_on(self.append(entry))
    }

    /// Goes through the queue and the writer thread and back, without a record.
    ///
    /// # Errors
    /// [`JournalError::Poisoned`], [`JournalError::Closed`].
    pub async fn ping(&self) -> Result<(), JournalError> {
        queue::ping(&self.shared).await
    }

    /// The last durable record.
    pub fn head(&self) -> Position {
        self.shared.durable().position
    }

    /// Tells of every move of the head.
    pub fn watch(&self) -> watch::Receiver<Position> {
        self.shared.watch.subscribe()
    }

    /// Reads the records after `after_lsn` in order.
    pub fn reader(&self, after_lsn: u64) -> Reader {
        Reader::new(Arc::clone(&self.shared), after_lsn)
    }

    /// Reads one record.
    ///
    /// # Errors
    /// [`JournalError::Damaged`] where none can be read at that place, [`JournalError::Key`] where the segment's
    /// key is gone, [`JournalError::Io`].
    pub fn read_at(&self, location: Location) -> Result<Committed, JournalError> {
        reader::read_at(&self.shared, location)
    }

    /// The segments, for whoever keeps something of each.
    pub fn segments(&self) -> Segments {
        Segments::new(Arc::clone(&self.shared))
    }

    /// Forgets the segments before the one that begins at `first`, for good: files first, then their keys. Returns the
    /// segments. Cut off half way, it is called again.
    ///
    /// # Errors
    /// [`JournalError::Io`], [`JournalError::Key`].
    pub fn forget_before(&self, first: u64) -> Result<Vec<u64>, JournalError> {
        segments::forget_before(&self.shared, first)
    }

    /// Refuses new records, writes and syncs those that wait, and ends the writer thread. May be called again.
    pub fn close(&self) {
        self.shared.close();
        let writer = locked(&self.writer).take();
        // The last owner may let go on the writer thread itself, which cannot wait for its own end.
        if let Some(writer) = writer.filter(|w| w.thread().id() != std::thread::current().id()) {
            let _ = writer.join();
        }
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.close();
    }
}

#[cfg(test)]
mod tests;
