//! Refusing a message: counted in the ledger, answered where there is a topic to answer on, acknowledged.

use std::sync::Arc;

use gatehouse_store::Store;
use gatehouse_store::journal::Pending;
use gatehouse_store::names::EventKey;
use gatehouse_store::store::StoreError;
use tracing::warn;

use crate::mqtt::{Outgoing, Publisher, Receipt, Rejected};
use crate::pipeline::{Counters, Shared};
use crate::sources::Refusal;

/// See the module.
#[derive(Clone)]
pub(crate) struct Refuser {
    root: String,
    store: Store,
    publisher: Publisher,
    counters: Arc<Counters>,
}

impl Refuser {
    pub(crate) fn new(shared: &Shared) -> Self {
        Self {
            root: shared.config.mqtt.topic_root.clone(),
            store: shared.store.clone(),
            publisher: shared.publisher.clone(),
            counters: shared.counters.clone(),
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
        Ok((self.store.record_refused(item, reason, bytes).await?, receipt))
    }

    /// Logs and answers a refusal that is counted already. `reason` may be one of the store's own.
    pub(crate) fn answer(&self, refusal: Refusal, reason: &str) -> Option<Receipt> {
        self.counters.refused.add(1);
        let Refusal { item, detail, camera, misnamed, event_id, .. } = refusal;
        let key = camera.clone().zip(event_id.clone()).map(|(camera, id)| EventKey { camera, id });
        let correlation = key.map(|key| key.correlation());
        let Some(camera) = camera.map(String::from).or(misnamed) else {
            warn!(?item, reason, detail, "message refused");
            return None;
        };
        warn!(?item, camera, reason, detail, correlation, "message refused");
        let rejected = Rejected::new(&self.root, &camera, event_id, correlation, reason, &detail);
        Some(self.publisher.send(Outgoing::Rejected(rejected)))
    }
}
