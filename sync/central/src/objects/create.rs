//! Small objects that are written once: put where nothing is, and what an object says of itself.

use std::sync::Arc;

use minio::s3::builders::{PutObject, UploadPart};
use minio::s3::error::ValidationErr;
use minio::s3::multimap_ext::{Multimap, MultimapExt};
use minio::s3::segmented_bytes::SegmentedBytes;
use minio::s3::types::{BucketName, ObjectKey};

use super::Objects;
use super::classify::{classify, has_code};
use super::upload::META_SHA256;
use crate::error::SyncError;

const WRITING: &str = "write to S3";
const LOOKING: &str = "look up an object in S3";
/// Code of a condition that does not hold, in whatever case the client tells it.
const NOT_NEW: &str = "PreconditionFailed";

/// Whether it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// It was.
    Written,
    /// Something is there already and was left alone.
    Taken,
}

impl Objects {
    /// Writes an object under a key where nothing is, with what it says of itself, and makes sure that it is there as it
    /// was sent.
    ///
    /// # Errors
    /// [`SyncError::Verify`] where it is not there although the server said so; others where the server cannot be
    /// reached or says no.
    pub async fn put_new(
        &self,
        key: &str,
        content_type: &str,
        bytes: Vec<u8>,
        says: &[(&str, &str)],
    ) -> Result<Put, SyncError> {
        let fault = |error: ValidationErr| classify(WRITING, &self.bucket, &error.into());
        let sha256 = hex::encode(gatehouse_model::sha256(&bytes));
        let mut metadata = Multimap::new();
        for (name, value) in says.iter().copied().chain([(META_SHA256, sha256.as_str())]) {
            metadata.add(format!("x-amz-meta-{name}"), value);
        }
        let mut headers = Multimap::new();
        headers.add("If-None-Match", "*");
        let size = bytes.len() as u64;
        let content = UploadPart::builder()
            .client(self.client.clone())
            .bucket(BucketName::new(&self.bucket).map_err(fault)?)
            .object(ObjectKey::new(key).map_err(fault)?)
            .user_metadata(Some(metadata))
            .extra_headers(Some(headers))
            .content_type(content_type.to_owned())
            .data(Arc::new(SegmentedBytes::from(bytes::Bytes::from(bytes))))
            .build();
        match self.transfer(WRITING, size, PutObject::builder().inner(content).build()).await {
            Err(SyncError::Busy { code, .. }) if code.eq_ignore_ascii_case(NOT_NEW) => return Ok(Put::Taken),
            sent => drop(sent?),
        }
        match self.said(key).await? {
            Some(said) if said.iter().any(|(name, value)| name == META_SHA256 && *value == sha256) => {
                Ok(Put::Written)
            }
            Some(_) => Ok(Put::Taken),
            None => {
                let words = "the server answered with success, but the object is not there".to_owned();
                Err(SyncError::Verify { doing: WRITING, words })
            }
        }
    }

    /// What an object says of itself; none where it is not there.
    pub async fn said(&self, key: &str) -> Result<Option<Vec<(String, String)>>, SyncError> {
        let request = self.client.stat_object(self.bucket.as_str(), key);
        let request = request.map_err(|error| classify(LOOKING, &self.bucket, &error.into()))?;
        match self.ask(LOOKING, request.build()).await? {
            Ok(answer) => Ok(Some(answer.user_metadata().unwrap_or_default().into_iter().collect())),
            Err(error) if has_code(&error, "NoSuchKey") => Ok(None),
            Err(error) => Err(classify(LOOKING, &self.bucket, &error)),
        }
    }
}
