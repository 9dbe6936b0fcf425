//! Acknowledgements in the order of arrival, each once its message is safe.
//!
//! MQTT wants them in order; so a message that takes long holds back those behind it, and the broker's
//! receive window holds back the rest. That is why media files have a lane of their own.

use std::future::Future;
use std::pin::Pin;

use gatehouse_store::store::StoreError;
use tokio::sync::mpsc;

use gatehouse_mqtt::AckToken;

type Safe = Pin<Box<dyn Future<Output = Result<(), StoreError>> + Send>>;

struct Settling {
    ack: AckToken,
    safe: Safe,
}

/// Where messages are handed in. Unbounded by itself: the messages under way are bounded by the budget.
pub(crate) struct AckLane(mpsc::UnboundedSender<Settling>);

/// The task.
pub(crate) struct Acks(mpsc::UnboundedReceiver<Settling>);

impl AckLane {
    /// Both ends.
    pub(crate) fn new() -> (Self, Acks) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self(sender), Acks(receiver))
    }

    /// Acknowledges in turn, once `safe` resolves; an error of it ends the lane.
    pub(crate) fn push(
        &self,
        ack: AckToken,
        safe: impl Future<Output = Result<(), StoreError>> + Send + 'static,
    ) {
        // Where the lane has ended so does the daemon: not acknowledged, the message comes again.
        let _ = self.0.send(Settling { ack, safe: Box::pin(safe) });
    }
}

impl Acks {
    /// Runs until the lane is dropped and empty.
    pub(crate) async fn run(mut self) -> Result<(), StoreError> {
        while let Some(Settling { ack, safe }) = self.0.recv().await {
            safe.await?;
            ack.send();
        }
        Ok(())
    }
}
