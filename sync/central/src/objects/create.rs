//! Small objects that are written once: conditional creation, and metadata of an object.

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
/// Code of a failed condition. The client library changes its case.
const PRECONDITION_FAILED: &str = "PreconditionFailed";

/// Result of a conditional write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// The object was written.
    Written,
    /// There was an object already. It was not changed.
    Taken,
}

impl Objects {
    /// Creates an object with metadata under a key that must be unused, and verifies that it is stored as sent.
    ///
    /// # Errors
    /// [`SyncError::Verify`] if it is missing although the server reported success. Other errors if the server is
    /// unreachable or refuses.
    pub async fn put_new(
        &self,
        key: &str,
        content_type: &str,
        bytes: Vec<u8>,
        properties: &[(&str, &str)],
    ) -> Result<Put, SyncError> {
        let fault = |error: ValidationErr| classify(WRITING, &self.bucket, &error.into());
        let sha256 = hex::encode(gatehouse_model::sha256(&bytes));
        let mut metadata = Multimap::new();
        for (name, value) in properties.iter().copied().chain([(META_SHA256, sha256.as_str())]) {
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
            Err(SyncError::Busy { code, .. }) if code.eq_ignore_ascii_case(PRECONDITION_FAILED) => {
                return Ok(Put::Taken);
            }
            sent => drop(sent?),
        }
        match self.metadata_of(key).await? {
            Some(metadata_of)
                if metadata_of.iter().any(|(name, value)| name == META_SHA256 && *value == sha256) =>
            {
                Ok(Put::Written)
            }
            Some(_) => Ok(Put::Taken),
            None => {
                let message = "the server answered with success, but the object is not there".to_owned();
                Err(SyncError::Verify { doing: WRITING, message })
            }
        }
    }

    /// The metadata of an object. None if there is no object.
    pub async fn metadata_of(&self, key: &str) -> Result<Option<Vec<(String, String)>>, SyncError> {
        let request = self.client.stat_object(self.bucket.as_str(), key);
        let request = request.map_err(|error| classify(LOOKING, &self.bucket, &error.into()))?;
        match self.ask(LOOKING, request.build()).await? {
            Ok(answer) => Ok(Some(answer.user_metadata().unwrap_or_default().into_iter().collect())),
            Err(error) if has_code(&error, "NoSuchKey") => Ok(None),
            Err(error) => Err(classify(LOOKING, &self.bucket, &error)),
        }
    }
}
