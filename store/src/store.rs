//! The one door to everything durable: [`Store`].
//!
//! Ingest appends to the journal ([`ingest`]), people and their templates change through it ([`persons`]), galleries
//! are added, compared and switched ([`galleries`], [`compare`]), media
//! files are sealed beside it ([`media`]), sync reads it and tells it what was delivered ([`delivery`]), operators
//! ask ([`questions`]). One thread, the [`applier`], brings the views after the journal. [`lately`] is what RAM
//! keeps of faces for a while. [`open`] puts it all
//! together and repairs what a crash left.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::atomic::AtomicI64;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::watch;

use crate::clock::Reading;
use crate::deployment::DeploymentKey;
use crate::files::MediaFiles;
use crate::gallery::GallerySettings;
use crate::index::EventIndex;
use crate::journal::{Entry, Journal, Pending, Position, Reader};
use crate::keys::KeyTable;
use crate::people::People;
use crate::record::Record;
use crate::space::{Pressure, Space};
use crate::views::Views;
use crate::views::entries::State;
use galleries::Rules;
use templates::TemplateKey;

mod absence;
mod applier;
mod clock;
mod compact;
mod compare;
mod corrections;
mod delivery;
mod enrolment;
mod error;
mod format;
mod galleries;
mod ingest;
mod keys;
mod lately;
mod media;
mod open;
mod persons;
mod questions;
mod report;
mod retention;
mod room;
mod shared;
mod snapshot;
mod templates;
#[cfg(test)]
mod testing;
mod thresholds;
mod uploads;
mod verify;

pub use crate::views::entries::{MediaState, UploadSoFar};
pub use absence::SEEN_GRAIN;
pub use clock::ClockStatus;
pub use compact::Compacting;
pub use compare::{Differing, GalleryComparison, Others};
pub use corrections::{Corrected, CorrectionFault};
pub use delivery::{Change, MediaTask, Part};
pub use enrolment::{Alike, Doubt, Enrolled};
pub use error::StoreError;
pub use galleries::{GALLERIES_MAX, Galleries, GalleryChanged, GalleryLine, Models};
pub use ingest::ProbeFace;
pub use keys::{DamagedKey, KeyCount, KeyStatus};
pub use lately::{Arrival, MATCHES_HOURS, MATCHES_MAX};
pub use media::MediaOutcome;
pub use open::OpenReport;
pub use persons::Erased;
pub use questions::{EventQuery, EventView, MediaQuery, MediaView, StoreStatus};
pub use report::{Bin, CameraLine, GalleryReport, Pair, TargetLine, Weak};
pub use retention::{Retained, RetentionPolicy};
pub use shared::{PeopleTaken, Shared, SharedSample};
pub use templates::TemplatesRotated;
pub use verify::{Verified, VerifyAt};

/// What the store needs to know.
#[derive(Debug, Clone)]
pub struct StoreSettings {
    /// The state directory.
    pub directory: PathBuf,
    /// The first gallery's model, see [`Store::galleries`], and thresholds.
    pub gallery: GallerySettings,
    /// Plaintext bytes of media files that may lie on disk.
    pub media_quota_bytes: u64,
    /// Bytes that media files leave free on the file system.
    pub reserve_free_bytes: u64,
    /// How long a media file waits for its event.
    pub orphan_media: Duration,
    /// Whether a central Postgres is to hear of erasures.
    pub central_rows: bool,
}

/// Handle to the store; cheap to clone.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    settings: StoreSettings,
    state_id: String,
    keys: Arc<KeyTable>,
    files: Arc<MediaFiles>,
    journal: Journal,
    views: Arc<Views>,
    /// Changes while `people_door` is held.
    galleries: RwLock<Arc<Galleries>>,
    /// What the settings say of thresholds; taken before `galleries` is.
    rules: Mutex<Rules>,
    /// Numbers under which templates lie that cannot be read any more: none of them is given again.
    lost_galleries: BTreeSet<u8>,
    /// The template key in force; changes while `people_door` is held.
    templates: RwLock<Arc<TemplateKey>>,
    people: RwLock<People>,
    events: Arc<EventIndex>,
    /// Faces that RAM keeps for a while.
    lately: Mutex<lately::Lately>,
    /// Position that the views have, told after each batch.
    applied: watch::Receiver<Position>,
    /// The numbers at that position.
    numbers: watch::Receiver<State>,
    /// Ends with the thread that brings the views after the journal.
    following: watch::Receiver<()>,
    /// Where the last call of `changes` stopped, so that the next goes on without a search.
    follower: Mutex<Option<(u64, Reader)>>,
    applier: Mutex<Option<JoinHandle<()>>>,
    space: Arc<Space>,
    /// Held while people change, so that enrolments and erasures do not interleave.
    people_door: tokio::sync::Mutex<()>,
    /// The key under which people are shared with other appliances.
    deployment: OnceLock<Arc<DeploymentKey>>,
    /// The latest stamp of a change of people that was given or seen, in microseconds.
    stamps: AtomicI64,
    /// Held while the set of media files changes, so that quota and names are judged on what is there.
    media_door: tokio::sync::Mutex<()>,
    /// How the clocks stand by the journal; held while a reading of them is appended, and what came with it.
    clock_door: tokio::sync::Mutex<Option<Reading>>,
    /// Held while the beginning of the journal goes.
    retention_door: tokio::sync::Mutex<()>,
}

impl Inner {
    fn people(&self) -> RwLockReadGuard<'_, People> {
        self.people.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn people_mut(&self) -> RwLockWriteGuard<'_, People> {
        self.people.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn galleries(&self) -> Arc<Galleries> {
        Arc::clone(&self.galleries.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn set_galleries(&self, galleries: Galleries) {
        *self.galleries.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(galleries);
    }

    fn rules(&self) -> MutexGuard<'_, Rules> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn templates(&self) -> Arc<TemplateKey> {
        Arc::clone(&self.templates.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn set_templates(&self, key: Arc<TemplateKey>) {
        *self.templates.write().unwrap_or_else(PoisonError::into_inner) = key;
    }
}

impl Store {
    /// Puts one record into the journal's queue.
    async fn append(&self, record: &Record) -> Result<Pending, StoreError> {
        let entry = Entry { payload: record.encode()?, is_event: record.is_event() };
        Ok(self.inner.journal.append(entry).await?)
    }

    /// Waits until the views have a position.
    async fn applied(&self, position: Position) -> Result<(), StoreError> {
        let mut applied = self.inner.applied.clone();
        applied.wait_for(|now| now.lsn >= position.lsn).await.map_err(|_| StoreError::ViewsStopped)?;
        Ok(())
    }

    /// Appends a record and waits until it is durable and in the views.
    async fn change(&self, record: &Record) -> Result<Position, StoreError> {
        let position = self.append(record).await?.await?;
        self.applied(position).await?;
        Ok(position)
    }

    /// Goes through the journal's writer and back: returns once everything appended before is durable.
    ///
    /// # Errors
    /// [`StoreError::Journal`] where the journal has failed.
    pub async fn ping(&self) -> Result<(), StoreError> {
        Ok(self.inner.journal.ping().await?)
    }

    /// Returns once everything appended before is durable and in the views, so that [`Store::changes`] tells of it.
    ///
    /// # Errors
    /// [`StoreError`] where journal or views have failed.
    pub async fn caught_up(&self) -> Result<(), StoreError> {
        self.ping().await?;
        self.applied(self.inner.journal.head()).await
    }

    /// Resolves while a writer waits because the disk is full: then standing still is no failure.
    pub async fn waits_for_room(&self) {
        let mut pressure = self.inner.space.pressure();
        if pressure.wait_for(|pressure| pressure.waiting > 0).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Tells how short the disk is, whenever that changes.
    pub fn pressure(&self) -> watch::Receiver<Pressure> {
        self.inner.space.pressure()
    }

    /// The position that the views have; changes with every batch.
    pub fn watch(&self) -> watch::Receiver<Position> {
        self.inner.applied.clone()
    }

    /// Waits until the views stop being brought after the journal, which only a failure or [`Store::close`] does.
    pub async fn stopped(&self) {
        // An error: nothing is ever sent.
        let _ = self.inner.following.clone().changed().await;
    }

    /// Identity of this state directory: made with it and never changed. A central side refuses a second state
    /// directory under the same device id.
    pub fn state_id(&self) -> &str {
        &self.inner.state_id
    }

    /// Drains the journal, brings the views after it, and syncs both. Blocking; later calls fail with a clear word.
    pub fn close(&self) {
        self.inner.space.close();
        self.inner.journal.close();
        let applier = self.inner.applier.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = applier {
            // A panic of the applier was logged there.
            let _ = thread.join();
        }
    }
}
