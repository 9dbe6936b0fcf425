//! Says who the visitors of several events are, on two cores where there are.
//!
//! Under load the search is most of what an event costs. Whoever is free takes the next visit: the thread of the events,
//! or the one that helps it. The answers keep their order, and nothing waits for the helper but a search that it has begun.
//! Where searches are long the first event does not wait for all: what was not searched in a moment is when it is its turn.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use gatehouse_model::{CameraName, Identification, Person};
use gatehouse_store::store::{Galleries, GallerySet, ProbeFace};

/// Visits for which help is asked: for fewer it costs more to wake a thread than it does.
const HELP_FROM: usize = 4;

/// How long visits are searched ahead of their turn: far below what anybody notices at a door.
const AHEAD: Duration = Duration::from_millis(1);

/// What was found counts for so long: while an event waits for the disk, people come and thresholds change.
const HOLDS: Duration = Duration::from_millis(100);

/// The faces of one event, and who they are.
pub(crate) struct Found {
    camera: CameraName,
    pub(crate) faces: Vec<ProbeFace>,
    answer: Option<(Identification<Person>, Instant)>,
}

impl Found {
    /// Nobody yet.
    pub(crate) fn new(camera: CameraName, faces: Vec<ProbeFace>) -> Self {
        Self { camera, faces, answer: None }
    }

    /// Who they are, looked up now where that was not done a moment ago, and where somebody is named who was erased since.
    pub(crate) fn answer(&mut self, galleries: &Galleries, set: &GallerySet) -> Identification<Person> {
        match self.answer.take() {
            Some((answer, at)) if at.elapsed() < HOLDS && galleries.still_valid(&answer) => answer,
            _ => galleries.identify_in(set, &self.camera, &self.faces),
        }
    }

    fn search(&mut self, galleries: &Galleries, set: &GallerySet) {
        self.answer = Some((galleries.identify_in(set, &self.camera, &self.faces), Instant::now()));
    }
}

/// Visits that are searched together.
struct Round {
    galleries: Galleries,
    set: Arc<GallerySet>,
    begin: Instant,
    next: AtomicUsize,
    visits: Vec<Mutex<Found>>,
}

impl Round {
    /// Searches until all visits have somebody who does, or the moment for it is over.
    fn work(&self) {
        while self.begin.elapsed() < AHEAD
            && let Some(visit) = self.visits.get(self.next.fetch_add(1, Ordering::Relaxed))
        {
            locked(visit).search(&self.galleries, &self.set);
        }
    }
}

/// A visit without an answer is searched in its turn, also where the other thread panicked with it.
fn locked(visit: &Mutex<Found>) -> MutexGuard<'_, Found> {
    visit.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The search, and its helper; that one ends with it.
pub(crate) struct Search {
    galleries: Galleries,
    /// One round at most waits for the helper. None on a board with one core, and where the system gives no thread.
    helper: Option<SyncSender<Arc<Round>>>,
}

impl Search {
    /// Starts the helper.
    pub(crate) fn start(galleries: Galleries) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self { galleries, helper: (cores > 1).then(helper).flatten() }
    }

    /// Searches for as many of them as a moment allows, by these galleries; the others are for their turn.
    pub(crate) fn ahead(&self, set: &Arc<GallerySet>, visits: Vec<Found>) -> Vec<Found> {
        let helper = self.helper.as_ref().filter(|_| visits.len() >= HELP_FROM);
        let Some(helper) = helper else { return visits };
        let (galleries, set) = (self.galleries.clone(), Arc::clone(set));
        let visits = visits.into_iter().map(Mutex::new).collect();
        let round = Round { galleries, set, begin: Instant::now(), next: AtomicUsize::new(0), visits };
        let round = Arc::new(round);
        // Where it is busy still, or has ended, this thread does all.
        let _ = helper.try_send(Arc::clone(&round));
        round.work();
        round.visits.iter().map(taken).collect()
    }
}

/// The visit, and where it was searched its answer; the helper may be in the middle of one that it took.
fn taken(visit: &Mutex<Found>) -> Found {
    let mut visit = locked(visit);
    let empty = Found::new(visit.camera.clone(), Vec::new());
    std::mem::replace(&mut visit, empty)
}

fn helper() -> Option<SyncSender<Arc<Round>>> {
    let (sender, rounds) = sync_channel::<Arc<Round>>(1);
    let work = move || rounds.into_iter().for_each(|round| round.work());
    let thread = std::thread::Builder::new().name("search".to_owned()).spawn(work);
    if let Err(error) = &thread {
        tracing::warn!(%error, "no thread that helps to search; many events at once are answered more slowly");
    }
    thread.is_ok().then_some(sender)
}
