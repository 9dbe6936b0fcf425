//! Status of the store.

use gatehouse_journal::Position;
use gatehouse_model::Timestamp;
use serde::{Deserialize, Serialize};

use super::Upkeep;

/// Status of the store.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StoreStatus {
    /// Last durable position.
    pub head: Position,
    /// Records that the views have not applied yet.
    pub view_lag: u64,
    /// People in the gallery in use.
    pub people: usize,
    /// Templates in the gallery in use.
    pub templates: usize,
    /// Events that the rows sink does not have.
    pub pending_events: u64,
    /// Media files that the objects sink does not have.
    pub pending_media: u64,
    /// Receive time of the oldest pending event.
    pub oldest_pending: Option<Timestamp>,
    /// Plaintext bytes of media files on disk.
    pub media_bytes: u64,
    /// Quota of media files on disk.
    pub media_quota_bytes: u64,
    /// Media files in the catalogue, including delivered and removed ones.
    pub media_files: u64,
}

impl Upkeep {
    /// The last durable position of the journal.
    pub fn head(&self) -> Position {
        self.core.journal.head()
    }

    /// Status of the store. Blocking.
    pub fn status(&self) -> StoreStatus {
        let numbers = self.core.numbers.borrow().clone();
        let head = self.core.journal.head();
        let galleries = self.core.galleries();
        let totals = &numbers.totals;
        StoreStatus {
            head,
            view_lag: head.lsn.saturating_sub(totals.applied.lsn),
            people: galleries.in_use.gallery.people(),
            templates: galleries.in_use.gallery.templates(),
            pending_events: totals.ledger.events.pending(),
            pending_media: totals.ledger.files.pending(),
            oldest_pending: self.core.oldest_pending(),
            media_bytes: totals.media_bytes,
            media_quota_bytes: self.core.settings.media_quota_bytes,
            media_files: numbers.counts.files(),
        }
    }
}
