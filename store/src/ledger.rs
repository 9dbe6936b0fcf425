//! Message accounting: `received = stored + duplicate + rejected` and `stored = delivered + pending +
//! dropped`.
//!
//! The ledger is a fold over the journal: every record changes it by a fixed step. So it is as durable as the
//! journal and adds up at every position, also after a crash.

use std::collections::BTreeMap;

use gatehouse_journal::Position;
use serde::{Deserialize, Serialize};

use crate::record::{Item, Record};

/// The counters of one kind of item.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// Made durable.
    pub stored: u64,
    /// Delivered again by the broker and recognised as a duplicate.
    pub duplicate: u64,
    /// Refused, by reason.
    pub rejected: BTreeMap<String, u64>,
    /// Delivered to the central services.
    pub delivered: u64,
    /// Dropped after it was stored, by reason.
    pub dropped: BTreeMap<String, u64>,
}

impl Column {
    /// Everything received: stored, duplicate or rejected.
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

/// The ledger of a state directory since its creation.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    /// Events. A message of unknown kind counts here.
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

/// All numbers that are folded from the journal, at one position.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// The position of the last folded record.
    pub applied: Position,
    /// The ledger at that position.
    pub ledger: Ledger,
    /// Position up to which the rows sink has everything.
    pub rows: Position,
    /// Plaintext bytes of the media files on disk.
    pub media_bytes: u64,
    /// Ranges of numbers of lost events (damaged or dropped), from and to, that the rows sink has not passed.
    pub lost: Vec<(u64, u64)>,
}

impl Totals {
    /// Event numbers have no gap. A jump means events that were stored and whose records are damaged.
    fn count_lost(&mut self, position: Position, is_event: bool) {
        let (from, to) = (self.applied.seq + 1, position.seq.saturating_sub(u64::from(is_event)));
        if to < from {
            return;
        }
        let events = &mut self.ledger.events;
        events.stored += to - from + 1;
        *events.dropped.entry("damage".to_owned()).or_default() += to - from + 1;
        self.lose(from, to);
    }

    fn lose(&mut self, from: u64, to: u64) {
        match self.lost.last_mut() {
            Some(last) if last.1 + 1 == from => last.1 = to,
            _ => self.lost.push((from, to)),
        }
    }

    /// The numbers up to `seq` that are neither delivered nor lost, as ranges.
    pub fn kept_until(&self, seq: u64) -> Vec<(u64, u64)> {
        let (mut kept, mut next) = (Vec::new(), self.rows.seq + 1);
        let mut lost = self.lost.clone();
        lost.sort_unstable();
        for (from, to) in lost.into_iter().chain([(seq + 1, seq + 1)]) {
            let until = from.min(seq + 1);
            if next < until {
                kept.push((next, until - 1));
            }
            next = next.max(to + 1);
        }
        kept
    }

    /// Applies one record.
    pub fn fold(&mut self, position: Position, record: &Record) {
        self.count_lost(position, record.is_event());
        self.applied = position;
        let ledger = &mut self.ledger;
        match record {
            Record::Event { .. } => ledger.events.stored += 1,
            Record::Media(media) => {
                ledger.media(media.size, |column| &mut column.stored);
                self.media_bytes += media.size;
            }
            Record::Refused { item: Item::Event, reason, .. } => {
                count(&mut ledger.events.rejected, reason, 1);
            }
            Record::Refused { item: Item::Media, reason, bytes } => {
                count(&mut ledger.files.rejected, reason, 1);
                count(&mut ledger.bytes.rejected, reason, *bytes);
            }
            Record::Duplicate { item: Item::Event, .. } => ledger.events.duplicate += 1,
            Record::Duplicate { item: Item::Media, bytes } => {
                ledger.media(*bytes, |column| &mut column.duplicate);
            }
            Record::RowsDelivered { lsn, seq } => {
                let passed = seq.saturating_sub(self.rows.seq);
                let lost = pass(&mut self.lost, *seq);
                ledger.events.delivered += passed.saturating_sub(lost);
                self.rows = Position { lsn: *lsn, seq: *seq };
            }
            Record::EventsDropped { from, to, reason } => {
                // Events delivered between the decision and this record are not dropped.
                let from = (*from).max(self.rows.seq + 1);
                if from <= *to {
                    count(&mut ledger.events.dropped, reason, to + 1 - from);
                    self.lose(from, *to);
                }
            }
            Record::MediaDelivered { bytes, .. } => ledger.media(*bytes, |column| &mut column.delivered),
            Record::MediaDropped { bytes, reason, .. } => {
                count(&mut ledger.files.dropped, reason, 1);
                count(&mut ledger.bytes.dropped, reason, *bytes);
                self.media_bytes = self.media_bytes.saturating_sub(*bytes);
            }
            Record::MediaEvicted { bytes, .. } => self.media_bytes = self.media_bytes.saturating_sub(*bytes),
            Record::Profile { .. }
            | Record::GalleryCalibrated { .. }
            | Record::TemplateKey(_)
            | Record::TemplateKeyRetired { .. }
            | Record::GalleryAdded(_)
            | Record::GallerySwitched { .. }
            | Record::GalleryRemoved { .. }
            | Record::Templates { .. }
            | Record::Compared(_)
            | Record::PeopleTaken { .. }
            | Record::PartSent { .. }
            | Record::Previewed { .. }
            | Record::EventFound { .. }
            | Record::SnapshotPart { .. }
            | Record::SnapshotEnd { .. }
            | Record::Clock(_)
            | Record::ReferenceTime(_)
            | Record::ErasureKnown(_)
            | Record::MediaErased { .. }
            | Record::ErasureOrdered(_)
            | Record::ErasureVerified { .. }
            | Record::Erased(_) => {}
        }
    }
}

/// Removes the lost numbers up to `seq` and returns their count.
fn pass(lost: &mut Vec<(u64, u64)>, seq: u64) -> u64 {
    let mut passed = 0;
    lost.retain_mut(|(from, to)| {
        let upto = seq.min(*to);
        if upto >= *from {
            passed += upto - *from + 1;
            *from = upto + 1;
        }
        from <= to
    });
    passed
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
            let lsn = at as u64 + 1;
            totals.fold(Position { lsn, seq: totals.applied.seq }, record);
        }
        totals
    }

    #[test]
    fn events_that_are_lost_to_damage_are_dropped_and_not_delivered() {
        let noise = Record::Duplicate { item: Item::Event, bytes: 1 };
        let mut totals = Totals::default();
        totals.fold(Position { lsn: 4, seq: 3 }, &noise);
        assert_eq!((totals.ledger.events.stored, totals.ledger.events.dropped["damage"]), (3, 3));
        totals.fold(Position { lsn: 5, seq: 3 }, &Record::RowsDelivered { lsn: 2, seq: 2 });
        assert_eq!((totals.ledger.events.delivered, &totals.lost[..]), (0, &[(3, 3)][..]));
        totals.fold(Position { lsn: 6, seq: 3 }, &Record::RowsDelivered { lsn: 5, seq: 3 });
        assert_eq!((totals.ledger.events.delivered, totals.ledger.events.pending()), (0, 0));
        assert!(totals.lost.is_empty() && totals.ledger.holds());
    }

    #[test]
    fn events_that_are_given_up_are_dropped_once_and_never_delivered() {
        let mut totals = Totals::default();
        totals.fold(Position { lsn: 10, seq: 10 }, &Record::Duplicate { item: Item::Event, bytes: 1 });
        totals.lost.clear();
        totals.ledger.events.dropped.clear();
        let drop = |from, to| Record::EventsDropped { from, to, reason: "retention".into() };
        totals.fold(Position { lsn: 11, seq: 10 }, &Record::RowsDelivered { lsn: 2, seq: 2 });
        assert_eq!(totals.kept_until(6), [(3, 6)]);
        totals.fold(Position { lsn: 12, seq: 10 }, &drop(5, 6));
        assert_eq!((totals.kept_until(8), totals.kept_until(6)), (vec![(3, 4), (7, 8)], vec![(3, 4)]));
        totals.fold(Position { lsn: 13, seq: 10 }, &drop(7, 8));
        assert_eq!((&totals.lost[..], totals.kept_until(2)), (&[(5, 8)][..], vec![]));
        totals.fold(Position { lsn: 14, seq: 10 }, &Record::RowsDelivered { lsn: 10, seq: 10 });
        let events = &totals.ledger.events;
        assert_eq!((events.delivered, events.dropped["retention"], events.pending()), (6, 4, 0));
        assert!(totals.lost.is_empty() && totals.ledger.holds());
        totals.fold(Position { lsn: 15, seq: 10 }, &drop(9, 10));
        assert_eq!(totals.ledger.events.dropped["retention"], 4, "delivered meanwhile");
        assert!(totals.lost.is_empty() && totals.ledger.holds());
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
    fn repeated_cursor_counts_once() {
        let cursor = Record::RowsDelivered { lsn: 9, seq: 5 };
        assert_eq!(fold(&[cursor.clone(), cursor]).ledger.events.delivered, 5);
    }
}
