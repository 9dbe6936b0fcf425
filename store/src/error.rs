//! Errors of records, each with what to do next.

use thiserror::Error;

/// A journal payload that is not a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum RecordError {
    /// The value cannot be encoded.
    #[error("record cannot be encoded; this is a fault of the program, please report it")]
    Encode,
    /// The bytes are not a record of this version.
    #[error("record is damaged; the disk may be failing: look at dmesg")]
    Decode,
    /// The record was written by another version of the program.
    #[error("record has format version {0}; install the version of Gatehouse that wrote it, or a newer one")]
    Version(u8),
}
