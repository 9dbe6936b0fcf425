//! Media files: sealed on disk first, then in the journal, then in the catalogue.
//!
//! A crash between file and journal leaves a file that nobody knows; opening removes it. Room for a new one is made
//! before it is written, see [`room`](super::room).

use std::sync::Arc;

use super::{Inner, Store, StoreError};
use crate::clock::Moment;
use crate::files::{SealedReader, StoredFile};
use crate::index::Entry;
use crate::journal::Position;
use crate::keys::KeyId;
use crate::names::{EventKey, MediaName};
use crate::record::{Item, Media, ObjectPlace, Record, Thumbnail};
use crate::seal::sha256;
use crate::time::Timestamp;
use crate::views::entries::{self, FileEntry, Key, MediaState};

/// What became of a media file. Everything is durable when this is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MediaOutcome {
    /// Sealed on disk and in the journal.
    Stored(Position),
    /// The same file of the same event was there already.
    Duplicate(Position),
    /// Refused, with the reason of the contract.
    Refused(&'static str, Position),
}

impl Store {
    /// Takes a media file of an event that came or will come.
    ///
    /// # Errors
    /// [`StoreError`] where the disk or the journal failed; then nothing was acknowledged.
    pub async fn put_media(
        &self,
        event: EventKey,
        name: MediaName,
        data: Vec<u8>,
    ) -> Result<MediaOutcome, StoreError> {
        let _door = self.inner.media_door.lock().await;
        let bytes = data.len() as u64;
        if let Some(known) = self.file_named(&event, &name)? {
            let same = known.media.size == bytes && known.media.sha256 == sha256(&data);
            if same {
                let record = Record::Duplicate { item: Item::Media, bytes };
                return Ok(MediaOutcome::Duplicate(self.change(&record).await?));
            }
            return self.refuse("media_conflict", bytes).await;
        }
        if !self.make_room(bytes).await? {
            return self.refuse("disk_full", bytes).await;
        }
        let stored = match self.seal_file(data).await {
            Err(StoreError::File(error)) if error.is_full() => return self.refuse("disk_full", bytes).await,
            stored => stored?,
        };
        let StoredFile { id, size, sha256, .. } = stored;
        let media = Media { id, event, name, size, sha256, received_at: Timestamp::now() };
        Ok(MediaOutcome::Stored(self.change(&Record::Media(media)).await?))
    }

    /// Opens a media file for reading; every chunk is authenticated as it is read.
    ///
    /// # Errors
    /// [`StoreError::UnknownMedia`] where the file is not on this device any more.
    pub fn open_media(&self, id: &KeyId) -> Result<SealedReader, StoreError> {
        let known: Option<FileEntry> = self.inner.views.get(&Key::File(*id))?;
        match known {
            Some(file) if file.on_disk => Ok(self.inner.files.open_file(id)?),
            _ => Err(StoreError::UnknownMedia),
        }
    }

    /// The object of this file is at the central side, verified.
    ///
    /// # Errors
    /// [`StoreError`] where the journal failed.
    pub async fn media_delivered(&self, id: KeyId, place: ObjectPlace) -> Result<(), StoreError> {
        let _door = self.inner.media_door.lock().await;
        if let Some(file) = self.pending_file(&id)? {
            self.change(&Record::MediaDelivered { id, bytes: file.media.size, place }).await?;
        }
        Ok(())
    }

    /// A picture was looked at: these thumbnails of it are at the central side, verified, and where it cannot be shown
    /// `fault` says why. Counts nothing: it is still to be delivered.
    ///
    /// # Errors
    /// [`StoreError`] where the journal failed.
    pub async fn media_previewed(
        &self,
        id: KeyId,
        thumbnails: Vec<Thumbnail>,
        fault: Option<String>,
    ) -> Result<(), StoreError> {
        let _door = self.inner.media_door.lock().await;
        if self.pending_file(&id)?.is_some() {
            self.change(&Record::Previewed { id, thumbnails, fault }).await?;
        }
        Ok(())
    }

    /// Gives up a file that cannot be delivered.
    ///
    /// # Errors
    /// [`StoreError`] where the journal failed.
    pub async fn media_dropped(&self, id: KeyId, reason: &str) -> Result<(), StoreError> {
        let _door = self.inner.media_door.lock().await;
        if let Some(file) = self.pending_file(&id)? {
            self.drop_file(&file, reason).await?;
        }
        Ok(())
    }

    /// Drops the media files whose event has not come in time. Returns how many.
    ///
    /// # Errors
    /// [`StoreError`] where the views or the journal failed.
    pub async fn drop_orphan_media(&self) -> Result<usize, StoreError> {
        let _door = self.inner.media_door.lock().await;
        let (ages, patience) = (self.ages()?, self.inner.settings.orphan_media);
        let late = |file: &FileEntry| ages.least(Moment::Record(file.lsn), file.media.received_at) > patience;
        let mut dropped = 0;
        for file in self.queued(entries::WAITING)?.filter(|file| file.as_ref().map_or(true, late)) {
            let file = file?;
            match self.event_of(&file).await? {
                Some(event) => {
                    let found = Record::EventFound { id: file.media.id, received_at: event.received_at };
                    self.change(&found).await?;
                }
                None => {
                    self.drop_file(&file, "no_event").await?;
                    dropped += 1;
                }
            }
        }
        Ok(dropped)
    }

    /// The event of a file that waits for it. All there are may have to be looked through.
    async fn event_of(&self, file: &FileEntry) -> Result<Option<Entry>, StoreError> {
        let (inner, key) = (self.inner.clone(), file.media.event.clone());
        let found = tokio::task::spawn_blocking(move || inner.events.find(&key, u64::MAX)).await;
        Ok(found.map_err(|_| StoreError::Stopping)??)
    }

    async fn refuse(&self, reason: &'static str, bytes: u64) -> Result<MediaOutcome, StoreError> {
        let record = Record::Refused { item: Item::Media, reason: reason.to_owned(), bytes };
        Ok(MediaOutcome::Refused(reason, self.change(&record).await?))
    }

    async fn seal_file(&self, data: Vec<u8>) -> Result<StoredFile, StoreError> {
        let inner: Arc<Inner> = self.inner.clone();
        let sealed = tokio::task::spawn_blocking(move || inner.files.put(&data)).await;
        Ok(sealed.map_err(|_| StoreError::Stopping)??)
    }

    async fn drop_file(&self, file: &FileEntry, reason: &str) -> Result<(), StoreError> {
        let (id, bytes) = (file.media.id, file.media.size);
        self.change(&Record::MediaDropped { id, bytes, reason: reason.to_owned() }).await?;
        Ok(())
    }

    fn pending_file(&self, id: &KeyId) -> Result<Option<FileEntry>, StoreError> {
        let file: Option<FileEntry> = self.inner.views.get(&Key::File(*id))?;
        Ok(file.filter(|file| file.state == MediaState::Pending))
    }

    fn file_named(&self, event: &EventKey, name: &MediaName) -> Result<Option<FileEntry>, StoreError> {
        match self.inner.views.get::<KeyId>(&Key::FileName(event, name))? {
            Some(id) => Ok(self.inner.views.get(&Key::File(id))?),
            None => Ok(None),
        }
    }

    /// The files of a queue, oldest first.
    pub(super) fn queued(
        &self,
        kind: u8,
    ) -> Result<impl Iterator<Item = Result<FileEntry, StoreError>> + use<>, StoreError> {
        let views = self.inner.views.clone();
        let entries = self.inner.views.scan(vec![kind], false);
        Ok(entries.filter_map(move |entry| {
            let file = entry.and_then(|(name, value)| {
                let id: KeyId = views.unseal(&name, &value)?;
                views.get::<FileEntry>(&Key::File(id))
            });
            file.map_err(StoreError::from).transpose()
        }))
    }
}

#[cfg(test)]
mod tests;
