//! How well a model distinguishes people, measured on labeled encodings: a pure computation, without a store.
//!
//! Closed set: every encoding is compared with all others (leave one out). Open set: in each of several
//! seeded trials, a part of the people is not enrolled, and their encodings are the impostor probes. Every
//! encoding of an enrolled person is a probe as well, against the gallery without this encoding. FPIR is the
//! share of strangers' encodings with any person within the threshold. FNIR is the share of encodings of
//! enrolled people whose own person is not the nearest, or not within the threshold. The distance to a person
//! is measured in three ways, see [`Method`].

mod samples;
#[cfg(test)]
mod tests;
mod trial;

use gatehouse_model::SAMPLES_MAX;
use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use super::rates::{Estimate, Threshold};
pub use samples::{Samples, SamplesFault};

use super::Metric;
use super::calibration::measure::Faces;
use super::calibration::{CALIBRATION_PEOPLE_MIN, CalibrationTitle, Measured};
use super::encoding::norm;
use super::rates::Scores;
use trial::{Found, Prepared, Rule};

/// Default share of the people who are enrolled.
const ENROLLED_SHARE: f64 = 0.8;
/// Minimum trials: the selection of strangers changes the result by more than the intervals of one trial
/// show.
const TRIALS_MIN: usize = 10;
/// Maximum trials: beyond this, the number of people limits the accuracy.
const TRIALS_MAX: usize = 200;
/// Probes of enrolled people over all trials of a small gallery: enough to measure a rate of one in a
/// hundred.
const ENROLLED_PROBES: usize = 4000;
/// Target FPIR values for which a threshold is reported.
const TARGETS: [f64; 2] = [0.001, 0.01];
/// Number of default thresholds, between those at an FPIR of 0.001 and 0.1.
const STEPS: usize = 5;

/// Number of [`Method`]s.
const METHODS: usize = 3;

/// How far a probe is from a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// To the nearest sample.
    Nearest,
    /// To the mean of the samples.
    Mean,
    /// The smaller of both.
    Either,
}

impl Method {
    /// All of them.
    pub const ALL: [Self; METHODS] = [Self::Nearest, Self::Mean, Self::Either];

    fn all(nearest: f32, mean: f32) -> [f32; METHODS] {
        [nearest, mean, nearest.min(mean)]
    }
}

/// What to evaluate.
#[derive(Debug, Clone)]
pub struct Plan {
    /// How encodings are compared.
    pub metric: Metric,
    /// Thresholds at which error rates are reported; derived from the data if empty.
    pub thresholds: Vec<f32>,
    /// People enrolled in each trial; by default four of five.
    pub people: Option<usize>,
    /// Samples enrolled of each person; if set, only people with more are enrolled. By default all, up to 32.
    pub samples: Option<usize>,
    /// Random seed that selects the strangers.
    pub seed: u64,
}

/// Why encodings cannot be evaluated.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum EvaluateError {
    /// Fewer than three people.
    #[error("there are {0} people; at least 3 are needed, so that one can be a stranger to two others")]
    People(usize),
    /// Too few people for a calibration.
    #[error("there are {0} people; a calibration needs at least {CALIBRATION_PEOPLE_MIN}")]
    Calibration(usize),
    /// No person has enough encodings.
    #[error("no person has more than {0} encodings; one more than is enrolled is needed as a probe")]
    Samples(usize),
    /// More people are to be enrolled than there are.
    #[error(
        "{asked} people cannot be enrolled: {fit} have enough encodings, and one of all must stay a stranger"
    )]
    Gallery {
        /// People asked for.
        asked: usize,
        /// People with enough encodings.
        fit: usize,
    },
}

/// Norms of the encodings.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Norms {
    /// Smallest.
    pub min: f64,
    /// One in a hundred is smaller.
    pub p1: f64,
    /// Mean.
    pub mean: f64,
    /// One in a hundred is larger.
    pub p99: f64,
    /// Largest.
    pub max: f64,
}

/// Identification without strangers and without a threshold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Closed {
    /// Probes: the encodings of people with at least two.
    pub probes: usize,
    /// Share of probes whose own person is the nearest, by [`Method`].
    pub rank1: [Estimate; METHODS],
    /// The same for the nearest sample in the other metric.
    pub rank1_other_metric: Estimate,
    /// Probes whose vector also occurs under another name.
    pub twins: usize,
}

/// Error rates at one threshold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// How distances were measured.
    pub method: Method,
    /// The threshold.
    pub threshold: f32,
    /// False positive identification rate: strangers identified as an enrolled person.
    pub fpir: Estimate,
    /// False negative identification rate: enrolled people not identified.
    pub fnir: Estimate,
}

/// The threshold for a target FPIR.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Target {
    /// The target.
    pub fpir: f64,
    /// How distances were measured.
    pub method: Method,
    /// The threshold; none if there are too few strangers.
    pub threshold: Option<Threshold>,
    /// Error rates there.
    pub point: Option<Point>,
}

/// Identification with strangers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Open {
    /// Trials.
    pub trials: usize,
    /// People enrolled in each.
    pub people: usize,
    /// Maximum samples of each.
    pub samples: usize,
    /// Probes of strangers over all trials.
    pub stranger_probes: usize,
    /// Probes of enrolled people over all trials.
    pub enrolled_probes: usize,
    /// Error rates at thresholds.
    pub points: Vec<Point>,
    /// Thresholds for error rates.
    pub targets: Vec<Target>,
}

/// The result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// People.
    pub people: usize,
    /// People with at least two encodings.
    pub people_with_several: usize,
    /// Encodings.
    pub encodings: usize,
    /// Components of each.
    pub dimensions: usize,
    /// Their norms.
    pub norms: Norms,
    /// Without strangers.
    pub closed: Closed,
    /// With strangers.
    pub open: Open,
}

/// Evaluates a model.
///
/// # Errors
/// If there are too few people or encodings for the plan.
pub fn evaluate(samples: &Samples, plan: &Plan) -> Result<Evaluation, EvaluateError> {
    let all = Prepared::new(samples, plan.metric);
    let people = samples.people();
    if people < 3 {
        return Err(EvaluateError::People(people));
    }
    let several = all.people_with_more_than(1);
    if several == 0 {
        return Err(EvaluateError::Samples(1));
    }
    let rule = rule(&all, people, plan)?;
    let closed = closed(samples, &all, plan);
    let (found, trials) = open_trials(&all, rule, plan.seed);
    Ok(Evaluation {
        people,
        people_with_several: several,
        encodings: all.len(),
        dimensions: samples.dimensions(),
        norms: norms(samples),
        closed,
        open: open(found, trials, rule, &plan.thresholds),
    })
}

/// Measures a calibration on the same encodings.
///
/// # Errors
/// [`EvaluateError::Calibration`] if there are too few people.
pub fn calibrate(
    samples: &Samples,
    metric: Metric,
    title: CalibrationTitle,
    seed: u64,
) -> Result<Measured, EvaluateError> {
    let mut people: Vec<Vec<&[f32]>> = vec![Vec::new(); samples.people()];
    for (person, encoding) in samples.list() {
        people[*person as usize].push(encoding.as_slice());
    }
    let faces = Faces::new(metric, samples.dimensions(), people.into_iter());
    faces.measure(title, seed).ok_or(EvaluateError::Calibration(samples.people()))
}

fn rule(all: &Prepared, people: usize, plan: &Plan) -> Result<Rule, EvaluateError> {
    let samples = plan.samples.unwrap_or(SAMPLES_MAX).max(1);
    let is_strict = plan.samples.is_some();
    let fit = if is_strict { all.people_with_more_than(samples) } else { people };
    if fit == 0 {
        return Err(EvaluateError::Samples(samples));
    }
    let most = fit.min(people - 1);
    let share = ((people as f64 * ENROLLED_SHARE) as usize).min(most);
    match plan.people {
        Some(asked) if asked == 0 || asked > most => Err(EvaluateError::Gallery { asked, fit }),
        asked => Ok(Rule { people: asked.unwrap_or(share).max(1), samples, is_strict }),
    }
}

fn closed(samples: &Samples, all: &Prepared, plan: &Plan) -> Closed {
    let all_people = Rule { people: samples.people(), samples: usize::MAX - 1, is_strict: false };
    let found = all.trials(all_people, &[plan.seed]);
    let other = match plan.metric {
        Metric::Euclidean => Metric::Cosine,
        Metric::Cosine => Metric::Euclidean,
    };
    let [nearest, ..] = Prepared::new(samples, other).trials(all_people, &[plan.seed]).enrolled;
    let probes = nearest.len();
    Closed {
        probes,
        rank1: found.enrolled.map(|scores| Scores::new(scores).within(f32::MAX)),
        rank1_other_metric: Scores::new(nearest).within(f32::MAX),
        twins: found.twins,
    }
}

fn open_trials(all: &Prepared, rule: Rule, seed: u64) -> (Found, usize) {
    let seeds = |from: usize, to: usize| -> Vec<u64> {
        (from..to).map(|trial| seed.wrapping_mul(1_000_003).wrapping_add(trial as u64)).collect()
    };
    let mut found = all.trials(rule, &seeds(0, TRIALS_MIN));
    let per_trial = (found.enrolled[0].len() / TRIALS_MIN).max(1);
    let trials = (ENROLLED_PROBES / per_trial).clamp(TRIALS_MIN, TRIALS_MAX);
    if trials > TRIALS_MIN {
        found.append(all.trials(rule, &seeds(TRIALS_MIN, trials)));
    }
    (found, trials)
}

fn open(found: Found, trials: usize, rule: Rule, thresholds: &[f32]) -> Open {
    let strangers = found.strangers.map(Scores::new);
    let enrolled = found.enrolled.map(Scores::new);
    let point = |method: Method, threshold: f32| Point {
        method,
        threshold,
        fpir: strangers[method as usize].within(threshold),
        fnir: enrolled[method as usize].beyond(threshold),
    };
    let thresholds =
        if thresholds.is_empty() { default_thresholds(&strangers[0]) } else { thresholds.to_vec() };
    let points = thresholds.iter().flat_map(|t| Method::ALL.map(|method| point(method, *t))).collect();
    let target = |fpir: f64, method: Method| {
        let threshold = strangers[method as usize].threshold(fpir);
        Target { fpir, method, threshold, point: threshold.map(|t| point(method, t.value)) }
    };
    Open {
        trials,
        people: rule.people,
        samples: rule.samples,
        stranger_probes: strangers[0].len(),
        enrolled_probes: enrolled[0].len(),
        points,
        targets: TARGETS.iter().flat_map(|fpir| Method::ALL.map(|method| target(*fpir, method))).collect(),
    }
}

/// Default thresholds, rounded, over the range from an FPIR of 0.001 to 0.1.
fn default_thresholds(strangers: &Scores) -> Vec<f32> {
    let ends = strangers.threshold(0.001).zip(strangers.threshold(0.1));
    let Some((low, high)) = ends.map(|(low, high)| (low.value, high.value)) else { return Vec::new() };
    let step = |at: usize| low + (high - low) * at as f32 / (STEPS - 1) as f32;
    let mut steps: Vec<f32> = (0..STEPS).map(|at| (step(at) * 100.0).round() / 100.0).collect();
    steps.dedup();
    steps
}

fn norms(samples: &Samples) -> Norms {
    let mut all: Vec<f64> = samples.list().iter().map(|(_, encoding)| norm(encoding.as_slice())).collect();
    all.sort_by(f64::total_cmp);
    let at = |share: f64| all[((all.len() - 1) as f64 * share).round() as usize];
    let mean = all.iter().sum::<f64>() / all.len() as f64;
    Norms { min: at(0.0), p1: at(0.01), mean, p99: at(0.99), max: at(1.0) }
}
