//! The event index: the location of each event in the journal, by number, identity, camera and age.
//!
//! There is one [`Part`] per journal segment, with 32 bytes per event. The part of the active segment is in
//! memory. The others are files sealed with the key of their segment, so that destroying that key destroys
//! them as well. A few of them are cached, so memory does not grow with the journal. A part may be lost or
//! damaged at any time: it is rebuilt from its segment at the next use. No caller waits for the write of a
//! part.
//!
//! The fingerprints of recent events are in memory as well ([`Recent`]). They answer the duplicate check of a
//! new event without the disk. A hit is confirmed in the journal, since fingerprints can collide.

use std::collections::{HashSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use gatehouse_journal::{JournalError, Listed, Location, Position, Segments};
use gatehouse_model::{CameraName, Event, EventKey, Timestamp};
use gatehouse_vault::error::IoError;

use crate::record::Record;

mod part;
mod recent;

use part::{Kept, Part, Row};
use recent::{Recent, fingerprint};

/// Parts in the cache in addition to the active one: about 1 MB each with events of 500 bytes.
const PARTS_CACHED_MAX: usize = 3;

/// An event in the index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) seq: u64,
    pub(crate) received_at: Timestamp,
    pub(crate) location: Location,
}

/// See the module.
pub(crate) struct EventIndex {
    directory: PathBuf,
    segments: Segments,
    /// Last segment that existed when the index was opened: nothing is added to it or to those before it.
    settled: u64,
    parts: Mutex<PartCache>,
    recent: Mutex<Recent>,
}

#[derive(Default)]
struct PartCache {
    /// The part of the segment that the views have reached. It is empty before the first record after the
    /// open.
    active: Part,
    /// Most recently used first.
    cached: VecDeque<Arc<Part>>,
    /// Segments whose part was found damaged.
    damaged: Vec<u64>,
}

impl EventIndex {
    /// Opens the index of a journal that was not written to yet. Parts of removed segments are deleted.
    ///
    /// # Errors
    /// [`IoError`] if the folder cannot be used.
    pub(crate) fn open(directory: &Path, segments: Segments) -> Result<Self, IoError> {
        std::fs::create_dir_all(directory).map_err(IoError::at("create", directory))?;
        let known: HashSet<PathBuf> =
            segments.list().iter().map(|s| part::path(directory, s.first)).collect();
        for entry in std::fs::read_dir(directory).map_err(IoError::at("list", directory))? {
            let path = entry.map_err(IoError::at("list", directory))?.path();
            if !known.contains(&path) {
                std::fs::remove_file(&path).map_err(IoError::at("remove", &path))?;
            }
        }
        Ok(Self {
            directory: directory.to_owned(),
            settled: segments.list().last().map_or(0, |last| last.first),
            segments,
            parts: Mutex::default(),
            recent: Mutex::default(),
        })
    }

    /// Loads the fingerprints of the newest events up to `upto`, as many as RAM may hold.
    ///
    /// # Errors
    /// [`JournalError`] if a part cannot be made.
    pub(crate) fn load_recent(&self, upto: Position) -> Result<(), JournalError> {
        let (mut newest, mut rows) = (Vec::new(), self.rows_newest_first());
        for found in rows.by_ref().take(Recent::CAPACITY) {
            let (_, row) = found?;
            if row.seq <= upto.seq {
                newest.push(row.fingerprint);
            }
        }
        let mut recent = self.recent();
        if rows.next().is_some() {
            recent.forget();
        }
        newest.into_iter().rev().for_each(|fingerprint| recent.insert(fingerprint));
        Ok(())
    }

    /// The segments whose parts were found damaged since the last call.
    pub(crate) fn damaged(&self) -> Vec<u64> {
        std::mem::take(&mut self.parts().damaged)
    }

    // --- updates by the views ---

    /// Called when the views reach a record of this segment. With the first record of a new segment, the part
    /// of the previous one is complete.
    pub(crate) fn enter(&self, segment: u64) {
        let complete = {
            let mut parts = self.parts();
            if segment <= self.settled || segment == parts.active.segment {
                return;
            }
            let active = Part { segment, rows: Vec::new() };
            let complete = Arc::new(std::mem::replace(&mut parts.active, active));
            if complete.segment == 0 {
                return;
            }
            parts.keep(Arc::clone(&complete));
            complete
        };
        self.write(&complete);
    }

    /// Adds an event whose segment was entered.
    pub(crate) fn add(&self, seq: u64, location: Location, event: &Event) {
        self.remember(&event.key);
        let mut parts = self.parts();
        if location.segment == parts.active.segment {
            parts.active.rows.push(Row::of(seq, location, event));
        }
    }

    /// Remembers the fingerprint of an event.
    pub(crate) fn remember(&self, key: &EventKey) {
        let (mut recent, fingerprint) = (self.recent(), fingerprint(key));
        if !recent.contains(fingerprint) {
            recent.insert(fingerprint);
        }
    }

    /// Removes the parts of removed segments.
    pub(crate) fn forget(&self, segments: &[u64]) {
        self.parts().cached.retain(|part| !segments.contains(&part.segment));
        for segment in segments {
            // A file that cannot be removed is deleted at the next start; its key is destroyed.
            let _ = std::fs::remove_file(part::path(&self.directory, *segment));
        }
    }

    // --- queries ---

    /// The last event of a segment; none if it has no events.
    ///
    /// # Errors
    /// As [`EventIndex::find`].
    pub(crate) fn newest_in(&self, segment: u64) -> Result<Option<Entry>, JournalError> {
        self.look(segment, |part| part.rows.last().map(|row| row.entry(segment)))
    }

    /// Whether the event may be a recent one. At least the last million events are remembered, without false
    /// negatives.
    pub(crate) fn is_recent(&self, key: &EventKey) -> bool {
        self.recent().contains(fingerprint(key))
    }

    /// Finds an event by its identity. The search starts at segment `near` and goes to older ones first.
    ///
    /// # Errors
    /// [`JournalError`] if the journal cannot be read.
    pub(crate) fn find(&self, key: &EventKey, near: u64) -> Result<Option<Entry>, JournalError> {
        let wanted = fingerprint(key);
        let never = {
            let recent = self.recent();
            !recent.forgot() && !recent.contains(wanted)
        };
        if never {
            return Ok(None);
        }
        for segment in self.order(near) {
            for entry in self.look(segment, |part| part.with(wanted))? {
                if self.is(&entry, key)? {
                    return Ok(Some(entry));
                }
            }
        }
        Ok(None)
    }

    /// The first event with this number or a later one.
    ///
    /// # Errors
    /// As [`EventIndex::find`].
    pub(crate) fn at_or_after(&self, seq: u64) -> Result<Option<Entry>, JournalError> {
        let listed = self.listed();
        // A segment with a damaged header may contain the number.
        let begins_before = |at: &usize| listed[*at].before_seq.is_some_and(|before| before < seq);
        let from = (0..listed.len()).rev().find(begins_before).unwrap_or(0);
        for segment in &listed[from..] {
            if let Some(entry) = self.look(segment.first, |part| part.at_or_after(seq))? {
                return Ok(Some(entry));
            }
        }
        Ok(None)
    }

    /// Events of one camera or of all, newest first. Events of another camera may be included.
    pub(crate) fn newest_first(
        &self,
        camera: Option<&CameraName>,
    ) -> impl Iterator<Item = Result<Entry, JournalError>> + '_ {
        let camera = camera.map(part::camera_mark);
        self.rows_newest_first()
            .filter(move |found| {
                found.as_ref().map_or(true, |(_, row)| camera.is_none_or(|of| of == row.camera))
            })
            .map(|found| found.map(|(segment, row)| row.entry(segment)))
    }

    /// Verifies the files of the index after `after`: each segment, and whether its file is intact.
    pub(crate) fn verify(&self, after: u64) -> impl Iterator<Item = (u64, bool)> + '_ {
        let behind = self.listed().into_iter().map(|listed| listed.first).filter(move |first| *first > after);
        behind.map(|first| (first, !matches!(self.read(first), Kept::Damaged)))
    }

    // --- parts ---

    fn rows_newest_first(&self) -> impl Iterator<Item = Result<(u64, Row), JournalError>> + '_ {
        let mut segments = self.listed().into_iter().rev();
        let (mut part, mut left) = (Arc::new(Part::default()), 0);
        std::iter::from_fn(move || {
            while left == 0 {
                part = match self.part(segments.next()?.first) {
                    Ok(part) => part,
                    Err(error) => return Some(Err(error)),
                };
                left = part.rows.len();
            }
            left -= 1;
            part.rows.get(left).map(|row| Ok((part.segment, *row)))
        })
    }

    /// The indexed segments, oldest first.
    fn listed(&self) -> Vec<Listed> {
        let active = self.parts().active.segment;
        let mut listed = self.segments.list();
        // The writer is ahead of the views, but the views process the first records of a segment before
        // others can read them.
        listed.retain(|segment| segment.first <= self.settled.max(active));
        if listed.last().map_or(0, |last| last.first) < active {
            listed.push(Listed { first: active, before_seq: None });
        }
        listed
    }

    /// The segments in search order: cached ones, then from `near` to the oldest, then the younger ones.
    fn order(&self, near: u64) -> Vec<u64> {
        let mut order: Vec<u64> = self.listed().iter().map(|listed| listed.first).collect();
        let younger = order.split_off(order.partition_point(|first| *first <= near));
        order.reverse();
        order.extend(younger);
        let parts = self.parts();
        let cached =
            |first: &u64| *first == parts.active.segment || parts.cached.iter().any(|p| p.segment == *first);
        order.sort_by_key(|first| !cached(first));
        order
    }

    /// Reads a part. The active part is not copied.
    fn look<T>(&self, segment: u64, look: impl FnOnce(&Part) -> T) -> Result<T, JournalError> {
        let parts = self.parts();
        if segment == parts.active.segment {
            return Ok(look(&parts.active));
        }
        drop(parts);
        Ok(look(&*self.part(segment)?))
    }

    /// The part of a segment: from RAM, from its file, or rebuilt from the segment.
    fn part(&self, segment: u64) -> Result<Arc<Part>, JournalError> {
        if let Some(part) = self.parts().take(segment) {
            return Ok(part);
        }
        let part = match self.read(segment) {
            Kept::Whole(part) => Arc::new(part),
            kept => {
                if matches!(kept, Kept::Damaged) {
                    tracing::warn!(segment, "the event index of a journal segment is damaged; it is rebuilt");
                    self.parts().damaged.push(segment);
                }
                let part = Arc::new(self.make(segment)?);
                self.write(&part);
                part
            }
        };
        self.parts().keep(Arc::clone(&part));
        Ok(part)
    }

    fn make(&self, segment: u64) -> Result<Part, JournalError> {
        let mut rows = Vec::new();
        for committed in self.segments.records(segment) {
            let committed = committed?;
            if let Ok(Record::Event { event, .. }) = Record::decode(&committed.payload) {
                rows.push(Row::of(committed.position.seq, committed.location, &event));
            }
        }
        Ok(Part { segment, rows })
    }

    fn read(&self, segment: u64) -> Kept {
        part::read(&self.directory, segment, self.segments.key(segment).as_deref())
    }

    fn write(&self, part: &Part) {
        let Some(key) = self.segments.key(part.segment) else { return };
        if let Err(error) = part.write(&self.directory, &key) {
            tracing::warn!(%error, "cannot write a part of the event index; it is rebuilt at the next use");
        }
    }

    /// Whether the record at the entry is this event. A damaged one counts as this event, so that it is not
    /// stored a second time.
    fn is(&self, entry: &Entry, key: &EventKey) -> Result<bool, JournalError> {
        let committed = match self.segments.read_at(entry.location) {
            Err(JournalError::Damaged { .. }) => return Ok(true),
            committed => committed?,
        };
        let record = Record::decode(&committed.payload);
        Ok(matches!(record, Ok(Record::Event { event, .. }) if event.key == *key))
    }

    fn parts(&self) -> MutexGuard<'_, PartCache> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(crate) fn forget_all(&self) {
        *self.recent() = Recent::default();
        self.recent().forget();
    }

    fn recent(&self) -> MutexGuard<'_, Recent> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PartCache {
    /// The part of a segment, if it is in RAM.
    fn take(&mut self, segment: u64) -> Option<Arc<Part>> {
        if segment == self.active.segment {
            return Some(Arc::new(self.active.clone()));
        }
        let at = self.cached.iter().position(|part| part.segment == segment)?;
        let part = self.cached.remove(at)?;
        self.cached.push_front(Arc::clone(&part));
        Some(part)
    }

    fn keep(&mut self, part: Arc<Part>) {
        self.cached.retain(|kept| kept.segment != part.segment);
        self.cached.push_front(part);
        self.cached.truncate(PARTS_CACHED_MAX);
    }
}

#[cfg(test)]
mod tests;
