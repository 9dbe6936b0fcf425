//! Acknowledgements in the order of arrival, each after its message is durable.
//!
//! MQTT requires this order. A slow message delays the acknowledgements after it, and the receive window of the broker delays
//! further messages. So media files have a separate lane.

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

/// The sender. It is unbounded, because the budget bounds the messages in progress.
pub(crate) struct AckLane(mpsc::UnboundedSender<Settling>);

/// The task.
pub(crate) struct Acks(mpsc::UnboundedReceiver<Settling>);

impl AckLane {
    /// The sender and the task.
    pub(crate) fn new() -> (Self, Acks) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self(sender), Acks(receiver))
    }

    /// Acknowledges in order, after `safe` resolves. An error ends the lane.
    pub(crate) fn push(
        &self,
        ack: AckToken,
        safe: impl Future<Output = Result<(), StoreError>> + Send + 'static,
    ) {
        // If the lane ended the daemon ends, and the broker delivers the message again.
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
