//! Says who the visitors of several events are, on two cores where there are.
//!
//! Under load the search is most of what an event costs. Whoever is free takes the next visit: the thread of the events,
//! or the one that helps it. The answers keep their order, and nothing waits for the helper but a search that it has begun.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use gatehouse_store::Store;
use gatehouse_store::names::CameraName;
use gatehouse_store::record::{Identification, Person};
use gatehouse_store::store::{Galleries, ProbeFace};

/// Visits for which help is asked: for fewer it costs more to wake a thread than it does.
const HELP_FROM: usize = 4;

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

    /// Who they are, looked up again where that was not a moment ago, and where somebody is named who was erased since.
    pub(crate) fn answer(&mut self, store: &Store, galleries: &Galleries) -> Identification<Person> {
        match self.answer.take() {
            Some((answer, at)) if at.elapsed() < HOLDS && store.knows_all(&answer) => answer,
            _ => store.identify_in(galleries, &self.camera, &self.faces),
        }
    }

    fn search(&mut self, store: &Store, galleries: &Galleries) {
        if self.answer.is_none() {
            self.answer = Some((store.identify_in(galleries, &self.camera, &self.faces), Instant::now()));
        }
    }
}

/// Visits that are searched together.
struct Round {
    store: Store,
    galleries: Arc<Galleries>,
    next: AtomicUsize,
    visits: Vec<Mutex<Found>>,
}

impl Round {
    /// Searches until all visits have somebody who does.
    fn work(&self) {
        while let Some(visit) = self.visits.get(self.next.fetch_add(1, Ordering::Relaxed)) {
            locked(visit).search(&self.store, &self.galleries);
        }
    }
}

/// A visit without an answer is searched again, also where the other thread panicked with it.
fn locked(visit: &Mutex<Found>) -> MutexGuard<'_, Found> {
    visit.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The search, and its helper; that one ends with it.
pub(crate) struct Search {
    store: Store,
    /// One round at most waits for the helper. None on a board with one core.
    helper: Option<SyncSender<Arc<Round>>>,
}

impl Search {
    /// Starts the helper.
    ///
    /// # Errors
    /// Where the system gives no thread.
    pub(crate) fn start(store: Store) -> io::Result<Self> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let helper = (cores > 1).then(helper).transpose()?;
        Ok(Self { store, helper })
    }

    /// Searches for all of them, by these galleries.
    pub(crate) fn all(&self, galleries: &Arc<Galleries>, mut visits: Vec<Found>) -> Vec<Found> {
        let helper = self.helper.as_ref().filter(|_| visits.len() >= HELP_FROM);
        let Some(helper) = helper else {
            visits.iter_mut().for_each(|visit| visit.search(&self.store, galleries));
            return visits;
        };
        let (store, galleries) = (self.store.clone(), Arc::clone(galleries));
        let visits = visits.into_iter().map(Mutex::new).collect();
        let round = Arc::new(Round { store, galleries, next: AtomicUsize::new(0), visits });
        // Where it is busy still, or has ended, this thread does all.
        let _ = helper.try_send(Arc::clone(&round));
        round.work();
        round.visits.iter().map(|visit| taken(&round, visit)).collect()
    }
}

/// The visit with its answer; the helper may be late with the visits that it took.
fn taken(round: &Round, visit: &Mutex<Found>) -> Found {
    let mut visit = locked(visit);
    visit.search(&round.store, &round.galleries);
    let empty = Found::new(visit.camera.clone(), Vec::new());
    std::mem::replace(&mut visit, empty)
}

fn helper() -> io::Result<SyncSender<Arc<Round>>> {
    let (sender, rounds) = sync_channel::<Arc<Round>>(1);
    let work = move || rounds.into_iter().for_each(|round| round.work());
    std::thread::Builder::new().name("search".to_owned()).spawn(work)?;
    Ok(sender)
}
