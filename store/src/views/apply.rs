//! The changes of the views by journal records.
//!
//! A [`Draft`] collects the changes of a few records on top of sled, and is written with the new totals in
//! one atomic batch. Actions outside of sled (destroy a key, remove a file) are collected as [`Effect`]s.
//! They are done before the batch is written. Each is idempotent, so the replay after a crash repeats it.

use std::collections::BTreeMap;

use gatehouse_journal::{Location, Position};
use gatehouse_model::{Event, EventKey, GalleryMark, KeyId, Timestamp};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::entries::{
    self, Comparison, ErasureOrder, FileEntry, Key, MediaState, PeopleCursor, Preview, State, UploadSoFar,
};
use super::{ViewError, Views};
use crate::clock::{BOOTS_MAX, Boot, Reading, ReferenceTime};
use crate::files::{has_thumbnails, is_picture};
use crate::index::EventIndex;
use crate::record::{Erasure, ErasureAccount, Media, Record};

/// State of a delivered media file of an erased person.
const ERASED: &str = "erasure";

/// An action outside of the views.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Destroy a key.
    DestroyKey(KeyId),
    /// Remove a media file with its key.
    RemoveFile(KeyId),
}

/// Changes that are not written yet.
pub(crate) struct Draft<'a> {
    views: &'a Views,
    events: &'a EventIndex,
    changes: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    pub(crate) state: State,
    pub(crate) effects: Vec<Effect>,
}

impl<'a> Draft<'a> {
    pub(crate) fn new(views: &'a Views, events: &'a EventIndex, state: State) -> Self {
        Self { views, events, changes: BTreeMap::new(), state, effects: Vec::new() }
    }

    /// Keys touched so far.
    pub(crate) fn len(&self) -> usize {
        self.changes.len()
    }

    /// Writes the changes with the state in one step and returns the new state. If only the state changed, as
    /// with most events, it is left to [`Views::flush`]. A lost state is folded again.
    pub(crate) fn write(self) -> Result<State, ViewError> {
        if !self.changes.is_empty() {
            self.views.write(self.changes, &self.state)?;
        }
        Ok(self.state)
    }

    /// Takes an entry of a snapshot in its stored form.
    pub(crate) fn put_stored(&mut self, name: Vec<u8>, stored: Vec<u8>) -> Result<(), ViewError> {
        self.put_raw(name, stored)
    }

    /// Applies one record.
    pub(crate) fn apply(
        &mut self,
        at: Position,
        location: Location,
        record: Record,
    ) -> Result<(), ViewError> {
        self.state.totals.fold(at, &record);
        match record {
            Record::Event { event, .. } => self.event(at, location, &event),
            Record::Media(media) => self.media(at, location, media),
            Record::EventFound { id, received_at } => self.event_found(&id, received_at),
            Record::Profile { person, sealed } => self.put_raw(Key::Profile(person).bytes(), sealed),
            Record::Templates { gallery, person, sealed, replaces } => {
                self.templates(gallery, person, sealed, replaces)
            }
            Record::ErasureOrdered(erasure) => self.put(&Key::ErasureUnderWay(erasure.person), &erasure),
            Record::Erased(erasure) => self.erased(at, erasure),
            Record::ErasureVerified { person, account } => self.erasure_verified(at, person, account),
            Record::MediaErased { id } => self.media_erased(&id),
            Record::RowsDelivered { lsn, .. } => self.erasures_delivered(lsn),
            Record::MediaDelivered { id, place, .. } => self.settle(&id, MediaState::Delivered(place)),
            Record::MediaDropped { id, reason, .. } => self.settle(&id, MediaState::Dropped(reason)),
            Record::MediaEvicted { id, .. } => self.evicted(&id),
            Record::Previewed { id, thumbnails, fault } => self.previewed(id, &Preview { thumbnails, fault }),
            Record::TemplateKey(mark) => self.put(&Key::TemplateMark, &mark),
            Record::GalleryAdded(mark) => self.gallery_added(&mark),
            Record::GallerySwitched { gallery } => self.put(&Key::GalleryInUse, &gallery),
            Record::GalleryRemoved { gallery } => {
                self.remove(&Key::Comparison)?;
                self.remove(&Key::Gallery(gallery))?;
                self.remove(&Key::GalleryCalibration(gallery))?;
                self.put(&Key::GalleryGone(gallery), &())
            }
            Record::GalleryCalibrated { gallery, calibration } => {
                let key = Key::GalleryCalibration(gallery);
                match calibration {
                    Some(calibration) => self.put(&key, &*calibration),
                    None => self.remove(&key),
                }
            }
            Record::Compared(compared) => {
                let mut comparison: Comparison = self.get(&Key::Comparison)?.unwrap_or_default();
                comparison.count(compared);
                self.put(&Key::Comparison, &comparison)
            }
            Record::TemplateKeyRetired { key } => {
                self.effects.push(Effect::DestroyKey(key));
                Ok(())
            }
            Record::PartSent { id, upload, part_bytes, number, etag } => {
                self.part_sent(&id, UploadSoFar { upload, part_bytes, etags: vec![etag] }, number)
            }
            Record::ErasureKnown(known) => self.put(&Key::ErasureOrder(known.order), &known),
            Record::PeopleTaken { upto, change, newest } => {
                self.put(&Key::PeopleTaken, &PeopleCursor { upto, change, newest })
            }
            Record::Clock(reading) => self.clock_was_set(at, &reading),
            Record::ReferenceTime(reference) => self.reference_time(reference),
            Record::Refused { .. }
            | Record::Duplicate { .. }
            | Record::EventsDropped { .. }
            | Record::SnapshotPart { .. }
            | Record::SnapshotEnd { .. } => Ok(()),
        }
    }

    /// Samples of the new model were skipped until now: all people are requested again.
    fn gallery_added(&mut self, mark: &GalleryMark) -> Result<(), ViewError> {
        self.remove(&Key::Comparison)?;
        self.remove(&Key::GalleryGone(mark.number))?;
        if let Some(cursor) = self.get::<PeopleCursor>(&Key::PeopleTaken)? {
            self.put(&Key::PeopleTaken, &cursor.reset())?;
        }
        self.put(&Key::Gallery(mark.number), mark)
    }

    fn event(&mut self, at: Position, location: Location, event: &Event) -> Result<(), ViewError> {
        self.events.add(at.seq, location, event);
        if self.state.counts.waiting() == 0 {
            return Ok(());
        }
        for id in self.files_of(&event.key)? {
            self.event_found(&id, event.received_at)?;
        }
        Ok(())
    }

    fn event_found(&mut self, id: &KeyId, received_at: Timestamp) -> Result<(), ViewError> {
        let Some(mut file) = self.get::<FileEntry>(&Key::File(*id))? else { return Ok(()) };
        if file.state != MediaState::Waiting {
            return Ok(());
        }
        file.event_received_at = Some(received_at);
        file.state = MediaState::Pending;
        self.remove(&Key::Waiting(file.lsn))?;
        self.queue(file.lsn, &file.media)?;
        self.put(&Key::File(*id), &file)
    }

    /// Adds a file to its queues.
    fn queue(&mut self, lsn: u64, media: &Media) -> Result<(), ViewError> {
        let name = media.name.as_str();
        if has_thumbnails(name) {
            self.put(&Key::Preview(lsn), &media.id)?;
        }
        let queue = if is_picture(name) { Key::Queue(lsn) } else { Key::Clip(lsn) };
        self.put(&queue, &media.id)
    }

    fn previewed(&mut self, id: KeyId, preview: &Preview) -> Result<(), ViewError> {
        let Some(file) = self.get::<FileEntry>(&Key::File(id))? else { return Ok(()) };
        self.remove(&Key::Preview(file.lsn))?;
        self.put(&Key::Previewed(id), preview)
    }

    /// An event that is too old for the recent fingerprints is found before the file would be dropped as an
    /// orphan.
    fn media(&mut self, at: Position, location: Location, media: Media) -> Result<(), ViewError> {
        let event = match self.events.is_recent(&media.event) {
            true => self.events.find(&media.event, location.segment)?,
            false => None,
        };
        let event_received_at = event.map(|event| event.received_at);
        let known = event_received_at.is_some();
        let state = if known { MediaState::Pending } else { MediaState::Waiting };
        match known {
            true => self.queue(at.lsn, &media)?,
            false => self.put(&Key::Waiting(at.lsn), &media.id)?,
        }
        self.put(&Key::FileName(&media.event, &media.name), &media.id)?;
        let id = media.id;
        self.put(&Key::File(id), &FileEntry { lsn: at.lsn, media, state, on_disk: true, event_received_at })
    }

    fn settle(&mut self, id: &KeyId, state: MediaState) -> Result<(), ViewError> {
        let Some(mut file) = self.get::<FileEntry>(&Key::File(*id))? else { return Ok(()) };
        self.remove(&Key::Upload(*id))?;
        let queues =
            [Key::Waiting(file.lsn), Key::Queue(file.lsn), Key::Clip(file.lsn), Key::Preview(file.lsn)];
        for queue in &queues {
            self.remove(queue)?;
        }
        if matches!(state, MediaState::Delivered(_)) {
            self.put(&Key::Delivered(file.lsn), id)?;
        } else {
            file.on_disk = false;
            self.effects.push(Effect::RemoveFile(*id));
        }
        file.state = state;
        self.put(&Key::File(*id), &file)
    }

    /// A part that does not continue the known ones is ignored. The upload then starts from the beginning.
    fn part_sent(&mut self, id: &KeyId, part: UploadSoFar, number: u16) -> Result<(), ViewError> {
        if number == 0 {
            return self.remove(&Key::Upload(*id));
        }
        let pending = self.get::<FileEntry>(&Key::File(*id))?.is_some_and(|f| f.state == MediaState::Pending);
        let known = self.get::<UploadSoFar>(&Key::Upload(*id))?.filter(|known| known.upload == part.upload);
        let before = known.as_ref().map_or(0, |known| known.etags.len());
        if !pending || before + 1 != usize::from(number) {
            return Ok(());
        }
        let upload = match known {
            Some(mut known) => {
                known.etags.extend(part.etags);
                known
            }
            None => part,
        };
        self.put(&Key::Upload(*id), &upload)
    }

    fn evicted(&mut self, id: &KeyId) -> Result<(), ViewError> {
        let Some(mut file) = self.get::<FileEntry>(&Key::File(*id))? else { return Ok(()) };
        self.remove(&Key::Delivered(file.lsn))?;
        self.effects.push(Effect::RemoveFile(*id));
        file.on_disk = false;
        self.put(&Key::File(*id), &file)
    }

    /// Negative samples are stored with the others: the associated data of the seal distinguishes them.
    fn templates(
        &mut self,
        gallery: u8,
        person: KeyId,
        sealed: Vec<Vec<u8>>,
        replaces: bool,
    ) -> Result<(), ViewError> {
        let mut known = self.names(&entries::templates_in(&person, gallery))?;
        for name in known.drain(..if replaces { known.len() } else { 0 }) {
            self.set(name, None)?;
        }
        let next = u32::try_from(known.len()).unwrap_or(u32::MAX);
        for (template, nth) in sealed.into_iter().zip(next..) {
            self.put_raw(Key::Template(person, gallery, nth).bytes(), template)?;
        }
        Ok(())
    }

    /// A removed file whose object is removed from the central services, too.
    fn media_erased(&mut self, id: &KeyId) -> Result<(), ViewError> {
        let Some(mut file) = self.get::<FileEntry>(&Key::File(*id))? else { return Ok(()) };
        if matches!(file.state, MediaState::Delivered(_)) {
            file.state = MediaState::Dropped(ERASED.to_owned());
        }
        self.put(&Key::File(*id), &file)
    }

    fn erased(&mut self, record: Position, erasure: Erasure) -> Result<(), ViewError> {
        self.put(&Key::ErasureUnderWay(erasure.person), &erasure)?;
        let Erasure { order, person, at, reference, notice, .. } = erasure;
        if let Some(reference) = reference {
            self.put(&Key::ErasureOrder(order), &ErasureOrder { order, reference, at })?;
        }
        self.effects.push(Effect::DestroyKey(person));
        self.remove(&Key::Profile(person))?;
        for name in self.names(&entries::templates_of(&person))? {
            self.set(name, None)?;
        }
        match notice {
            Some(notice) => self.put(&Key::Erasure(record.lsn), &notice.key),
            None => Ok(()),
        }
    }

    fn erasure_verified(
        &mut self,
        record: Position,
        person: Option<KeyId>,
        account: ErasureAccount,
    ) -> Result<(), ViewError> {
        if let Some(person) = person {
            self.remove(&Key::ErasureUnderWay(person))?;
        }
        match account.reference {
            Some(_) => self.put(&Key::ErasureStatement(account.order), &(record.lsn, account)),
            None => Ok(()),
        }
    }

    /// The central services have every erasure up to `lsn`: the keys of the notices can be destroyed.
    fn erasures_delivered(&mut self, lsn: u64) -> Result<(), ViewError> {
        for name in self.names(&[entries::ERASURE])? {
            let number = entries::number_in(&name).unwrap_or(u64::MAX);
            if number > lsn {
                break;
            }
            if let Some(key) = self.get::<KeyId>(&Key::Erasure(number))? {
                self.effects.push(Effect::DestroyKey(key));
            }
            self.set(name, None)?;
        }
        Ok(())
    }

    fn clock_was_set(&mut self, at: Position, reading: &Reading) -> Result<(), ViewError> {
        let mut names = self.names(&[entries::CLOCK])?;
        let newest = names.last().cloned();
        if let Some(name) = newest
            && let Some(mut boot) = self.get_named::<Boot>(&name)?.filter(|boot| boot.id == reading.boot)
        {
            boot.mark(at, reading);
            return self.put_named(name, &boot);
        }
        let surplus = (names.len() + 1).saturating_sub(BOOTS_MAX);
        for name in names.drain(..surplus) {
            self.set(name, None)?;
        }
        self.put(&Key::Clock(at.lsn), &Boot::new(at, reading))
    }

    fn reference_time(&mut self, reference: ReferenceTime) -> Result<(), ViewError> {
        for name in self.names(&[entries::CLOCK])?.into_iter().rev() {
            if let Some(mut boot) = self.get_named::<Boot>(&name)?.filter(|boot| boot.id == reference.boot) {
                boot.learn(reference);
                return self.put_named(name, &boot);
            }
        }
        Ok(())
    }

    fn files_of(&self, event: &EventKey) -> Result<Vec<KeyId>, ViewError> {
        let mut ids = Vec::new();
        for name in self.names(&entries::files_of(event))? {
            if let Some(id) = self.get_named(&name)? {
                ids.push(id);
            }
        }
        Ok(ids)
    }

    /// Names under a prefix, in order, including the changes of the draft.
    fn names(&self, prefix: &[u8]) -> Result<Vec<Vec<u8>>, ViewError> {
        let mut names = std::collections::BTreeSet::new();
        for entry in self.views.scan(prefix.to_vec(), false) {
            names.insert(entry?.0);
        }
        for (name, value) in self.changes.range(prefix.to_vec()..).take_while(|(n, _)| n.starts_with(prefix))
        {
            if value.is_some() {
                names.insert(name.clone())
            } else {
                names.remove(name)
            };
        }
        Ok(names.into_iter().collect())
    }

    fn get<T: DeserializeOwned>(&self, key: &Key<'_>) -> Result<Option<T>, ViewError> {
        self.get_named(&key.bytes())
    }

    fn get_named<T: DeserializeOwned>(&self, name: &[u8]) -> Result<Option<T>, ViewError> {
        match self.changes.get(name) {
            Some(Some(sealed)) => self.views.unseal(name, sealed).map(Some),
            Some(None) => Ok(None),
            None => match self.views.db.get(name)? {
                Some(sealed) => self.views.unseal(name, &sealed).map(Some),
                None => Ok(None),
            },
        }
    }

    fn put<T: Serialize>(&mut self, key: &Key<'_>, value: &T) -> Result<(), ViewError> {
        self.put_named(key.bytes(), value)
    }

    fn put_named<T: Serialize>(&mut self, name: Vec<u8>, value: &T) -> Result<(), ViewError> {
        let sealed = self.views.seal(&name, value)?;
        self.put_raw(name, sealed)
    }

    fn put_raw(&mut self, name: Vec<u8>, value: Vec<u8>) -> Result<(), ViewError> {
        self.set(name, Some(value))
    }

    fn remove(&mut self, key: &Key<'_>) -> Result<(), ViewError> {
        self.set(key.bytes(), None)
    }

    /// Changes a key. All changes must go through here, because only this function counts entries.
    fn set(&mut self, name: Vec<u8>, value: Option<Vec<u8>>) -> Result<(), ViewError> {
        let there = match self.changes.get(&name) {
            Some(change) => change.is_some(),
            None => self.views.db.contains_key(&name)?,
        };
        match (there, value.is_some()) {
            (false, true) => self.state.counts.count(&name, 1),
            (true, false) => self.state.counts.count(&name, -1),
            (false, false) => return Ok(()),
            (true, true) => {}
        }
        self.changes.insert(name, value);
        Ok(())
    }
}
