//! Media files: sealed on disk one after another, separate from events.
//!
//! The store accepts one file at a time, because quota and names depend on the existing files. A failed write is retried for
//! a while. Then the task ends, and so the daemon. The broker delivers the unacknowledged file again.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use gatehouse_store::record::Item;
use gatehouse_store::store::{Media, MediaOutcome, StoreError};
use tokio::sync::mpsc;
use tracing::{info, warn};

use crate::pipeline::acks::AckLane;
use crate::pipeline::refuse::Refuser;
use crate::pipeline::{Counters, Shared};
use crate::sources::{Message, Reason, Refusal, Sources, Upload};
use gatehouse_mqtt::{Delivery, Receipt};

/// Delays before a write is retried: a full disk may get space within these, a failed one does not.
const RETRY_DELAYS: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(5), Duration::from_secs(15)];

/// The task.
pub(crate) struct MediaFiles {
    media: Media,
    sources: Arc<Sources>,
    counters: Arc<Counters>,
    refuser: Refuser,
    lane: AckLane,
    inbox: mpsc::UnboundedReceiver<Delivery>,
}

impl MediaFiles {
    pub(crate) fn new(
        shared: &Shared,
        refuser: Refuser,
        lane: AckLane,
        inbox: mpsc::UnboundedReceiver<Delivery>,
    ) -> Self {
        let (media, sources) = (shared.media.clone(), shared.sources.clone());
        Self { media, sources, counters: shared.counters.clone(), refuser, lane, inbox }
    }

    /// Runs until the input has ended and its queue is empty.
    pub(crate) async fn run(mut self) -> Result<(), StoreError> {
        while let Some(delivery) = self.inbox.recv().await {
            self.take(delivery).await?;
        }
        Ok(())
    }

    async fn take(&mut self, delivery: Delivery) -> Result<(), StoreError> {
        let Delivery { topic, payload, retained, received_at, ack, bytes, .. } = delivery;
        self.counters.media_received.add(1);
        let size = payload.len() as u64;
        let read = self.sources.media(&Message { topic: &topic, payload: &payload, retained, received_at });
        match read {
            Ok(upload) => {
                let receipt = self.put(upload, payload).await?;
                drop(bytes);
                self.lane.push(ack, settled(receipt));
            }
            Err(refusal) => {
                drop((payload, bytes));
                let (pending, receipt) = self.refuser.refuse(refusal, size).await?;
                self.lane.push(ack, async move {
                    pending.await?;
                    settled(receipt).await
                });
            }
        }
        Ok(())
    }

    /// Durable when it returns.
    async fn put(&self, upload: Upload, payload: Bytes) -> Result<Option<Receipt>, StoreError> {
        let correlation = upload.event.correlation();
        let (camera, event, name) = (&upload.event.camera, &upload.event.id, &upload.name);
        let bytes = payload.len();
        match self.try_put(&upload, payload).await? {
            MediaOutcome::Stored(_) => info!(correlation, %camera, %event, %name, bytes, "media file stored"),
            MediaOutcome::Duplicate(_) => {
                self.counters.duplicates.add(1);
                info!(correlation, %camera, %event, %name, "media file delivered again");
            }
            MediaOutcome::Refused(reason, _) => {
                let refusal = Refusal {
                    misnamed: None,
                    item: Item::Media,
                    reason: Reason::Store,
                    detail: format!("media file {name} of {bytes} bytes"),
                    camera: Some(upload.event.camera),
                    event_id: Some(upload.event.id),
                };
                return Ok(self.refuser.answer(refusal, reason));
            }
        }
        Ok(None)
    }

    async fn try_put(&self, upload: &Upload, payload: Bytes) -> Result<MediaOutcome, StoreError> {
        for wait in RETRY_DELAYS {
            let data = Vec::from(payload.clone());
            match self.media.put(upload.event.clone(), upload.name.clone(), data).await {
                Err(error @ (StoreError::File(_) | StoreError::Io(_))) => {
                    warn!(%error, seconds = wait.as_secs(), "media file could not be written; trying again");
                    tokio::time::sleep(wait).await;
                }
                done => return done,
            }
        }
        self.media.put(upload.event.clone(), upload.name.clone(), Vec::from(payload)).await
    }
}

async fn settled(receipt: Option<Receipt>) -> Result<(), StoreError> {
    if let Some(receipt) = receipt {
        receipt.settled().await;
    }
    Ok(())
}
