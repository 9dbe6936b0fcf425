//! Read-only queries of events.

use gatehouse_journal::{JournalError, Location};
use gatehouse_model::{CameraName, Event, EventKey, Identification, Person, Timestamp};
use serde::{Deserialize, Serialize};

use super::super::StoreError;
use super::super::core::Opened;
use super::Events;
use crate::clock::{Clocks, Known, Moment, is_plausible};
use crate::ledger::Ledger;
use crate::record::Record;

/// Which events, newest first.
#[derive(Debug, Clone, Default)]
pub struct EventQuery {
    /// Only of this camera.
    pub camera: Option<CameraName>,
    /// Only those in which this person was matched.
    pub person: Option<String>,
    /// Only those received at this time or later, by the corrected time.
    pub since: Option<Timestamp>,
    /// Only those with a smaller number, to continue a list.
    pub before: Option<u64>,
    /// Maximum number of results.
    pub limit: usize,
}

/// An event as queries return it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EventView {
    /// Its number.
    pub seq: u64,
    /// The visit.
    pub event: Event,
    /// The answer, with the people that are still enrolled.
    pub identification: Identification<Person>,
    /// When it was received, corrected as far as known now.
    pub time: Known,
}

impl Events {
    /// Events, newest first, without those whose record is damaged. Blocking.
    ///
    /// # Errors
    /// [`StoreError`] where views or journal cannot be read.
    pub fn list(&self, query: &EventQuery) -> Result<Vec<EventView>, StoreError> {
        let (mut found, clocks) = (Vec::new(), self.core.clocks()?);
        for entry in self.core.events.newest_first(query.camera.as_ref()) {
            let entry = entry?;
            let time = clocks.when(Moment::Event(entry.seq), entry.received_at);
            match query.since {
                _ if found.len() >= query.limit => break,
                _ if query.before.is_some_and(|before| entry.seq >= before) => continue,
                // The time of a clock that was never set does not bound earlier events.
                Some(since) if time.at < since && !is_plausible(time.at) => continue,
                Some(since) if time.at < since => break,
                _ => {}
            }
            let view = match self.event_in(entry.location, &clocks) {
                // One damaged record must not hide the others. Opening and delivery report it.
                Err(StoreError::Journal(JournalError::Damaged { .. })) => continue,
                view => view?,
            };
            found.extend(view.filter(|view| query.fits(view)));
        }
        Ok(found)
    }

    /// One event by its identity. Blocking.
    ///
    /// # Errors
    /// As [`Events::list`].
    pub fn get(&self, key: &EventKey) -> Result<Option<EventView>, StoreError> {
        match self.core.events.find(key, u64::MAX)? {
            Some(entry) => self.event_at(entry.location),
            None => Ok(None),
        }
    }

    /// One event by its number. Blocking.
    ///
    /// # Errors
    /// As [`Events::list`].
    pub fn numbered(&self, seq: u64) -> Result<Option<EventView>, StoreError> {
        match self.core.events.at_or_after(seq)? {
            Some(entry) if entry.seq == seq => self.event_at(entry.location),
            _ => Ok(None),
        }
    }

    fn event_at(&self, location: Location) -> Result<Option<EventView>, StoreError> {
        self.event_in(location, &self.core.clocks()?)
    }

    fn event_in(&self, location: Location, clocks: &Clocks) -> Result<Option<EventView>, StoreError> {
        let committed = self.core.journal.read_at(location)?;
        let Record::Event { event, identification, attributes } = Record::decode(&committed.payload)? else {
            return Ok(None);
        };
        let Opened { event, identification } = self.core.open_event(event, identification, attributes);
        let seq = committed.position.seq;
        let time = clocks.when(Moment::Event(seq), event.received_at);
        Ok(Some(EventView { seq, event, identification, time }))
    }

    /// The ledger at the position of the views.
    pub fn ledger(&self) -> Ledger {
        self.core.numbers.borrow().totals.ledger.clone()
    }
}

impl EventQuery {
    /// Whether an event matches the camera and the person of the query.
    fn fits(&self, view: &EventView) -> bool {
        self.camera.as_ref().is_none_or(|camera| *camera == view.event.key.camera)
            && self.person.as_ref().is_none_or(|person| view.shows(person))
    }
}

impl EventView {
    fn shows(&self, person: &str) -> bool {
        let faces = &self.identification.faces;
        faces.iter().any(|face| face.person.as_ref().is_some_and(|found| found.id == person))
    }
}
