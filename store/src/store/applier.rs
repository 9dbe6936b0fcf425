//! The thread that applies the journal to the views.
//!
//! It takes committed records in order and carries out their effects outside of sled. Then it writes the
//! views and the new position atomically. After an interruption it resumes from that position. When a view
//! fails, the thread ends and closes the channel of the position. All waiting tasks then fail, the daemon
//! ends, and the next start rebuilds the views.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use gatehouse_journal::{Committed, Position};
use gatehouse_vault::keys::KeyTable;
use gatehouse_vault::space::Space;
use tokio::sync::watch;

use super::StoreError;
use crate::files::MediaFiles;
use crate::index::EventIndex;
use crate::record::Record;
use crate::views::apply::{Draft, Effect};
use crate::views::entries::State;
use crate::views::{BATCH_KEYS, Views};

/// Commits that may wait for the views. Beyond that the journal waits, and with it the broker.
pub(super) const COMMITS_WAITING: usize = 64;
/// Interval of flushes of the views: a crash costs the replay of at most this much.
const FLUSH_INTERVAL: Duration = Duration::from_secs(10);
/// Idle time after which changed views are flushed.
const FLUSH_IDLE_TIMEOUT: Duration = Duration::from_secs(2);

pub(super) struct Applier {
    pub(super) views: Arc<Views>,
    pub(super) events: Arc<EventIndex>,
    pub(super) keys: Arc<KeyTable>,
    pub(super) files: Arc<MediaFiles>,
    pub(super) space: Arc<Space>,
    pub(super) state: State,
    pub(super) applied: watch::Sender<Position>,
    pub(super) numbers: watch::Sender<State>,
    /// Never sends; it closes when the thread ends.
    pub(super) _following: watch::Sender<()>,
}

impl Applier {
    /// Runs until the journal closes.
    pub(super) fn run(mut self, commits: &Receiver<Vec<Committed>>) {
        let followed = std::panic::catch_unwind(AssertUnwindSafe(|| self.follow(commits)));
        match followed {
            Ok(Ok(())) => tracing::debug!("views are closed"),
            Ok(Err(error)) => tracing::error!(%error, "views stopped"),
            Err(_) => tracing::error!("views panicked; they are rebuilt at the next start"),
        }
    }

    fn follow(&mut self, commits: &Receiver<Vec<Committed>>) -> Result<(), StoreError> {
        let (mut flushed, mut flushed_at) = (self.state.totals.applied.lsn, Instant::now());
        loop {
            let dirty = self.state.totals.applied.lsn > flushed;
            let next = match dirty {
                true => commits.recv_timeout(FLUSH_IDLE_TIMEOUT),
                false => commits.recv().map_err(RecvTimeoutError::from),
            };
            if !self.space.wait_for_free_bytes() {
                // The next start continues from here.
                return Err(StoreError::Stopping);
            }
            let quiet = match next {
                Ok(batch) => {
                    self.take(batch)?;
                    false
                }
                Err(RecvTimeoutError::Timeout) => true,
                Err(RecvTimeoutError::Disconnected) => {
                    return Ok(self.views.flush(&self.state)?);
                }
            };
            if quiet || flushed_at.elapsed() >= FLUSH_INTERVAL {
                flushed = self.state.totals.applied.lsn;
                self.views.flush(&self.state)?;
                flushed_at = Instant::now();
            }
        }
    }

    /// Applies committed records to the views and publishes the new position.
    pub(super) fn take(&mut self, batch: impl IntoIterator<Item = Committed>) -> Result<(), StoreError> {
        let views = Arc::clone(&self.views);
        let _still = views.hold();
        let mut batch = batch.into_iter().peekable();
        while batch.peek().is_some() {
            let mut draft = Draft::new(&self.views, &self.events, self.state.clone());
            while let Some(committed) = batch.next_if(|_| draft.len() < BATCH_KEYS) {
                self.events.enter(committed.location.segment);
                match Record::decode(&committed.payload) {
                    Ok(record) => draft.apply(committed.position, committed.location, record)?,
                    Err(error) => {
                        tracing::error!(lsn = committed.position.lsn, %error, "journal record is skipped");
                        draft.state.totals.applied = committed.position;
                    }
                }
            }
            for effect in std::mem::take(&mut draft.effects) {
                self.act(effect)?;
            }
            self.state = draft.write()?;
        }
        self.numbers.send_replace(self.state.clone());
        self.applied.send_replace(self.state.totals.applied);
        Ok(())
    }

    fn act(&self, effect: Effect) -> Result<(), StoreError> {
        match effect {
            Effect::DestroyKey(id) => self.keys.destroy(&id).map(drop)?,
            Effect::RemoveFile(id) => self.files.remove(&id)?,
        }
        Ok(())
    }
}
