//! Selects the media files that are delivered next.

use std::collections::HashSet;

use gatehouse_model::{KeyId, Timestamp};

use super::super::StoreError;
use super::Media;
use crate::files::content_type;
use crate::record::Media as MediaFile;
use crate::views::entries::{self, FileEntry, Key};

/// Which part of a media file is to be delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Its thumbnails, which must be created first.
    Thumbnails,
    /// The file itself.
    Whole,
}

/// A media file to be delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MediaTask {
    /// The file.
    pub media: MediaFile,
    /// Receive time of its event by the uncorrected clock: the object's key contains its date and must never
    /// change.
    pub event_received_at: Timestamp,
    /// MIME type by name.
    pub content_type: &'static str,
    /// Which part of it.
    pub part: Part,
}

impl Media {
    /// The next deliveries, without the files in `skip`. Thumbnails come first, then pictures, then other
    /// files. All tasks of one call are of one kind, the oldest first. With `thumbnails`, a picture is never
    /// returned before its own thumbnails are delivered. Blocking.
    ///
    /// # Errors
    /// [`StoreError`] where the views cannot be read.
    pub fn next_tasks(
        &self,
        skip: &HashSet<KeyId>,
        limit: usize,
        thumbnails: bool,
    ) -> Result<Vec<MediaTask>, StoreError> {
        let mut tasks = Vec::new();
        let previews = thumbnails.then_some(entries::PREVIEW);
        for queue in previews.into_iter().chain([entries::QUEUE, entries::CLIP]) {
            for file in self.core.queued(queue)? {
                let file = file?;
                if tasks.len() == limit {
                    break;
                }
                let early = queue == entries::QUEUE && thumbnails && self.waits_for_thumbnails(&file)?;
                if !early && !skip.contains(&file.media.id) {
                    let part = if queue == entries::PREVIEW { Part::Thumbnails } else { Part::Whole };
                    tasks.push(MediaTask::new(file, part));
                }
            }
            if !tasks.is_empty() {
                break;
            }
        }
        Ok(tasks)
    }

    fn waits_for_thumbnails(&self, file: &FileEntry) -> Result<bool, StoreError> {
        let waits: Option<KeyId> = self.core.views.get(&Key::Preview(file.lsn))?;
        Ok(waits.is_some())
    }
}

impl MediaTask {
    fn new(file: FileEntry, part: Part) -> Self {
        let FileEntry { media, event_received_at, .. } = file;
        let content_type = content_type(media.name.as_str(), &[]);
        let event_received_at = event_received_at.unwrap_or(media.received_at);
        Self { media, event_received_at, content_type, part }
    }
}
