//! The adaptive threshold, derived from the gallery.
//!
//! The operator sets the target: the share of strangers that may be accepted. The threshold in force is the
//! largest distance that meets the target with 95 % confidence. If model and evidence do not allow one, there
//! is no threshold, and every face is classified as a stranger.
//!
//! - The [`Calibration`] of the model gives the bound for the current number of people and samples. Every
//!   enrollment and erasure updates it at once.
//! - With at least [`GALLERY_PEOPLE_MIN`] people, a model without calibration is measured on the gallery
//!   itself. This gives a threshold only for a target that so few people cover.
//! - All other evidence can only lower the threshold. One kind is enrolled people who are nearer to each
//!   other than the people of the calibration, or who would be accepted as each other. Another kind is
//!   observed strangers who are nearer than those of the calibration. Accepted strangers are in no evidence.
//!   This is safe, because no evidence raises a threshold.
//! - Enrolled encodings that contradict the calibration (another norm, other distances) are of another model
//!   than the configured one. Then there is no threshold.
//!
//! [`Gallery::derive`] measures in the background.

mod stranger_evidence;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use gatehouse_model::KeyId;
use serde::{Deserialize, Serialize};

use super::{Gallery, Metric};
pub use stranger_evidence::{CAMERA_VISITS_MIN, StrangerFace};
use stranger_evidence::{Strangers, VISITS_MIN, visits};

use super::calibration::measure::{CalibrationTitle, Faces};
use super::calibration::{
    Calibration, CalibrationFault, Contradiction, Enrolled, covers, known, smallest_target, title,
};
use super::people::State;
use super::vector::square_distance;

/// Maximum number of enrolled samples that are measured.
const SAMPLES_MEASURED: usize = 10_000;
/// Minimum number of people for the calibration of an unknown model on its own gallery.
pub const GALLERY_PEOPLE_MIN: usize = 50;
/// Maximum number of people in that measurement: more would take seconds.
const GALLERY_PEOPLE_MEASURED: usize = 400;
/// Factor on the bound that an unknown model's own gallery gives, because its impostor tail is extrapolated
/// from few people.
const UNKNOWN_MODEL_MARGIN: f64 = 0.93;
/// Seed of the resampling: the same gallery gives the same threshold.
const SEED: u64 = 1;
/// People whose distances to each other are averaged.
const PEOPLE_AVERAGED: usize = 64;
/// Look-alike pairs that are always allowed in a gallery: one person enrolled twice, or twins.
const LOOK_ALIKE_PAIRS: usize = 1;
/// The largest share of strangers that the settings allow.
const TARGET_MAX: f64 = 0.1;
/// Probability below which a number of look-alike pairs refutes a threshold.
const REFUTED_BELOW: f64 = 0.05;

/// Origin of a threshold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Basis {
    /// From the settings.
    Fixed,
    /// From the calibration of the model, lowered by the evidence of the gallery.
    Model,
    /// From the enrolled people, because the model is unknown.
    Gallery,
    /// Lowered for this camera, where strangers are nearer than at others.
    Camera,
    /// No threshold: every face is classified as a stranger.
    Unknown,
}

/// The effect of another number of samples, or of another target.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Prospect {
    /// Samples of each person.
    pub samples: usize,
    /// Share of strangers that may be accepted.
    pub target: f64,
    /// The threshold that would be in force.
    pub threshold: f32,
    /// Share of the enrolled people's probes that would be missed.
    pub missed: f64,
}

/// Why there is no threshold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "cause")]
pub enum NoThreshold {
    /// No calibration of the model, and too few people to measure it.
    UnknownModel {
        /// Model, dimensions and metric.
        model: String,
        /// A sentence that suggests a known model.
        advice: Option<String>,
        /// People enrolled.
        people: usize,
        /// Number of people that must be enrolled to measure the model on the gallery. None if the target
        /// needs more people than are measured.
        needed: Option<usize>,
    },
    /// The enrolled encodings are not of the model that the settings name.
    Contradicted {
        /// Model, dimensions and metric.
        model: String,
        /// The contradiction.
        #[serde(flatten)]
        by: Contradiction,
    },
    /// The statistics of the model do not cover so small a target.
    TargetTooSmall {
        /// The target.
        target: f64,
        /// People behind the statistics.
        people: usize,
        /// People enrolled.
        enrolled: usize,
    },
}

/// A threshold and its origin.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Derived {
    /// The largest distance of a match; 0 if nothing matches.
    pub threshold: f32,
    /// Its origin.
    pub basis: Basis,
    /// Why there is no threshold.
    pub no_threshold: Option<NoThreshold>,
    /// The distance at which the expected FPIR is the target. The threshold meets it with 95 % confidence.
    pub central: Option<f32>,
    /// Expected share of accepted strangers at the threshold.
    pub expected_fpir: Option<f64>,
    /// Upper 95 % confidence bound of the share of accepted strangers.
    pub bounded_fpir: Option<f64>,
    /// People behind the statistics of the model; 0 for a fixed threshold of an unknown model.
    pub calibration_people: usize,
    /// Number of strangers' visits in the evidence.
    pub visits: f64,
}

/// The results of the background measurement.
#[derive(Default)]
struct Evidence {
    /// A calibration of the model, measured on the gallery.
    own: Option<Arc<Calibration>>,
    /// Mean Euclidean distance between samples of different people.
    mean_distance: Option<f64>,
    /// Euclidean distances of independent pairs of look-alikes, the nearest first.
    look_alikes: Vec<f64>,
    all: Option<Strangers>,
    cameras: HashMap<String, Strangers>,
}

/// The number of enrolled people whose own statistics cover a target.
fn people_needed(target: f64) -> Option<usize> {
    (GALLERY_PEOPLE_MIN..=GALLERY_PEOPLE_MEASURED).find(|people| covers(*people, *people, target))
}

/// The thresholds in force.
pub(super) struct AdaptiveThreshold {
    target: f64,
    evidence: Evidence,
    /// Euclidean thresholds by camera; `None` is the key for all other cameras.
    thresholds: HashMap<Option<String>, Result<f64, NoThreshold>>,
}

impl AdaptiveThreshold {
    fn new(target: f64) -> Self {
        Self { target, evidence: Evidence::default(), thresholds: HashMap::new() }
    }

    fn of(&self, camera: Option<&str>) -> Option<&Result<f64, NoThreshold>> {
        let own = camera.and_then(|camera| self.thresholds.get(&Some(camera.to_owned())));
        own.or_else(|| self.thresholds.get(&None))
    }
}

impl State {
    /// The threshold of a camera: its own from the settings, else the common one from the settings, else a
    /// derived one. 0 if there is none.
    pub(super) fn threshold(&self, camera: Option<&str>) -> f32 {
        let fixed = camera.and_then(|camera| self.settings.camera_thresholds.get(camera));
        if let Some(fixed) = fixed {
            return *fixed;
        }
        let Some(adaptive) = &self.adaptive else { return self.settings.threshold };
        match adaptive.of(camera) {
            Some(Ok(threshold)) => self.settings.metric.of_euclidean(*threshold),
            Some(Err(_)) | None => 0.0,
        }
    }

    /// Must be called after every change of the people: thresholds depend on their number.
    pub(super) fn renew_thresholds(&mut self) {
        let Some(adaptive) = &self.adaptive else { return };
        let limit = self.refuted_at(&adaptive.evidence, adaptive.target);
        let one = |strangers: Option<&Strangers>| {
            let factor = strangers.map_or(1.0, |strangers| strangers.factor);
            self.bound(adaptive).map(|bound| (bound * factor).min(limit))
        };
        let all = adaptive.evidence.all.as_ref();
        let mut thresholds = HashMap::from([(None, one(all))]);
        for (camera, strangers) in &adaptive.evidence.cameras {
            thresholds.insert(Some(camera.clone()), one(Some(strangers)));
        }
        if let Some(adaptive) = &mut self.adaptive {
            adaptive.thresholds = thresholds;
        }
    }

    pub(super) fn enrolled(&self) -> Enrolled {
        let people = self.people().max(1);
        Enrolled { people, samples: (self.table.taken() as f64 / people as f64).max(1.0) }
    }

    fn title(&self) -> String {
        title(&self.settings.model, self.settings.dimensions, self.settings.metric)
    }

    /// The calibration in force, and whether it was measured on the gallery itself.
    fn calibration_in_force(&self) -> Option<(&Calibration, bool)> {
        let own = || Some((self.adaptive.as_ref()?.evidence.own.as_deref()?, true));
        self.calibration.as_deref().map(|calibration| (calibration, false)).or_else(own)
    }

    /// The bound of the model for the current enrollment, as a Euclidean distance.
    fn bound(&self, adaptive: &AdaptiveThreshold) -> Result<f64, NoThreshold> {
        let mean_distance = adaptive.evidence.mean_distance;
        let Some((calibration, is_own)) = self.calibration_in_force() else {
            let Self { settings, .. } = self;
            let advice = known::model_advice(&settings.model, settings.dimensions, settings.metric);
            let (people, needed) = (self.people(), people_needed(adaptive.target));
            return Err(NoThreshold::UnknownModel { model: self.title(), advice, people, needed });
        };
        let mut factor = UNKNOWN_MODEL_MARGIN;
        if !is_own {
            if let Some(by) = calibration.contradiction(self.norms.mean(), self.people(), mean_distance) {
                return Err(NoThreshold::Contradicted { model: self.title(), by });
            }
            factor = calibration.gallery_scale(self.people(), mean_distance);
        }
        let bound = calibration.bound(self.enrolled(), adaptive.target);
        let too_small = NoThreshold::TargetTooSmall {
            target: adaptive.target,
            people: calibration.people,
            enrolled: self.people(),
        };
        bound.map(|bound| bound * factor).ok_or(too_small)
    }

    /// The distance at which more enrolled people would be accepted as each other than the target explains.
    fn refuted_at(&self, evidence: &Evidence, target: f64) -> f64 {
        let expected = target * self.people() as f64;
        // Poisson distribution, because pairs are rare.
        let (mut probability, mut at_least, mut pairs) = ((-expected).exp(), 1.0, 0.0_f64);
        let mut allowed = 0;
        while at_least >= REFUTED_BELOW {
            at_least -= probability;
            pairs += 1.0;
            probability *= expected / pairs;
            allowed += 1;
        }
        let first_refuting = allowed.max(LOOK_ALIKE_PAIRS + 1) - 1;
        evidence.look_alikes.get(first_refuting).map_or(f64::INFINITY, |distance| distance.next_down())
    }

    fn basis(&self, camera: Option<&str>) -> Basis {
        let fixed = camera.is_some_and(|camera| self.settings.camera_thresholds.contains_key(camera));
        let Some(adaptive) = self.adaptive.as_ref().filter(|_| !fixed) else { return Basis::Fixed };
        match (adaptive.of(camera), self.calibration_in_force()) {
            (Some(Ok(_)), _)
                if camera.is_some_and(|camera| adaptive.evidence.cameras.contains_key(camera)) =>
            {
                Basis::Camera
            }
            (Some(Ok(_)), Some((_, true))) => Basis::Gallery,
            (Some(Ok(_)), Some((_, false))) => Basis::Model,
            _ => Basis::Unknown,
        }
    }

    fn derived(&self, camera: Option<&str>) -> Derived {
        let metric = self.settings.metric;
        let threshold = self.threshold(camera);
        let fixed = camera.is_some_and(|camera| self.settings.camera_thresholds.contains_key(camera));
        let adaptive = self.adaptive.as_ref().filter(|_| !fixed);
        let in_force = self.calibration_in_force();
        let no_threshold = adaptive.and_then(|adaptive| adaptive.of(camera)?.as_ref().err().cloned());
        let own = adaptive.and_then(|adaptive| adaptive.evidence.cameras.get(camera?));
        // If the gallery contradicts the model, the error rates are unknown.
        let rates = in_force.filter(|_| no_threshold.is_none()).map(|(calibration, _)| calibration);
        let enrolled = self.enrolled();
        let distance = metric.euclidean(threshold);
        let central =
            rates.zip(adaptive).and_then(|(rates, adaptive)| rates.central(enrolled, adaptive.target));
        let strangers = own.or_else(|| adaptive?.evidence.all.as_ref());
        Derived {
            threshold,
            basis: self.basis(camera),
            no_threshold,
            central: central.map(|central| metric.of_euclidean(central)),
            expected_fpir: rates.map(|rates| rates.expected_share(enrolled, distance)),
            bounded_fpir: rates.map(|rates| rates.bounded_share(enrolled, distance)),
            calibration_people: in_force.map_or(0, |(calibration, _)| calibration.people),
            visits: strangers.map_or(0.0, |strangers| strangers.visits),
        }
    }
}

/// The derived thresholds of a gallery, and the calibration of its model.
#[derive(Clone, Copy)]
pub struct Thresholds<'a> {
    gallery: &'a Gallery,
}

impl Gallery {
    /// The derived thresholds.
    pub fn thresholds(&self) -> Thresholds<'_> {
        Thresholds { gallery: self }
    }
}

impl Thresholds<'_> {
    /// Sets the target for derived thresholds. With `None`, the thresholds of the settings apply.
    pub fn follow(&self, target: Option<f64>) {
        let mut state = self.gallery.write();
        match (target, &mut state.adaptive) {
            (Some(target), Some(adaptive)) => adaptive.target = target,
            (target, adaptive) => *adaptive = target.map(AdaptiveThreshold::new),
        }
        state.renew_thresholds();
    }

    /// Sets the calibration of the gallery's model. With `None`, the built-in one is used if the model is
    /// known.
    ///
    /// # Errors
    /// [`CalibrationFault`] if it is damaged or belongs to another model. Then nothing changes.
    pub fn calibrate(&self, calibration: Option<Arc<Calibration>>) -> Result<(), CalibrationFault> {
        self.check_calibration(calibration.as_deref())?;
        let mut state = self.gallery.write();
        let known =
            || known::known_calibration(&self.gallery.model, self.gallery.dimensions, self.gallery.metric);
        state.calibration = calibration.or_else(known);
        state.renew_thresholds();
        Ok(())
    }

    /// Whether [`Thresholds::calibrate`] would accept a calibration.
    ///
    /// # Errors
    /// As [`Thresholds::calibrate`].
    pub fn check_calibration(&self, calibration: Option<&Calibration>) -> Result<(), CalibrationFault> {
        let Some(calibration) = calibration else { return Ok(()) };
        calibration.check()?;
        if calibration.is_of(&self.gallery.model, self.gallery.dimensions, self.gallery.metric) {
            return Ok(());
        }
        let gallery = title(&self.gallery.model, self.gallery.dimensions, self.gallery.metric);
        Err(CalibrationFault::OtherModel { calibration: calibration.title(), gallery })
    }

    /// The calibration of the model, if there is one.
    pub fn calibration(&self) -> Option<Arc<Calibration>> {
        self.gallery.read().calibration.clone()
    }

    /// Measures the evidence of enrolled people and observed strangers. Takes up to a few seconds and does
    /// not block probes.
    pub fn derive<'a>(&self, strangers: impl Iterator<Item = &'a StrangerFace> + Clone) {
        let (is_known, enrolled) = {
            let state = self.gallery.read();
            if state.adaptive.is_none() {
                return;
            }
            (state.calibration.is_some(), state.enrolled())
        };
        let own = if is_known { None } else { self.own_calibration() };
        let mut evidence = Evidence {
            own,
            mean_distance: self.mean_distance(),
            look_alikes: self.look_alikes(),
            ..Evidence::default()
        };
        let calibration = self.gallery.read().calibration.clone();
        if let Some(calibration) = calibration {
            let visits = visits(strangers);
            let all: Vec<&StrangerFace> = visits.values().flatten().copied().collect();
            evidence.all = self.gallery.strangers(&calibration, enrolled, &all, VISITS_MIN);
            for (camera, seen) in visits {
                let own = self.gallery.strangers(&calibration, enrolled, &seen, CAMERA_VISITS_MIN);
                evidence.cameras.extend(own.map(|own| (camera.to_owned(), own)));
            }
        }
        let mut state = self.gallery.write();
        if let Some(adaptive) = &mut state.adaptive {
            adaptive.evidence = evidence;
        }
        state.renew_thresholds();
    }

    /// The threshold in force, of a camera or for all cameras without their own.
    pub fn derived(&self, camera: Option<&str>) -> Derived {
        self.gallery.read().derived(camera)
    }

    /// The target of derived thresholds; none if they are not derived.
    pub fn target(&self) -> Option<f64> {
        self.gallery.read().adaptive.as_ref().map(|adaptive| adaptive.target)
    }

    /// Prospects for other numbers of samples, and for a target ten times as large, with the same number of
    /// people. Empty if no statistics exist.
    pub fn prospects(&self) -> Vec<Prospect> {
        let state = self.gallery.read();
        let target = state.adaptive.as_ref().map(|adaptive| adaptive.target);
        let Some((target, (calibration, _))) = target.zip(state.calibration_in_force()) else {
            return Vec::new();
        };
        let people = state.people().max(1);
        let prospect = |samples: usize, target: f64| {
            let per_person = samples as f64;
            let bound = calibration.bound(Enrolled { people, samples: per_person }, target)?;
            let missed = calibration.missed_share(per_person, bound)?;
            Some(Prospect { samples, target, threshold: self.gallery.metric.of_euclidean(bound), missed })
        };
        let samples = || calibration.genuine.iter().map(|curve| curve.samples);
        let targets = [target, (10.0 * target).min(TARGET_MAX)];
        targets.iter().flat_map(|target| samples().filter_map(|samples| prospect(samples, *target))).collect()
    }

    /// The origin of a camera's threshold.
    pub fn basis(&self, camera: &str) -> Basis {
        self.gallery.read().basis(Some(camera))
    }

    /// Cameras with their own threshold, sorted by name.
    pub fn cameras_apart(&self) -> Vec<String> {
        let state = self.gallery.read();
        let derived = state.adaptive.iter().flat_map(|adaptive| adaptive.evidence.cameras.keys());
        let mut names: Vec<String> =
            derived.chain(state.settings.camera_thresholds.keys()).cloned().collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// A calibration of the model, measured on the gallery's people.
    fn own_calibration(&self) -> Option<Arc<Calibration>> {
        let faces = {
            let state = self.gallery.read();
            if state.people() < GALLERY_PEOPLE_MIN {
                return None;
            }
            let places = state.all_places();
            let every = places.len().div_ceil(GALLERY_PEOPLE_MEASURED);
            let people = places.into_iter().step_by(every).map(|place| state.samples_of(place).collect());
            Faces::new(self.gallery.metric, self.gallery.dimensions, people)
        };
        let title =
            CalibrationTitle { model: self.gallery.model.clone(), source: "the enrolled people".to_owned() };
        faces.measure(title, SEED).map(|measured| Arc::new(measured.calibration))
    }

    /// Mean Euclidean distance between the first samples of different people.
    fn mean_distance(&self) -> Option<f64> {
        let state = self.gallery.read();
        let places = state.all_places();
        let every = places.len().div_ceil(PEOPLE_AVERAGED).max(1);
        let first = places.into_iter().step_by(every).filter_map(|place| state.samples_of(place).next());
        let samples: Vec<&[f32]> = first.collect();
        let (mut sum, mut pairs) = (0.0, 0.0);
        for (at, sample) in samples.iter().enumerate() {
            for other in &samples[..at] {
                sum += f64::from(square_distance(sample, other)).sqrt();
                pairs += 1.0;
            }
        }
        (pairs > 0.0).then(|| sum / pairs)
    }

    /// Distances between similar enrolled people: for each person, the nearest other person of the median
    /// sample. Two people who are mutually nearest count as one pair.
    fn look_alikes(&self) -> Vec<f64> {
        let mut by_person: HashMap<KeyId, Vec<(f64, KeyId)>> = HashMap::new();
        for measured in self.gallery.measure(SAMPLES_MEASURED) {
            let Some((other, distance)) = measured.other else { continue };
            by_person
                .entry(measured.person)
                .or_default()
                .push((self.gallery.metric.euclidean(distance), other));
        }
        let mut nearest: Vec<(f64, KeyId, KeyId)> = Vec::with_capacity(by_person.len());
        for (person, mut others) in by_person {
            others.sort_by(|a, b| a.0.total_cmp(&b.0));
            let (distance, other) = others[(others.len() - 1) / 2];
            nearest.push((distance, person, other));
        }
        nearest.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut paired: HashMap<KeyId, KeyId> = HashMap::new();
        let mut distances = Vec::new();
        for (distance, person, other) in nearest {
            paired.insert(person, other);
            if paired.get(&other) != Some(&person) {
                distances.push(distance);
            }
        }
        distances
    }
}

impl NoThreshold {
    /// Why a gallery with these settings has no threshold without a loaded calibration, if that is so for
    /// each number of enrolled people.
    pub fn of_settings(model: &str, dimensions: usize, metric: Metric, target: f64) -> Option<Self> {
        let Some(known) = known::known_calibration(model, dimensions, metric) else {
            let advice = known::model_advice(model, dimensions, metric);
            let (model, needed) = (title(model, dimensions, metric), people_needed(target));
            return Some(Self::UnknownModel { model, advice, people: 0, needed });
        };
        let too_small = Self::TargetTooSmall { target, people: known.people, enrolled: 1 };
        (!covers(known.people, 1, target)).then_some(too_small)
    }
}

impl fmt::Display for NoThreshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const WAYS: &str = "load a calibration (gatehouse gallery calibrate FILE), or set gallery.threshold";
        match self {
            Self::UnknownModel { model, advice, people, needed } => {
                write!(f, "the error rates of {model} are not known")?;
                if let Some(advice) = advice {
                    write!(f, " ({advice})")?;
                }
                write!(f, ": name a known model in gallery.model, ")?;
                if let Some(needed) = needed {
                    write!(f, "enroll {needed} people (now {people}), ")?;
                }
                f.write_str(WAYS)
            }
            Self::Contradicted { model, by } => write!(
                f,
                "the enrolled encodings are not of {model}: {by}; correct gallery.model, dimensions, metric and normalised, {WAYS}"
            ),
            Self::TargetTooSmall { target, people, enrolled } => {
                write!(
                    f,
                    "a target of {} cannot be shown to hold with {enrolled} enrolled: the error rates were measured \
                     on {people} people; ",
                    *target as f32
                )?;
                let smallest = smallest_target(*people, *enrolled);
                if covers(*people, *enrolled, *target) {
                    f.write_str("raise gallery.target_fpir, ")?;
                } else if smallest <= TARGET_MAX {
                    write!(f, "raise gallery.target_fpir to at least {}, ", rounded_up(smallest))?;
                }
                f.write_str(WAYS)
            }
        }
    }
}

/// Rounds up to two significant digits.
fn rounded_up(share: f64) -> f64 {
    let scale = 10.0_f64.powf(1.0 - share.log10().floor()).round();
    (share * scale).ceil() / scale
}
