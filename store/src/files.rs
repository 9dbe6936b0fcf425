//! Media files: sealed, one file and one key each.
//!
//! Constraints: a file is on stable storage when [`MediaFiles::put`] returns; nothing of a file can be read once
//! [`MediaFiles::remove`] returned, also not from a copy of its bytes; a changed, moved, shortened or lengthened
//! file is an error when it is read, never other bytes.
//!
//! Layout: `<directory>/<first 2 hex digits>/<32 hex digits>.gm`, named by the id of the file, which is also the id
//! of its key. The content is a header and chunks of [`CHUNK_BYTES`], see [`format`](self::format).
//!
//! Order of a put: key (durable), temporary file beside the final name, its bytes, sync of the file, rename, sync of
//! the folder. Order of a remove: key (durable), then the file.
//!
//! After a crash there may be: a key without a file (put did not get to the rename), a temporary file (the same), a
//! file without a key (remove did not get to the unlink). None of them was ever reported as stored, or all are
//! already reported as removed, so [`MediaFiles::open`] takes them away. It does not where all keys or all files seem
//! lost: what is left is kept then, since the other half may come back, from a backup or a disk not mounted.

use std::collections::HashSet;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use gatehouse_model::{KeyId, sha256};
use gatehouse_vault::disk::{Disk, RealDisk};
use gatehouse_vault::error::IoError;
use gatehouse_vault::keys::{KeyError, KeyKind, KeyTable};
use gatehouse_vault::seal::{SealError, TAG_BYTES};
use thiserror::Error;
use zeroize::Zeroize;

mod cleanup;
mod content_type;
mod format;
mod reader;
#[cfg(test)]
mod tests;

pub use cleanup::FilesReport;
pub(crate) use content_type::has_thumbnails;
pub use content_type::{content_type, is_picture};
pub use format::{CHUNK_BYTES, disk_bytes};
pub use reader::SealedReader;

use format::{Header, chunk_offset};

/// Ending of a finished file.
const FINISHED: &str = "gm";
/// Ending of a file that is being written.
const TEMPORARY: &str = "tmp";

/// Why a media file cannot be stored, read or removed.
#[derive(Debug, Error)]
pub enum FileError {
    /// There is no such file, or it has been removed.
    #[error("media file {0} is not on disk; it was removed or never stored")]
    Missing(KeyId),
    /// The bytes on disk are not those that were written.
    #[error(
        "media file {id} is damaged ({what}); its copy at the central side, if delivered, is not affected"
    )]
    Damaged {
        /// The file.
        id: KeyId,
        /// What does not fit.
        what: &'static str,
    },
    /// The key table failed.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Sealing failed.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The disk failed.
    #[error(transparent)]
    Io(#[from] IoError),
}

impl FileError {
    /// Whether there is no room on the disk.
    pub fn is_full(&self) -> bool {
        match self {
            Self::Io(error) => error.is_full(),
            Self::Key(error) => error.is_full(),
            _ => false,
        }
    }
}

/// A file that is now on stable storage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredFile {
    /// Id of the file and of its key.
    pub id: KeyId,
    /// Size of the content in bytes.
    pub size: u64,
    /// SHA-256 of the content.
    pub sha256: [u8; 32],
    /// Size on disk in bytes.
    pub disk_bytes: u64,
}

/// The folder of the media files. All calls block on the disk.
pub struct MediaFiles {
    directory: PathBuf,
    keys: Arc<KeyTable>,
    disk: Arc<dyn Disk>,
    /// Subfolders whose entry in `directory` is known to be durable.
    folders: Mutex<HashSet<String>>,
}

impl MediaFiles {
    /// Opens the folder, made where it is missing, and takes away what a crash left.
    ///
    /// # Errors
    /// [`FileError::Io`] where the folder cannot be made or listed, [`FileError::Key`] where an orphaned key cannot
    /// be destroyed.
    pub fn open(directory: &Path, keys: Arc<KeyTable>) -> Result<(Self, FilesReport), FileError> {
        Self::open_on(Arc::new(RealDisk), directory, keys)
    }

    fn open_on(
        disk: Arc<dyn Disk>,
        directory: &Path,
        keys: Arc<KeyTable>,
    ) -> Result<(Self, FilesReport), FileError> {
        fs::create_dir_all(directory).map_err(IoError::at("create", directory))?;
        let files = Self { directory: directory.to_owned(), keys, disk, folders: Mutex::default() };
        if let Some(parent) = directory.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            files.sync_folder(parent)?;
        }
        let report = files.clean_up()?;
        Ok((files, report))
    }

    /// Stores `data` under a new key. The file is on stable storage when this returns.
    ///
    /// # Errors
    /// [`FileError::Io`] for the disk (full, read-only, broken), [`FileError::Key`] for the key table. Nothing is
    /// left behind then, or it is taken away at the next open.
    pub fn put(&self, data: &[u8]) -> Result<StoredFile, FileError> {
        let id = self.keys.create(KeyKind::Media)?;
        match self.write(id, data) {
            Ok(disk_bytes) => {
                Ok(StoredFile { id, size: data.len() as u64, sha256: sha256(data), disk_bytes })
            }
            Err(error) => {
                // The caller must hear of the first failure; a leftover is harmless and cleaned at the next open.
                let _ = self.keys.destroy(&id);
                let _ = self.disk.remove(&self.path(&id, TEMPORARY));
                let _ = self.disk.remove(&self.path(&id, FINISHED));
                Err(error)
            }
        }
    }

    /// Opens a file for reading. The whole length is checked here, each chunk when it is read.
    ///
    /// # Errors
    /// [`FileError::Missing`] where file or key is gone, [`FileError::Damaged`] where header or length do not fit,
    /// [`FileError::Io`] for the disk.
    pub fn open_file(&self, id: &KeyId) -> Result<SealedReader, FileError> {
        let key = match self.keys.key(id) {
            Err(KeyError::Destroyed(_)) => return Err(FileError::Missing(*id)),
            other => other?,
        };
        let path = self.path(id, FINISHED);
        let file = match self.disk.open(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Err(FileError::Missing(*id)),
            other => other.map_err(IoError::at("open", &path))?,
        };
        SealedReader::new(*id, key, file, path)
    }

    /// Makes a file unreadable for ever, then takes it away. A file that is not there is fine.
    ///
    /// # Errors
    /// [`FileError::Key`] where the key cannot be destroyed: the file is still readable then. [`FileError::Io`] where
    /// the unlink fails: its bytes are worthless by then and are taken away at the next open.
    pub fn remove(&self, id: &KeyId) -> Result<(), FileError> {
        self.keys.destroy(id)?;
        let path = self.path(id, FINISHED);
        match self.disk.remove(&path) {
            // The folder is not synced: should the entry come back after a power cut, it has no key.
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(IoError::at("remove", &path)(error).into())
            }
            _ => Ok(()),
        }
    }

    /// All files that are on disk, in no order.
    ///
    /// # Errors
    /// [`FileError::Io`] where a folder cannot be listed.
    pub fn ids(&self) -> Result<Vec<KeyId>, FileError> {
        let mut ids = Vec::new();
        self.walk(&mut |id, ending, _| {
            if ending == FINISHED {
                ids.push(id);
            }
            Ok(())
        })?;
        Ok(ids)
    }

    fn write(&self, id: KeyId, data: &[u8]) -> Result<u64, FileError> {
        let key = self.keys.key(&id)?;
        let folder = self.folder(&id)?;
        let temporary = self.path(&id, TEMPORARY);
        let failed = |doing| IoError::at(doing, &temporary);
        let file = self.disk.create(&temporary).map_err(failed("create"))?;
        let header = Header { id, size: data.len() as u64 };
        file.write_at(&header.to_bytes(), 0).map_err(failed("write"))?;
        let mut buffer = Vec::with_capacity(CHUNK_BYTES + TAG_BYTES);
        // An empty file has one empty chunk.
        let empty = data.is_empty().then_some(data);
        for (number, chunk) in (0..).zip(data.chunks(CHUNK_BYTES).chain(empty)) {
            buffer.clear();
            buffer.extend_from_slice(chunk);
            key.seal_numbered(number, &header.chunk_ad(number), &mut buffer, 0)
                .inspect_err(|_| buffer.zeroize())?;
            file.write_at(&buffer, chunk_offset(number)).map_err(failed("write"))?;
        }
        file.sync().map_err(failed("sync"))?;
        let finished = self.path(&id, FINISHED);
        self.disk.rename(&temporary, &finished).map_err(IoError::at("rename to", &finished))?;
        self.sync_folder(&folder)?;
        Ok(header.disk_bytes())
    }

    /// The subfolder of a file, made durable where it is new.
    fn folder(&self, id: &KeyId) -> Result<PathBuf, FileError> {
        let name = shard(id);
        let path = self.directory.join(&name);
        // Held over the sync, so that no second writer relies on an entry that is not durable yet.
        let mut folders = self.folders.lock().unwrap_or_else(PoisonError::into_inner);
        if !folders.contains(&name) {
            fs::create_dir_all(&path).map_err(IoError::at("create", &path))?;
            self.sync_folder(&self.directory)?;
            folders.insert(name);
        }
        Ok(path)
    }

    fn sync_folder(&self, path: &Path) -> Result<(), IoError> {
        self.disk.sync_dir(path).map_err(IoError::at("sync folder", path))
    }

    fn path(&self, id: &KeyId, ending: &str) -> PathBuf {
        self.directory.join(shard(id)).join(format!("{id}.{ending}"))
    }
}

/// Name of the subfolder: it keeps folders small where there are a hundred thousand files.
fn shard(id: &KeyId) -> String {
    hex::encode(&id.as_bytes()[..1])
}
