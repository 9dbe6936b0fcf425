//! Events: the records of each message, timestamps, and queries.

use std::sync::Arc;

use gatehouse_journal::Pending;
use gatehouse_model::{Compared, Event, EventKey, Identification, Person};

use super::StoreError;
use super::core::{Core, NO_ATTRIBUTES, blocking};
use crate::record::{Item, Record};

pub(in crate::store) mod clock;
pub(in crate::store) mod queries;

/// Events: recording, duplicate check, timestamps, queries, and the ledger. Cheap to clone.
#[derive(Clone)]
pub struct Events {
    core: Arc<Core>,
}

impl Events {
    pub(in crate::store) fn new(core: &Arc<Core>) -> Self {
        Self { core: Arc::clone(core) }
    }

    /// A round trip through the journal's writer: returns once all earlier appends are durable.
    ///
    /// # Errors
    /// [`StoreError::Journal`] where the journal has failed.
    pub async fn ping(&self) -> Result<(), StoreError> {
        Ok(self.core.journal.ping().await?)
    }

    /// Whether this event is a duplicate. At least the last million events are known, across restarts.
    ///
    /// # Errors
    /// [`StoreError`] where neither memory nor the journal has the answer.
    pub async fn seen(&self, key: &EventKey) -> Result<bool, StoreError> {
        if !self.core.events.is_recent(key) {
            return Ok(false);
        }
        // Fingerprints can collide; confirm in the journal before treating an event as a duplicate.
        if self.known(key).await? {
            return Ok(true);
        }
        self.core.caught_up().await?;
        self.known(key).await
    }

    /// Runs off the async threads: it reads files, and may rebuild a part of the index.
    async fn known(&self, key: &EventKey) -> Result<bool, StoreError> {
        let (core, key) = (Arc::clone(&self.core), key.clone());
        blocking(move || Ok(core.events.find(&key, u64::MAX)?.is_some())).await
    }

    /// Appends an event with its answer. Durable once the [`Pending`] resolves.
    ///
    /// # Errors
    /// [`StoreError`] where the journal cannot accept it; the daemon must end then.
    pub async fn record(
        &self,
        mut event: Event,
        answer: Identification<Person>,
    ) -> Result<Pending, StoreError> {
        if let Ok(slot) = self.core.galleries().named(Some(&answer.model)) {
            slot.impostors().take(&event.key.camera, event.received_at, &answer);
        }
        let (identification, attributes) = {
            let people = self.core.people();
            let identification =
                answer.map_person(|person| people.refer(&person, &event.key, event.received_at));
            let attributes = people.seal_attributes(&identification, &event)?;
            (identification, attributes)
        };
        if attributes.is_some() {
            NO_ATTRIBUTES.clone_into(&mut event.attributes);
        }
        self.core.events.remember(&event.key);
        self.core.append(&Record::Event { event, identification, attributes }).await
    }

    /// Counts a message that was delivered again.
    ///
    /// # Errors
    /// As [`Events::record`].
    pub async fn record_duplicate(&self, item: Item, bytes: u64) -> Result<Pending, StoreError> {
        self.core.append(&Record::Duplicate { item, bytes }).await
    }

    /// Counts a message that was refused.
    ///
    /// # Errors
    /// As [`Events::record`].
    pub async fn record_refused(&self, item: Item, reason: &str, bytes: u64) -> Result<Pending, StoreError> {
        self.core.append(&Record::Refused { item, reason: reason.to_owned(), bytes }).await
    }

    /// Appends a comparison of two galleries. It is durable with the next record.
    ///
    /// # Errors
    /// As [`Events::record`].
    pub async fn record_comparison(&self, compared: Compared) -> Result<(), StoreError> {
        drop(self.core.append(&Record::Compared(compared)).await?);
        Ok(())
    }
}
