//! What operators ask. Nothing here changes anything.

use serde::{Deserialize, Serialize};

use super::{Store, StoreError};
use crate::clock::{Clocks, Known, Moment, is_plausible};
use crate::journal::{JournalError, Location, Position};
use crate::keys::KeyId;
use crate::ledger::Ledger;
use crate::names::{CameraName, EventKey};
use crate::record::{Event, Identification, Media, Person, Record, Thumbnail};
use crate::time::Timestamp;
use crate::views::entries::{self, FileEntry, Key, MediaState, Preview};

/// Catalogue entries held beside those that are asked for: few hundred kilobytes.
const MEDIA_AT_ONCE: usize = 1000;

/// Which events, newest first.
#[derive(Debug, Clone, Default)]
pub struct EventQuery {
    /// Only of this camera.
    pub camera: Option<CameraName>,
    /// Only those in which this person was matched.
    pub person: Option<String>,
    /// Only those that came at or after, by what is known of the time.
    pub since: Option<Timestamp>,
    /// At most so many.
    pub limit: usize,
}

/// An event as it is told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EventView {
    /// Its number.
    pub seq: u64,
    /// The visit.
    pub event: Event,
    /// The answer, with the people that are still enrolled.
    pub identification: Identification<Person>,
    /// When it really came, as far as that is known now.
    pub time: Known,
}

/// Which media files, newest first.
#[derive(Debug, Clone, Default)]
pub struct MediaQuery {
    /// Only of this event.
    pub event: Option<EventKey>,
    /// At most so many.
    pub limit: usize,
}

/// A media file as it is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MediaView {
    /// The file.
    pub media: Media,
    /// How far it is.
    pub state: MediaState,
    /// Whether it still lies on this device.
    pub on_disk: bool,
    /// Thumbnails of it at the central side.
    pub thumbnails: Vec<Thumbnail>,
    /// Why it cannot be shown, in words; none for a whole picture, and for what is none.
    pub fault: Option<String>,
}

/// The store in numbers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StoreStatus {
    /// Last durable position.
    pub head: Position,
    /// Records that the views have still to take.
    pub view_lag: u64,
    /// People in the gallery in use.
    pub people: usize,
    /// Templates in it.
    pub templates: usize,
    /// Events that the rows sink does not have.
    pub pending_events: u64,
    /// Media files that the objects sink does not have.
    pub pending_media: u64,
    /// Age mark: when the oldest pending event came.
    pub oldest_pending: Option<Timestamp>,
    /// Plaintext bytes of media files on disk.
    pub media_bytes: u64,
    /// Their quota.
    pub media_quota_bytes: u64,
    /// Media files in the catalogue, delivered and gone ones included.
    pub media_files: u64,
}

impl Store {
    /// Events, newest first, without those whose record is damaged. Blocking.
    ///
    /// # Errors
    /// [`StoreError`] where views or journal cannot be read.
    pub fn events(&self, query: &EventQuery) -> Result<Vec<EventView>, StoreError> {
        let (mut found, clocks) = (Vec::new(), self.clocks()?);
        for entry in self.inner.events.newest_first(query.camera.as_ref()) {
            let entry = entry?;
            let time = clocks.when(Moment::Event(entry.seq), entry.received_at);
            match query.since {
                _ if found.len() >= query.limit => break,
                // Of a clock that was never set nothing follows for those before.
                Some(since) if time.at < since && !is_plausible(time.at) => continue,
                Some(since) if time.at < since => break,
                _ => {}
            }
            let view = match self.event_in(entry.location, &clocks) {
                // One damaged record must not hide all the others. Opening and delivery report it.
                Err(StoreError::Journal(JournalError::Damaged { .. })) => continue,
                view => view?,
            };
            found.extend(view.filter(|view| query.fits(view)));
        }
        Ok(found)
    }

    /// One event by its identity. Blocking.
    ///
    /// # Errors
    /// As [`Store::events`].
    pub fn event(&self, key: &EventKey) -> Result<Option<EventView>, StoreError> {
        match self.inner.events.find(key, u64::MAX)? {
            Some(entry) => self.event_at(entry.location),
            None => Ok(None),
        }
    }

    /// One event by its number. Blocking.
    ///
    /// # Errors
    /// As [`Store::events`].
    pub fn event_numbered(&self, seq: u64) -> Result<Option<EventView>, StoreError> {
        match self.inner.events.at_or_after(seq)? {
            Some(entry) if entry.seq == seq => self.event_at(entry.location),
            _ => Ok(None),
        }
    }

    fn event_at(&self, location: Location) -> Result<Option<EventView>, StoreError> {
        self.event_in(location, &self.clocks()?)
    }

    fn event_in(&self, location: Location, clocks: &Clocks) -> Result<Option<EventView>, StoreError> {
        let committed = self.inner.journal.read_at(location)?;
        let Record::Event { event, identification } = Record::decode(&committed.payload)? else {
            return Ok(None);
        };
        let identification = self.resolve(&event.key, identification);
        let seq = committed.position.seq;
        let time = clocks.when(Moment::Event(seq), event.received_at);
        Ok(Some(EventView { seq, event, identification, time }))
    }

    /// Media files, newest first. Blocking.
    ///
    /// # Errors
    /// As [`Store::events`].
    pub fn media(&self, query: &MediaQuery) -> Result<Vec<MediaView>, StoreError> {
        let views = &self.inner.views;
        let mut files = Vec::new();
        match &query.event {
            Some(event) => {
                for entry in views.scan(entries::files_of(event), false) {
                    let (name, value) = entry?;
                    let id: KeyId = views.unseal(&name, &value)?;
                    files.extend(views.get::<FileEntry>(&Key::File(id))?);
                }
            }
            None => {
                for entry in views.scan(vec![entries::FILE], false) {
                    let (name, value) = entry?;
                    files.push(views.unseal::<FileEntry>(&name, &value)?);
                    // The catalogue may hold millions; by their keys they come in no order.
                    if files.len() >= query.limit.saturating_add(MEDIA_AT_ONCE) {
                        newest(&mut files, query.limit);
                    }
                }
            }
        }
        newest(&mut files, query.limit);
        files.into_iter().map(|file| self.told(file)).collect()
    }

    /// One media file by its id. Blocking.
    ///
    /// # Errors
    /// As [`Store::events`].
    pub fn media_file(&self, id: &KeyId) -> Result<Option<MediaView>, StoreError> {
        let file = self.inner.views.get::<FileEntry>(&Key::File(*id))?;
        file.map(|file| self.told(file)).transpose()
    }

    fn told(&self, file: FileEntry) -> Result<MediaView, StoreError> {
        let FileEntry { media, state, on_disk, .. } = file;
        let Preview { thumbnails, fault } = self.preview(&media.id)?;
        Ok(MediaView { media, state, on_disk, thumbnails, fault })
    }

    /// What was found when a picture was looked at; nothing where it was not.
    pub(super) fn preview(&self, id: &KeyId) -> Result<Preview, StoreError> {
        Ok(self.inner.views.get(&Key::Previewed(*id))?.unwrap_or_default())
    }

    /// The ledger at the position that the views have.
    pub fn ledger(&self) -> Ledger {
        self.inner.numbers.borrow().totals.ledger.clone()
    }

    /// The store in numbers.
    pub fn status(&self) -> StoreStatus {
        let numbers = self.inner.numbers.borrow().clone();
        let head = self.inner.journal.head();
        let galleries = self.galleries();
        let totals = &numbers.totals;
        // The age of the oldest is worth telling only where it can be had; the question must not fail for it.
        let oldest = self.inner.events.at_or_after(totals.rows.seq + 1).ok().flatten();
        let clocks = self.clocks().unwrap_or_default();
        StoreStatus {
            head,
            view_lag: head.lsn.saturating_sub(totals.applied.lsn),
            people: galleries.in_use.gallery.people(),
            templates: galleries.in_use.gallery.templates(),
            pending_events: totals.ledger.events.pending(),
            pending_media: totals.ledger.files.pending(),
            oldest_pending: oldest.map(|e| clocks.when(Moment::Event(e.seq), e.received_at).at),
            media_bytes: totals.media_bytes,
            media_quota_bytes: self.inner.settings.media_quota_bytes,
            media_files: numbers.counts.files(),
        }
    }
}

fn newest(files: &mut Vec<FileEntry>, limit: usize) {
    files.sort_by_key(|file| std::cmp::Reverse(file.lsn));
    files.truncate(limit);
}

impl EventQuery {
    /// Whether an event is of the camera and the person that are asked for.
    fn fits(&self, view: &EventView) -> bool {
        self.camera.as_ref().is_none_or(|camera| *camera == view.event.key.camera)
            && self.person.as_ref().is_none_or(|person| view.shows(person))
    }
}

impl EventView {
    fn shows(&self, person: &str) -> bool {
        let faces = &self.identification.faces;
        faces.iter().any(|face| face.person.as_ref().is_some_and(|found| found.id == person))
    }
}
