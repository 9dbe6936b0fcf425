//! The mark of a bucket: the object `environment.json`, which says of which environment it is.
//!
//! It is read before the first write and after every failure. A bucket without it, or of another environment, is
//! not written to: test appliances must not fill the real bucket, nor real visitors the test one.

use gatehouse_config::Environment;
use minio::s3::response::GetObjectResponse;
use minio::s3::segmented_bytes::SegmentedBytes;
use serde::{Deserialize, Serialize};

use super::Objects;
use super::classify::{BUCKET, classify, has_code};
use crate::error::{GuardFault, SyncError, clip};

/// Key of the mark.
pub(super) const MARKER: &str = "environment.json";
/// Longest mark that is read: ours has some 40 bytes.
const MARKER_BYTES_MAX: u64 = 4096;
/// What is being done while reading it.
const READING: &str = "read environment.json from S3";

/// The content of the mark. Unknown fields of later versions are fine.
#[derive(Serialize, Deserialize)]
struct Mark {
    environment: String,
}

impl Objects {
    /// Makes sure that the bucket is of this environment.
    ///
    /// # Errors
    /// [`SyncError::Guard`] where it is not, or is not marked, or does not exist; others where it cannot be read.
    pub async fn guard(&self) -> Result<(), SyncError> {
        match self.mark().await? {
            Some(theirs) => self.compare(theirs),
            None => {
                let words = format!("{MARKER} is missing in `{}`", self.bucket);
                Err(GuardFault::NotPrepared { place: BUCKET, words }.into())
            }
        }
    }

    /// The environment that the bucket is marked with; none where it carries no mark.
    pub(super) async fn mark(&self) -> Result<Option<String>, SyncError> {
        let request = self.get(MARKER)?;
        match self.ask(READING, request).await? {
            Ok(answer) => self.read_mark(answer).await.map(Some),
            Err(error) if has_code(&error, "NoSuchKey") => Ok(None),
            Err(error) => Err(classify(READING, &self.bucket, &error)),
        }
    }

    /// The environment that an answer names.
    pub(super) async fn read_mark(&self, answer: GetObjectResponse) -> Result<String, SyncError> {
        let strange = || {
            SyncError::Unreachable {
            doing: READING,
            words: "what came back is not what Gatehouse wrote there: a proxy or a captive portal answers in the \
                    server's place, or somebody changed the object"
                .into(),
        }
        };
        if answer.object_size().map_or(true, |size| size > MARKER_BYTES_MAX) {
            return Err(strange());
        }
        let bytes = self.within(READING, answer.into_bytes()).await?;
        let bytes = bytes.map_err(|error| classify(READING, &self.bucket, &error))?;
        let mark: Mark = serde_json::from_slice(&bytes).map_err(|_| strange())?;
        Ok(clip(&mark.environment))
    }

    /// Ours or not.
    pub(super) fn compare(&self, theirs: String) -> Result<(), SyncError> {
        let ours = self.environment.as_str();
        if theirs == ours {
            return Ok(());
        }
        Err(GuardFault::Environment { place: BUCKET, theirs, ours }.into())
    }

    /// Marks the bucket. Only for a bucket that carries no mark.
    pub(super) async fn write_mark(&self) -> Result<(), SyncError> {
        const DOING: &str = "write environment.json to S3";
        let request = self
            .client
            .put_object(self.bucket.as_str(), MARKER, SegmentedBytes::from(mark_text(self.environment)))
            .map_err(|error| classify(DOING, &self.bucket, &error.into()))?;
        self.call(DOING, request.build()).await.map(drop)
    }

    /// A request for an object.
    pub(super) fn get(&self, key: &str) -> Result<minio::s3::builders::GetObject, SyncError> {
        let request = self.client.get_object(self.bucket.as_str(), key);
        Ok(request.map_err(|error| classify("read from S3", &self.bucket, &error.into()))?.build())
    }
}

fn mark_text(environment: Environment) -> String {
    serde_json::json!(Mark { environment: environment.as_str().into() }).to_string()
}
