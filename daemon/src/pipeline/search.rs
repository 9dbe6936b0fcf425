//! Searches for the faces of several events at once, on two cores if available.
//!
//! Under load the search is the largest cost of an event. The event thread and a helper thread each take the next visit. The
//! answers keep their order. The event thread waits for the helper only if that has started a search. If searches are long,
//! the first event does not wait for all: a visit that is not searched within the window is searched in its turn.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use gatehouse_model::{CameraName, Identification, Person};
use gatehouse_store::store::{Galleries, GallerySet, ProbeFace};

/// Least visits for which the helper is woken: for fewer ones the wake-up costs more than it saves.
const HELP_FROM: usize = 4;

/// How long visits are searched ahead of their turn: too short to be noticed.
const SEARCH_AHEAD_WINDOW: Duration = Duration::from_millis(1);

/// Longest age of a result: while an event waits for the disk, people and thresholds may change.
const RESULT_AGE_MAX: Duration = Duration::from_millis(100);

/// The faces of one event with their identification.
pub(crate) struct Found {
    camera: CameraName,
    pub(crate) faces: Vec<ProbeFace>,
    answer: Option<(Identification<Person>, Instant)>,
}

impl Found {
    /// Faces that are not searched yet.
    pub(crate) fn new(camera: CameraName, faces: Vec<ProbeFace>) -> Self {
        Self { camera, faces, answer: None }
    }

    /// The identification. It is searched again if it is too old, or if it contains a person who was erased since.
    pub(crate) fn answer(&mut self, galleries: &Galleries, set: &GallerySet) -> Identification<Person> {
        match self.answer.take() {
            Some((answer, at)) if at.elapsed() < RESULT_AGE_MAX && galleries.still_valid(&answer) => answer,
            _ => galleries.identify_in(set, &self.camera, &self.faces),
        }
    }

    fn search(&mut self, galleries: &Galleries, set: &GallerySet) {
        self.answer = Some((galleries.identify_in(set, &self.camera, &self.faces), Instant::now()));
    }
}

/// Visits that are searched together.
struct Batch {
    galleries: Galleries,
    set: Arc<GallerySet>,
    begin: Instant,
    next: AtomicUsize,
    visits: Vec<Mutex<Found>>,
}

impl Batch {
    /// Searches until all visits are taken or the window ends.
    fn work(&self) {
        while self.begin.elapsed() < SEARCH_AHEAD_WINDOW
            && let Some(visit) = self.visits.get(self.next.fetch_add(1, Ordering::Relaxed))
        {
            locked(visit).search(&self.galleries, &self.set);
        }
    }
}

/// A visit without an answer is searched in its turn, also if the other thread panicked with it.
fn locked(visit: &Mutex<Found>) -> MutexGuard<'_, Found> {
    visit.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The search with its helper thread, which ends when this is dropped.
pub(crate) struct Search {
    galleries: Galleries,
    /// At most one batch waits for the helper. None on a board with one core, or if the thread cannot be started.
    helper: Option<SyncSender<Arc<Batch>>>,
}

impl Search {
    /// Starts the helper.
    pub(crate) fn start(galleries: Galleries) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self { galleries, helper: (cores > 1).then(helper).flatten() }
    }

    /// Searches for as many visits as the window allows. The others are searched in their turn.
    pub(crate) fn ahead(&self, set: &Arc<GallerySet>, visits: Vec<Found>) -> Vec<Found> {
        let helper = self.helper.as_ref().filter(|_| visits.len() >= HELP_FROM);
        let Some(helper) = helper else { return visits };
        let (galleries, set) = (self.galleries.clone(), Arc::clone(set));
        let visits = visits.into_iter().map(Mutex::new).collect();
        let batch = Batch { galleries, set, begin: Instant::now(), next: AtomicUsize::new(0), visits };
        let batch = Arc::new(batch);
        // If the helper is busy or ended, this thread does all the work.
        let _ = helper.try_send(Arc::clone(&batch));
        batch.work();
        batch.visits.iter().map(taken).collect()
    }
}

/// The visit with its answer, if it was searched. Waits for the helper if that is searching it.
fn taken(visit: &Mutex<Found>) -> Found {
    let mut visit = locked(visit);
    let empty = Found::new(visit.camera.clone(), Vec::new());
    std::mem::replace(&mut visit, empty)
}

fn helper() -> Option<SyncSender<Arc<Batch>>> {
    let (sender, batches) = sync_channel::<Arc<Batch>>(1);
    let work = move || batches.into_iter().for_each(|batch| batch.work());
    let thread = std::thread::Builder::new().name("search".to_owned()).spawn(work);
    if let Err(error) = &thread {
        tracing::warn!(%error, "the search helper thread cannot be started; bursts of events are answered more slowly");
    }
    thread.is_ok().then_some(sender)
}
