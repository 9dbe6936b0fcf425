//! Erasures at the central side. Each may be told more than once: the second time it counts for nothing.

use gatehouse_central::error::SyncError;
use gatehouse_central::rows::{BATCH_TIMEOUT, Link, timed};
use gatehouse_central::rows::{Value, shared_people, to_datetime, to_i64};
use gatehouse_journal::Position;
use gatehouse_model::Timestamp;
use gatehouse_store::deployment::Reference;
use gatehouse_store::store::Change;

const DOING: &str = "erase a person in Postgres";
const ERASE: &str = "select gatehouse.erase_person($1, $2, $3, $4, $5)";

/// Somebody who was erased.
pub(super) struct Erasure<'a> {
    position: Position,
    /// Their id.
    person: &'a str,
    /// As which they were shared.
    reference: Option<Reference>,
    at: Timestamp,
}

impl<'a> Erasure<'a> {
    /// Where the change is one.
    pub(super) fn of(change: &'a Change) -> Option<Self> {
        let Change::Erasure { position, person_id, reference, at } = change else { return None };
        Some(Self { position: *position, person: person_id, reference: *reference, at: *at })
    }

    /// Takes the person out of the appliance's events up to the erasure.
    pub(super) async fn scrub(&self, link: &Link, device: &String) -> Result<(), SyncError> {
        let person = self.person.replace('\0', "\u{fffd}");
        let (lsn, seq) = (to_i64(self.position.lsn), to_i64(self.position.seq));
        let values: [&Value<'_>; 5] = [device, &lsn, &seq, &person, &to_datetime(self.at)];
        timed(DOING, BATCH_TIMEOUT, link.client.execute(ERASE, &values)).await.map(drop)
    }

    /// Takes the person from all appliances, where people are shared.
    pub(super) async fn bury(&self, link: &Link, device: &str) -> Result<(), SyncError> {
        match self.reference {
            Some(reference) => shared_people::bury(link, device, reference, self.person, self.at).await,
            None => Ok(()),
        }
    }
}
