//! The status of delivery.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use gatehouse_central::error::SyncError;
use gatehouse_model::{SinkState, Timestamp};
use gatehouse_store::record::Sink;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

/// Status of all sinks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SyncStatus {
    /// One entry per sink, configured or not.
    pub sinks: Vec<SinkStatus>,
}

/// Status of one sink.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SinkStatus {
    /// Which sink.
    pub sink: Sink,
    /// Whether the settings configure it.
    pub configured: bool,
    /// Its state.
    pub state: SinkState,
    /// Error of the last attempt. None after a success.
    pub error: Option<String>,
    /// Since when it fails, or else since when it is in this state.
    pub since: Timestamp,
    /// Time of the next retry after a failure.
    pub next_retry: Option<Timestamp>,
    /// Pending events or media files.
    pub pending: u64,
    /// Arrival of the oldest pending item.
    pub oldest_pending: Option<Timestamp>,
    /// Items delivered since the start of the program.
    pub delivered: u64,
    /// Changes of people downloaded since the start of the program.
    #[serde(default)]
    pub taken: u64,
    /// Items that a central service refused, and that were set aside or stored in a reduced form, since the start.
    pub set_aside: u64,
    /// The last of them, as a text.
    pub last_set_aside: Option<String>,
}

/// Written by the loop of one sink, read by [`crate::Sync::status`].
#[derive(Debug, Clone)]
pub(crate) struct Gauge {
    status: Arc<Mutex<SinkStatus>>,
    /// Number of finished pushes, successful or not.
    pushes: Arc<watch::Sender<u64>>,
}

impl Gauge {
    pub(crate) fn new(sink: Sink, configured: bool) -> Self {
        let status = SinkStatus {
            sink,
            configured,
            // The backlog is unknown until the first push.
            state: if configured { SinkState::Working } else { SinkState::Idle },
            error: None,
            since: Timestamp::now(),
            next_retry: None,
            pending: 0,
            oldest_pending: None,
            delivered: 0,
            taken: 0,
            set_aside: 0,
            last_set_aside: None,
        };
        Self { status: Arc::new(Mutex::new(status)), pushes: Arc::new(watch::Sender::new(0)) }
    }

    /// Changes with every finished push. The current value counts as seen.
    pub(crate) fn pushes(&self) -> watch::Receiver<u64> {
        self.pushes.subscribe()
    }

    /// The status without pending items.
    pub(crate) fn read(&self) -> SinkStatus {
        self.lock().clone()
    }

    /// A push starts. The last error stays until a push succeeds.
    pub(crate) fn working(&self) {
        self.lock().enter(SinkState::Working);
    }

    /// A push succeeded and nothing more is pending.
    pub(crate) fn idle(&self) {
        self.lock().enter(SinkState::Idle);
    }

    /// Nothing is pushed for this long. The state is the reason.
    pub(crate) fn held(&self, state: SinkState, left: Duration) {
        let mut status = self.lock();
        status.enter(state);
        status.next_retry = Some(after(left));
    }

    /// The loop ended.
    pub(crate) fn stopped(&self) {
        self.lock().enter(SinkState::Stopped);
    }

    /// A push succeeded.
    pub(crate) fn delivered(&self, items: u64, taken: u64, set_aside: &[String]) {
        let mut status = self.lock();
        if status.error.take().is_some() {
            status.since = Timestamp::now();
        }
        status.delivered = status.delivered.saturating_add(items);
        status.taken = status.taken.saturating_add(taken);
        status.set_aside = status.set_aside.saturating_add(set_aside.len() as u64);
        if let Some(message) = set_aside.last() {
            status.last_set_aside = Some(message.clone());
        }
        drop(status);
        self.pushes.send_modify(|pushes| *pushes += 1);
    }

    /// A push failed. True if the error is new: the first one, or another text than the last.
    pub(crate) fn failed(&self, error: &SyncError, retry_in: Duration) -> bool {
        let message = error.to_string();
        let mut status = self.lock();
        let news = status.error.as_ref() != Some(&message);
        status.enter(if error.stops_sink() { SinkState::Stopped } else { SinkState::Waiting });
        if status.error.replace(message).is_none() {
            status.since = Timestamp::now();
        }
        status.next_retry = Some(after(retry_in));
        drop(status);
        self.pushes.send_modify(|pushes| *pushes += 1);
        news
    }

    fn lock(&self) -> MutexGuard<'_, SinkStatus> {
        // The lock protects plain values, so they are readable after a panic.
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn after(time: Duration) -> Timestamp {
    let micros = i64::try_from(time.as_micros()).unwrap_or(i64::MAX);
    Timestamp(Timestamp::now().0.saturating_add(micros))
}

impl SinkStatus {
    fn enter(&mut self, state: SinkState) {
        self.next_retry = None;
        if self.state != state && self.error.is_none() {
            self.since = Timestamp::now();
        }
        self.state = state;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_keeps_its_beginning_until_a_success() {
        let gauge = Gauge::new(Sink::Rows, true);
        let error = || SyncError::Unreachable { doing: "connect", message: "refused".into() };
        assert!(gauge.failed(&error(), Duration::from_secs(1)));
        let since = gauge.read().since;
        gauge.working();
        assert!(gauge.read().error.is_some(), "an attempt is not yet a success");
        assert!(!gauge.failed(&error(), Duration::from_secs(2)), "the same words are no news");
        let status = gauge.read();
        assert_eq!((status.since, status.state), (since, SinkState::Waiting));
        assert!(status.next_retry.is_some());
        gauge.delivered(3, 0, &["event 7: refused".into()]);
        gauge.idle();
        let status = gauge.read();
        assert_eq!((status.error, status.delivered, status.set_aside), (None, 3, 1));
        assert_eq!((status.state, status.next_retry), (SinkState::Idle, None));
    }
}
