//! Upload of one object from the sealed file, and its verification.
//!
//! An object of at most one part is sent in one call, a larger one in [`parts`](super::parts). The file is read and
//! decrypted part by part on a thread for blocking work. Plaintext in memory is wiped when the client library drops
//! it. Thumbnails are sent the same way from memory.

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
use crate::error::{SyncError, error_text};

/// Bytes of a part: the minimum of S3, because an upload holds one in memory.
pub(super) const PART_BYTES: u64 = 5 * 1024 * 1024;
/// Maximum number of parts of S3. Above 50 GB parts get larger.
const PARTS_MAX: u64 = 10_000;

pub(super) const SENDING: &str = "upload to S3";
const LOOKING: &str = "look up an object in S3";

/// Names of the metadata. The SHA-256 identifies the content of an object.
pub(super) const META_SHA256: &str = "sha256";
const META_CORRELATION: &str = "correlation-id";
const META_CAMERA: &str = "camera";

/// The object to be stored.
pub(super) struct Upload {
    pub(super) key: String,
    pub(super) size: u64,
    /// Id under which its parts are recorded. None if it is no file of the appliance.
    pub(super) file: Option<KeyId>,
    sha256: String,
    pub(super) content_type: &'static str,
    pub(super) metadata: Multimap,
}

/// A local file that belongs to no event, read from its beginning.
pub struct LocalFile {
    /// The open file.
    pub file: File,
    /// Bytes.
    pub size: u64,
    /// 64 hexadecimal digits.
    pub sha256: String,
}

/// What is stored under a key.
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
    fn alone(key: &str, content_type: &'static str, content: &LocalFile) -> Self {
        let LocalFile { size, sha256, .. } = content;
        let mut metadata = Multimap::new();
        metadata.add(format!("x-amz-meta-{META_SHA256}"), sha256.as_str());
        Self { key: key.to_owned(), size: *size, file: None, sha256: sha256.clone(), content_type, metadata }
    }

    /// Bytes of each part except the last.
    pub(super) fn part_bytes(&self) -> u64 {
        PART_BYTES.max(self.size.div_ceil(PARTS_MAX))
    }
}

impl Objects {
    /// Uploads a file unless it is already stored, and verifies it.
    ///
    /// # Errors
    /// [`SyncError::Damaged`] if the local file cannot be read. [`SyncError::Refused`] if the server never accepts it,
    /// or another object exists under its key, which is not changed. [`SyncError::Verify`] if it is missing although
    /// the server reported success. Other errors if the server is unreachable or refuses.
    pub async fn push(&self, task: &MediaTask, reader: SealedReader) -> Result<ObjectPlace, SyncError> {
        let upload = Upload::of(&self.device, task);
        if reader.size() != upload.size {
            return Err(damaged("its size is not the one in the journal"));
        }
        match self.found(&upload, true).await? {
            Found::Same => return Ok(self.place(upload)),
            Found::Other(message) => {
                // The reply may also come from a captive portal.
                self.guard().await?;
                let message =
                    format!("there is another object ({message}); `{}` was not changed", upload.key);
                return Err(SyncError::Refused { doing: SENDING, code: "conflict".into(), message });
            }
            Found::Nothing => {}
        }
        self.send(&upload, reader).await?;
        self.proven(upload).await
    }

    /// Uploads a file under a key that only this program uses, unless it is already stored, and verifies it.
    ///
    /// # Errors
    /// As [`Objects::push`]. Another object under the key is replaced.
    pub async fn deposit(
        &self,
        key: &str,
        content_type: &'static str,
        content: LocalFile,
    ) -> Result<(), SyncError> {
        let upload = Upload::alone(key, content_type, &content);
        if !matches!(self.found(&upload, true).await?, Found::Same) {
            self.send(&upload, content.file).await?;
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

    /// Uploads a thumbnail unless it is already stored, and verifies it. Another thumbnail of this picture and edge is
    /// replaced.
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
            Found::Other(message) => Err(SyncError::Verify { doing: SENDING, message }),
            Found::Nothing => {
                let message = "the upload was answered with success, but the object is not there".to_owned();
                Err(SyncError::Verify { doing: SENDING, message })
            }
        }
    }

    fn place(&self, upload: Upload) -> ObjectPlace {
        ObjectPlace { bucket: self.bucket.clone(), key: upload.key }
    }

    /// Compares the stored object with the upload. Before the upload, "not permitted" counts as missing: S3 says so
    /// about a missing object to keys without the permission to list. If other permissions are missing, the upload
    /// fails.
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
        // `MinioClient::put_object` accepts no metadata, but this builder does.
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
        Some(_) => Found::Other("its SHA-256 differs".to_owned()),
        None => Found::Other("it has no SHA-256".to_owned()),
    }
}

fn damaged(message: &str) -> SyncError {
    SyncError::Damaged { doing: SENDING, message: message.to_owned() }
}

/// Reads the next `size` bytes, on a thread for blocking work.
pub(super) async fn read_part<R: Read + Send + 'static>(
    mut reader: R,
    size: u64,
) -> Result<(R, Bytes), SyncError> {
    let read = tokio::task::spawn_blocking(move || {
        let length = usize::try_from(size).map_err(|_| damaged("it is larger than this machine's memory"))?;
        let mut part = Zeroizing::new(vec![0; length]);
        // `InvalidData` means that the file is damaged. Any other error may be temporary.
        reader.read_exact(&mut part).map_err(|error| match error.kind() {
            std::io::ErrorKind::InvalidData | std::io::ErrorKind::UnexpectedEof => {
                damaged(&error_text(&error))
            }
            _ => SyncError::Store { doing: SENDING, source: error.into() },
        })?;
        Ok((reader, Bytes::from_owner(part)))
    });
    read.await.unwrap_or_else(|error| Err(SyncError::Store { doing: SENDING, source: error.into() }))
}
