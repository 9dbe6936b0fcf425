//! MQTT v5 with the broker of the cameras: three clients, each with its own session and its own task.
//!
//! - *events* ([`input`]): persistent session, acknowledged by hand. What is not acknowledged comes again.
//! - *media*: the same for media files, apart so that a clip of many megabytes on a slow disk holds up no
//!   event.
//! - *answers* ([`publisher`]): clean session, identifications and the retained status with its last will.
//!
//! A fourth, [`probe`], is there only while doctor measures the round trip.
//!
//! Every connection starts from nothing: no acknowledgement, no packet id, no unsent answer of an old
//! connection can reach a new one.
//!
//! All speak through a [`wire`] of their own, which can stop reading and still write, and which writes at once
//! what is ready together. No task waits for anything that waits for it: an input without room in its [`Budget`]
//! stops reading and goes on to acknowledge, and answers go through a client of their own.

mod answer;
mod backoff;
mod budget;
mod counters;
mod freshness;
mod input;
mod link;
mod moment;
mod options;
mod probe;
mod publisher;
mod receipt;
mod session;
mod tls;
mod window;
mod wire;
mod words;

use tokio::sync::watch;

pub use answer::ANSWER_EXPIRY;
pub use answer::{Answer, Outgoing, Rejected, StatusMessage};
pub use budget::Budget;
pub use counters::{AnswerCounters, Counter};
pub use freshness::Waited;
pub use input::{AckToken, Delivery, Input, InputSettings};
pub use link::LinkState;
pub use link::{Link, Links};
pub use probe::{ProbeError, RoundTrip, measure};
pub use publisher::{Publisher, PublisherTask};
pub use receipt::Receipt;

/// How far the MQTT tasks have been asked to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Work.
    Run,
    /// Hand on no more messages, acknowledge what is under way.
    Finish,
    /// Send what is queued, then disconnect.
    Disconnect,
}

/// Waits until `phase` is reached; at once where nobody is left to tell.
pub async fn reached(phases: &mut watch::Receiver<Phase>, phase: Phase) {
    let _ = phases.wait_for(|now| *now >= phase).await;
}
