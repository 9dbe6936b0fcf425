//! Erasures in Postgres. Each may be sent more than once. A repetition changes nothing.

use gatehouse_central::error::SyncError;
use gatehouse_central::rows::{BATCH_TIMEOUT, Link, timed};
use gatehouse_central::rows::{Value, shared_people, to_datetime, to_i64};
use gatehouse_journal::Position;
use gatehouse_model::{OrderId, Timestamp};
use gatehouse_store::deployment::Reference;
use gatehouse_store::store::{Change, ErasureOrder};
use uuid::Uuid;

const DOING: &str = "erase a person in Postgres";
const ERASE: &str = "select gatehouse.erase_person($1, $2, $3, $4, $5, $6)";

/// An erasure of a person.
pub(super) struct Erasure<'a> {
    position: Position,
    order: OrderId,
    /// Id of the person.
    person: &'a str,
    /// Reference under which the person was shared.
    reference: Option<Reference>,
    at: Timestamp,
}

impl<'a> Erasure<'a> {
    /// The erasure in a change, if it is one.
    pub(super) fn of(change: &'a Change) -> Option<Self> {
        let Change::Erasure { position, order, person_id, reference, at } = change else { return None };
        Some(Self { position: *position, order: *order, person: person_id, reference: *reference, at: *at })
    }

    /// Removes the person from the events of this appliance up to the erasure.
    pub(super) async fn erase_from_events(&self, link: &Link, device: &String) -> Result<(), SyncError> {
        let person = self.person.replace('\0', "\u{fffd}");
        let (lsn, seq) = (to_i64(self.position.lsn), to_i64(self.position.seq));
        let (order, at) = (Uuid::from_bytes(*self.order.as_bytes()), to_datetime(self.at));
        let values: [&Value<'_>; 6] = [device, &order, &lsn, &seq, &person, &at];
        timed(DOING, BATCH_TIMEOUT, link.client.execute(ERASE, &values)).await.map(drop)
    }

    /// Erases the person on all appliances, if people are shared.
    pub(super) async fn erase_everywhere(&self, link: &Link, device: &str) -> Result<(), SyncError> {
        let Some(reference) = self.reference else { return Ok(()) };
        let order = ErasureOrder { order: self.order, reference, at: self.at };
        shared_people::erase(link, device, &order, Some(self.person)).await
    }
}
