//! Files of one push, in the order of their priority.
//!
//! The store is queried again after new records, because newer files may have a higher priority. Clips leave one
//! upload slot free, so that a thumbnail does not wait for a clip in progress.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use gatehouse_central::objects::UPLOADS_AT_ONCE;
use gatehouse_journal::Position;
use gatehouse_model::KeyId;
use gatehouse_store::files::is_picture;
use gatehouse_store::store::{Media, MediaTask, Part, StoreError};
use tokio::sync::watch;
use tokio::time::Instant;

/// Files that one push starts. The push stays short enough to be stopped and counted.
const FILES_PER_PUSH: usize = 32;
/// Minimum time between two queries. Every event changes the head of the journal.
const REFRESH_INTERVAL: Duration = Duration::from_millis(200);

/// Pending files and uploads in progress.
pub(super) struct UploadQueue {
    media: Media,
    /// Whether thumbnails are wanted.
    thumbnails: bool,
    /// Files to skip: in progress, failed in this push, or set aside.
    skip: HashSet<KeyId>,
    waiting: VecDeque<MediaTask>,
    /// Time of the last query.
    taken: Option<Instant>,
    news: watch::Receiver<Position>,
    /// Clips in progress.
    clips: usize,
    /// Files that may still be started.
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
        Self { media, thumbnails, skip, waiting, taken: None, news, clips: 0, left: FILES_PER_PUSH }
    }

    /// The next file to start.
    pub(super) async fn begin(&mut self) -> Result<Option<MediaTask>, StoreError> {
        if self.left == 0 {
            return Ok(None);
        }
        let old = self.taken.is_none_or(|taken| taken.elapsed() >= REFRESH_INTERVAL);
        if old && (self.taken.is_none() || self.news.has_changed().unwrap_or(false)) {
            self.news.borrow_and_update();
            self.waiting = self.query(self.left).await?.into();
            self.taken = Some(Instant::now());
        }
        let may_begin = |task: &&MediaTask| !is_clip(task) || self.clips + 1 < UPLOADS_AT_ONCE;
        let Some(task) = self.waiting.front().filter(may_begin).cloned() else { return Ok(None) };
        self.waiting.pop_front();
        self.left -= 1;
        self.clips += usize::from(is_clip(&task));
        self.skip.insert(task.media.id);
        Ok(Some(task))
    }

    /// Ends an upload. `leave` skips the file for the rest of the push.
    pub(super) fn end(&mut self, task: &MediaTask, leave: bool) {
        self.clips -= usize::from(is_clip(task));
        if !leave {
            self.skip.remove(&task.media.id);
        }
    }

    /// Resolves when another query may find a file that can start now.
    pub(super) async fn news(&self) {
        let mut news = self.news.clone();
        if self.left == 0 || news.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(REFRESH_INTERVAL).await;
    }

    /// Whether files remain for another push.
    pub(super) async fn more(&self) -> Result<bool, StoreError> {
        Ok(!self.query(1).await?.is_empty())
    }

    async fn query(&self, limit: usize) -> Result<Vec<MediaTask>, StoreError> {
        let (media, skip, thumbnails) = (self.media.clone(), self.skip.clone(), self.thumbnails);
        let query = tokio::task::spawn_blocking(move || media.next_tasks(&skip, limit, thumbnails));
        query.await.map_err(|_| StoreError::Stopping)?
    }
}

/// Any task except pictures and thumbnails.
fn is_clip(task: &MediaTask) -> bool {
    task.part == Part::Whole && !is_picture(task.media.name.as_str())
}
