//! Upkeep: disk space, retention, snapshots, compaction, verification, status.

use std::sync::Arc;

use gatehouse_vault::space::Pressure;
use tokio::sync::watch;

use super::StoreError;
use super::core::Core;
use super::events::Events;
use super::people::People;

pub(in crate::store) mod compaction;
mod eviction;
pub(in crate::store) mod keys;
pub(in crate::store) mod retention;
pub(in crate::store) mod snapshot;
pub(in crate::store) mod status;
pub(in crate::store) mod verification;

/// Maintenance of the state directory: disk space, retention, verification, compaction, status. Cheap to
/// clone.
#[derive(Clone)]
pub struct Upkeep {
    core: Arc<Core>,
    events: Events,
    people: People,
}

impl Upkeep {
    pub(in crate::store) fn new(core: &Arc<Core>, events: &Events, people: &People) -> Self {
        Self { core: Arc::clone(core), events: events.clone(), people: people.clone() }
    }

    /// Completes erasures of people that a crash or a failure interrupted. Returns how many there were. Their people are
    /// not in memory any more.
    ///
    /// # Errors
    /// As [`People::erase`]. The next call continues.
    pub async fn finish_erasures(&self) -> Result<usize, StoreError> {
        self.people.finish_erasures().await
    }

    /// Resolves while a writer waits because the disk is full. A lack of progress is no failure then.
    pub async fn waits_for_space(&self) {
        let mut pressure = self.core.space.pressure();
        if pressure.wait_for(|pressure| pressure.waiting > 0).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Watches the disk pressure.
    pub fn pressure(&self) -> watch::Receiver<Pressure> {
        self.core.space.pressure()
    }

    /// Resolves when the views stop following the journal, which only a failure or
    /// [`Store::close`](super::Store::close) causes.
    pub async fn views_stopped(&self) {
        // An error: nothing is ever sent.
        let _ = self.core.following.clone().changed().await;
    }
}
