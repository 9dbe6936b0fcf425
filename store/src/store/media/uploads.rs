//! Progress of multipart uploads, recorded part by part. A broken connection or a restart costs one part, not
//! the whole clip. The record is only a hint: without it an upload starts again.

use gatehouse_model::KeyId;

use super::super::StoreError;
use super::Media;
use crate::record::Record;
use crate::views::entries::{Key, UploadSoFar};

/// A part that the server has confirmed.
#[derive(Debug, Clone, Copy)]
pub struct SentPart<'a> {
    /// The server's id of the upload.
    pub upload: &'a str,
    /// Bytes of each part but the last.
    pub part_bytes: u64,
    /// Part number, from 1.
    pub number: u16,
    /// The server's name of the part.
    pub etag: &'a str,
}

impl Media {
    /// The recorded progress of an unfinished upload of this file. Blocking.
    ///
    /// # Errors
    /// [`StoreError`] where the views cannot be read.
    pub fn upload_so_far(&self, id: &KeyId) -> Result<Option<UploadSoFar>, StoreError> {
        Ok(self.core.views.get(&Key::Upload(*id))?)
    }

    /// Records that the server has a part of this file.
    ///
    /// # Errors
    /// [`StoreError`] where the journal failed.
    pub async fn part_sent(&self, id: KeyId, part: SentPart<'_>) -> Result<(), StoreError> {
        let SentPart { part_bytes, number, .. } = part;
        let (upload, etag) = (part.upload.to_owned(), part.etag.to_owned());
        self.core.change(&Record::PartSent { id, upload, part_bytes, number, etag }).await.map(drop)
    }

    /// Records that the server has no parts of an upload of this file any more.
    ///
    /// # Errors
    /// [`StoreError`] where the journal failed.
    pub async fn upload_gone(&self, id: KeyId) -> Result<(), StoreError> {
        self.part_sent(id, SentPart { upload: "", part_bytes: 0, number: 0, etag: "" }).await
    }
}
