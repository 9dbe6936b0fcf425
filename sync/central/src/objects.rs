//! The objects sink: media files to central S3, each verified there before the appliance lets go of its own copy.
//!
//! Constraints: nothing is written into a bucket that is not marked as being of this environment
//! ([`marker`](self::marker)); an object is delivered when the server says that it has its size and its SHA-256, not
//! when an upload was answered with 200; every call has a deadline ([`call`](self::call)), since the client has none;
//! at most one part of a file is in memory per upload.
//!
//! Order of one object: look whether it is there already, send it, look whether it is there now, tell the store.
//!
//! Crash story: keys are derived from the event and the file's name, so an upload that is repeated finds or replaces
//! its own object and nothing else; one in parts goes on after the last part that was noted. Parts of an upload that never
//! ended are taken away by the server, by a rule that [`init`] sets. Between "it is there now" and "tell the store" a
//! crash costs one look.

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

use gatehouse_config::{Config, Environment};
use gatehouse_store::store::Media;
use minio::s3::MinioClient;

use crate::error::SyncError;

/// One bucket, and who writes into it.
pub struct Objects {
    client: MinioClient,
    bucket: String,
    device: String,
    environment: Environment,
    limits: Limits,
    /// Where the parts of an upload are noted, so that it can be gone on with.
    notes: Option<Media>,
}

impl Objects {
    /// Sets up a client; nothing is sent.
    ///
    /// # Errors
    /// [`SyncError::Setup`] where `[central.objects]`, a secret or the authority's file cannot be used.
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

    /// The same, with parts of uploads noted in this store.
    pub fn noting_in(self, media: Media) -> Self {
        Self { notes: Some(media), ..self }
    }

    /// Name of the bucket.
    pub fn bucket(&self) -> &str {
        &self.bucket
    }
}
