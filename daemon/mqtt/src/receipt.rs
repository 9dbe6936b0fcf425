//! Whether the broker has an answer.

use tokio::sync::oneshot;

/// What became of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Confirmation {
    /// The broker has it.
    Confirmed,
    /// The broker refused it.
    Refused,
    /// It could not be sent in time.
    GivenUp,
}

/// A promise that the answer is settled one way or the other, in bounded time.
#[derive(Debug)]
pub struct Receipt(pub(crate) oneshot::Receiver<Confirmation>);

impl Receipt {
    /// Waits for it. A publisher that ended has given everything up.
    pub async fn settled(self) -> Confirmation {
        self.0.await.unwrap_or(Confirmation::GivenUp)
    }
}
