//! The state directory belongs to one process.
//!
//! The lock is an advisory lock on the file `lock` in it. The system releases it when the process ends, so that no stale lock
//! remains. The file itself remains.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use thiserror::Error;

/// Name of the lock file in the state directory.
const LOCK_FILE: &str = "lock";

/// Why the state directory cannot be used.
#[derive(Debug, Error)]
pub enum StateError {
    /// Another process uses it.
    #[error("another daemon runs on {}; stop it first, or set state.directory to another folder", .0.display())]
    InUse(PathBuf),
    /// The system reports an error.
    #[error("cannot use the state directory {}: {source}; check state.directory and who owns it", path.display())]
    Io {
        /// The directory.
        path: PathBuf,
        /// The error of the system.
        #[source]
        source: io::Error,
    },
}

/// The lock on a state directory; held until dropped.
#[derive(Debug)]
pub(super) struct StateLock {
    _file: File,
}

impl StateLock {
    /// Creates the directory if it is missing, with access only for its owner, and locks it.
    ///
    /// # Errors
    /// [`StateError`] if it cannot be created or another process uses it.
    pub(super) fn take(directory: &Path) -> Result<Self, StateError> {
        let at = |source| StateError::Io { path: directory.to_owned(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(at)?;
        let path = directory.join(LOCK_FILE);
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path).map_err(at)?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(StateError::InUse(directory.to_owned())),
            Err(TryLockError::Error(source)) => Err(at(source)),
        }
    }
}

/// Whether the directory contains only the lock: no key was ever used here.
///
/// # Errors
/// [`StateError::Io`] if it cannot be listed.
pub(super) fn is_fresh(directory: &Path) -> Result<bool, StateError> {
    let at = |source| StateError::Io { path: directory.to_owned(), source };
    for entry in std::fs::read_dir(directory).map_err(at)? {
        if entry.map_err(at)?.file_name() != LOCK_FILE {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_directory_is_taken_once_and_free_again_afterwards() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("a/b");
        let lock = StateLock::take(&state).unwrap();
        assert!(matches!(StateLock::take(&state), Err(StateError::InUse(_))));
        drop(lock);
        let _lock = StateLock::take(&state).unwrap();
        assert!(is_fresh(&state).unwrap());
        std::fs::write(state.join("keys"), "x").unwrap();
        assert!(!is_fresh(&state).unwrap());
    }
}
