//! Access to the segments, for an index with a part per segment.

use std::sync::Arc;

use gatehouse_vault::error::IoError;
use gatehouse_vault::seal::DataKey;

use super::open::is_missing;
use super::shared::{Shared, locked};
use super::{Committed, JournalError, Location, Reader, reader, segment};

/// Handle to the segments. Cheap to clone; it does not keep the journal open.
#[derive(Clone)]
pub struct Segments {
    shared: Arc<Shared>,
}

/// A segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listed {
    /// Its first lsn, which is its name.
    pub first: u64,
    /// Number of the last event before it; none if its header is damaged.
    pub before_seq: Option<u64>,
}

impl Segments {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// All segments with a record, oldest first.
    pub fn list(&self) -> Vec<Listed> {
        let head = self.shared.durable().position.lsn;
        let segments = locked(&self.shared.segments);
        segments
            .range(..=head)
            .map(|(first, known)| Listed { first: *first, before_seq: known.before_seq })
            .collect()
    }

    /// The key of a segment; none if it is destroyed or damaged.
    pub fn key(&self, first: u64) -> Option<Arc<DataKey>> {
        let id = locked(&self.shared.segments).get(&first)?.key?;
        self.shared.keys.key(&id).ok()
    }

    /// The records of a segment that are durable now, in order, without damaged ones.
    pub fn records(&self, first: u64) -> impl Iterator<Item = Result<Committed, JournalError>> + use<> {
        let mut reader = Reader::new(Arc::clone(&self.shared), first.saturating_sub(1));
        let next = move || reader.next().transpose();
        std::iter::from_fn(next)
            .take_while(move |record| record.as_ref().map_or(true, |record| record.location.segment == first))
    }

    /// One record, as [`super::Journal::read_at`].
    pub fn read_at(&self, location: Location) -> Result<Committed, JournalError> {
        reader::read_at(&self.shared, location)
    }
}

/// As [`super::Journal::forget_before`]. The next start destroys a key without a file, while a file without a key
/// would count as damage.
pub(super) fn forget_before(shared: &Shared, first: u64) -> Result<Vec<u64>, JournalError> {
    let writing = shared.durable().segment;
    let erased: Vec<_> = {
        let segments = locked(&shared.segments);
        segments.range(..first.min(writing)).map(|(first, known)| (*first, known.key)).collect()
    };
    let directory = &shared.options.directory;
    for (first, _) in &erased {
        let path = segment::path(directory, *first);
        match shared.disk.remove(&path) {
            Err(error) if !is_missing(&error) => return Err(IoError::at("remove", &path)(error).into()),
            _ => {}
        }
    }
    shared.disk.sync_dir(directory).map_err(IoError::at("sync", directory))?;
    for (first, key) in &erased {
        if let Some(key) = key {
            shared.keys.destroy(key)?;
        }
        locked(&shared.segments).remove(first);
    }
    Ok(erased.into_iter().map(|(first, _)| first).collect())
}
