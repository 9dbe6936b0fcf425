//! Media files: each is one sealed file with its own key.
//!
//! Constraints: a file is on stable storage when [`MediaFiles::put`] returns. No content of a file is
//! readable after [`MediaFiles::remove`] has returned, not even from a copy of its bytes. Reading a changed,
//! moved, shortened or lengthened file gives an error, never other bytes.
//!
//! Layout: `<directory>/<first 2 hex digits>/<32 hex digits>.gm`. The name is the id of the file, which is
//! also the id of its key. The content is a header and chunks of [`CHUNK_BYTES`], see
//! [`format`](self::format).
//!
//! Order of a put: key (durable), temporary file in the same folder, its bytes, sync of the file, rename,
//! sync of the folder. Order of a remove: key (durable), then the file.
//!
//! A crash can leave three kinds of leftovers. A key without a file, or a temporary file: a put did not reach
//! the rename, and the file was never reported as stored. A file without a key: a remove did not reach the
//! unlink, and the file is already unreadable. So [`MediaFiles::open`] removes them. It keeps them if all
//! keys or all files seem to be lost: the other half may return, from a backup or from a disk that is not
//! mounted.

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

/// Extension of a finished file.
const FINISHED: &str = "gm";
/// Extension of a file that is being written.
const TEMPORARY: &str = "tmp";

/// Why a media file cannot be stored, read or removed.
#[derive(Debug, Error)]
pub enum FileError {
    /// There is no such file, or it has been removed.
    #[error("media file {0} is not on disk; it was removed or never stored")]
    Missing(KeyId),
    /// The bytes on disk differ from those that were written.
    #[error(
        "media file {id} is damaged ({what}); its copy in the central services, if delivered, is not affected"
    )]
    Damaged {
        /// The file.
        id: KeyId,
        /// The mismatch.
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
    /// Whether the disk is full.
    pub fn is_full(&self) -> bool {
        match self {
            Self::Io(error) => error.is_full(),
            Self::Key(error) => error.is_full(),
            _ => false,
        }
    }
}

/// A file on stable storage.
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
    /// Opens the folder, creates it if it is missing, and removes the leftovers of a crash.
    ///
    /// # Errors
    /// [`FileError::Io`] if the folder cannot be created or listed. [`FileError::Key`] if an orphaned key
    /// cannot be destroyed.
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
    /// [`FileError::Io`] for the disk (full, read-only, broken), [`FileError::Key`] for the key table. No
    /// leftovers remain, or the next open removes them.
    pub fn put(&self, data: &[u8]) -> Result<StoredFile, FileError> {
        let id = self.keys.create(KeyKind::Media)?;
        match self.write(id, data) {
            Ok(disk_bytes) => {
                Ok(StoredFile { id, size: data.len() as u64, sha256: sha256(data), disk_bytes })
            }
            Err(error) => {
                // The caller must get the first error. A leftover is harmless and is removed at the next
                // open.
                let _ = self.keys.destroy(&id);
                let _ = self.disk.remove(&self.path(&id, TEMPORARY));
                let _ = self.disk.remove(&self.path(&id, FINISHED));
                Err(error)
            }
        }
    }

    /// Opens a file for reading. The length is checked here, each chunk when it is read.
    ///
    /// # Errors
    /// [`FileError::Missing`] if file or key does not exist, [`FileError::Damaged`] if header or length do
    /// not match, [`FileError::Io`] for the disk.
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

    /// Makes a file permanently unreadable, then removes it. A missing file is not an error.
    ///
    /// # Errors
    /// [`FileError::Key`] if the key cannot be destroyed: the file is still readable then. [`FileError::Io`]
    /// if the unlink fails: the file is unreadable by then, and the next open removes it.
    pub fn remove(&self, id: &KeyId) -> Result<(), FileError> {
        self.keys.destroy(id)?;
        let path = self.path(id, FINISHED);
        match self.disk.remove(&path) {
            // The folder is not synced: if the entry returns after a power cut, it has no key.
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(IoError::at("remove", &path)(error).into())
            }
            _ => Ok(()),
        }
    }

    /// The ids of all files on disk, in no particular order.
    ///
    /// # Errors
    /// [`FileError::Io`] if a folder cannot be listed.
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

    /// The subfolder of a file. A new one is made durable.
    fn folder(&self, id: &KeyId) -> Result<PathBuf, FileError> {
        let name = shard(id);
        let path = self.directory.join(&name);
        // Held during the sync, so that no other writer relies on an entry that is not durable yet.
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

/// Name of the subfolder. Subfolders keep folders small with a hundred thousand files.
fn shard(id: &KeyId) -> String {
    hex::encode(&id.as_bytes()[..1])
}
