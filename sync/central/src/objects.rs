//! The S3 client: one bucket with its environment mark, uploads with verification, listing and presigned URLs.
//!
//! Constraints:
//! - Nothing is written to a bucket that is not marked as of this environment ([`marker`](self::marker)).
//! - An object counts as delivered when the server confirms its size and SHA-256. A response of 200 is not sufficient.
//! - Every call has a deadline ([`deadlines`](self::deadlines)), because the client library sets none.
//! - At most one part of a file is in memory per upload.
//!
//! Order per object: check whether it exists, upload it, check it again, report it to the store.
//!
//! After a crash: keys are derived from the event and the file name, so a repeated upload finds or replaces only its
//! own object. A multipart upload resumes after the last recorded part. A lifecycle rule set by [`init`] removes parts
//! of uploads that never complete. A crash between the check and the report to the store costs one more check.

mod check;
mod classify;
mod client;
mod create;
mod deadlines;
mod key;
mod marker;
mod parts;
pub mod policy;
mod presign;
mod setup;
mod stored;
mod upload;

#[cfg(test)]
mod tests;

pub use check::check;
pub use client::UPLOADS_AT_ONCE;
pub use create::Put;
pub use deadlines::Limits;
pub use setup::init;
pub use stored::{Content, Listed, Listing};
pub use upload::LocalFile;

use gatehouse_config::{Config, Environment};
use gatehouse_store::store::Media;
use minio::s3::MinioClient;

use crate::error::SyncError;

/// One bucket and the identity of the writer.
pub struct Objects {
    client: MinioClient,
    bucket: String,
    device: String,
    environment: Environment,
    limits: Limits,
    /// Where the parts of an upload are recorded, so that it can be resumed.
    notes: Option<Media>,
}

impl Objects {
    /// Creates a client. Nothing is sent.
    ///
    /// # Errors
    /// [`SyncError::Setup`] if `[central.objects]`, a secret or the CA file cannot be used.
    pub fn open(config: &Config, limits: Limits) -> Result<Self, SyncError> {
        Ok(Self {
            client: client::build(config)?,
            bucket: config.bucket().unwrap_or_default(),
            device: config.device.id.clone(),
            environment: config.device.environment,
            limits,
            notes: None,
        })
    }

    /// Records the parts of uploads in this store.
    pub fn noting_in(self, media: Media) -> Self {
        Self { notes: Some(media), ..self }
    }

    /// Name of the bucket.
    pub fn bucket(&self) -> &str {
        &self.bucket
    }
}
