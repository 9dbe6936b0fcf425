//! Refusing a message: counted in the ledger, answered where there is a topic to answer on, acknowledged.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use gatehouse_journal::Pending;
use gatehouse_model::EventKey;
use gatehouse_store::store::{Events, StoreError};
use tracing::warn;

use crate::pipeline::lines::Lines;
use crate::pipeline::{Counters, Shared};
use crate::sources::Refusal;
use gatehouse_mqtt::{Outgoing, Publisher, Receipt, Rejected};

/// See the module.
#[derive(Clone)]
pub(crate) struct Refuser {
    root: String,
    events: Events,
    publisher: Publisher,
    counters: Arc<Counters>,
    /// One bound for all inputs: a camera must not fill the log.
    lines: Arc<Mutex<Lines>>,
}

impl Refuser {
    pub(crate) fn new(shared: &Shared) -> Self {
        Self {
            root: shared.config.mqtt.topic_root.clone(),
            events: shared.events.clone(),
            publisher: shared.publisher.clone(),
            counters: shared.counters.clone(),
            lines: Arc::default(),
        }
    }

    /// Refuses a message of `bytes`.
    pub(crate) async fn refuse(
        &self,
        refusal: Refusal,
        bytes: u64,
    ) -> Result<(Pending, Option<Receipt>), StoreError> {
        let reason = refusal.reason.as_str();
        let item = refusal.item;
        let receipt = self.answer(refusal, reason);
        Ok((self.events.record_refused(item, reason, bytes).await?, receipt))
    }

    /// Logs and answers a refusal that is counted already. `reason` may be one of the store's own.
    pub(crate) fn answer(&self, refusal: Refusal, reason: &str) -> Option<Receipt> {
        self.counters.refused.add(1);
        let Refusal { item, detail, camera, misnamed, event_id, .. } = refusal;
        let key = camera.clone().zip(event_id.clone()).map(|(camera, id)| EventKey { camera, id });
        let correlation = key.map(|key| key.correlation());
        let Some(camera) = camera.map(String::from).or(misnamed) else {
            if let Some(left_out) = self.one_more_line() {
                warn!(?item, reason, detail, left_out, "message refused");
            }
            return None;
        };
        if let Some(left_out) = self.one_more_line() {
            warn!(?item, camera, reason, detail, correlation, left_out, "message refused");
        }
        let rejected = Rejected::new(&self.root, &camera, event_id, correlation, reason, &detail);
        Some(self.publisher.send(Outgoing::Rejected(rejected)))
    }

    /// Whether this refusal has a line in the log, and then how many were left out since the last one.
    fn one_more_line(&self) -> Option<u64> {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.one_more(Instant::now())
    }
}
