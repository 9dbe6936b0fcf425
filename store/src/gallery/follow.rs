//! The threshold that follows the gallery: from the share of strangers that the operator allows, the number of people
//! enrolled now, and the distances seen so far.
//!
//! What was seen is fitted in the background by [`Gallery::derive`]; the threshold itself follows every enrolment
//! and erasure at once, since the formula of [`super::tail`] has their number in it. It is a smooth function of
//! what was seen, in which no single distance counts for much, and lies within what the model's prior allows.
//! While fewer than [`EVIDENCE_MIN`] people were measured it is never above that of the prior.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::people::State;
use super::tail::{Nearest, Prior, Tail};
use super::{Gallery, Metric};
use crate::keys::KeyId;
use crate::names::CameraName;

/// Enrolled samples that are measured at most.
const SAMPLES_MEASURED: usize = 10_000;
/// People, or strangers' visits, from which on distances may raise the threshold above the prior's.
pub const EVIDENCE_MIN: f64 = 10.0;
/// Strangers' visits from which on a camera has a threshold of its own.
pub const CAMERA_VISITS_MIN: f64 = 100.0;
/// What a stranger's face counts: cameras send several of one visit, which say the same.
const FACE_WEIGHT: f64 = 0.25;
/// Standard deviations on both sides of a 95 % bound.
const Z: f64 = 1.96;

/// Where a threshold comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Basis {
    /// It is set in the settings.
    Fixed,
    /// What is known of the model; too little was seen here to raise it.
    Prior,
    /// Enrolled people against each other, and strangers of all cameras.
    Measured,
    /// The same and the strangers of this camera.
    Camera,
}

/// A threshold with where it comes from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Derived {
    /// The threshold.
    pub threshold: f32,
    /// The lower end of its 95 % bounds; the threshold itself where it is fixed.
    pub low: f32,
    /// The upper end.
    pub high: f32,
    /// Where it comes from.
    pub basis: Basis,
    /// Share of strangers that the fit lets expect here; none for a fixed one.
    pub fpir: Option<f64>,
    /// Strangers' visits behind it, as they count.
    pub visits: f64,
}

/// A stranger at the door, as numbers.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) camera: CameraName,
    /// People enrolled then.
    pub(crate) people: u32,
    /// The threshold then.
    pub(crate) threshold: f32,
    /// Distance of the nearest person.
    pub(crate) distance: f32,
}

/// A fit and what it rests on.
#[derive(Debug, Clone, Copy)]
struct Fit {
    tail: Tail,
    basis: Basis,
    visits: f64,
    threshold: f64,
}

/// The thresholds in force.
pub(super) struct Follow {
    target: f64,
    prior: Prior,
    all: Fit,
    cameras: HashMap<String, Fit>,
}

impl Fit {
    fn of(prior: &Prior, visits: f64) -> Self {
        Self { tail: prior.tail(), basis: Basis::Prior, visits, threshold: 0.0 }
    }

    fn renew(&mut self, target: f64, prior: &Prior, people: usize) {
        let fitted = self.tail.threshold(target, people);
        let most = match self.basis {
            Basis::Prior => prior.tail().threshold(target, people),
            _ => prior.clear(),
        };
        self.threshold = fitted.min(most).max(0.0);
    }

    fn told(&self, metric: Metric, target: f64, people: usize) -> Derived {
        let doubt = Z * self.tail.doubt(target, people);
        Derived {
            threshold: metric.of_euclidean(self.threshold),
            low: metric.of_euclidean((self.threshold - doubt).max(0.0)),
            high: metric.of_euclidean(self.threshold + doubt),
            basis: self.basis,
            fpir: Some(self.tail.share(self.threshold, people)),
            visits: self.visits,
        }
    }
}

impl Follow {
    fn new(target: f64, prior: Prior) -> Self {
        Self { target, prior, all: Fit::of(&prior, 0.0), cameras: HashMap::new() }
    }

    fn renew(&mut self, people: usize) {
        for fit in self.cameras.values_mut().chain([&mut self.all]) {
            fit.renew(self.target, &self.prior, people);
        }
    }
}

impl State {
    /// The threshold of a camera: its own from the settings, else the one of all from there, else a derived one.
    pub(super) fn threshold(&self, camera: Option<&str>) -> f32 {
        let fixed = camera.and_then(|camera| self.settings.camera_thresholds.get(camera));
        if let Some(fixed) = fixed {
            return *fixed;
        }
        let Some(follow) = &self.follow else { return self.settings.threshold };
        let fit = camera.and_then(|camera| follow.cameras.get(camera)).unwrap_or(&follow.all);
        self.settings.metric.of_euclidean(fit.threshold)
    }

    /// To be called where people come or go: thresholds depend on their number.
    pub(super) fn renew_thresholds(&mut self) {
        let people = self.people();
        if let Some(follow) = &mut self.follow {
            follow.renew(people);
        }
    }

    fn prior(&self) -> Prior {
        Prior::of(&self.settings.model, self.settings.metric, self.norms.mean())
    }

    fn derived(&self, camera: Option<&str>) -> Derived {
        let fixed = camera.is_some_and(|camera| self.settings.camera_thresholds.contains_key(camera));
        match self.follow.as_ref().filter(|_| !fixed) {
            Some(follow) => {
                let fit = camera.and_then(|camera| follow.cameras.get(camera)).unwrap_or(&follow.all);
                fit.told(self.settings.metric, follow.target, self.people())
            }
            None => {
                let threshold = self.threshold(camera);
                let (low, high) = (threshold, threshold);
                Derived { threshold, low, high, basis: Basis::Fixed, fpir: None, visits: 0.0 }
            }
        }
    }
}

impl Gallery {
    /// Derives thresholds for a share of strangers from now on; none: those of the settings hold.
    pub fn follow(&self, target: Option<f64>) {
        let mut state = self.write();
        let prior = state.prior();
        match (target, &mut state.follow) {
            (Some(target), Some(follow)) => follow.target = target,
            (target, follow) => *follow = target.map(|target| Follow::new(target, prior)),
        }
        state.renew_thresholds();
    }

    /// Fits what the enrolled people and strangers at the door show. Takes up to a few seconds; probes go on.
    pub(crate) fn derive<'a>(&self, strangers: impl Iterator<Item = &'a Seen> + Clone) {
        let (prior, people) = {
            let state = self.read();
            if state.follow.is_none() {
                return;
            }
            (state.prior(), state.people())
        };
        let mut seen = vec![Nearest::new(people.saturating_sub(1) as f64, false)];
        let measured = self.enrolled(&prior, &mut seen[0]);
        let visits = self.count(&prior, strangers.clone(), &mut seen);
        let mut all = Fit { tail: Tail::fit(&prior, &seen), ..Fit::of(&prior, visits) };
        if measured + visits >= EVIDENCE_MIN {
            all.basis = Basis::Measured;
        }
        let cameras = self.cameras(&all.tail.as_prior(&prior), strangers);
        let mut state = self.write();
        if let Some(follow) = &mut state.follow {
            *follow = Follow { target: follow.target, prior, all, cameras };
        }
        state.renew_thresholds();
    }

    /// The threshold in force, of a camera or where a camera has none of its own.
    pub fn derived(&self, camera: Option<&str>) -> Derived {
        self.read().derived(camera)
    }

    /// The share of strangers that thresholds are derived for, where they are.
    pub fn target(&self) -> Option<f64> {
        self.read().follow.as_ref().map(|follow| follow.target)
    }

    /// Cameras with a threshold of their own, in order.
    pub fn cameras_apart(&self) -> Vec<String> {
        let state = self.read();
        let fitted = state.follow.iter().flat_map(|follow| follow.cameras.keys());
        let mut names: Vec<String> = fitted.chain(state.settings.camera_thresholds.keys()).cloned().collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Counts everybody enrolled as a stranger to all others, each person once; how many there are.
    fn enrolled(&self, prior: &Prior, nearest: &mut Nearest) -> f64 {
        let measured = self.measure(SAMPLES_MEASURED);
        let mut samples: HashMap<KeyId, f64> = HashMap::new();
        for told in &measured {
            *samples.entry(told.person).or_default() += 1.0;
        }
        for told in &measured {
            let Some((_, distance)) = told.other else { continue };
            let weight = 1.0 / samples.get(&told.person).copied().unwrap_or(1.0);
            nearest.add(prior, self.metric.euclidean(distance), weight);
        }
        samples.len() as f64
    }

    /// Counts the strangers that say something, by how many people there were; what they count.
    fn count<'a>(
        &self,
        prior: &Prior,
        strangers: impl Iterator<Item = &'a Seen>,
        seen: &mut Vec<Nearest>,
    ) -> f64 {
        // People who were enrolled then, summed and counted, by powers of two.
        let mut sizes: HashMap<u32, (f64, Vec<f64>)> = HashMap::new();
        for told in strangers {
            let (distance, threshold) =
                (self.metric.euclidean(told.distance), self.metric.euclidean(told.threshold));
            let people = f64::from(told.people);
            if distance > prior.clear() && threshold <= prior.clear() && prior.hears_strangers(people) {
                let (sum, distances) = sizes.entry(told.people.max(1).ilog2()).or_default();
                *sum += people;
                distances.push(distance);
            }
        }
        let mut visits = 0.0;
        for (sum, distances) in sizes.into_values() {
            let mut nearest = Nearest::new(sum / distances.len() as f64, true);
            distances.iter().for_each(|distance| nearest.add(prior, *distance, FACE_WEIGHT));
            visits += FACE_WEIGHT * distances.len() as f64;
            seen.push(nearest);
        }
        visits
    }

    fn cameras<'a>(&self, prior: &Prior, strangers: impl Iterator<Item = &'a Seen>) -> HashMap<String, Fit> {
        let mut by_camera: HashMap<&str, Vec<&Seen>> = HashMap::new();
        for told in strangers {
            by_camera.entry(told.camera.as_str()).or_default().push(told);
        }
        let fit = |(camera, told): (&str, Vec<&Seen>)| {
            let mut seen = Vec::new();
            let visits = self.count(prior, told.into_iter(), &mut seen);
            let fit = || Fit { tail: Tail::fit(prior, &seen), basis: Basis::Camera, visits, threshold: 0.0 };
            (visits >= CAMERA_VISITS_MIN).then(|| (camera.to_owned(), fit()))
        };
        by_camera.into_iter().filter_map(fit).collect()
    }
}
