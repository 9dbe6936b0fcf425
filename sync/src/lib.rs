//! Delivery: the journal to central Postgres, the media files to central S3.
//!
//! One loop per sink ([`Sync::start`]) reads the journal, which is the only queue. A sink implements one small trait
//! (`sink`). Loop, back-off, wake-up and status are shared.

mod backoff;
mod delivery_loop;
mod ndjson;
mod objects;
pub mod rows;
mod sink;
pub mod status;
mod thumbnails;

/// An S3 server and a device, as the tests of the client have them.
#[cfg(test)]
#[path = "../central/src/objects/tests/support.rs"]
mod support;

use std::sync::Arc;
use std::time::Duration;

use gatehouse_central::grant::{self, Grant};
use gatehouse_central::throttle::Throttle;
use gatehouse_config::{Config, Hours};
use gatehouse_model::{KeyId, SinkState};
use gatehouse_store::Store;
use gatehouse_store::record::{ObjectPlace, Sink};
use gatehouse_store::store::{Feed, People};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

pub use gatehouse_central::{GuardFault, SyncError};
pub use rows::conflicts::Conflict;
pub use status::{SinkStatus, SyncStatus};

use crate::backoff::Backoff;
use crate::delivery_loop::{DeliveryHours, Wake};
use crate::ndjson::NdjsonSink;
use crate::objects::ObjectSink;
use crate::rows::RowSink;
use crate::sink::SinkDriver;
use crate::status::Gauge;

/// How long an aborted loop may take to drop its resources.
const ABORT_TIMEOUT: Duration = Duration::from_secs(1);
/// How long `sync now` waits for the views to reach the head of the journal.
const CATCH_UP_TIMEOUT: Duration = Duration::from_secs(1);

/// Longest pause. It ends by itself, so that an appliance cannot stay paused by mistake.
pub const PAUSE_MAX: Duration = Duration::from_secs(7 * 86_400);

/// Handle of delivery. It does nothing, and its status says so, if the settings name no central services.
pub struct Sync {
    feed: Feed,
    people: People,
    /// For calls to the central services outside the loops.
    config: Config,
    stop: watch::Sender<bool>,
    /// Until when nothing is pushed.
    paused: watch::Sender<Option<Instant>>,
    loops: Vec<Loop>,
}

/// Runs a read of the store that may take long on a thread for blocking work.
pub(crate) async fn blocking<T: Send + 'static>(
    doing: &'static str,
    read: impl FnOnce() -> T + Send + 'static,
) -> Result<T, SyncError> {
    tokio::task::spawn_blocking(read).await.map_err(SyncError::store(doing))
}

/// One sink.
struct Loop {
    gauge: Gauge,
    now: Arc<Notify>,
    task: std::sync::Mutex<Option<JoinHandle<()>>>,
}

impl Sync {
    /// Starts a loop for every configured sink on the runtime of the caller. No service has to be reachable.
    pub fn start(config: &Config, store: &Store) -> Self {
        let (stop, paused) = (watch::Sender::new(false), watch::Sender::new(None));
        let (feed, people) = (store.feed.clone(), store.people.clone());
        let mut sync = Self { feed, people, config: config.clone(), stop, paused, loops: Vec::new() };
        let throttle = Arc::new(Throttle::new(config.sync.bandwidth_bytes_per_second));
        let rows = config.central.rows.clone();
        let rows = rows.map(|rows| RowSink::new(config, rows, store, throttle.clone()));
        match rows {
            // Lines replace rows and use the same position in the journal.
            None if config.central.lines() => {
                sync.add(
                    config,
                    Sink::Rows,
                    Some(NdjsonSink::new(config, store.feed.clone(), throttle.clone())),
                    None,
                );
            }
            rows => sync.add(config, Sink::Rows, rows, None),
        }
        let objects = config.central.objects.is_some().then(|| ObjectSink::new(config, store, throttle));
        sync.add(config, Sink::Objects, objects, config.sync.media_hours);
        sync
    }

    fn add<O: SinkDriver>(&mut self, config: &Config, sink: Sink, driver: Option<O>, hours: Option<Hours>) {
        let gauge = Gauge::new(sink, driver.is_some());
        let now = Arc::new(Notify::new());
        let task = driver.map(|driver| {
            let (stop, paused) = (self.stop.subscribe(), self.paused.subscribe());
            let hours_open = DeliveryHours::at(hours);
            let wake = Wake { head: self.feed.watch(), now: now.clone(), stop, paused, hours_open };
            let backoff = Backoff::new(config.sync.retry_min, config.sync.retry_max);
            tokio::spawn(delivery_loop::run(driver, sink, gauge.clone(), backoff, wake))
        });
        self.loops.push(Loop { gauge, now, task: std::sync::Mutex::new(task) });
    }

    /// The state of every sink and its pending items.
    ///
    /// # Errors
    /// [`SyncError`] if the runtime ends.
    pub async fn status(&self) -> Result<SyncStatus, SyncError> {
        // The oldest pending item is read from disk.
        let feed = self.feed.clone();
        let backlog = blocking("read the backlog", move || feed.backlog()).await?;
        let sinks = self.loops.iter().map(|one| {
            let mut status = one.gauge.read();
            if status.configured {
                status.pending = match status.sink {
                    Sink::Rows => backlog.events,
                    Sink::Objects => backlog.media,
                };
                status.oldest_pending = backlog.oldest.filter(|_| status.pending > 0);
            }
            status
        });
        Ok(SyncStatus { sinks: sinks.collect() })
    }

    /// Pushes now over a new connection, regardless of the back-off and of pending items. Returns when every sink has
    /// tried, or after `deadline_after`. The attempts then go on. Nothing is pushed while delivery is paused, nor by a
    /// sink outside its hours.
    pub async fn now(&self, deadline_after: Duration) {
        if self.paused.borrow().is_some_and(|until| until > Instant::now()) {
            return;
        }
        // The views may lag behind. If they do not catch up, the push uses what they have.
        let _ = tokio::time::timeout(CATCH_UP_TIMEOUT, self.feed.caught_up()).await;
        let loops = self.loops.iter().filter(|one| {
            let status = one.gauge.read();
            status.configured && status.state != SinkState::Scheduled
        });
        let mut tried: Vec<_> = loops.map(|one| (one.gauge.pushes(), one.now.notify_one())).collect();
        let all = async {
            for (pushes, ()) in &mut tried {
                // An error means that the loop has ended.
                let _ = pushes.changed().await;
            }
        };
        let _ = tokio::time::timeout(deadline_after, all).await;
    }

    /// Pauses delivery for this long, or until [`Sync::resume`] or the end of the program. A push in progress ends
    /// normally.
    pub fn pause(&self, time: Duration) {
        self.paused.send_replace(Some(Instant::now() + time.min(PAUSE_MAX)));
    }

    /// Ends a pause.
    pub fn resume(&self) {
        self.paused.send_replace(None);
    }

    /// Conflicting changes of people, the newest first. Empty without a central database.
    ///
    /// # Errors
    /// [`SyncError`] if the database cannot be queried.
    pub async fn conflicts(&self) -> Result<Vec<Conflict>, SyncError> {
        match &self.config.central.rows {
            Some(rows) => rows::conflicts::list(rows, &self.config.device.id, &self.people).await,
            None => Ok(Vec::new()),
        }
    }

    /// A URL that allows reading a delivered file for `expires` from now. `uid` is the user who requested it. It has a
    /// line in the central audit log or, without a central database, in the log of the appliance.
    ///
    /// # Errors
    /// [`SyncError`] if that line cannot be written, or no bucket is configured.
    pub async fn url(
        &self,
        file: &KeyId,
        place: &ObjectPlace,
        expires: Duration,
        uid: u32,
    ) -> Result<Grant, SyncError> {
        grant::of_appliance(&self.config, file, place, expires, uid).await
    }

    /// Lets every loop end its current push, and aborts those that have not ended after `deadline`. An aborted push is
    /// repeated at the next start. Later calls do nothing.
    pub async fn stop(&self, deadline: Duration) {
        self.stop.send_replace(true);
        let end = tokio::time::Instant::now() + deadline;
        for one in &self.loops {
            let task = one.task.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
            let Some(mut task) = task else { continue };
            if tokio::time::timeout_at(end, &mut task).await.is_err() {
                task.abort();
                let _ = tokio::time::timeout(ABORT_TIMEOUT, task).await;
            }
            one.gauge.stopped();
        }
    }
}

impl Drop for Sync {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}
