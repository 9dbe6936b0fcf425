//! How far uploads in parts have come: noted part by part, so that a line that breaks or a restart costs one part, not the
//! whole clip. What is noted is only a help: without it an upload begins anew.

use crate::keys::KeyId;
use crate::record::Record;
use crate::store::{Store, StoreError};
use crate::views::entries::{Key, UploadSoFar};

impl Store {
    /// What is known of an upload of this file that has not ended. Blocking.
    ///
    /// # Errors
    /// [`StoreError`] where the views cannot be read.
    pub fn upload_so_far(&self, id: &KeyId) -> Result<Option<UploadSoFar>, StoreError> {
        Ok(self.inner.views.get(&Key::Upload(*id))?)
    }

    /// Notes that the server has part `number` (from 1) of this file under the name `etag`.
    ///
    /// # Errors
    /// [`StoreError`] where the journal failed.
    pub async fn part_sent(
        &self,
        id: KeyId,
        upload: &str,
        part_bytes: u64,
        number: u16,
        etag: &str,
    ) -> Result<(), StoreError> {
        let (upload, etag) = (upload.to_owned(), etag.to_owned());
        self.change(&Record::PartSent { id, upload, part_bytes, number, etag }).await.map(drop)
    }

    /// Notes that the server has nothing of an upload of this file any more.
    ///
    /// # Errors
    /// [`StoreError`] where the journal failed.
    pub async fn upload_gone(&self, id: KeyId) -> Result<(), StoreError> {
        self.part_sent(id, "", 0, 0, "").await
    }
}
