//! The journal: the authoritative record of the appliance. A record that it confirmed survives a power cut.
//!
//! Segments `<first lsn, 20 digits>.gj` contain one sealed, checksummed frame per record. `lsn` numbers the records and
//! `seq` the event records. Both start at 1 and have no gap and no duplicate in the lifetime of the state directory.
//!
//! Constraints:
//! - There is one writer thread. A batch is one write and one fdatasync, and no record is visible before that. While a
//!   second thread writes a wide batch, the writer seals the next batch but must not write it.
//! - A segment's key must seal each number once. The number is the lsn. Each time the journal is opened, the first record
//!   starts a new segment with a new key, so that the numbers of an unfinished tail are never sealed twice with one key.
//! - A segment is a file and a key. Destroying the key erases the records in all copies of the file.
//!
//! Order of a new segment: key (durable), file under a temporary name, sync, rename, sync of the folder, first
//! batch. Disk space is reserved in advance. The rest is released at the end of the segment or at the next start.
//! Order of a batch: write, fdatasync, `on_commit`, then the head moves (readers see the records), then waiting
//! appends return, then the watch. The next batch may be in progress by then, because all before it is durable.
//! Events that arrive right after a batch are delayed briefly to widen the next batch. All other records are written
//! at once, because a caller waits for them.
//!
//! After a crash, only the last batch can be incomplete. Later data proves that a batch was durable: a flag in the first
//! frame of the next batch, the next segment, or a mark that the writer appends when it is idle. So opening reads only the
//! last segment, and distinguishes two cases. A damaged record that was durable is reported, and its numbers are not
//! reused. An unfinished tail was never confirmed: it is ignored, and its numbers are reused. A tail without proof is
//! written again and synced, because a killed process may leave pages that never reached the disk. A segment without
//! records is replaced by the next one of the same name.
//!
//! While the disk is full, the writer writes the same batch again until it succeeds. Nothing is confirmed, the queue fills,
//! and appends wait. Any other failed write or sync poisons the journal: the batch is cut off the file, its appends
//! return the error, and every later append is refused. The process must end and start again.

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

/// Longest payload of a record in bytes: several times the largest event (256 KiB) with its identification, and small
/// enough for small batch buffers.
pub const RECORD_BYTES_MAX: usize = 1024 * 1024;
/// Default size of a segment in bytes: the granularity of retention and of a lost key. Large enough that the cost
/// of creating a segment is small.
pub const SEGMENT_BYTES: u64 = 16 * 1024 * 1024;

/// A position in the journal.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
pub struct Position {
    /// Number of the record, from 1; 0 before the first.
    pub lsn: u64,
    /// Number of the last event record up to and including this one.
    pub seq: u64,
}

/// Location of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct Location {
    /// First lsn of the segment, which is its file name.
    pub segment: u64,
    /// Offset of the frame in the file.
    pub offset: u32,
}

/// A record to be appended.
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
    /// Its location, for [`Journal::read_at`].
    pub location: Location,
    /// Whether it has an event number of its own.
    pub is_event: bool,
    /// The plaintext.
    pub payload: Vec<u8>,
}

/// Called on the writer thread with every durable batch, before its records are visible elsewhere. It must not wait
/// for an append, because the writer thread would have to perform it.
pub type OnCommit = Box<dyn FnMut(Vec<Committed>) + Send>;

/// Location and limits of the journal.
#[derive(Debug, Clone)]
pub struct JournalOptions {
    /// Its folder; it must exist and contain no other files.
    pub directory: PathBuf,
    /// Size in bytes at which a segment is closed; exceeded by at most one record.
    pub segment_bytes: u64,
    /// A position that other components have seen. Numbers up to it are never reused, even if the journal lost its
    /// tail.
    pub floor: Position,
    /// Disk space, for the handling of a full disk.
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
    /// Number of lost records.
    pub lost: u64,
    /// Message for the operator.
    pub message: String,
}

impl std::fmt::Display for Damage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "journal segment {}, byte {}: {}", self.segment, self.offset, self.message)
    }
}

/// Result of opening the journal.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OpenReport {
    /// The last record.
    pub head: Position,
    /// Bytes of an unfinished batch after it, which was never confirmed.
    pub torn_bytes: u64,
    /// Damage in the last segment. Damage in earlier segments is found by readers.
    pub damaged: Vec<Damage>,
}

/// Errors of the journal.
#[derive(Debug, Clone, Error)]
pub enum JournalError {
    /// The disk failed.
    #[error("journal: {0}")]
    Io(Arc<IoError>),
    /// The key of a segment could not be created or read.
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
    /// There is no readable record at a location.
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

/// The journal. It is closed by [`Journal::close`] or when it is dropped.
pub struct Journal {
    shared: Arc<Shared>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl Journal {
    /// Opens the journal and starts its writer thread.
    ///
    /// # Errors
    /// [`JournalError::Io`], [`JournalError::Key`]. Damage is not an error; it is in the report.
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
        found.raise_to(options.floor);
        let shared = Arc::new(Shared::new(disk, options, keys, found.segments, found.durable));
        let writer = writer::start(Arc::clone(&shared), on_commit)?;
        Ok((Self { shared, writer: Mutex::new(Some(writer)) }, found.report))
    }

    /// Queues a record; waits while the queue is full. Numbers are assigned in the order of the queue.
    ///
    /// # Errors
    /// [`JournalError::TooLarge`], [`JournalError::Poisoned`], [`JournalError::Closed`].
    pub async fn append(&self, entry: Entry) -> Result<Pending, JournalError> {
        queue::append(&self.shared, entry).await
    }

    /// As [`Journal::append`], for threads outside of an async runtime.
    ///
    /// # Errors
    /// As [`Journal::append`].
    pub fn append_blocking(&self, entry: Entry) -> Result<Pending, JournalError> {
        queue::block_on(self.append(entry))
    }

    /// Round trip through the queue and the writer thread, without a record.
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

    /// Receives every move of the head.
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
    /// [`JournalError::Damaged`] if none can be read there, [`JournalError::Key`] if the segment's
    /// key cannot be read, [`JournalError::Io`].
    pub fn read_at(&self, location: Location) -> Result<Committed, JournalError> {
        reader::read_at(&self.shared, location)
    }

    /// The segments, for an index with a part per segment.
    pub fn segments(&self) -> Segments {
        Segments::new(Arc::clone(&self.shared))
    }

    /// Erases the segments before the one that begins at `first`: files first, then their keys. Returns the erased
    /// segments. If it is interrupted, the caller repeats it.
    ///
    /// # Errors
    /// [`JournalError::Io`], [`JournalError::Key`].
    pub fn forget_before(&self, first: u64) -> Result<Vec<u64>, JournalError> {
        segments::forget_before(&self.shared, first)
    }

    /// Refuses new records, writes and syncs queued ones, and ends the writer thread. May be called again.
    pub fn close(&self) {
        self.shared.close();
        let writer = locked(&self.writer).take();
        // The last owner may be dropped on the writer thread itself, which cannot join itself.
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
