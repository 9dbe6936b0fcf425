//! The law of conservation: `received = stored + duplicate + rejected` and `stored = delivered + pending + dropped`.
//!
//! The ledger is a fold over the journal: every record moves it by a fixed step, so that it is as durable as the
//! journal and adds up at every position, also after a crash.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::journal::Position;
use crate::record::{Item, Record};

/// One counted thing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// Made durable.
    pub stored: u64,
    /// Delivered again by the broker, recognised.
    pub duplicate: u64,
    /// Refused, by reason.
    pub rejected: BTreeMap<String, u64>,
    /// At the central side.
    pub delivered: u64,
    /// Given up after it was stored, by reason.
    pub dropped: BTreeMap<String, u64>,
}

impl Column {
    /// Everything that came in: stored, duplicate or rejected.
    pub fn received(&self) -> u64 {
        self.stored + self.duplicate + self.rejected.values().sum::<u64>()
    }

    /// Stored, and neither delivered nor dropped yet.
    pub fn pending(&self) -> u64 {
        self.stored.saturating_sub(self.delivered + self.dropped.values().sum::<u64>())
    }

    /// Whether no more was delivered and dropped than was ever stored.
    pub fn holds(&self) -> bool {
        self.delivered + self.dropped.values().sum::<u64>() <= self.stored
    }
}

/// The ledger of a state directory since it was made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    /// Events; a message that cannot be told apart counts here.
    pub events: Column,
    /// Media files.
    pub files: Column,
    /// Bytes of those media files.
    pub bytes: Column,
}

impl Ledger {
    /// Whether every column holds.
    pub fn holds(&self) -> bool {
        self.events.holds() && self.files.holds() && self.bytes.holds()
    }

    fn media(&mut self, bytes: u64, mut step: impl FnMut(&mut Column) -> &mut u64) {
        *step(&mut self.files) += 1;
        *step(&mut self.bytes) += bytes;
    }
}

/// Everything that is folded from the journal into single numbers, at one position.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// The position of the last folded record.
    pub applied: Position,
    /// The ledger there.
    pub ledger: Ledger,
    /// How far the rows sink has everything.
    pub rows: Position,
    /// Plaintext bytes of the media files on disk.
    pub media_bytes: u64,
}

impl Totals {
    /// Takes one step.
    pub fn fold(&mut self, position: Position, record: &Record) {
        self.applied = position;
        let ledger = &mut self.ledger;
        match record {
            Record::Event { .. } => ledger.events.stored += 1,
            Record::Media(media) => {
                ledger.media(media.size, |column| &mut column.stored);
                self.media_bytes += media.size;
            }
            Record::Refused { item: Item::Event, reason, .. } => count(&mut ledger.events.rejected, reason, 1),
            Record::Refused { item: Item::Media, reason, bytes } => {
                count(&mut ledger.files.rejected, reason, 1);
                count(&mut ledger.bytes.rejected, reason, *bytes);
            }
            Record::Duplicate { item: Item::Event, .. } => ledger.events.duplicate += 1,
            Record::Duplicate { item: Item::Media, bytes } => {
                ledger.media(*bytes, |column| &mut column.duplicate);
            }
            Record::RowsDelivered { lsn, seq } => {
                ledger.events.delivered += seq.saturating_sub(self.rows.seq);
                self.rows = Position { lsn: *lsn, seq: *seq };
            }
            Record::MediaDelivered { bytes, .. } => ledger.media(*bytes, |column| &mut column.delivered),
            Record::MediaDropped { bytes, reason, .. } => {
                count(&mut ledger.files.dropped, reason, 1);
                count(&mut ledger.bytes.dropped, reason, *bytes);
                self.media_bytes = self.media_bytes.saturating_sub(*bytes);
            }
            Record::MediaEvicted { bytes, .. } => self.media_bytes = self.media_bytes.saturating_sub(*bytes),
            Record::Profile { .. }
            | Record::Samples { .. }
            | Record::SamplesReplaced { .. }
            | Record::TemplateKey(_)
            | Record::TemplateKeyRetired { .. }
            | Record::Corrected { .. }
            | Record::Erased { .. } => {}
        }
    }
}

fn count(by_reason: &mut BTreeMap<String, u64>, reason: &str, by: u64) {
    *by_reason.entry(reason.to_owned()).or_default() += by;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fold(records: &[Record]) -> Totals {
        let mut totals = Totals::default();
        for (at, record) in records.iter().enumerate() {
            totals.fold(Position { lsn: at as u64 + 1, seq: 0 }, record);
        }
        totals
    }

    #[test]
    fn refused_and_repeated_messages_are_received_but_not_stored() {
        let refused = Record::Refused { item: Item::Event, reason: "not_json".into(), bytes: 9 };
        let again = Record::Duplicate { item: Item::Event, bytes: 9 };
        let ledger = fold(&[refused.clone(), again, refused]).ledger;
        assert_eq!(ledger.events.received(), 3);
        assert_eq!(ledger.events.rejected["not_json"], 2);
        assert_eq!(ledger.events.pending(), 0);
    }

    #[test]
    fn a_cursor_that_is_told_twice_counts_once() {
        let cursor = Record::RowsDelivered { lsn: 9, seq: 5 };
        assert_eq!(fold(&[cursor.clone(), cursor]).ledger.events.delivered, 5);
    }
}
