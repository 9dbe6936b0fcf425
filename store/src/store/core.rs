//! State shared by all handles: the journal, the views, the keys, the state in memory, and the locks.
//!
//! [`Core`] has no operation of its own that is public. It appends records, waits for the views, and
//! answers queries that more than one handle needs.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::thread::JoinHandle;

use gatehouse_journal::{Entry, Journal, Pending, Position, Reader};
use gatehouse_model::{Event, EventKey, Identification, KeyId, Person, Timestamp, VisitRef};
use gatehouse_vault::keys::{KeyKind, KeyTable};
use gatehouse_vault::space::Space;
use tokio::sync::watch;

use super::galleries::recent_faces::RecentFaces;
use super::galleries::{GallerySet, Rules};
use super::people::templates::TemplateKey;
use super::{StoreError, StoreSettings};
use crate::clock::{Clocks, Moment, Reading};
use crate::deployment::DeploymentKey;
use crate::files::MediaFiles;
use crate::index::EventIndex;
use crate::people::PeopleTable;
use crate::record::Record;
use crate::views::Views;
use crate::views::entries::{self, FileEntry, Key, Preview, State};

/// Media files that are removed at once. Each costs several writes to the disk, and pictures that arrive wait
/// meanwhile.
pub(in crate::store) const FILES_PER_BATCH: usize = 16;

/// The attributes of an event whose person was erased.
pub(in crate::store) const NO_ATTRIBUTES: &str = "{}";

/// A stored event as it can be read now: without erased people, and without the attributes of their visits.
pub(in crate::store) struct Opened {
    pub(in crate::store) event: Event,
    pub(in crate::store) identification: Identification<Person>,
}

/// The state behind the handles.
pub(in crate::store) struct Core {
    pub(in crate::store) settings: StoreSettings,
    pub(in crate::store) state_id: String,
    /// The key from which the key that signs statements is derived.
    pub(in crate::store) identity: KeyId,
    pub(in crate::store) keys: Arc<KeyTable>,
    pub(in crate::store) files: Arc<MediaFiles>,
    pub(in crate::store) journal: Journal,
    pub(in crate::store) views: Arc<Views>,
    /// Changes while `people_lock` is held.
    pub(in crate::store) galleries: RwLock<Arc<GallerySet>>,
    /// Threshold settings; locked before `galleries`.
    pub(in crate::store) rules: Mutex<Rules>,
    /// Numbers of galleries whose templates cannot be read any more. None of them is used again.
    pub(in crate::store) lost_galleries: BTreeSet<u8>,
    /// The template key in force; changes while `people_lock` is held.
    pub(in crate::store) templates: RwLock<Arc<TemplateKey>>,
    pub(in crate::store) people: RwLock<PeopleTable>,
    pub(in crate::store) events: Arc<EventIndex>,
    pub(in crate::store) recent_faces: Mutex<RecentFaces>,
    /// Position of the views, updated after each batch.
    pub(in crate::store) applied: watch::Receiver<Position>,
    /// Totals at that position.
    pub(in crate::store) numbers: watch::Receiver<State>,
    /// Closes when the thread that updates the views ends.
    pub(in crate::store) following: watch::Receiver<()>,
    /// Where the last read of changes stopped, so that the next one continues without a search.
    pub(in crate::store) follower: Mutex<Option<(u64, Reader)>>,
    pub(in crate::store) applier: Mutex<Option<JoinHandle<()>>>,
    pub(in crate::store) space: Arc<Space>,
    /// Held while people change, so that enrollments and erasures do not interleave.
    pub(in crate::store) people_lock: tokio::sync::Mutex<()>,
    /// The key under which people are shared with other appliances.
    pub(in crate::store) deployment: OnceLock<Arc<DeploymentKey>>,
    /// Whether a person is enrolled only with the reference of a consent.
    pub(in crate::store) consent_required: AtomicBool,
    /// The latest stamp of a change of people that was issued or received, in microseconds.
    pub(in crate::store) stamps: AtomicI64,
    /// Held while the set of media files changes, so that quota and names are checked against a stable set.
    pub(in crate::store) media_lock: tokio::sync::Mutex<()>,
    /// The last clock reading in the journal. Held until the record that follows the reading is in the queue.
    pub(in crate::store) clock_lock: tokio::sync::Mutex<Option<Reading>>,
    /// Held while the beginning of the journal is removed.
    pub(in crate::store) retention_lock: tokio::sync::Mutex<()>,
}

impl Core {
    pub(in crate::store) fn people(&self) -> RwLockReadGuard<'_, PeopleTable> {
        self.people.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(in crate::store) fn people_mut(&self) -> RwLockWriteGuard<'_, PeopleTable> {
        self.people.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(in crate::store) fn galleries(&self) -> Arc<GallerySet> {
        Arc::clone(&self.galleries.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(in crate::store) fn set_galleries(&self, galleries: GallerySet) {
        *self.galleries.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(galleries);
    }

    pub(in crate::store) fn rules(&self) -> MutexGuard<'_, Rules> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(in crate::store) fn templates(&self) -> Arc<TemplateKey> {
        Arc::clone(&self.templates.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(in crate::store) fn set_templates(&self, key: Arc<TemplateKey>) {
        *self.templates.write().unwrap_or_else(PoisonError::into_inner) = key;
    }

    /// Puts one record into the journal's queue.
    pub(in crate::store) async fn append(&self, record: &Record) -> Result<Pending, StoreError> {
        let entry = Entry { payload: record.encode()?, is_event: record.is_event() };
        Ok(self.journal.append(entry).await?)
    }

    /// Waits until the views have reached a position.
    pub(in crate::store) async fn wait_applied(&self, position: Position) -> Result<(), StoreError> {
        let mut applied = self.applied.clone();
        applied.wait_for(|now| now.lsn >= position.lsn).await.map_err(|_| StoreError::ViewsStopped)?;
        Ok(())
    }

    /// Appends a record and waits until it is durable and in the views.
    pub(in crate::store) async fn change(&self, record: &Record) -> Result<Position, StoreError> {
        let position = self.append(record).await?.await?;
        self.wait_applied(position).await?;
        Ok(position)
    }

    /// Appends records and waits until all of them are durable and in the views.
    pub(in crate::store) async fn change_all(&self, mut records: Vec<Record>) -> Result<(), StoreError> {
        let Some(last) = records.pop() else { return Ok(()) };
        for record in records {
            // No need to await: the journal is ordered, so the durable last record implies this one.
            drop(self.append(&record).await?);
        }
        self.change(&last).await.map(drop)
    }

    /// Returns once everything appended before is durable and in the views.
    pub(in crate::store) async fn caught_up(&self) -> Result<(), StoreError> {
        self.journal.ping().await?;
        self.wait_applied(self.journal.head()).await
    }

    /// How far the rows sink has delivered.
    pub(in crate::store) fn rows_cursor(&self) -> Position {
        self.numbers.borrow().totals.rows
    }

    /// The files of a queue, oldest first. Blocking.
    pub(in crate::store) fn queued(
        &self,
        kind: u8,
    ) -> Result<impl Iterator<Item = Result<FileEntry, StoreError>> + use<>, StoreError> {
        let views = self.views.clone();
        let entries = self.views.scan(vec![kind], false);
        Ok(entries.filter_map(move |entry| {
            let file = entry.and_then(|(name, value)| {
                let id: KeyId = views.unseal(&name, &value)?;
                views.get::<FileEntry>(&Key::File(id))
            });
            file.map_err(StoreError::from).transpose()
        }))
    }

    /// All that is recorded about the clock. Blocking, but short: on a PC 0.8 microseconds for each of the 256 boots
    /// that are remembered at most. Callers on async threads write to the disk as well, which takes longer.
    pub(in crate::store) fn clocks(&self) -> Result<Clocks, StoreError> {
        let views = &self.views;
        let boots = views.scan(vec![entries::CLOCK], false).map(|entry| {
            let (name, sealed) = entry?;
            Ok(views.unseal(&name, &sealed)?)
        });
        Ok(Clocks::new(boots.collect::<Result<_, StoreError>>()?))
    }

    /// The time as far as it is known, else that of the wall clock.
    pub(in crate::store) fn time(&self) -> Timestamp {
        self.clocks().map_or_else(|_| Timestamp::now(), |clocks| clocks.now(&Reading::now()).at)
    }

    /// The key under which people are shared.
    pub(in crate::store) fn deployment(&self) -> Option<&Arc<DeploymentKey>> {
        self.deployment.get()
    }

    /// A stamp that is later than every stamp seen before.
    pub(in crate::store) fn stamp(&self) -> Timestamp {
        let now = self.time().0;
        let later = |seen: i64| Some(seen.saturating_add(1).max(now));
        let seen = self.stamps.fetch_update(Ordering::Relaxed, Ordering::Relaxed, later);
        Timestamp(seen.map_or(now, |seen| seen.saturating_add(1).max(now)))
    }

    /// Creates a key off the async threads, since it waits for the flash.
    pub(in crate::store) async fn create_key(&self, kind: KeyKind) -> Result<KeyId, StoreError> {
        let keys = self.keys.clone();
        blocking(move || Ok(keys.create(kind)?)).await
    }

    /// A stored event as it can be read now.
    pub(in crate::store) fn open_event(
        &self,
        mut event: Event,
        identification: Identification<VisitRef>,
        sealed: Option<Vec<u8>>,
    ) -> Opened {
        if let Some(sealed) = sealed {
            let opened = self.people().open_attributes(&identification, &event.key, sealed);
            event.attributes = opened.unwrap_or_else(|| NO_ATTRIBUTES.to_owned());
        }
        let identification = self.resolve(&event.key, identification);
        Opened { event, identification }
    }

    /// The identification with the people that are still enrolled.
    pub(in crate::store) fn resolve(
        &self,
        event: &EventKey,
        identification: Identification<VisitRef>,
    ) -> Identification<Person> {
        let people = self.people();
        identification.map_person(|visit| people.resolve(&visit, event))
    }

    /// The thumbnails and the fault found in a picture; empty where it was not examined. Blocking.
    pub(in crate::store) fn preview(&self, id: &KeyId) -> Result<Preview, StoreError> {
        Ok(self.views.get(&Key::Previewed(*id))?.unwrap_or_default())
    }

    /// When the oldest event was received that the rows sink has not delivered. Blocking.
    pub(in crate::store) fn oldest_pending(&self) -> Option<Timestamp> {
        // Only the age is lost where the index cannot be read. The status must not fail for it.
        let oldest = self.events.at_or_after(self.rows_cursor().seq + 1).ok().flatten()?;
        let clocks = self.clocks().unwrap_or_default();
        Some(clocks.when(Moment::Event(oldest.seq), oldest.received_at).at)
    }
}

/// Runs blocking work off the async threads.
pub(in crate::store) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| StoreError::Stopping)?
}
