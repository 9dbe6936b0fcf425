//! Media files: sealed on disk first, then in the journal, then in the catalogue.
//!
//! A crash between file and journal leaves an unreferenced file, which opening removes. Disk space is freed
//! before a file is written, see [`eviction`](super::upkeep).

use std::sync::Arc;

use gatehouse_journal::Position;
use gatehouse_model::{EventKey, KeyId, MediaName, Timestamp, sha256};

use super::core::{Core, FILES_PER_BATCH, blocking};
use super::events::clock::Ages;
use super::upkeep::Upkeep;
use super::{Refusal, RequestError, StoreError};
use crate::clock::Moment;
use crate::files::{SealedReader, StoredFile};
use crate::record::{Item, Media as MediaFile, ObjectPlace, Record, Thumbnail};
use crate::views::entries::{self, FileEntry, Key, MediaState};

pub(in crate::store) mod queries;
pub(in crate::store) mod tasks;
pub(in crate::store) mod uploads;

/// The outcome of storing a media file. Everything is durable when this is returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MediaOutcome {
    /// Sealed on disk and in the journal.
    Stored(Position),
    /// The same file of the same event is stored already.
    Duplicate(Position),
    /// Refused, with a reason code of the MQTT contract.
    Refused(&'static str, Position),
}

/// Media files: storing, reading, delivery state, uploads. Cheap to clone.
#[derive(Clone)]
pub struct Media {
    core: Arc<Core>,
    upkeep: Upkeep,
}

impl Media {
    pub(in crate::store) fn new(core: &Arc<Core>, upkeep: &Upkeep) -> Self {
        Self { core: Arc::clone(core), upkeep: upkeep.clone() }
    }

    /// Stores a media file. Its event may arrive before or after it.
    ///
    /// # Errors
    /// [`StoreError`] where the disk or the journal failed. The file must not be acknowledged then.
    pub async fn put(
        &self,
        event: EventKey,
        name: MediaName,
        data: Vec<u8>,
    ) -> Result<MediaOutcome, StoreError> {
        let _lock = self.core.media_lock.lock().await;
        let bytes = data.len() as u64;
        if let Some(known) = self.file_named(&event, &name).await? {
            // Off the async threads: a digest of a large file takes a second on a small board.
            let is_same = known.media.size == bytes
                && known.media.sha256 == blocking(move || Ok(sha256(&data))).await?;
            if is_same {
                let record = Record::Duplicate { item: Item::Media, bytes };
                return Ok(MediaOutcome::Duplicate(self.core.change(&record).await?));
            }
            return self.refuse("media_conflict", bytes).await;
        }
        if !self.upkeep.make_space(bytes).await? {
            return self.refuse("disk_full", bytes).await;
        }
        let stored = match self.seal_file(data).await {
            Err(StoreError::File(error)) if error.is_full() => return self.refuse("disk_full", bytes).await,
            stored => stored?,
        };
        let StoredFile { id, size, sha256, .. } = stored;
        let media = MediaFile { id, event, name, size, sha256, received_at: Timestamp::now() };
        Ok(MediaOutcome::Stored(self.core.change(&Record::Media(media)).await?))
    }

    /// Opens a media file for reading; every chunk is authenticated as it is read. Blocking.
    ///
    /// # Errors
    /// [`Refusal::UnknownMedia`] where the file is not on this device any more.
    pub fn open(&self, id: &KeyId) -> Result<SealedReader, RequestError> {
        let known: Option<FileEntry> = self.core.views.get(&Key::File(*id))?;
        match known {
            Some(file) if file.on_disk => Ok(self.core.files.open_file(id)?),
            _ => Err(Refusal::UnknownMedia.into()),
        }
    }

    /// Notes that the object of this file is delivered to the central services and verified.
    ///
    /// # Errors
    /// [`StoreError`] where the journal failed.
    pub async fn delivered(&self, id: KeyId, place: ObjectPlace) -> Result<(), StoreError> {
        let _lock = self.core.media_lock.lock().await;
        if let Some(file) = self.pending_file(id).await? {
            self.core.change(&Record::MediaDelivered { id, bytes: file.media.size, place }).await?;
        }
        Ok(())
    }

    /// Notes that a picture was examined and that these thumbnails are delivered and verified. `fault` says
    /// why it cannot be displayed. The picture itself is still pending, so no counter changes.
    ///
    /// # Errors
    /// [`StoreError`] where the journal failed.
    pub async fn previewed(
        &self,
        id: KeyId,
        thumbnails: Vec<Thumbnail>,
        fault: Option<String>,
    ) -> Result<(), StoreError> {
        let _lock = self.core.media_lock.lock().await;
        if self.pending_file(id).await?.is_some() {
            self.core.change(&Record::Previewed { id, thumbnails, fault }).await?;
        }
        Ok(())
    }

    /// Drops a file that cannot be delivered.
    ///
    /// # Errors
    /// [`StoreError`] where the journal failed.
    pub async fn dropped(&self, id: KeyId, reason: &str) -> Result<(), StoreError> {
        let _lock = self.core.media_lock.lock().await;
        if let Some(file) = self.pending_file(id).await? {
            self.drop_file(&file, reason).await?;
        }
        Ok(())
    }

    /// Drops the media files whose event did not arrive before the timeout. Returns how many.
    ///
    /// # Errors
    /// [`StoreError`] where the views or the journal failed.
    pub async fn drop_orphans(&self) -> Result<usize, StoreError> {
        let mut dropped = 0;
        loop {
            // The lock is released after each batch, so that an arriving picture waits for one batch at most.
            let _lock = self.core.media_lock.lock().await;
            let media = self.clone();
            let records = blocking(move || media.late_files()).await?;
            let count = records.len();
            dropped += records.iter().filter(|record| matches!(record, Record::MediaDropped { .. })).count();
            self.core.change_all(records).await?;
            if count < FILES_PER_BATCH {
                return Ok(dropped);
            }
        }
    }

    /// Records for the files whose event did not arrive before the timeout, for one batch. The event may be
    /// older than the index in memory.
    fn late_files(&self) -> Result<Vec<Record>, StoreError> {
        let (ages, timeout) = (Ages::read(&self.core)?, self.core.settings.orphan_media);
        let mut records = Vec::new();
        for file in self.core.queued(entries::WAITING)? {
            let file = file?;
            if records.len() == FILES_PER_BATCH {
                break;
            }
            if ages.least(Moment::Record(file.lsn), file.media.received_at) <= timeout {
                continue;
            }
            let id = file.media.id;
            records.push(match self.core.events.find(&file.media.event, u64::MAX)? {
                Some(event) => Record::EventFound { id, received_at: event.received_at },
                None => Record::MediaDropped { id, bytes: file.media.size, reason: "no_event".to_owned() },
            });
        }
        Ok(records)
    }

    async fn refuse(&self, reason: &'static str, bytes: u64) -> Result<MediaOutcome, StoreError> {
        let record = Record::Refused { item: Item::Media, reason: reason.to_owned(), bytes };
        Ok(MediaOutcome::Refused(reason, self.core.change(&record).await?))
    }

    async fn seal_file(&self, data: Vec<u8>) -> Result<StoredFile, StoreError> {
        let core = Arc::clone(&self.core);
        blocking(move || Ok(core.files.put(&data)?)).await
    }

    async fn drop_file(&self, file: &FileEntry, reason: &str) -> Result<(), StoreError> {
        let (id, bytes) = (file.media.id, file.media.size);
        self.core.change(&Record::MediaDropped { id, bytes, reason: reason.to_owned() }).await?;
        Ok(())
    }

    async fn pending_file(&self, id: KeyId) -> Result<Option<FileEntry>, StoreError> {
        let core = Arc::clone(&self.core);
        let file: Option<FileEntry> = blocking(move || Ok(core.views.get(&Key::File(id))?)).await?;
        Ok(file.filter(|file| file.state == MediaState::Pending))
    }

    async fn file_named(&self, event: &EventKey, name: &MediaName) -> Result<Option<FileEntry>, StoreError> {
        let (core, event, name) = (Arc::clone(&self.core), event.clone(), name.clone());
        blocking(move || match core.views.get::<KeyId>(&Key::FileName(&event, &name))? {
            Some(id) => Ok(core.views.get(&Key::File(id))?),
            None => Ok(None),
        })
        .await
    }
}

#[cfg(test)]
mod tests;
