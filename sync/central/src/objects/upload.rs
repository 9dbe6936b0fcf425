//! One object: from the sealed file to the bucket, and the proof that it is there.
//!
//! Up to one part the object goes in one call, above that in [`parts`](super::parts). The file is read and opened
//! part by part on a thread for blocking work; plaintext in memory is wiped when the client lets go of it. Thumbnails go
//! the same way from memory.

use std::fs::File;
use std::io::Read;
use std::sync::Arc;

use bytes::Bytes;
use gatehouse_model::KeyId;
use gatehouse_store::files::SealedReader;
use gatehouse_store::record::ObjectPlace;
use gatehouse_store::store::MediaTask;
use minio::s3::builders::{PutObject, UploadPart};
use minio::s3::error::ValidationErr;
use minio::s3::multimap_ext::{Multimap, MultimapExt};
use minio::s3::response::StatObjectResponse;
use minio::s3::segmented_bytes::SegmentedBytes;
use minio::s3::types::{BucketName, ObjectKey};
use zeroize::Zeroizing;

use super::Objects;
use super::classify::{classify, has_code};
use super::key::{object_key, thumbnail_key};
use crate::error::{SyncError, words_of};

/// Bytes of a part: the least that S3 allows, since it is what an upload holds in memory.
pub(super) const PART_BYTES: u64 = 5 * 1024 * 1024;
/// Most parts of an upload, by S3; above 50 GB parts get larger.
const PARTS_MAX: u64 = 10_000;

pub(super) const SENDING: &str = "upload to S3";
const LOOKING: &str = "look up an object in S3";

/// Names of our metadata. The SHA-256 is what an object is recognised by.
pub(super) const META_SHA256: &str = "sha256";
const META_CORRELATION: &str = "correlation-id";
const META_CAMERA: &str = "camera";

/// What is to be in the bucket.
pub(super) struct Upload {
    pub(super) key: String,
    pub(super) size: u64,
    /// Under which its parts are noted; none for what is no file of the appliance.
    pub(super) file: Option<KeyId>,
    sha256: String,
    pub(super) content_type: &'static str,
    pub(super) metadata: Multimap,
}

/// What lies under a key.
enum Found {
    Nothing,
    Same,
    Other(String),
}

impl Upload {
    fn of(device: &str, task: &MediaTask) -> Self {
        let media = &task.media;
        let key = object_key(device, task.event_received_at, &media.event, &media.name);
        Self::under(key, task, media.size, &media.sha256, task.content_type)
    }

    fn under(
        key: String,
        task: &MediaTask,
        size: u64,
        sha256: &[u8; 32],
        content_type: &'static str,
    ) -> Self {
        let event = &task.media.event;
        let sha256 = hex::encode(sha256);
        let mut metadata = Multimap::new();
        let mut add = |name: &str, value: &str| metadata.add(format!("x-amz-meta-{name}"), value);
        add(META_SHA256, &sha256);
        add(META_CORRELATION, &event.correlation());
        add(META_CAMERA, event.camera.as_str());
        Self { key, size, file: Some(task.media.id), sha256, content_type, metadata }
    }

    /// Of a file that belongs to no event.
    fn alone(key: &str, content_type: &'static str, size: u64, sha256: &str) -> Self {
        let mut metadata = Multimap::new();
        metadata.add(format!("x-amz-meta-{META_SHA256}"), sha256);
        Self { key: key.to_owned(), size, file: None, sha256: sha256.to_owned(), content_type, metadata }
    }

    /// Bytes of each part but the last.
    pub(super) fn part_bytes(&self) -> u64 {
        PART_BYTES.max(self.size.div_ceil(PARTS_MAX))
    }
}

impl Objects {
    /// Puts a file into the bucket, unless it is there, and makes sure that it is.
    ///
    /// # Errors
    /// [`SyncError::Damaged`] where the local file cannot be read; [`SyncError::Refused`] where the server never takes
    /// it or something else lies under its key, which is left alone; [`SyncError::Verify`] where it is not there
    /// although the upload was answered with success; others where the server cannot be reached or says no.
    pub async fn push(&self, task: &MediaTask, reader: SealedReader) -> Result<ObjectPlace, SyncError> {
        let upload = Upload::of(&self.device, task);
        if reader.size() != upload.size {
            return Err(damaged("its size is not the one in the journal"));
        }
        match self.found(&upload, true).await? {
            Found::Same => return Ok(self.place(upload)),
            Found::Other(words) => {
                // So may a portal that answers in the server's place.
                self.guard().await?;
                let words = format!("another object lies there ({words}); `{}` is left alone", upload.key);
                return Err(SyncError::Refused { doing: SENDING, code: "conflict".into(), words });
            }
            Found::Nothing => {}
        }
        self.send(&upload, reader).await?;
        self.proven(upload).await
    }

    /// Puts a file under a key that is nobody else's, unless it is there, and makes sure that it is.
    ///
    /// # Errors
    /// As those of [`Objects::push`]; what lies under the key is replaced.
    pub async fn deposit(
        &self,
        key: &str,
        content_type: &'static str,
        (file, size, sha256): (File, u64, &str),
    ) -> Result<(), SyncError> {
        let upload = Upload::alone(key, content_type, size, sha256);
        if !matches!(self.found(&upload, true).await?, Found::Same) {
            self.send(&upload, file).await?;
        }
        self.proven(upload).await.map(drop)
    }

    async fn send<R: Read + Send + 'static>(&self, upload: &Upload, reader: R) -> Result<(), SyncError> {
        if upload.size > PART_BYTES {
            return self.in_parts(upload, reader).await;
        }
        let (_, part) = read_part(reader, upload.size).await?;
        self.whole(upload, part).await
    }

    /// Puts a thumbnail into the bucket, unless it is there, in the place of any other of its picture and edge, and makes
    /// sure that it is.
    ///
    /// # Errors
    /// As [`Objects::push`].
    pub async fn push_thumbnail(
        &self,
        task: &MediaTask,
        edge: u16,
        bytes: Zeroizing<Vec<u8>>,
        sha256: [u8; 32],
    ) -> Result<ObjectPlace, SyncError> {
        let MediaTask { media, event_received_at, .. } = task;
        let key = thumbnail_key(&self.device, *event_received_at, &media.event, &media.name, edge);
        let upload = Upload::under(key, task, bytes.len() as u64, &sha256, "image/jpeg");
        if !matches!(self.found(&upload, true).await?, Found::Same) {
            self.whole(&upload, Bytes::from_owner(bytes)).await?;
        }
        self.proven(upload).await
    }

    async fn proven(&self, upload: Upload) -> Result<ObjectPlace, SyncError> {
        match self.found(&upload, false).await? {
            Found::Same => Ok(self.place(upload)),
            Found::Other(words) => Err(SyncError::Verify { doing: SENDING, words }),
            Found::Nothing => {
                let words = "the upload was answered with success, but the object is not there".to_owned();
                Err(SyncError::Verify { doing: SENDING, words })
            }
        }
    }

    fn place(&self, upload: Upload) -> ObjectPlace {
        ObjectPlace { bucket: self.bucket.clone(), key: upload.key }
    }

    /// Looks whether the object is there. Before the upload, "not permitted" counts as "not there": S3 says so of a
    /// missing object to whom may not list, and if more is not permitted the upload will tell.
    async fn found(&self, upload: &Upload, before: bool) -> Result<Found, SyncError> {
        let request = self.client.stat_object(self.bucket.as_str(), upload.key.as_str());
        let request = request.map_err(|error| classify(LOOKING, &self.bucket, &error.into()))?;
        match self.ask(LOOKING, request.build()).await? {
            Ok(answer) => Ok(compare(upload, &answer)),
            Err(error) if has_code(&error, "NoSuchKey") => Ok(Found::Nothing),
            Err(error) if before && has_code(&error, "AccessDenied") => Ok(Found::Nothing),
            Err(error) => Err(classify(LOOKING, &self.bucket, &error)),
        }
    }

    async fn whole(&self, upload: &Upload, part: Bytes) -> Result<(), SyncError> {
        let fault = |error: ValidationErr| classify(SENDING, &self.bucket, &error.into());
        // `MinioClient::put_object` has no room for metadata; what it builds has.
        let content = UploadPart::builder()
            .client(self.client.clone())
            .bucket(BucketName::new(&self.bucket).map_err(fault)?)
            .object(ObjectKey::new(&upload.key).map_err(fault)?)
            .user_metadata(Some(upload.metadata.clone()))
            .content_type(upload.content_type.to_owned())
            .data(Arc::new(SegmentedBytes::from(part)))
            .build();
        let request = PutObject::builder().inner(content).build();
        self.transfer(SENDING, upload.size, request).await.map(drop)
    }
}

fn compare(upload: &Upload, answer: &StatObjectResponse) -> Found {
    let size = answer.size().unwrap_or_default();
    let metadata = answer.user_metadata().unwrap_or_default();
    match metadata.get(META_SHA256) {
        Some(sha256) if *sha256 == upload.sha256 && size == upload.size => Found::Same,
        Some(sha256) if *sha256 == upload.sha256 => {
            Found::Other(format!("{size} bytes there, {} here", upload.size))
        }
        Some(_) => Found::Other("its SHA-256 is another".to_owned()),
        None => Found::Other("it carries no SHA-256".to_owned()),
    }
}

fn damaged(words: &str) -> SyncError {
    SyncError::Damaged { doing: SENDING, words: words.to_owned() }
}

/// Reads the next `size` bytes, on a thread for blocking work.
pub(super) async fn read_part<R: Read + Send + 'static>(
    mut reader: R,
    size: u64,
) -> Result<(R, Bytes), SyncError> {
    let read = tokio::task::spawn_blocking(move || {
        let length = usize::try_from(size).map_err(|_| damaged("it is larger than this machine's memory"))?;
        let mut part = Zeroizing::new(vec![0; length]);
        // `InvalidData` is a file that is not what was written; anything else may pass (a disk that comes back).
        reader.read_exact(&mut part).map_err(|error| match error.kind() {
            std::io::ErrorKind::InvalidData | std::io::ErrorKind::UnexpectedEof => damaged(&words_of(&error)),
            _ => SyncError::Store { doing: SENDING, source: error.into() },
        })?;
        Ok((reader, Bytes::from_owner(part)))
    });
    read.await.unwrap_or_else(|error| Err(SyncError::Store { doing: SENDING, source: error.into() }))
}
