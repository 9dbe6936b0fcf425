//! Updates graph and sketches on a thread of its own, so that no probe and no enrollment waits for it.
//!
//! Below `exact_limit` there is no graph. Above it, one is built from the table, block by block, and the
//! exact engine is used meanwhile. Templates that were added since are in `recent`, and their distances are
//! computed for every probe until the graph contains them. After the removal of a template, the graph is out
//! of date. It stays in use, because a removed template is not in the table and cannot be returned. A new
//! graph is built, and the old one is wiped when it is replaced. Sketches (see [`super::sketch`]) come before
//! graphs. They are renewed as the gallery grows, chunk by chunk, with the lock released in between. Nothing
//! is on disk: after a start, all is built again.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, PoisonError, RwLock};
use std::thread::JoinHandle;

use super::calibrate::{self, EXACT_LIMIT_MEASURED, MEASURED_TEMPLATES_MIN, PROBES};
use super::exact::Exact;
use super::graph::{Cell, Graph, point};
use super::people::State;
use super::sketch::Lens;
use super::table::Table;

/// Templates copied and inserted per step: a few milliseconds of work between checks for changes.
const BLOCK: usize = 32;

/// The graph, and the templates that it does not contain yet.
#[derive(Default)]
pub(super) struct Index {
    /// The graph in use, if there is one.
    pub graph: Option<Arc<Graph>>,
    /// Slots that were filled since the build of the graph in use, or of the next one, began.
    pub recent: Vec<u32>,
    /// Templates removed since the start.
    pub removals: u64,
    /// `removals` when the build of the graph in use began: the difference is out of date.
    built_at: u64,
    /// Counts how often the index was discarded, so that a graph built before is not installed.
    epoch: u64,
    /// Whether a graph exists or is being built, and `recent` is kept.
    active: bool,
    /// The graph panicked once: this process uses none any more.
    broken: bool,
    /// If the limit is measured: templates up to which the last measurement is valid; 0 before the first one.
    measured: usize,
    /// If the limit is measured: whether a graph is faster.
    graph_is_faster: bool,
}

impl Index {
    /// Notes a new template.
    pub(super) fn added(&mut self, slot: u32) {
        if self.active {
            self.recent.push(slot);
        }
    }

    /// Discards the graph; the caller must drop it without a lock.
    #[must_use]
    pub(super) fn give_up(&mut self) -> Option<Arc<Graph>> {
        self.recent = Vec::new();
        self.epoch += 1;
        self.active = false;
        self.graph_is_faster = false;
        self.graph.take()
    }

    /// Whether a graph is needed for so many templates and is missing or out of date.
    pub(super) fn needs_work(&self, templates: usize, limit: usize) -> bool {
        match self.graph {
            Some(_) => self.built_at != self.removals || !self.recent.is_empty(),
            None => templates > self.limit(limit) && !self.broken,
        }
    }

    /// Templates up to which only the exact engine is used, with this setting.
    pub(super) fn limit(&self, setting: usize) -> usize {
        if setting == EXACT_LIMIT_MEASURED { self.measured.max(MEASURED_TEMPLATES_MIN) } else { setting }
    }
}

/// Handle to the thread.
pub(super) struct Indexer {
    wake: Option<SyncSender<()>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Indexer {
    /// Starts the thread. If the system refuses one, only the exact engine is used.
    pub(super) fn start(state: Arc<RwLock<State>>) -> Self {
        let (wake, woken) = sync_channel(1);
        let stop = Arc::new(AtomicBool::new(false));
        let worker = Worker { state, stop: Arc::clone(&stop), is_graph_faster: Worker::compare };
        let thread = std::thread::Builder::new().name("gallery-index".to_owned());
        let thread = thread.spawn(move || worker.run(&woken));
        if let Err(error) = &thread {
            tracing::warn!(%error, "no thread for the gallery index; identification stays exact but slower");
        }
        Self { wake: Some(wake), stop, thread: thread.ok() }
    }

    /// Signals a change; a pending signal covers this one.
    pub(super) fn wake(&self) {
        if let Some(wake) = &self.wake {
            let _ = wake.try_send(());
        }
    }
}

impl Drop for Indexer {
    /// Waits for the present block, not for the build.
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.wake = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The next step.
enum Job {
    /// Measure which engine is faster.
    Measure,
    /// Sketch all templates.
    Sketch,
    /// Build a graph from the whole table.
    Build,
    /// Insert the first of `recent` into the graph in use.
    Extend(Arc<Graph>),
}

struct Worker {
    state: Arc<RwLock<State>>,
    stop: Arc<AtomicBool>,
    /// Measures which engine is faster: [`Worker::compare`], except in tests.
    is_graph_faster: fn(&Self) -> bool,
}

impl Worker {
    fn run(&self, woken: &Receiver<()>) {
        while woken.recv().is_ok() {
            while let Some(job) = self.next() {
                match job {
                    Job::Measure => self.measure(),
                    Job::Sketch => self.sketch(),
                    Job::Build => self.build(),
                    Job::Extend(graph) => self.extend(&graph),
                }
            }
        }
    }

    fn next(&self) -> Option<Job> {
        if self.stop.load(Ordering::Relaxed) {
            return None;
        }
        let state = self.read();
        let index = &state.index;
        if state.wants_lens() {
            return Some(Job::Sketch);
        }
        if !index.needs_work(state.table.taken(), state.settings.exact_limit) {
            return None;
        }
        match &index.graph {
            Some(graph) if index.built_at == index.removals => Some(Job::Extend(Arc::clone(graph))),
            None if state.settings.exact_limit == EXACT_LIMIT_MEASURED && !index.graph_is_faster => {
                Some(Job::Measure)
            }
            _ => Some(Job::Build),
        }
    }

    /// Measures with the lock released after every probe.
    fn compare(&self) -> bool {
        let (exact, mut random) = (Exact::new(), fastrand::Rng::new());
        let times = (0..PROBES).filter_map(|_| calibrate::times(&exact, &self.read(), &mut random)).collect();
        calibrate::is_graph_faster(times)
    }

    /// Measures which engine is faster, and again once the gallery has grown by half. A graph that is slower
    /// is discarded.
    fn measure(&self) {
        let is_faster = (self.is_graph_faster)(self);
        let mut state = self.write();
        let templates = state.table.taken();
        let slow = if is_faster { None } else { state.index.give_up() };
        state.index.graph_is_faster = is_faster;
        if !is_faster {
            state.index.measured = templates + templates / 2;
        }
        drop(state);
        drop(slow);
        tracing::info!(templates, graph = is_faster, "measured which engine of the gallery is faster");
    }

    /// Creates a lens from a sample and sketches chunk by chunk with it. Probes use the existing sketches
    /// meanwhile. Mean templates have the same distribution and use the same lens, so that a probe is
    /// sketched once.
    fn sketch(&self) {
        let (sample, templates, dimensions, epoch) = {
            let state = self.read();
            let table = &state.table;
            (table.lens_sample(), table.taken(), state.settings.dimensions, state.index.epoch)
        };
        let lens = sample.and_then(|sample| Lens::new(&sample, dimensions)).map(Arc::new);
        if lens.is_none() {
            tracing::warn!(
                templates,
                "no sketches of the gallery: memory is short, all templates are alike or of very few dimensions; \
                 identification stays exact but slower, until a restart or many more templates"
            );
        }
        {
            let mut state = self.write();
            if state.index.epoch != epoch {
                return;
            }
            state.table.set_lens(lens.clone());
            state.means.set_lens(lens);
        }
        let tables: [fn(&mut State) -> &mut Table; 2] = [|state| &mut state.table, |state| &mut state.means];
        for table in tables {
            let mut chunk = 0;
            while !self.stop.load(Ordering::Relaxed) && table(&mut self.write()).resketch_chunk(chunk) {
                chunk += 1;
            }
        }
    }

    fn build(&self) {
        let (graph, slots, mark, built_at, epoch) = {
            let mut state = self.write();
            state.index.active = true;
            let (table, index) = (&state.table, &state.index);
            (Graph::new(table.taken()), table.slots(), index.recent.len(), index.removals, index.epoch)
        };
        let slots: Vec<u32> = (0..slots).collect();
        for block in slots.chunks(BLOCK) {
            if !self.insert(&graph, block) || self.stop.load(Ordering::Relaxed) {
                return;
            }
            if self.read().index.epoch != epoch {
                return;
            }
        }
        let mut state = self.write();
        if state.index.epoch != epoch {
            return;
        }
        let old = state.index.graph.replace(Arc::new(graph));
        // Templates in `recent` may be in the graph as well: a repeated comparison does no harm.
        state.index.recent.drain(..mark);
        state.index.built_at = built_at;
        let is_to_prove = old.is_none() && state.settings.exact_limit == EXACT_LIMIT_MEASURED;
        drop(state);
        // Dropping wipes every point and takes long: not under the lock.
        drop(old);
        if is_to_prove {
            self.measure();
        }
    }

    fn extend(&self, graph: &Arc<Graph>) {
        let (block, epoch) = {
            let state = self.read();
            let recent = &state.index.recent;
            (recent[..recent.len().min(BLOCK)].to_vec(), state.index.epoch)
        };
        if !self.insert(graph, &block) {
            return;
        }
        let mut state = self.write();
        if state.index.epoch == epoch {
            state.index.recent.drain(..block.len());
        }
    }

    /// Copies a block under the read lock and inserts it without a lock; false if the graph panicked.
    fn insert(&self, graph: &Graph, block: &[u32]) -> bool {
        let points: Vec<(u32, Vec<Cell>)> = {
            let state = self.read();
            let row = |slot: &u32| {
                state.table.get(*slot).map(|template| (*slot, point(template.quantised, template.coarse)))
            };
            block.iter().filter_map(row).collect()
        };
        if points.iter().all(|(slot, point)| graph.insert(*slot, point)) {
            return true;
        }
        tracing::error!("the gallery index broke; identification stays exact but slower, please report it");
        let mut state = self.write();
        state.index.broken = true;
        let broken = state.index.give_up();
        drop(state);
        drop(broken);
        false
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::synthetic::People;
    use crate::transform::Transform;
    use crate::vector::Probe;
    use crate::{GallerySettings, Metric};
    use gatehouse_model::KeyId;

    /// A worker with some people and a stubbed measurement of the faster engine.
    fn worker(is_graph_faster: fn(&Worker) -> bool) -> Worker {
        let settings = GallerySettings {
            model: "synthetic".to_owned(),
            dimensions: 64,
            metric: Metric::Euclidean,
            normalised: false,
            threshold: 0.4,
            camera_thresholds: std::collections::HashMap::new(),
            minimum_quality: 0.0,
            exact_limit: EXACT_LIMIT_MEASURED,
        };
        let mut state = State::new(settings, Arc::new(Transform::identity(64)));
        let mut people = People::new(64, 51);
        for _ in 0..100 {
            state.add(KeyId::random(), &[Probe::new(people.stranger().as_slice(), false)]);
        }
        Worker { state: Arc::new(RwLock::new(state)), stop: Arc::default(), is_graph_faster }
    }

    #[test]
    fn a_graph_that_turns_out_slower_is_given_up_and_not_built_again() {
        let slow = worker(|worker| {
            assert!(worker.read().index.graph.is_some(), "it is the graph itself that is timed");
            false
        });
        slow.build();
        let state = slow.read();
        assert!(state.index.graph.is_none() && !state.index.active, "nothing is kept of it");
        assert_eq!(state.index.limit(EXACT_LIMIT_MEASURED), MEASURED_TEMPLATES_MIN);
        assert_eq!(state.index.measured, 150, "nor measured again before there are half as many more");
        assert!(!state.index.needs_work(150, EXACT_LIMIT_MEASURED));
    }

    #[test]
    fn a_graph_that_is_faster_stays() {
        let fast = worker(|_| true);
        fast.build();
        let state = fast.read();
        assert!(state.index.graph.is_some() && state.index.graph_is_faster);
        assert!(!state.index.needs_work(100, EXACT_LIMIT_MEASURED), "and has everything");
    }
}
