//! Snapshots: the state that the journal must keep when its beginning is removed.
//!
//! A snapshot is the views at one position, as records at the journal's end ([`crate::views::snapshot`]).
//! Other records may be appended in between. An interrupted snapshot has no end record and is ignored. While
//! the journal begins with its first record, no snapshot is needed: the views are rebuilt from there.
//! Otherwise a rebuild starts with the newest complete snapshot and continues with the records after its
//! position.

use gatehouse_journal::{Journal, Position};
use gatehouse_vault::space::FREE_BYTES_MIN;

use super::super::StoreError;
use super::super::applier::Applier;
use super::super::core::blocking;
use super::Upkeep;
use crate::ledger::Totals;
use crate::record::Record;
use crate::views::snapshot::Taking;

/// Start of a rebuild of the views.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) enum Beginning {
    /// The first record, or the position of existing views.
    Record,
    /// A snapshot.
    Snapshot,
    /// The beginning of the journal is gone, and no complete snapshot covers it: changes of that time are
    /// lost.
    Lost,
}

/// A complete snapshot in the journal.
struct Found {
    /// Its first record.
    from: u64,
    totals: Totals,
}

impl Upkeep {
    /// Takes a snapshot and returns its position. Durable on return. Memory holds one part at a time.
    pub(in crate::store) async fn snapshot(&self) -> Result<Position, StoreError> {
        let core = self.core.clone();
        let begun = blocking(move || {
            if !core.space.wait_for_free_bytes() {
                return Err(StoreError::Stopping);
            }
            Ok(Taking::begin(&core.views, || core.numbers.borrow().totals.clone())?)
        });
        let (mut taking, totals) = begun.await?;
        let (at, mut parts) = (totals.applied, 0);
        loop {
            let part;
            (taking, part) =
                blocking(move || taking.next_part().map(|part| (taking, part)).map_err(StoreError::from))
                    .await?;
            let Some(entries) = part else { break };
            if !entries.is_empty() {
                // No need to await: the journal is ordered, so the durable end record implies all parts.
                drop(self.core.append(&Record::SnapshotPart { at: at.lsn, entries }).await?);
                parts += 1;
            }
        }
        let core = self.core.clone();
        blocking(move || {
            // Without enough free space the next snapshot does this.
            if core.space.free()? >= FREE_BYTES_MIN {
                taking.end()?;
            }
            Ok(())
        })
        .await?;
        self.core.change(&Record::SnapshotEnd { parts, totals: Box::new(totals) }).await?;
        Ok(at)
    }
}

/// Restores new views from the newest snapshot where the journal does not begin with its first record.
pub(in crate::store) fn restore(applier: &mut Applier, journal: &Journal) -> Result<Beginning, StoreError> {
    let oldest = journal.segments().list().first().map_or(1, |segment| segment.first);
    if applier.state.totals.applied.lsn > 0 || oldest <= 1 {
        return Ok(Beginning::Record);
    }
    let Some(Found { from, totals }) = find(journal)? else { return Ok(Beginning::Lost) };
    let reaches = totals.applied.lsn + 1 >= oldest;
    let mut reader = journal.reader(from - 1);
    while let Some(committed) = reader.next()? {
        match Record::decode(&committed.payload) {
            Ok(Record::SnapshotPart { at, entries }) if at == totals.applied.lsn => {
                applier.state = applier.views.lay(&applier.events, applier.state.clone(), entries)?;
            }
            Ok(Record::SnapshotEnd { totals: of, .. }) if of.applied == totals.applied => break,
            _ => {}
        }
    }
    applier.state = applier.views.settle(applier.state.clone(), totals)?;
    Ok(if reaches { Beginning::Snapshot } else { Beginning::Lost })
}

/// The newest snapshot of which every part can be read.
fn find(journal: &Journal) -> Result<Option<Found>, StoreError> {
    let (mut newest, mut open) = (None, (0, 0, 0));
    let mut reader = journal.reader(0);
    while let Some(committed) = reader.next()? {
        match Record::decode(&committed.payload) {
            Ok(Record::SnapshotPart { at, .. }) => {
                let (of, from, parts) = open;
                open = if of == at { (of, from, parts + 1) } else { (at, committed.position.lsn, 1) };
            }
            Ok(Record::SnapshotEnd { parts, totals }) => {
                let here = committed.position.lsn;
                let (of, from, read) = if parts == 0 { (totals.applied.lsn, here, 0) } else { open };
                if (of, read) == (totals.applied.lsn, parts) {
                    newest = Some(Found { from, totals: *totals });
                }
            }
            _ => {}
        }
    }
    Ok(newest)
}
