//! Counters since the start of the pipeline. The durable count is the ledger of the store.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use gatehouse_mqtt::{AnswerCounters, Counter, Links};

/// The counters.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) events_received: Counter,
    pub(crate) media_received: Counter,
    pub(crate) duplicates: Counter,
    pub(crate) refused: Counter,
    pub(crate) fields_dropped: Counter,
    /// Counted by the MQTT publisher.
    pub(crate) answers: Arc<AnswerCounters>,
}

/// A view of the running pipeline.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PipelineStats {
    /// Whether all clients are connected.
    pub connected: bool,
    /// The error of the connection.
    pub error: Option<String>,
    /// Each connection.
    pub links: Links,
    /// Payload bytes in progress.
    pub in_flight_bytes: u64,
    /// Messages that are not acknowledged yet.
    pub in_flight_messages: u64,
    /// Event messages since the start.
    pub events_received: u64,
    /// Media messages since the start.
    pub media_received: u64,
    /// Of both, delivered again.
    pub duplicates: u64,
    /// Of both, refused.
    pub refused: u64,
    /// Dropped side fields of events: possible face encodings, or above the limit.
    #[serde(default)]
    pub fields_dropped: u64,
    /// Answers written to the connection, including repeated ones.
    pub answers_sent: u64,
    /// Answers that the broker refused.
    pub answers_refused: u64,
    /// Answers that could not be sent in time.
    pub answers_given_up: u64,
    /// Answers that the broker has not confirmed.
    pub answers_waiting: u64,
}

impl Counters {
    pub(crate) fn stats(&self) -> PipelineStats {
        PipelineStats {
            events_received: self.events_received.get(),
            media_received: self.media_received.get(),
            duplicates: self.duplicates.get(),
            refused: self.refused.get(),
            fields_dropped: self.fields_dropped.get(),
            answers_sent: self.answers.sent.get(),
            answers_refused: self.answers.refused.get(),
            answers_given_up: self.answers.given_up.get(),
            answers_waiting: self.answers.waiting.get(),
            ..PipelineStats::default()
        }
    }
}
