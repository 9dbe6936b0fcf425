//! Confirmation of an answer by the broker.

use tokio::sync::oneshot;

/// The outcome of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Confirmation {
    /// The broker accepted it.
    Confirmed,
    /// The broker refused it.
    Refused,
    /// It could not be sent in time.
    GivenUp,
}

/// Resolves when the answer is settled, in bounded time.
#[derive(Debug)]
pub struct Receipt(pub(crate) oneshot::Receiver<Confirmation>);

impl Receipt {
    /// Waits for the outcome. It is `GivenUp` after the end of the publisher.
    pub async fn settled(self) -> Confirmation {
        self.0.await.unwrap_or(Confirmation::GivenUp)
    }
}
