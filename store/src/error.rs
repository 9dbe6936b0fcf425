//! What can go wrong in the store, each with what to do next. No variant holds a secret or biometric data.

use std::io::ErrorKind;
use std::path::PathBuf;

use thiserror::Error;

/// A name from outside that is not one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a {what} is 1 to 64 of A-Z a-z 0-9 {marks}")]
pub struct NameError {
    /// Which kind of name.
    pub what: &'static str,
    /// What it may hold beside letters and digits.
    pub marks: &'static str,
}

/// A journal payload that is not a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum RecordError {
    /// The value cannot be encoded.
    #[error("record cannot be encoded; this is a fault of the program, please report it")]
    Encode,
    /// The bytes are no record of this version.
    #[error("record is damaged; the disk may be failing: look at dmesg")]
    Decode,
    /// The record was written by another version of the program.
    #[error("record has format version {0}; install the version of Gatehouse that wrote it, or a newer one")]
    Version(u8),
}

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
    pub(crate) fn at(doing: &'static str, path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self { doing, path, source }
    }
}
