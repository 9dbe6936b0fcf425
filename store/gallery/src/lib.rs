//! The enrolled people in memory, and the identification of faces.
//!
//! Constraints: probes are answered during enrollments and erasures, and see either the old or the new state.
//! A removed person must not be in a result of a later probe. There are two engines: the exact scan, and
//! above `exact_limit` templates a graph, whose unclear results are decided by the exact scan. Both compute
//! distances in `f32` on the template itself.
//!
//! One `RwLock` protects all state: probes read, and changes write briefly. The index thread copies under the
//! read lock and works without a lock. Nothing is on disk: the store fills the gallery at its start.
//!
//! An encoding reaches an engine only as an [`Encoding`], and so never with NaN, zero or the wrong number of
//! components. It must pass the gallery's [`Transform`] first: all data in memory is protected, see
//! [`transform`].

mod adaptive_threshold;
mod aligned_buffer;
mod calibrate;
pub mod calibration;
mod corrections;
mod decide;
mod encoding;
mod engine;
pub mod evaluate;
mod exact;
mod graph;
mod indexer;
mod mapped;
mod measure;
mod norms;
mod people;
mod principal_axes;
pub mod rates;
mod review;
mod segment;
mod sketch;
mod slots;
mod strangers;
mod table;
#[cfg(test)]
mod tests;
pub mod transform;
mod vector;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

pub use adaptive_threshold::{
    Basis, CAMERA_VISITS_MIN, Derived, GALLERY_PEOPLE_MIN, NoThreshold, Prospect, StrangerFace, Thresholds,
};
pub use calibrate::EXACT_LIMIT_MEASURED;
pub use corrections::{CORRECTION_RATIO, CORRECTIONS_MAX, MatchRule};
pub use decide::AMBIGUITY_RATIO;
pub use encoding::{Encoding, EncodingFault};
use gatehouse_model::Metric;
pub use measure::Measured;
pub use review::{Review, Verdict, repeat_radius, repeats};
pub use strangers::{Moment, SAME_VISIT_WINDOW, STRANGERS_MAX, StrangerMark, Strangers};

use gatehouse_model::{CameraName, Engine as EngineName, Face, KeyId, Model, Outcome};

use engine::{Engine, Nearest};
use exact::Exact;
use indexer::Indexer;
use people::State;
use transform::{Protected, Transform};
use vector::{Probe, square_distance};

/// Templates up to which only the exact engine is used: at 128 dimensions it is faster up to about here.
pub const EXACT_LIMIT_DEFAULT: usize = 200_000;
/// Distance to a limit of the decision, as a share of the threshold, below which the exact engine decides.
const CLEARANCE_RATIO: f32 = 0.02;

/// The model of a gallery, and its thresholds.
#[derive(Debug, Clone)]
pub struct GallerySettings {
    /// Name of the model that computes the encodings.
    pub model: String,
    /// Components of an encoding.
    pub dimensions: usize,
    /// How encodings are compared.
    pub metric: Metric,
    /// Whether the model's encodings have length 1: others get no decision.
    pub normalised: bool,
    /// Largest distance of a match, in the metric, unless [`Thresholds::follow`] derives one.
    pub threshold: f32,
    /// Thresholds of single cameras, by name.
    pub camera_thresholds: HashMap<String, f32>,
    /// Quality, 0 to 1, below which a face gets no decision.
    pub minimum_quality: f32,
    /// Templates up to which only the exact engine is used, see [`EXACT_LIMIT_DEFAULT`].
    pub exact_limit: usize,
}

impl From<&GallerySettings> for Model {
    fn from(settings: &GallerySettings) -> Self {
        let GallerySettings { model, dimensions, metric, normalised, .. } = settings;
        Self { name: model.clone(), dimensions: *dimensions, metric: *metric, normalised: *normalised }
    }
}

/// The gallery.
pub struct Gallery {
    model: String,
    dimensions: usize,
    metric: Metric,
    exact: Exact,
    state: Arc<RwLock<State>>,
    /// Started when a graph or sketches are first needed.
    indexer: Mutex<Option<Indexer>>,
}

impl Gallery {
    /// An empty gallery without a transform: for measurements, never for stored templates.
    pub fn new(settings: GallerySettings) -> Self {
        let transform = Arc::new(Transform::identity(settings.dimensions));
        Self::protected(settings, transform)
    }

    /// An empty gallery in the space of a transform.
    pub fn protected(settings: GallerySettings, transform: Arc<Transform>) -> Self {
        Self {
            model: settings.model.clone(),
            dimensions: settings.dimensions,
            metric: settings.metric,
            exact: Exact::new(),
            state: Arc::new(RwLock::new(State::new(settings, transform))),
            indexer: Mutex::new(None),
        }
    }

    /// Applies thresholds, minimum quality and engine limit. Model, dimensions, metric and length stay as
    /// they are: a change of them needs a new gallery.
    pub fn apply(&self, settings: GallerySettings) {
        let (model, dimensions, metric) = (self.model.clone(), self.dimensions, self.metric);
        let mut state = self.write();
        let normalised = state.settings.normalised;
        state.settings = GallerySettings { model, dimensions, metric, normalised, ..settings };
        let graph = state.give_up_small_index();
        drop(state);
        drop(graph);
        self.index_if_needed();
    }

    /// Adds samples of a new or known person; the next probe sees all of them. A sample with other dimensions
    /// is skipped. Returns the number of added samples.
    pub fn add(&self, person: KeyId, samples: &[Encoding]) -> usize {
        let mut state = self.write();
        let templates: Vec<Probe> =
            samples.iter().filter_map(|sample| self.prepare(&state.transform, sample)).collect();
        state.add(person, &templates);
        state.renew_thresholds();
        drop(state);
        self.index_if_needed();
        templates.len()
    }

    /// Adds templates that are in the gallery's space already.
    pub fn load(&self, person: KeyId, templates: &[Protected]) {
        let templates: Vec<Probe> = templates.iter().map(|template| self.probe(template)).collect();
        let mut state = self.write();
        state.add(person, &templates);
        state.renew_thresholds();
        drop(state);
        self.index_if_needed();
    }

    /// Changes to another transform. `fill` adds all templates to the new gallery, in the new space. The new
    /// gallery replaces this one in one step, so that a probe sees either the old or the new state. Both are
    /// in memory meanwhile, and nothing may be added or removed. Settings stay. The graph is built again, and
    /// the exact engine is used until then.
    pub fn rekey(&self, transform: Arc<Transform>, fill: impl FnOnce(&Self)) {
        // It needs no graph of its own.
        let settings = GallerySettings { exact_limit: usize::MAX, ..self.read().settings.clone() };
        let fresh = Self::protected(settings, transform);
        fill(&fresh);
        // In this order, so that probes do not wait for threads that use the new gallery.
        let mut ready = fresh.write();
        let graph = self.write().take_over(&mut ready);
        drop(ready);
        drop((graph, fresh));
        self.index_if_needed();
    }

    /// Adds negative samples of a person, for the next probe, see [`CORRECTION_RATIO`]. They are removed with
    /// the person.
    pub fn correct(&self, person: KeyId, samples: &[Protected]) {
        let samples: Vec<Probe> = samples.iter().map(|sample| self.probe(sample)).collect();
        let mut state = self.write();
        samples.into_iter().for_each(|sample| state.corrections.add(person, sample));
    }

    /// Negative samples of a person.
    pub fn corrections(&self, person: &KeyId) -> usize {
        self.read().corrections.count(person)
    }

    /// Removes a person and wipes their templates: no later probe finds them. Returns the number of
    /// templates, 0 for an unknown person.
    pub fn remove(&self, person: &KeyId) -> usize {
        let mut state = self.write();
        let removed = state.remove(person);
        state.renew_thresholds();
        let graph = state.give_up_small_index();
        drop(state);
        drop(graph);
        self.index_if_needed();
        removed
    }

    /// Identifies a face with the threshold of the camera. `quality` is rated by the camera, 0 to 1; a face
    /// without a quality gets a decision.
    pub fn identify(&self, camera: &CameraName, probe: &Encoding, quality: Option<f32>) -> Face<KeyId> {
        let state = self.read();
        // Under the lock, so that probe and templates are of one key.
        let prepared = self.prepare(&state.transform, probe);
        let settings = &state.settings;
        let threshold = state.threshold(Some(camera.as_str()));
        let mut face = Face {
            outcome: Outcome::Unusable,
            person: None,
            distance: None,
            threshold,
            margin: None,
            quality,
        };
        // This comparison rejects a quality of NaN.
        let is_good = quality.is_none_or(|quality| quality >= settings.minimum_quality);
        let fits = |probe: &Probe| state.norms.fits(probe.norms, settings.normalised);
        let Some(prepared) = prepared.filter(|probe| is_good && fits(probe)) else {
            return face;
        };

        let nearest = self.nearest(&state, &prepared, threshold);
        let nearest = state.corrected(nearest, &prepared, MatchRule { metric: self.metric, threshold });
        let (best, second) = self.distances(&nearest);
        face.outcome = decide::decide(threshold, best, second);
        face.distance = best;
        face.margin = best.zip(second).map(|(best, second)| second - best);
        if face.outcome == Outcome::Match {
            face.person = nearest.best.and_then(|best| state.key(best.owner));
        }
        face
    }

    /// The threshold in force for cameras without their own.
    pub fn threshold(&self) -> f32 {
        self.read().threshold(None)
    }

    /// Enrolled people.
    pub fn people(&self) -> usize {
        self.read().people()
    }

    /// Templates of a person; 0 for an unknown one.
    pub fn samples(&self, person: &KeyId) -> usize {
        let state = self.read();
        state.place_of(person).map_or(0, |place| state.samples_of(place).count())
    }

    /// The templates of a person in the space of another transform; none for an unknown person.
    pub fn samples_in(&self, person: &KeyId, to: &Transform) -> Vec<Protected> {
        let state = self.read();
        let Some(place) = state.place_of(person) else { return Vec::new() };
        let rekeyed = |sample: &[f32]| state.transform.rekey(&Protected::of(sample), to);
        state.samples_of(place).filter_map(rekeyed).collect()
    }

    /// Their templates.
    pub fn templates(&self) -> usize {
        self.read().table.taken()
    }

    /// The engine that runs first.
    pub fn engine(&self) -> EngineName {
        if self.read().index.graph.is_some() { EngineName::Hnsw } else { EngineName::Exact }
    }

    /// Whether the index is up to date: sketches are complete, and the graph, if one is needed, has every
    /// template and no removed one.
    pub fn is_indexed(&self) -> bool {
        let state = self.read();
        !state.wants_lens() && !state.index.needs_work(state.table.taken(), state.settings.exact_limit)
    }

    /// An encoding in the gallery's space; none if it has another length.
    fn prepare(&self, transform: &Transform, encoding: &Encoding) -> Option<Probe> {
        transform.protect(encoding).map(|template| self.probe(&template))
    }

    fn probe(&self, template: &Protected) -> Probe {
        Probe::new(template.as_slice(), self.metric == Metric::Cosine)
    }

    /// The two nearest people, by nearest sample or mean template: from the graph if there is one and its
    /// result is clear, otherwise from the exact engine.
    fn nearest(&self, state: &State, probe: &Probe, threshold: f32) -> Nearest {
        let both = [&state.means, &state.table];
        let Some(graph) = &state.index.graph else {
            return self.exact.among(&both, probe, Nearest::default());
        };
        let means = self.exact.nearest(&state.means, probe).unwrap_or_default();
        let by_graph = || {
            let mut nearest = graph.nearest(&state.table, probe)?;
            for slot in &state.index.recent {
                if let Some(template) = state.table.get(*slot) {
                    nearest.offer(template.owner, square_distance(&probe.fine, template.fine));
                }
            }
            nearest.merge(means);
            let (best, second) = self.distances(&nearest);
            decide::is_clear(threshold, best, second, CLEARANCE_RATIO * threshold).then_some(nearest)
        };
        by_graph().unwrap_or_else(|| self.exact.among(&both[1..], probe, means))
    }

    fn distances(&self, nearest: &Nearest) -> (Option<f32>, Option<f32>) {
        let distance = |near: engine::Near| self.metric.distance(near.square);
        (nearest.best.map(distance), nearest.second.map(distance))
    }

    /// Wakes the index thread if there is work.
    fn index_if_needed(&self) {
        if self.is_indexed() {
            return;
        }
        let mut indexer = self.indexer.lock().unwrap_or_else(PoisonError::into_inner);
        indexer.get_or_insert_with(|| Indexer::start(Arc::clone(&self.state))).wake();
    }

    // State stays usable after a panic under the lock: every change leaves table, people and index consistent
    // before the next one begins.
    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}
