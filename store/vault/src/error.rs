//! Disk errors. They contain neither secrets nor biometric data.

use std::io::ErrorKind;
use std::path::PathBuf;

use thiserror::Error;

/// A disk error, with the operation and the path.
#[derive(Debug, Error)]
#[error("{doing} {}: {source}", path.display())]
pub struct IoError {
    /// The operation, e.g. `sync`.
    pub doing: &'static str,
    /// The file or folder.
    pub path: PathBuf,
    /// The error of the system.
    #[source]
    pub source: std::io::Error,
}

impl IoError {
    /// Whether the disk is full: a temporary state, not a failure.
    pub fn is_full(&self) -> bool {
        matches!(self.source.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
    }

    /// For `map_err`: adds the operation and the path.
    pub fn at(doing: &'static str, path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self { doing, path, source }
    }
}
