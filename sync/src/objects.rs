//! The objects sink: delivery of media files.
//!
//! Order of a push: verify the mark of the bucket, take files by priority ([`upload_queue`]), upload a few at once,
//! report each to the store. Thumbnails come first, then pictures, then other files, each from the oldest.
//!
//! A file that cannot be delivered never delays the others. A permanently refused file is set aside and retried
//! rarely. A file that fails while others succeed has a retry delay of its own. If no file succeeds, the connection or
//! the server is the cause, and the push fails, so that the loop backs off.
//!
//! Files set aside are kept in memory only. After a restart each is tried once more.

mod preview;
mod upload_queue;

#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use gatehouse_central::error::SyncError;
use gatehouse_central::objects::{Limits, Objects, UPLOADS_AT_ONCE};
use gatehouse_central::throttle::Throttle;
use gatehouse_config::Config;
use gatehouse_model::KeyId;
use gatehouse_store::Store;
use gatehouse_store::files::FileError;
use gatehouse_store::store::{Feed, Media, MediaTask, Part, RequestError, StoreError};

use crate::sink::{Progress, SinkDriver};
use preview::{Previewed, Previews, push_thumbnails};
use upload_queue::UploadQueue;

/// How long the mark is not read again.
const MARK_RECHECK_INTERVAL: Duration = Duration::from_secs(3600);
/// First delay of a file that failed while others succeeded. It doubles each time.
const RETRY_DELAY_MIN: Duration = Duration::from_secs(60);
/// Longest delay, and the delay of a permanently refused file.
const RETRY_DELAY_MAX: Duration = Duration::from_secs(6 * 3600);
/// Failures after which a file that fails alone is reported.
const FAILURES_BEFORE_REPORT: u32 = 3;
/// Damaged reads before a file is given up. A single bad read may be temporary.
const DAMAGE_READS_MIN: u32 = 2;
/// Reason in the ledger for a file that is unreadable.
const DAMAGE: &str = "damage";

const DELIVERING: &str = "deliver media";

/// Delivers media files to the bucket.
pub(crate) struct ObjectSink {
    config: Config,
    feed: Feed,
    media: Media,
    limits: Limits,
    previews: Arc<Previews>,
    /// The bucket, and when its mark was last read.
    bucket: Option<(Arc<Objects>, Instant)>,
    deferred: DeferredFiles,
}

/// Results of one push so far.
#[derive(Default)]
struct PushOutcome {
    progress: Progress,
    /// Files that failed for a reason that may be temporary.
    failed: Vec<(MediaTask, SyncError)>,
}

impl ObjectSink {
    /// For a configuration with `[central.objects]`. Nothing is sent yet.
    pub(crate) fn new(config: &Config, store: &Store, throttle: Arc<Throttle>) -> Self {
        Self::with_limits(config, store, Limits::sharing(throttle))
    }

    pub(super) fn with_limits(config: &Config, store: &Store, limits: Limits) -> Self {
        let previews = Arc::new(Previews::new(config.media.thumbnails.clone()));
        let (feed, media) = (store.feed.clone(), store.media.clone());
        Self {
            config: config.clone(),
            feed,
            media,
            limits,
            previews,
            bucket: None,
            deferred: DeferredFiles::default(),
        }
    }

    async fn bucket(&mut self) -> Result<Arc<Objects>, SyncError> {
        let known = self.bucket.take().filter(|(_, seen)| seen.elapsed() < MARK_RECHECK_INTERVAL);
        let (objects, seen) = match known {
            Some(known) => known,
            None => {
                let objects = Objects::open(&self.config, self.limits.clone())?.noting_in(self.media.clone());
                objects.guard().await?;
                let objects = Arc::new(objects);
                (objects, Instant::now())
            }
        };
        self.bucket = Some((objects.clone(), seen));
        Ok(objects)
    }

    /// Pending files except those set aside.
    fn upload_queue(&mut self) -> UploadQueue {
        UploadQueue::new(self.media.clone(), self.feed.watch(), self.previews.wanted(), self.deferred.skip())
    }

    /// Uploads files until all are done, or until it is clear that none succeeds.
    async fn deliver(&mut self, objects: &Arc<Objects>) -> Result<PushOutcome, SyncError> {
        let mut outcome_of_push = PushOutcome::default();
        let mut queue = self.upload_queue();
        let mut running = FuturesUnordered::new();
        loop {
            while running.len() < UPLOADS_AT_ONCE && outcome_of_push.may_go_on() {
                let begun = queue.begin().await.map_err(SyncError::store(DELIVERING))?;
                let Some(task) = begun else { break };
                running.push(send(objects.clone(), self.media.clone(), self.previews.clone(), task));
            }
            let is_free = running.len() < UPLOADS_AT_ONCE && outcome_of_push.may_go_on();
            let ended = tokio::select! {
                ended = running.next() => ended,
                () = queue.news(), if is_free && !running.is_empty() => continue,
            };
            let Some((task, outcome)) = ended else { break };
            queue.end(&task, outcome.is_err());
            match outcome {
                Ok(counts) => {
                    self.deferred.forget(&task.media.id);
                    match task.part {
                        Part::Whole => outcome_of_push.progress.delivered += u64::from(counts),
                        Part::Thumbnails => outcome_of_push.progress.previewed += u64::from(counts),
                    }
                }
                Err(error) if error.stops_sink() => return Err(error),
                Err(error) if error.is_permanent() => {
                    self.set_aside(&task, error, &mut outcome_of_push).await?;
                }
                Err(error) => outcome_of_push.failed.push((task, error)),
            }
        }
        Ok(outcome_of_push)
    }

    /// Handles a permanent failure of one file.
    async fn set_aside(
        &mut self,
        task: &MediaTask,
        error: SyncError,
        outcome_of_push: &mut PushOutcome,
    ) -> Result<(), SyncError> {
        let id = task.media.id;
        let message = match error {
            SyncError::Damaged { .. } if self.deferred.again(id) < DAMAGE_READS_MIN => return Ok(()),
            SyncError::Damaged { .. } => {
                self.media.dropped(id, DAMAGE).await.map_err(SyncError::store(DELIVERING))?;
                self.deferred.forget(&id);
                format!("{error}; given up")
            }
            // The picture itself is still delivered.
            other if task.part == Part::Thumbnails => {
                let previewed = self.media.previewed(id, Vec::new(), None).await;
                previewed.map_err(SyncError::store(DELIVERING))?;
                format!("{other}; it has no thumbnails")
            }
            other => {
                self.deferred.rarely(id);
                other.to_string()
            }
        };
        outcome_of_push.progress.set_aside.push(format!("{}: {message}", name(task)));
        Ok(())
    }
}

impl SinkDriver for ObjectSink {
    async fn push(&mut self) -> Result<Progress, SyncError> {
        let objects = self.bucket().await?;
        let PushOutcome { mut progress, mut failed } = self.deliver(&objects).await?;
        if progress.moved() == 0 && progress.set_aside.is_empty() && !failed.is_empty() {
            return Err(failed.swap_remove(0).1);
        }
        for (task, error) in failed {
            if self.deferred.again(task.media.id) >= FAILURES_BEFORE_REPORT {
                progress.set_aside.push(format!("{}: {error}", name(&task)));
            }
        }
        progress.more = self.upload_queue().more().await.map_err(SyncError::store(DELIVERING))?;
        progress.again_in = self.deferred.next();
        Ok(progress)
    }

    fn reset(&mut self) {
        // Secrets and CA file are read again, because an operator may have corrected them.
        self.bucket = None;
    }
}

impl PushOutcome {
    /// After a failure only a success proves that the connection and the server work.
    fn may_go_on(&self) -> bool {
        self.failed.is_empty() || (self.progress.moved() > 0 && self.failed.len() < UPLOADS_AT_ONCE)
    }
}

/// Delivers one file. False if it is no longer pending, because the store evicted it meanwhile.
async fn send(
    objects: Arc<Objects>,
    media: Media,
    previews: Arc<Previews>,
    task: MediaTask,
) -> (MediaTask, Result<bool, SyncError>) {
    let outcome = send_one(&objects, &media, &previews, &task).await;
    (task, outcome)
}

async fn send_one(
    objects: &Objects,
    media: &Media,
    previews: &Arc<Previews>,
    task: &MediaTask,
) -> Result<bool, SyncError> {
    let (files, id) = (media.clone(), task.media.id);
    let opened = tokio::task::spawn_blocking(move || files.open(&id)).await;
    let reader = match opened.map_err(SyncError::store(DELIVERING))? {
        Ok(reader) => reader,
        Err(RequestError::Refused(_)) => return Ok(false),
        Err(RequestError::Failed(StoreError::File(
            error @ (FileError::Missing(_) | FileError::Damaged { .. }),
        ))) => {
            return Err(SyncError::Damaged { doing: DELIVERING, message: error.to_string() });
        }
        Err(error) => return Err(SyncError::store(DELIVERING)(error)),
    };
    if task.part == Part::Thumbnails {
        let Previewed { thumbnails, fault } = push_thumbnails(objects, previews, task, reader).await?;
        if let Some(fault) = &fault {
            tracing::warn!("{}: no thumbnails: {fault}; it is delivered as it is", name(task));
        }
        let previewed = media.previewed(id, thumbnails, fault).await;
        return previewed.map(|()| true).map_err(SyncError::store(DELIVERING));
    }
    let place = objects.push(task, reader).await?;
    media.delivered(id, place).await.map_err(SyncError::store(DELIVERING))?;
    let event = &task.media.event;
    tracing::debug!(correlation = event.correlation(), camera = %event.camera, name = %task.media.name, "media delivered");
    Ok(true)
}

fn name(task: &MediaTask) -> String {
    let media = &task.media;
    format!("media file {}/{}/{}", media.event.camera, media.event.id, media.name)
}

/// Files with a retry delay of their own.
#[derive(Default)]
struct DeferredFiles(HashMap<KeyId, Wait>);

#[derive(Clone, Copy)]
struct Wait {
    failures: u32,
    until: Instant,
}

impl DeferredFiles {
    /// Files that must not be tried now. Drops entries that were due long ago and did not return, because the files
    /// are gone.
    fn skip(&mut self) -> HashSet<KeyId> {
        let now = Instant::now();
        self.0.retain(|_, wait| now.saturating_duration_since(wait.until) < RETRY_DELAY_MAX);
        self.0.iter().filter(|(_, wait)| wait.until > now).map(|(id, _)| *id).collect()
    }

    /// Counts a failure and doubles the delay of the file. Returns the number of failures.
    fn again(&mut self, id: KeyId) -> u32 {
        let failures = self.0.get(&id).map_or(1, |wait| wait.failures.saturating_add(1));
        let delay = RETRY_DELAY_MIN.saturating_mul(1 << (failures - 1).min(16)).min(RETRY_DELAY_MAX);
        self.0.insert(id, Wait { failures, until: Instant::now() + delay });
        failures
    }

    /// Gives the file the longest delay.
    fn rarely(&mut self, id: KeyId) {
        self.again(id);
        self.0.entry(id).and_modify(|wait| wait.until = Instant::now() + RETRY_DELAY_MAX);
    }

    fn forget(&mut self, id: &KeyId) {
        self.0.remove(id);
    }

    /// Delay until the next of them is due.
    fn next(&self) -> Option<Duration> {
        let now = Instant::now();
        self.0.values().map(|wait| wait.until.saturating_duration_since(now)).min()
    }
}

#[cfg(test)]
impl ObjectSink {
    /// Ends all delays.
    pub(super) fn let_time_pass(&mut self) {
        for wait in self.deferred.0.values_mut() {
            wait.until = Instant::now();
        }
    }
}
