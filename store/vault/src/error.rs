//! A failure of the disk. It holds neither a secret nor biometric data.

use std::io::ErrorKind;
use std::path::PathBuf;

use thiserror::Error;

/// A failure of the disk, with the path and what was being done.
#[derive(Debug, Error)]
#[error("{doing} {}: {source}", path.display())]
pub struct IoError {
    /// What was being done, e.g. `sync`.
    pub doing: &'static str,
    /// The file or folder.
    pub path: PathBuf,
    /// The system's word.
    #[source]
    pub source: std::io::Error,
}

impl IoError {
    /// Whether there is no room on the disk: a state that passes, not a failure.
    pub fn is_full(&self) -> bool {
        matches!(self.source.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
    }

    /// For `map_err`: names the act and the path.
    pub fn at(doing: &'static str, path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self { doing, path, source }
    }
}
