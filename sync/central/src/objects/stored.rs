//! Existing objects: list, read back, copy, remove.
//!
//! Memory holds one page of a listing and one chunk of an object.

use std::io::{self, Write};
use std::vec::IntoIter;

use chrono::{DateTime, Utc};
use futures_util::{Stream, StreamExt as _};
use gatehouse_model::Sha256;
use minio::s3::builders::CopySource;
use minio::s3::error::{Error, ValidationErr};
use minio::s3::response::ListObjectsResponse;
use minio::s3::types::{BucketName, ObjectKey, ToStream, VersionId};

use super::Objects;
use super::classify::{classify, has_code};
use crate::error::{SyncError, error_text};

/// Largest object that is copied: the limit of S3 for one call. The client library would overwrite the source of a
/// larger one.
const COPY_BYTES_MAX: u64 = 5 << 30;

const LISTING: &str = "list objects in S3";
const READING: &str = "read an object from S3";
const COPYING: &str = "copy an object in S3";
const REMOVING: &str = "remove an object from S3";
const LISTING_VERSIONS: &str = "list the versions of an object in S3";
/// Most versions of one object that are removed in one call.
const VERSIONS_MAX: usize = 10_000;

/// An object of a listing.
pub struct Listed {
    /// Its key.
    pub key: String,
    /// Last change by the clock of the server. None if it is not reported.
    pub modified: Option<DateTime<Utc>>,
}

/// Size and hash of an object.
#[derive(Debug, PartialEq, Eq)]
pub struct Content {
    /// Bytes.
    pub size: u64,
    /// 64 hexadecimal digits.
    pub sha256: String,
}

/// All objects below a prefix, in the byte order of their keys.
pub struct Listing<'a> {
    objects: &'a Objects,
    pages: Box<dyn Stream<Item = Result<ListObjectsResponse, Error>> + Unpin + Send>,
    page: IntoIter<Listed>,
    last: String,
}

impl Listing<'_> {
    /// The next one. None after the last.
    ///
    /// # Errors
    /// [`SyncError`] if a page cannot be read, or the server does not keep the order.
    pub async fn next(&mut self) -> Result<Option<Listed>, SyncError> {
        loop {
            if let Some(listed) = self.page.next() {
                if listed.key <= self.last {
                    let message = "it does not list objects in the order of their keys".to_owned();
                    return Err(SyncError::Refused { doing: LISTING, code: "order".into(), message });
                }
                self.last.clone_from(&listed.key);
                return Ok(Some(listed));
            }
            let Some(page) = self.objects.within(LISTING, self.pages.next()).await? else { return Ok(None) };
            let page = page.map_err(|error| classify(LISTING, &self.objects.bucket, &error))?;
            let listed = page.contents.into_iter();
            let listed = listed.map(|entry| Listed { key: entry.name, modified: entry.last_modified });
            self.page = listed.collect::<Vec<_>>().into_iter();
        }
    }
}

impl Objects {
    /// All objects below `prefix`, from the first.
    ///
    /// # Errors
    /// [`SyncError`] if the name of the bucket is invalid.
    pub async fn listing(&self, prefix: &str) -> Result<Listing<'_>, SyncError> {
        let request =
            self.client.list_objects(self.bucket.as_str()).map_err(|error| self.fault(LISTING, error))?;
        // Some servers announce encoded names and send them unencoded. The client library then truncates them at a
        // `=`.
        let request =
            request.prefix(prefix.to_owned()).recursive(true).use_api_v1(false).disable_url_encoding(true);
        let pages = request.build().to_stream().await;
        Ok(Listing { objects: self, pages, page: Vec::new().into_iter(), last: String::new() })
    }

    /// Reads an object to its end. None if there is none.
    ///
    /// # Errors
    /// [`SyncError`] if it cannot be read.
    pub async fn read_back(&self, key: &str) -> Result<Option<Content>, SyncError> {
        self.read_into(key, &mut io::sink()).await
    }

    /// The same, and writes it to `place`.
    ///
    /// # Errors
    /// As [`Objects::read_back`], and if it cannot be written.
    pub async fn read_into(&self, key: &str, place: &mut impl Write) -> Result<Option<Content>, SyncError> {
        let answer = match self.ask(READING, self.get(key)?).await? {
            Ok(answer) => answer,
            Err(error) if has_code(&error, "NoSuchKey") => return Ok(None),
            Err(error) => return Err(classify(READING, &self.bucket, &error)),
        };
        let (mut chunks, _) =
            answer.into_boxed_stream().map_err(|error| classify(READING, &self.bucket, &error))?;
        let (mut size, mut hash) = (0, Sha256::new());
        while let Some(chunk) = self.within(READING, chunks.next()).await? {
            let broken = |error| SyncError::Unreachable { doing: READING, message: error_text(&error) };
            let chunk = chunk.map_err(broken)?;
            size += chunk.len() as u64;
            hash.update(&chunk);
            place.write_all(&chunk).map_err(SyncError::store("write on the local disk"))?;
        }
        Ok(Some(Content { size, sha256: hex::encode(hash.finish()) }))
    }

    /// Copies an object and reads both back. False if there is none.
    ///
    /// # Errors
    /// [`SyncError::Verify`] if the copy differs. Other errors if the server refuses.
    pub async fn copy(&self, from: &str, to: &str) -> Result<bool, SyncError> {
        let Some(content) = self.read_back(from).await? else { return Ok(false) };
        if content.size > COPY_BYTES_MAX {
            let message = format!("`{from}` is larger than what S3 copies in one call");
            return Err(SyncError::Refused { doing: COPYING, code: "size".into(), message });
        }
        let fault = |error| self.fault(COPYING, error);
        let source = CopySource::builder()
            .bucket(BucketName::new(&self.bucket).map_err(fault)?)
            .object(ObjectKey::new(from).map_err(fault)?)
            .build();
        let request =
            self.client.copy_object(self.bucket.as_str(), to).map_err(fault)?.source(source).build();
        let copied = self.within(COPYING, request.send()).await?;
        copied.map_err(|error| classify(COPYING, &self.bucket, &error))?;
        if self.read_back(to).await?.as_ref() == Some(&content) {
            return Ok(true);
        }
        Err(SyncError::Verify { doing: COPYING, message: "the copy is not what was copied".into() })
    }

    /// Removes an object.
    ///
    /// # Errors
    /// [`SyncError`] if the server refuses.
    pub async fn remove(&self, key: &str) -> Result<(), SyncError> {
        let request = self.client.delete_object(self.bucket.as_str(), key);
        let request = request.map_err(|error| self.fault(REMOVING, error))?;
        self.call(REMOVING, request.build()).await.map(drop)
    }

    /// Removes an object with all of its versions, and checks that it is gone.
    ///
    /// # Errors
    /// [`SyncError`] if the server refuses, e.g. under an object lock, or still has the object.
    pub async fn remove_with_versions(&self, key: &str) -> Result<(), SyncError> {
        self.remove(key).await?;
        for version in self.versions(key).await? {
            let version = VersionId::new(version).map_err(|error| self.fault(REMOVING, error))?;
            let request = self.client.delete_object(self.bucket.as_str(), (key, version));
            let request = request.map_err(|error| self.fault(REMOVING, error))?;
            self.call(REMOVING, request.build()).await?;
        }
        if self.is_gone(key).await? {
            return Ok(());
        }
        let message = "the object is still there after its removal; run the command again".to_owned();
        Err(SyncError::Refused { doing: REMOVING, code: "left".into(), message })
    }

    /// Whether there is neither an object with this key nor a version of one.
    ///
    /// # Errors
    /// [`SyncError`] if the server refuses.
    pub async fn is_gone(&self, key: &str) -> Result<bool, SyncError> {
        Ok(self.versions(key).await?.is_empty() && self.metadata_of(key).await?.is_none())
    }

    /// Ids of the versions and delete markers of an object; empty if the server keeps none.
    async fn versions(&self, key: &str) -> Result<Vec<String>, SyncError> {
        let request = self.client.list_objects(self.bucket.as_str());
        let request = request.map_err(|error| self.fault(LISTING_VERSIONS, error))?;
        let request = request.prefix(key.to_owned()).recursive(true).include_versions(true);
        let mut pages = request.disable_url_encoding(true).build().to_stream().await;
        let mut versions = Vec::new();
        while let Some(page) = self.within(LISTING_VERSIONS, pages.next()).await? {
            let page = match page {
                Ok(page) => page,
                Err(error) if has_code(&error, "NotImplemented") => return Ok(Vec::new()),
                Err(error) => return Err(classify(LISTING_VERSIONS, &self.bucket, &error)),
            };
            let of_key = page.contents.into_iter().filter(|entry| entry.name == key);
            versions.extend(of_key.filter_map(|entry| entry.version_id));
            if versions.len() >= VERSIONS_MAX {
                break;
            }
        }
        Ok(versions)
    }

    fn fault(&self, doing: &'static str, error: ValidationErr) -> SyncError {
        classify(doing, &self.bucket, &error.into())
    }
}
