//! Snapshots: what the journal must still know when its beginning goes.
//!
//! A snapshot is the views at one position, as records at the journal's end ([`crate::views::snapshot`]). While the journal
//! begins with its first record nobody needs one: the views are folded from there. Where it does not, views that have to be
//! made anew begin with the newest whole snapshot and go on with what came after its position.

use super::applier::Applier;
use super::{Store, StoreError};
use crate::journal::{Journal, Position};
use crate::ledger::Totals;
use crate::record::Record;

/// How fresh views begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Beginning {
    /// With the first record, or where they are.
    Record,
    /// With a snapshot.
    Snapshot,
    /// The beginning of the journal is gone, and no whole snapshot reaches to what is left of it: changes of then are lost.
    Lost,
}

/// A whole snapshot in the journal.
struct Found {
    /// Its first record.
    from: u64,
    totals: Totals,
}

impl Store {
    /// Takes a snapshot. Durable on return; the position that it is of.
    pub(super) async fn snapshot(&self) -> Result<Position, StoreError> {
        let inner = self.inner.clone();
        let taken = tokio::task::spawn_blocking(move || {
            let _still = inner.views.hold();
            let totals = inner.numbers.borrow().totals.clone();
            Ok::<_, StoreError>((totals, inner.views.contents()?))
        });
        let (totals, contents) = taken.await.map_err(|_| StoreError::Stopping)??;
        let at = totals.applied;
        let parts = u32::try_from(contents.len()).unwrap_or(u32::MAX);
        for entries in contents {
            // That the last is durable says it of all before.
            drop(self.append(&Record::SnapshotPart { at: at.lsn, entries }).await?);
        }
        self.change(&Record::SnapshotEnd { parts, totals: Box::new(totals) }).await?;
        Ok(at)
    }
}

/// Brings fresh views to the newest snapshot where the journal does not begin with its first record.
pub(super) fn restore(applier: &mut Applier, journal: &Journal) -> Result<Beginning, StoreError> {
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
