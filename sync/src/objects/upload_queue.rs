//! The files that wait for one push, in the order of what they are worth to who waits at the other end.
//!
//! What was taken from the store is looked up again when there is news, since what came meanwhile may be worth more. Clips
//! leave one upload free: a thumbnail does not wait for a clip that is on its way.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use gatehouse_central::objects::UPLOADS_AT_ONCE;
use gatehouse_journal::Position;
use gatehouse_model::KeyId;
use gatehouse_store::files::is_picture;
use gatehouse_store::store::{Media, MediaTask, Part, StoreError};
use tokio::sync::watch;
use tokio::time::Instant;

/// Files that one push begins: it stays short enough to be stopped and counted.
const PORTION: usize = 32;
/// What was taken is not looked up again before: the journal has news with every event.
const GATHER: Duration = Duration::from_millis(200);

/// What waits, and what is on its way.
pub(super) struct UploadQueue {
    media: Media,
    /// Whether thumbnails are wanted.
    thumbnails: bool,
    /// Not to be taken: on its way, failed in this push, or set aside.
    skip: HashSet<KeyId>,
    waiting: VecDeque<MediaTask>,
    /// When these were taken.
    taken: Option<Instant>,
    news: watch::Receiver<Position>,
    /// Clips that are on their way.
    clips: usize,
    /// Files that may still begin.
    left: usize,
}

impl UploadQueue {
    pub(super) fn new(
        media: Media,
        news: watch::Receiver<Position>,
        thumbnails: bool,
        skip: HashSet<KeyId>,
    ) -> Self {
        let waiting = VecDeque::new();
        Self { media, thumbnails, skip, waiting, taken: None, news, clips: 0, left: PORTION }
    }

    /// The next one to begin.
    pub(super) async fn begin(&mut self) -> Result<Option<MediaTask>, StoreError> {
        if self.left == 0 {
            return Ok(None);
        }
        let old = self.taken.is_none_or(|taken| taken.elapsed() >= GATHER);
        if old && (self.taken.is_none() || self.news.has_changed().unwrap_or(false)) {
            self.news.borrow_and_update();
            self.waiting = self.look(self.left).await?.into();
            self.taken = Some(Instant::now());
        }
        let is_free = |task: &&MediaTask| !is_clip(task) || self.clips + 1 < UPLOADS_AT_ONCE;
        let Some(task) = self.waiting.front().filter(is_free).cloned() else { return Ok(None) };
        self.waiting.pop_front();
        self.left -= 1;
        self.clips += usize::from(is_clip(&task));
        self.skip.insert(task.media.id);
        Ok(Some(task))
    }

    /// One has ended; whether it is to be left alone for the rest of the push.
    pub(super) fn end(&mut self, task: &MediaTask, leave: bool) {
        self.clips -= usize::from(is_clip(task));
        if !leave {
            self.skip.remove(&task.media.id);
        }
    }

    /// Resolves when another look may find something that can begin beside what is on its way.
    pub(super) async fn news(&self) {
        let mut news = self.news.clone();
        if self.left == 0 || news.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(GATHER).await;
    }

    /// Whether anything is left for another push.
    pub(super) async fn more(&self) -> Result<bool, StoreError> {
        Ok(!self.look(1).await?.is_empty())
    }

    async fn look(&self, limit: usize) -> Result<Vec<MediaTask>, StoreError> {
        let (media, skip, thumbnails) = (self.media.clone(), self.skip.clone(), self.thumbnails);
        let look = tokio::task::spawn_blocking(move || media.next_tasks(&skip, limit, thumbnails));
        look.await.map_err(|_| StoreError::Stopping)?
    }
}

/// Anything but a picture or its thumbnails.
fn is_clip(task: &MediaTask) -> bool {
    task.part == Part::Whole && !is_picture(task.media.name.as_str())
}
