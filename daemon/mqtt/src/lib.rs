//! MQTT v5 sessions with the broker of the cameras. There are three clients, each with its own session and task.
//!
//! - *events* ([`input`]): a persistent session with manual acknowledgements. The broker delivers an unacknowledged message
//!   again.
//! - *media*: the same for media files. It is separate so that a large clip on a slow disk delays no event.
//! - *answers* ([`publisher`]): a clean session for identifications and for the retained status with its last will.
//!
//! A fourth client, [`probe`], exists only while doctor measures the round trip.
//!
//! A new connection takes nothing over from the last one: no acknowledgement, no packet id, no unsent answer.
//!
//! Every client has its own connection ([`wire`]). It can stop reading and still write, and it writes together what is ready
//! together. No task waits for a task that waits for it. An input whose [`Budget`] is used up stops reading and continues to
//! acknowledge. Answers have a client of their own.

mod answer;
mod backoff;
mod budget;
mod counters;
mod freshness;
mod input;
mod link;
mod messages;
mod moment;
mod options;
mod probe;
mod publisher;
mod receipt;
mod session;
mod tls;
mod window;
mod wire;

use tokio::sync::watch;

pub use answer::ANSWER_EXPIRY;
pub use answer::{Answer, Outgoing, Rejected, StatusMessage};
pub use budget::Budget;
pub use counters::{AnswerCounters, Counter};
pub use freshness::Waited;
pub use input::{AckToken, Delivery, Input, InputChannels, InputSettings};
pub use link::LinkState;
pub use link::{Link, Links};
pub use probe::{ProbeError, RoundTrip, measure};
pub use publisher::{Publisher, PublisherTask};
pub use receipt::Receipt;

/// The phases of a shutdown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Normal operation.
    Run,
    /// Deliver no more messages, acknowledge those in progress.
    Finish,
    /// Send what is queued, then disconnect.
    Disconnect,
}

/// Waits until `phase` is reached. Returns at once if the sender was dropped.
pub async fn reached(phases: &mut watch::Receiver<Phase>, phase: Phase) {
    let _ = phases.wait_for(|now| *now >= phase).await;
}
