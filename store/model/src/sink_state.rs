//! What a sink of delivery is doing.

use serde::{Deserialize, Serialize};

/// State of a sink.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SinkState {
    /// Everything is delivered.
    Idle,
    /// It is delivering, or trying to.
    Working,
    /// It failed and retries at the time of its next retry.
    Waiting,
    /// An operator paused it until the time of its next retry.
    Paused,
    /// It waits for the hours of `sync.media_hours`, until the time of its next retry.
    Scheduled,
    /// It cannot continue until an operator acts on its error, and retries rarely. Or it was stopped.
    Stopped,
}
