//! Delivery: the journal to central Postgres, the media files to central S3.
//!
//! One loop per sink ([`Sync::start`]) over the journal, which is the only queue. A sink is one small trait in one
//! file (`sink`); the loop, the back-off, the wake-up and the status are the same for all.

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
use gatehouse_model::KeyId;
use gatehouse_store::Store;
use gatehouse_store::record::{ObjectPlace, Sink};
use gatehouse_store::store::{Feed, People};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

pub use gatehouse_central::{GuardFault, SyncError};
pub use rows::conflicts::Conflict;
pub use status::{SinkState, SinkStatus, SyncStatus};

use crate::backoff::Backoff;
use crate::delivery_loop::{Opening, Wake};
use crate::ndjson::NdjsonSink;
use crate::objects::ObjectSink;
use crate::rows::RowSink;
use crate::sink::Outlet;
use crate::status::Gauge;

/// How long a loop that was cut off at its deadline has to let go of what it holds: it only drops it.
const ABORT: Duration = Duration::from_secs(1);
/// How long a push that was asked for waits for the views to have what just came.
const CATCH_UP: Duration = Duration::from_secs(1);

/// Longest pause: nobody forgets an appliance for longer.
pub const PAUSE_MAX: Duration = Duration::from_secs(7 * 86_400);

/// Handle of delivery. Without a central side in the settings it does nothing, and says so.
pub struct Sync {
    feed: Feed,
    people: People,
    /// For who asks the central side something.
    config: Config,
    stop: watch::Sender<bool>,
    /// Until when nothing is pushed.
    paused: watch::Sender<Option<Instant>>,
    loops: Vec<Loop>,
}

/// One sink.
struct Loop {
    gauge: Gauge,
    now: Arc<Notify>,
    task: std::sync::Mutex<Option<JoinHandle<()>>>,
}

impl Sync {
    /// Starts a loop for every sink that the settings name, on the caller's runtime. Needs nobody to be reachable.
    pub fn start(config: &Config, store: &Store) -> Self {
        let (stop, paused) = (watch::Sender::new(false), watch::Sender::new(None));
        let (feed, people) = (store.feed.clone(), store.people.clone());
        let mut sync = Self { feed, people, config: config.clone(), stop, paused, loops: Vec::new() };
        let throttle = Arc::new(Throttle::new(config.sync.bandwidth_bytes_per_second));
        let rows = config.central.rows.clone();
        let rows = rows.map(|rows| RowSink::new(config, rows, store, throttle.clone()));
        match rows {
            // In the place of rows, where the settings say so: the position in the journal is the same.
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

    fn add<O: Outlet>(&mut self, config: &Config, sink: Sink, outlet: Option<O>, hours: Option<Hours>) {
        let gauge = Gauge::new(sink, outlet.is_some());
        let now = Arc::new(Notify::new());
        let task = outlet.map(|outlet| {
            let (stop, paused) = (self.stop.subscribe(), self.paused.subscribe());
            let opening = Opening::at(hours);
            let wake = Wake { head: self.feed.watch(), now: now.clone(), stop, paused, opening };
            let backoff = Backoff::new(config.sync.retry_min, config.sync.retry_max);
            tokio::spawn(delivery_loop::run(outlet, sink, gauge.clone(), backoff, wake))
        });
        self.loops.push(Loop { gauge, now, task: std::sync::Mutex::new(task) });
    }

    /// What every sink does, and what waits for it.
    pub fn status(&self) -> SyncStatus {
        let backlog = self.feed.backlog();
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
        SyncStatus { sinks: sinks.collect() }
    }

    /// Tries now, whatever the back-off says and although nothing may wait, over a new connection. Returns when every
    /// central side has been tried with all that came before, or a moment after `patience`; the trying goes on then.
    /// While delivery is paused nothing is tried, and outside its hours a sink is not.
    pub async fn now(&self, patience: Duration) {
        if self.paused.borrow().is_some_and(|until| until > Instant::now()) {
            return;
        }
        // The views may be a moment behind; where they do not come up, what they have is tried.
        let _ = tokio::time::timeout(CATCH_UP, self.feed.caught_up()).await;
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
        let _ = tokio::time::timeout(patience, all).await;
    }

    /// Lets nothing leave for this long, or until [`Sync::resume`] or the end of the program; what is on its way ends.
    pub fn pause(&self, time: Duration) {
        self.paused.send_replace(Some(Instant::now() + time.min(PAUSE_MAX)));
    }

    /// Ends a pause.
    pub fn resume(&self) {
        self.paused.send_replace(None);
    }

    /// Changes of people by several appliances at once, the newest first; empty without a central database.
    ///
    /// # Errors
    /// [`SyncError`] where it cannot be asked.
    pub async fn conflicts(&self) -> Result<Vec<Conflict>, SyncError> {
        match &self.config.central.rows {
            Some(rows) => rows::conflicts::list(rows, &self.config.device.id, &self.people).await,
            None => Ok(Vec::new()),
        }
    }

    /// A URL that gives a delivered file to everybody who has it, for `expires` from now; `uid` is who asked. It has its
    /// line in the central audit log, or, without a central database, in the log of the appliance.
    ///
    /// # Errors
    /// [`SyncError`] where that line cannot be written, or there is no central side for files.
    pub async fn url(
        &self,
        file: &KeyId,
        place: &ObjectPlace,
        expires: Duration,
        uid: u32,
    ) -> Result<Grant, SyncError> {
        grant::of_appliance(&self.config, file, place, expires, uid).await
    }

    /// Lets every loop end its present push, cuts off those that have not ended after `deadline`. What is cut off is
    /// made again at the next start. Later calls do nothing.
    pub async fn stop(&self, deadline: Duration) {
        self.stop.send_replace(true);
        let end = tokio::time::Instant::now() + deadline;
        for one in &self.loops {
            let task = one.task.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
            let Some(mut task) = task else { continue };
            if tokio::time::timeout_at(end, &mut task).await.is_err() {
                task.abort();
                let _ = tokio::time::timeout(ABORT, task).await;
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
