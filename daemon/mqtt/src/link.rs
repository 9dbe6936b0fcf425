//! State of the connections to the broker, for status and doctor.

use std::sync::Arc;

use gatehouse_model::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tracing::warn;

/// One connection.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// Since when it is connected, for an input also subscribed; none while it is not.
    pub since: Option<Timestamp>,
    /// The last error; kept until the next connection is established.
    pub error: Option<String>,
    /// Connections made since the start.
    pub connections: u64,
}

/// All connections.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Links {
    /// Input of events.
    pub events: Link,
    /// Input of media files.
    pub media: Link,
    /// Output of answers and status.
    pub answers: Link,
}

impl Links {
    /// Whether events are received and answered.
    pub fn connected(&self) -> bool {
        [&self.events, &self.media, &self.answers].iter().all(|link| link.since.is_some())
    }

    /// The first error, while not everything is connected.
    pub fn error(&self) -> Option<String> {
        let links = [&self.events, &self.media, &self.answers];
        links.iter().find_map(|link| link.error.clone())
    }
}

/// The sender of the state, held by the task of the connection.
#[derive(Debug, Clone, Default)]
pub struct LinkState(Arc<watch::Sender<Link>>);

impl LinkState {
    /// Follows changes.
    pub fn subscribe(&self) -> watch::Receiver<Link> {
        self.0.subscribe()
    }

    /// The current state.
    pub fn get(&self) -> Link {
        self.0.borrow().clone()
    }

    pub(crate) fn up(&self) {
        self.0.send_modify(|link| {
            link.since = Some(Timestamp::now());
            link.error = None;
            link.connections += 1;
        });
    }

    /// The connection ended or failed. A repeated error is logged once: a broker that is down for a night must not fill the
    /// log on an SD card.
    pub(crate) fn down(&self, client: &str, error: Option<String>) {
        self.0.send_modify(|link| {
            link.since = None;
            if error.is_some() && link.error != error {
                warn!(client, error, "no connection to the broker; reconnecting");
                link.error = error;
            }
        });
    }
}
