//! The mark of a bucket: the object `environment.json`, which names its environment.
//!
//! It is read before the first write and after every failure. Nothing is written to a bucket without it or of another
//! environment: test appliances must not write to the production bucket, nor the other way round.

use gatehouse_config::Environment;
use minio::s3::response::GetObjectResponse;
use minio::s3::segmented_bytes::SegmentedBytes;
use serde::{Deserialize, Serialize};

use super::Objects;
use super::classify::{BUCKET, classify, has_code};
use crate::error::{GuardFault, SyncError, clip};

/// Key of the mark.
pub(super) const MARKER: &str = "environment.json";
/// Longest mark that is read. A valid one has about 40 bytes.
const MARKER_BYTES_MAX: u64 = 4096;
/// The operation in errors while it is read.
const READING: &str = "read environment.json from S3";

/// The content of the mark. Unknown fields are allowed for later versions.
#[derive(Serialize, Deserialize)]
struct Mark {
    environment: String,
}

impl Objects {
    /// Verifies that the bucket is of this environment.
    ///
    /// # Errors
    /// [`SyncError::Guard`] if it is of another one, is not marked, or does not exist. Other errors if the mark cannot
    /// be read.
    pub async fn guard(&self) -> Result<(), SyncError> {
        match self.mark().await? {
            Some(theirs) => self.compare(theirs),
            None => {
                let message = format!("{MARKER} is missing in `{}`", self.bucket);
                Err(GuardFault::NotPrepared { place: BUCKET, message }.into())
            }
        }
    }

    /// The environment of the mark. None if the bucket is not marked.
    pub(super) async fn mark(&self) -> Result<Option<String>, SyncError> {
        let request = self.get(MARKER)?;
        match self.ask(READING, request).await? {
            Ok(answer) => self.read_mark(answer).await.map(Some),
            Err(error) if has_code(&error, "NoSuchKey") => Ok(None),
            Err(error) => Err(classify(READING, &self.bucket, &error)),
        }
    }

    /// The environment in a reply.
    pub(super) async fn read_mark(&self, answer: GetObjectResponse) -> Result<String, SyncError> {
        let strange = || SyncError::Unreachable {
            doing: READING,
            message:
                "the content is not that of Gatehouse: a proxy or a captive portal answers in place of the \
                    server, or the object was changed"
                    .into(),
        };
        if answer.object_size().map_or(true, |size| size > MARKER_BYTES_MAX) {
            return Err(strange());
        }
        let bytes = self.within(READING, answer.into_bytes()).await?;
        let bytes = bytes.map_err(|error| classify(READING, &self.bucket, &error))?;
        let mark: Mark = serde_json::from_slice(&bytes).map_err(|_| strange())?;
        Ok(clip(&mark.environment))
    }

    /// Fails unless it is the environment of this appliance.
    pub(super) fn compare(&self, theirs: String) -> Result<(), SyncError> {
        let ours = self.environment.as_str();
        if theirs == ours {
            return Ok(());
        }
        Err(GuardFault::Environment { place: BUCKET, theirs, ours }.into())
    }

    /// Marks the bucket. Only for a bucket without a mark.
    pub(super) async fn write_mark(&self) -> Result<(), SyncError> {
        const DOING: &str = "write environment.json to S3";
        let request = self
            .client
            .put_object(self.bucket.as_str(), MARKER, SegmentedBytes::from(mark_text(self.environment)))
            .map_err(|error| classify(DOING, &self.bucket, &error.into()))?;
        self.call(DOING, request.build()).await.map(drop)
    }

    /// A request that reads an object.
    pub(super) fn get(&self, key: &str) -> Result<minio::s3::builders::GetObject, SyncError> {
        let request = self.client.get_object(self.bucket.as_str(), key);
        Ok(request.map_err(|error| classify("read from S3", &self.bucket, &error.into()))?.build())
    }
}

fn mark_text(environment: Environment) -> String {
    serde_json::json!(Mark { environment: environment.as_str().into() }).to_string()
}
