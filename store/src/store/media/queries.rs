//! Read-only queries of media files.

use gatehouse_model::{EventKey, KeyId};
use serde::{Deserialize, Serialize};

use super::super::StoreError;
use super::Media;
use crate::record::{Media as MediaFile, Thumbnail};
use crate::views::entries::{self, FileEntry, Key, MediaState, Preview};

/// Catalogue entries held in addition to the requested ones: a few hundred kilobytes.
const MEDIA_AT_ONCE: usize = 1000;

/// Which media files, newest first.
#[derive(Debug, Clone, Default)]
pub struct MediaQuery {
    /// Only of this event.
    pub event: Option<EventKey>,
    /// Maximum number of results.
    pub limit: usize,
}

/// A media file as queries return it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MediaView {
    /// The file.
    pub media: MediaFile,
    /// Its delivery state.
    pub state: MediaState,
    /// Whether it is still on this device.
    pub on_disk: bool,
    /// Its thumbnails in the central storage.
    pub thumbnails: Vec<Thumbnail>,
    /// Why it cannot be displayed; none for an intact picture and for other files.
    pub fault: Option<String>,
}

impl Media {
    /// Media files, newest first. Blocking.
    ///
    /// # Errors
    /// [`StoreError`] where the views cannot be read.
    pub fn list(&self, query: &MediaQuery) -> Result<Vec<MediaView>, StoreError> {
        let views = &self.core.views;
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
                    // The catalogue may have millions of entries, and the scan returns them in no order.
                    if files.len() >= query.limit.saturating_add(MEDIA_AT_ONCE) {
                        newest(&mut files, query.limit);
                    }
                }
            }
        }
        newest(&mut files, query.limit);
        files.into_iter().map(|file| self.view(file)).collect()
    }

    /// One media file by its id. Blocking.
    ///
    /// # Errors
    /// As [`Media::list`].
    pub fn get(&self, id: &KeyId) -> Result<Option<MediaView>, StoreError> {
        let file = self.core.views.get::<FileEntry>(&Key::File(*id))?;
        file.map(|file| self.view(file)).transpose()
    }

    fn view(&self, file: FileEntry) -> Result<MediaView, StoreError> {
        let FileEntry { media, state, on_disk, .. } = file;
        let Preview { thumbnails, fault } = self.core.preview(&media.id)?;
        Ok(MediaView { media, state, on_disk, thumbnails, fault })
    }
}

fn newest(files: &mut Vec<FileEntry>, limit: usize) {
    files.sort_by_key(|file| std::cmp::Reverse(file.lsn));
    files.truncate(limit);
}
