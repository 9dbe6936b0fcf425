//! Refusals: counted in the ledger, answered if the topic is known, acknowledged.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use gatehouse_journal::Pending;
use gatehouse_model::EventKey;
use gatehouse_store::store::{Events, StoreError};
use tracing::warn;

use crate::pipeline::log_limit::LogLimit;
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
    /// One limit for all inputs: a camera must not fill the log.
    log_limit: Arc<Mutex<LogLimit>>,
}

impl Refuser {
    pub(crate) fn new(shared: &Shared) -> Self {
        Self {
            root: shared.config.mqtt.topic_root.clone(),
            events: shared.events.clone(),
            publisher: shared.publisher.clone(),
            counters: shared.counters.clone(),
            log_limit: Arc::default(),
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

    /// Logs and answers a refusal that is already counted. `reason` may be one of the store.
    pub(crate) fn answer(&self, refusal: Refusal, reason: &str) -> Option<Receipt> {
        self.counters.refused.add(1);
        let Refusal { item, detail, camera, misnamed, event_id, .. } = refusal;
        let key = camera.clone().zip(event_id.clone()).map(|(camera, id)| EventKey { camera, id });
        let correlation = key.map(|key| key.correlation());
        let Some(camera) = camera.map(String::from).or(misnamed) else {
            if let Some(left_out) = self.admit_log_line() {
                warn!(?item, reason, detail, left_out, "message refused");
            }
            return None;
        };
        if let Some(left_out) = self.admit_log_line() {
            warn!(?item, camera, reason, detail, correlation, left_out, "message refused");
        }
        let rejected = Rejected::new(&self.root, &camera, reason, &detail).with_event(event_id, correlation);
        Some(self.publisher.send(Outgoing::Rejected(rejected)))
    }

    /// Whether this refusal is logged, and then the number of lines that were left out since the last one.
    fn admit_log_line(&self) -> Option<u64> {
        let mut limit = self.log_limit.lock().unwrap_or_else(PoisonError::into_inner);
        limit.admit_line(Instant::now())
    }
}
