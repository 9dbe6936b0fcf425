//! Multipart uploads of large objects, one part after the other.
//!
//! Each uploaded part is recorded in the journal. After a broken connection or a restart the upload resumes after the
//! last recorded part. The server removes uploads that never complete, by a rule of [`init`](super::setup). If the
//! server does not know the upload any more, or nothing was recorded, it starts from the beginning.

use std::io::Read;

use bytes::Bytes;
use gatehouse_model::KeyId;
use gatehouse_store::store::{Media, SentPart, UploadSoFar};
use minio::s3::error::ValidationErr;
use minio::s3::response_traits::{HasEtagFromHeaders, HasS3Fields};
use minio::s3::segmented_bytes::SegmentedBytes;
use minio::s3::types::{ETag, PartInfo};

use super::Objects;
use super::classify::classify;
use super::upload::{SENDING, Upload, read_part};
use crate::error::{SyncError, clip};

/// How much of the reply to the completion is searched for an error.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Codes of a server that does not have what was recorded.
const GONE: [&str; 3] = ["NoSuchUpload", "InvalidPart", "InvalidPartOrder"];

impl Objects {
    /// Uploads a file in parts and resumes an earlier attempt.
    pub(super) async fn in_parts<R: Read + Send + 'static>(
        &self,
        upload: &Upload,
        mut reader: R,
    ) -> Result<(), SyncError> {
        let mut so_far = match self.noted(upload).await? {
            Some(noted) if noted.part_bytes == upload.part_bytes() => noted,
            _ => self.begin(upload).await?,
        };
        let mut left = upload.size;
        for _ in &so_far.etags {
            // The last part is shorter.
            let size = left.min(so_far.part_bytes);
            (reader, _) = read_part(reader, size).await?;
            left -= size;
        }
        let sent = self.parts(upload, reader, &mut so_far).await;
        let Err(error) = &sent else { return sent };
        // The upload is kept only if the next attempt can resume it.
        if is_gone(error)
            || error.is_permanent()
            || so_far.etags.is_empty()
            || self.notes_of(upload).is_none()
        {
            self.abort(upload, so_far).await?;
        }
        sent
    }

    async fn begin(&self, upload: &Upload) -> Result<UploadSoFar, SyncError> {
        let fault = |error: ValidationErr| classify(SENDING, &self.bucket, &error.into());
        let request = self
            .client
            .create_multipart_upload(self.bucket.as_str(), upload.key.as_str())
            .map_err(fault)?
            .user_metadata(Some(upload.metadata.clone()))
            .content_type(upload.content_type.to_owned());
        let answer = self.call(SENDING, request.build()).await?;
        let id = answer.upload_id().await.map_err(fault)?;
        let part_bytes = upload.part_bytes();
        Ok(UploadSoFar { upload: id.as_str().to_owned(), part_bytes, etags: Vec::new() })
    }

    async fn abort(&self, upload: &Upload, so_far: UploadSoFar) -> Result<(), SyncError> {
        let fault = |error: ValidationErr| classify(SENDING, &self.bucket, &error.into());
        let (bucket, key) = (self.bucket.as_str(), upload.key.as_str());
        let request =
            self.client.abort_multipart_upload(bucket, key, so_far.upload.as_str()).map_err(fault)?;
        self.give_up(request.build()).await;
        match self.notes_of(upload) {
            Some((media, file)) if !so_far.etags.is_empty() => {
                media.upload_gone(file).await.map_err(SyncError::store(SENDING))
            }
            _ => Ok(()),
        }
    }

    /// Uploads the missing parts and completes the upload.
    async fn parts<R: Read + Send + 'static>(
        &self,
        upload: &Upload,
        mut reader: R,
        so_far: &mut UploadSoFar,
    ) -> Result<(), SyncError> {
        let fault = |error: ValidationErr| classify(SENDING, &self.bucket, &error.into());
        let (bucket, key, size) = (self.bucket.as_str(), upload.key.as_str(), so_far.part_bytes);
        let count = u16::try_from(upload.size.div_ceil(size)).unwrap_or(u16::MAX);
        let bytes_of = |number: u16| size.min(upload.size - size * u64::from(number - 1));
        let sent = u16::try_from(so_far.etags.len()).unwrap_or(u16::MAX);
        for number in sent.saturating_add(1)..=count {
            let part: Bytes;
            (reader, part) = read_part(reader, bytes_of(number)).await?;
            let id = so_far.upload.as_str();
            let request = self
                .client
                .upload_part(bucket, key, id, number, SegmentedBytes::from(part))
                .map_err(fault)?;
            let answer = self.transfer(SENDING, bytes_of(number), request.build()).await?;
            let etag = answer.etag().map_err(fault)?;
            self.note(upload, so_far, number, etag.as_str()).await?;
            so_far.etags.push(etag.as_str().to_owned());
        }
        let named = |(number, etag): (u16, &String)| {
            Ok(PartInfo::new(number, ETag::new(etag.as_str())?, bytes_of(number), None))
        };
        let parts: Result<Vec<_>, ValidationErr> = (1..=count).zip(&so_far.etags).map(named).collect();
        let request = self
            .client
            .complete_multipart_upload(bucket, key, so_far.upload.as_str(), parts.map_err(fault)?)
            .map_err(fault)?;
        let answer = self.complete(SENDING, request.build()).await?;
        // A server may send 200 first and detect a failure later.
        match error_in(answer.body()) {
            Some(code) => {
                let message = "the server took all parts but could not put them together".to_owned();
                Err(SyncError::Busy { doing: SENDING, code, message })
            }
            None => Ok(()),
        }
    }

    /// Where and under which id the parts of a file of the appliance are recorded.
    fn notes_of(&self, upload: &Upload) -> Option<(Media, KeyId)> {
        self.notes.clone().zip(upload.file)
    }

    async fn noted(&self, upload: &Upload) -> Result<Option<UploadSoFar>, SyncError> {
        let Some((media, file)) = self.notes_of(upload) else { return Ok(None) };
        let read = tokio::task::spawn_blocking(move || media.upload_so_far(&file)).await;
        read.map_err(SyncError::store(SENDING))?.map_err(SyncError::store(SENDING))
    }

    async fn note(
        &self,
        upload: &Upload,
        so_far: &UploadSoFar,
        number: u16,
        etag: &str,
    ) -> Result<(), SyncError> {
        let Some((media, file)) = self.notes_of(upload) else { return Ok(()) };
        let noted = media
            .part_sent(file, SentPart { upload: &so_far.upload, part_bytes: so_far.part_bytes, number, etag })
            .await;
        noted.map_err(SyncError::store(SENDING))
    }
}

/// Whether the server does not have what was recorded.
fn is_gone(error: &SyncError) -> bool {
    let (SyncError::Busy { code, .. } | SyncError::Refused { code, .. }) = error else { return false };
    GONE.iter().any(|gone| gone.eq_ignore_ascii_case(code))
}

/// The code of an error in the reply to the completion.
fn error_in(body: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(&body[..body.len().min(ANSWER_BYTES_MAX)]);
    let error = text.split_once("<Error>")?.1;
    let code = error.split_once("<Code>").and_then(|(_, rest)| rest.split_once("</Code>"));
    Some(clip(code.map_or("unknown", |(code, _)| code)))
}
