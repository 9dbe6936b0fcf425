//! The way out for media files: what the loop of the objects sink pushes.
//!
//! Order of a push: make sure of the bucket's mark, take what is worth most to who waits at the other end (thumbnails, then
//! pictures, then all else; within each the oldest first; [`upload_queue`]), send a few at once, tell the store of each.
//! One file that cannot be delivered never holds up the others: what the server refuses for good is set aside and
//! tried again rarely; what fails while another gets through waits a while of its own. Where nothing gets through,
//! it is the line or the server, and the push is an error: the loop backs off.
//!
//! What was set aside is kept in memory alone: after a restart each is tried once again.

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
use gatehouse_store::store::{Feed, Media, MediaTask, Part, StoreError};

use crate::sink::{Outlet, Progress};
use preview::{Previewed, Previews, push_thumbnails};
use upload_queue::UploadQueue;

/// How long a mark is believed without reading it again.
const MARK_TRUST: Duration = Duration::from_secs(3600);
/// First wait of a file that failed while others got through; it doubles each time.
const ASIDE_MIN: Duration = Duration::from_secs(60);
/// Longest wait, and the wait of what the server refuses for good.
const ASIDE_MAX: Duration = Duration::from_secs(6 * 3600);
/// Failures after which a file that fails alone is reported.
const FAILURES_REPORTED: u32 = 3;
/// Times that a file must be found damaged before it is given up: a bad read may pass.
const DAMAGE_CERTAIN: u32 = 2;
/// Reason in the ledger for a file that cannot be read any more.
const DAMAGE: &str = "damage";

const DELIVERING: &str = "deliver media";

/// Delivers media files to the bucket.
pub(crate) struct ObjectSink {
    config: Config,
    feed: Feed,
    media: Media,
    limits: Limits,
    previews: Arc<Previews>,
    /// The bucket, and when its mark was last seen.
    bucket: Option<(Arc<Objects>, Instant)>,
    aside: Aside,
}

/// What one push found out so far.
#[derive(Default)]
struct Round {
    progress: Progress,
    /// Files that failed for a reason that may pass.
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
        Self { config: config.clone(), feed, media, limits, previews, bucket: None, aside: Aside::default() }
    }

    async fn bucket(&mut self) -> Result<Arc<Objects>, SyncError> {
        let known = self.bucket.take().filter(|(_, seen)| seen.elapsed() < MARK_TRUST);
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

    /// What waits, without what is set aside.
    fn upload_queue(&mut self) -> UploadQueue {
        UploadQueue::new(self.media.clone(), self.feed.watch(), self.previews.wanted(), self.aside.skip())
    }

    /// Sends files until they are through, or it is clear that nothing gets through.
    async fn deliver(&mut self, objects: &Arc<Objects>) -> Result<Round, SyncError> {
        let mut round = Round::default();
        let mut queue = self.upload_queue();
        let mut running = FuturesUnordered::new();
        loop {
            while running.len() < UPLOADS_AT_ONCE && round.may_go_on() {
                let begun = queue.begin().await.map_err(SyncError::store(DELIVERING))?;
                let Some(task) = begun else { break };
                running.push(send(objects.clone(), self.media.clone(), self.previews.clone(), task));
            }
            let is_free = running.len() < UPLOADS_AT_ONCE && round.may_go_on();
            let ended = tokio::select! {
                ended = running.next() => ended,
                () = queue.news(), if is_free && !running.is_empty() => continue,
            };
            let Some((task, outcome)) = ended else { break };
            queue.end(&task, outcome.is_err());
            match outcome {
                Ok(counts) => {
                    self.aside.forget(&task.media.id);
                    match task.part {
                        Part::Whole => round.progress.delivered += u64::from(counts),
                        Part::Thumbnails => round.progress.previewed += u64::from(counts),
                    }
                }
                Err(error) if error.stops_sink() => return Err(error),
                Err(error) if error.is_permanent() => self.set_aside(&task, error, &mut round).await?,
                Err(error) => round.failed.push((task, error)),
            }
        }
        Ok(round)
    }

    /// For a file that fails by its own fault.
    async fn set_aside(
        &mut self,
        task: &MediaTask,
        error: SyncError,
        round: &mut Round,
    ) -> Result<(), SyncError> {
        let id = task.media.id;
        let words = match error {
            SyncError::Damaged { .. } if self.aside.again(id) < DAMAGE_CERTAIN => return Ok(()),
            SyncError::Damaged { .. } => {
                self.media.dropped(id, DAMAGE).await.map_err(SyncError::store(DELIVERING))?;
                self.aside.forget(&id);
                format!("{error}; given up")
            }
            // The picture itself goes on.
            other if task.part == Part::Thumbnails => {
                let told = self.media.previewed(id, Vec::new(), None).await;
                told.map_err(SyncError::store(DELIVERING))?;
                format!("{other}; it has no thumbnails")
            }
            other => {
                self.aside.rarely(id);
                other.to_string()
            }
        };
        round.progress.set_aside.push(format!("{}: {words}", name(task)));
        Ok(())
    }
}

impl Outlet for ObjectSink {
    async fn push(&mut self) -> Result<Progress, SyncError> {
        let objects = self.bucket().await?;
        let Round { mut progress, mut failed } = self.deliver(&objects).await?;
        if progress.moved() == 0 && progress.set_aside.is_empty() && !failed.is_empty() {
            return Err(failed.swap_remove(0).1);
        }
        for (task, error) in failed {
            if self.aside.again(task.media.id) >= FAILURES_REPORTED {
                progress.set_aside.push(format!("{}: {error}", name(&task)));
            }
        }
        progress.more = self.upload_queue().more().await.map_err(SyncError::store(DELIVERING))?;
        progress.again_in = self.aside.next();
        Ok(progress)
    }

    fn reset(&mut self) {
        // The secrets and the authority's file are read again, too: somebody may have corrected them.
        self.bucket = None;
    }
}

impl Round {
    /// After a failure only a success shows that it was not the line or the server.
    fn may_go_on(&self) -> bool {
        self.failed.is_empty() || (self.progress.moved() > 0 && self.failed.len() < UPLOADS_AT_ONCE)
    }
}

/// One file; false where it is no longer to be delivered (the store made room meanwhile).
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
        Err(StoreError::UnknownMedia) => return Ok(false),
        Err(StoreError::File(error @ (FileError::Missing(_) | FileError::Damaged { .. }))) => {
            return Err(SyncError::Damaged { doing: DELIVERING, words: error.to_string() });
        }
        Err(error) => return Err(SyncError::store(DELIVERING)(error)),
    };
    if task.part == Part::Thumbnails {
        let Previewed { thumbnails, fault } = push_thumbnails(objects, previews, task, reader).await?;
        if let Some(fault) = &fault {
            tracing::warn!("{}: no thumbnails: {fault}; it is delivered as it is", name(task));
        }
        let told = media.previewed(id, thumbnails, fault).await;
        return told.map(|()| true).map_err(SyncError::store(DELIVERING));
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

/// Files that wait for a time of their own.
#[derive(Default)]
struct Aside(HashMap<KeyId, Wait>);

#[derive(Clone, Copy)]
struct Wait {
    failures: u32,
    until: Instant,
}

impl Aside {
    /// Files that are not to be tried now. Forgets those that were due long ago and did not come again: they are gone.
    fn skip(&mut self) -> HashSet<KeyId> {
        let now = Instant::now();
        self.0.retain(|_, wait| now.saturating_duration_since(wait.until) < ASIDE_MAX);
        self.0.iter().filter(|(_, wait)| wait.until > now).map(|(id, _)| *id).collect()
    }

    /// Counts a failure, and lets the file wait twice as long as the last time. Returns how often it failed.
    fn again(&mut self, id: KeyId) -> u32 {
        let failures = self.0.get(&id).map_or(1, |wait| wait.failures.saturating_add(1));
        let delay = ASIDE_MIN.saturating_mul(1 << (failures - 1).min(16)).min(ASIDE_MAX);
        self.0.insert(id, Wait { failures, until: Instant::now() + delay });
        failures
    }

    /// Lets the file wait as long as any.
    fn rarely(&mut self, id: KeyId) {
        self.again(id);
        self.0.entry(id).and_modify(|wait| wait.until = Instant::now() + ASIDE_MAX);
    }

    fn forget(&mut self, id: &KeyId) {
        self.0.remove(id);
    }

    /// When the next of them is due.
    fn next(&self) -> Option<Duration> {
        let now = Instant::now();
        self.0.values().map(|wait| wait.until.saturating_duration_since(now)).min()
    }
}

#[cfg(test)]
impl ObjectSink {
    /// As if all waits were over.
    pub(super) fn let_time_pass(&mut self) {
        for wait in self.aside.0.values_mut() {
            wait.until = Instant::now();
        }
    }
}
