//! Failures of the store, each with what to do next.

use gatehouse_gallery::EncodingFault;
use gatehouse_journal::JournalError;
use gatehouse_vault::error::IoError;
use gatehouse_vault::keys::KeyError;
use gatehouse_vault::seal::SealError;
use thiserror::Error;

use crate::files::FileError;
use crate::record::RECORD_VERSION;
use crate::record::RecordError;
use crate::views::ViewError;

/// Why the store failed. What a user can correct is a [`Refusal`](super::Refusal) instead.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The journal cannot accept records any more; the daemon must be restarted.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A key is not available.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A value cannot be sealed or opened.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// A media file cannot be written or read.
    #[error(transparent)]
    File(#[from] FileError),
    /// A view cannot be read or written.
    #[error(transparent)]
    View(#[from] ViewError),
    /// A record cannot be encoded or decoded.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The disk failed.
    #[error(transparent)]
    Io(#[from] IoError),
    /// The views no longer follow the journal.
    #[error("the views stopped following the journal; restart gatehoused, it rebuilds them")]
    ViewsStopped,
    /// The state directory was written by another version.
    #[error(
        "state directory has format {0}, this program supports {known} at most; install the \
         version that wrote it",
        known = RECORD_VERSION
    )]
    Format(String),
    /// The verification of an erasure found data of the person.
    #[error(
        "the erasure is not complete: data of the person is left; restart gatehoused, it continues the erasure"
    )]
    Erasure,
    /// A blocking step was cancelled at shutdown.
    #[error("gatehoused is stopping; try again once it runs")]
    Stopping,
    /// A stored template is not of the gallery's model.
    #[error("encoding {nth}: {fault}")]
    Template {
        /// Which, from 1.
        nth: usize,
        /// Why.
        fault: EncodingFault,
    },
}
