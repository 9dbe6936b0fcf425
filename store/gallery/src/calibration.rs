//! Impostor statistics of a face model: how near the encodings of different people come to each other.
//!
//! A calibration contains statistics only, no encodings. It answers one question: at which distance does a
//! gallery of `N` people with `S` samples each accept, with 95 % confidence, at most a given share of
//! strangers?
//!
//! **`T(N, S, t) = d(p) * s(S) * b(N, t)`**, with `p = 1 - (1 - t)^(1/N)`.
//!
//! - `d(p)`: the quantile `p` of the distances between strangers' faces and one enrolled sample
//!   ([`Calibration::impostor`]). A stranger is accepted if the nearest of `N` people is within the
//!   threshold. This is the first order statistic of `N` distances (David and Nagaraja, "Order Statistics",
//!   2003, section 2.1). Below the smallest measured share, the curve is extrapolated from its last decade,
//!   linearly in `log p`. For every model measured so far, `log p` is concave in the distance. So this line
//!   is below the true distance, and an error rejects more.
//! - `s(S)`: several samples of a person, and their mean, are nearer to every stranger than one sample is.
//! - `b(N, t)`: the 1 % quantile of the true threshold divided by `d(p) * s(S)`, over galleries, strangers
//!   and curves of resampled people. It covers the random choice of the enrolled people, and the small number
//!   of people behind the statistics.
//!
//! A target below [`smallest_target`] gives no threshold.

pub(crate) mod known;
pub(crate) mod measure;

pub use known::{known_calibration, known_calibrations, model_advice};
use measure::CANDIDATES_MAX;
pub use measure::{CALIBRATION_PEOPLE_MIN, CalibrationTitle, Measured};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::Metric;

/// Version of the format.
pub const CALIBRATION_FORMAT: u32 = 1;
/// Maximum number of decades by which the curve is extrapolated below the smallest measured share.
const EXTRAPOLATION_DECADES_MAX: f64 = 3.5;
/// Minimum number of pairs of measured people that are expected within a threshold. With fewer, even the
/// absence of any such pair does not show with 95 % confidence that the share of pairs is small enough:
/// `exp(-3)` is 5 % (the rule of three: Hanley and Lippman-Hand, JAMA 249, 1983).
const PAIRS_MIN: f64 = 3.0;
/// If a bound is below this share of the central threshold, the statistics do not cover the target.
const BOUND_FACTOR_MIN: f64 = 0.5;
/// Maximum rows of each table of a calibration: a calibration is one entry of the views.
const ROWS_MAX: usize = 128;
/// Maximum number of genuine curves, and of points of each.
const GENUINE_MAX: usize = 8;
const GENUINE_POINTS_MAX: usize = 24;
/// Longest source, in bytes.
const SOURCE_BYTES_MAX: usize = 256;
/// Longest name of a model, in bytes, as for a gallery.
const MODEL_BYTES_MAX: usize = 64;
/// Largest deviation of a gallery's mean norm from the model's, in standard deviations of the model's norm.
const NORM_DEVIATIONS: f64 = 4.0;
/// Relative difference of mean norms that is always accepted, because encodings are rounded in transit.
const NORM_TOLERANCE: f64 = 0.02;
/// Largest deviation of a gallery's mean impostor distance, in standard deviations.
const DISTANCE_DEVIATIONS: f64 = 4.0;
/// Additional relative difference of the mean impostor distance, because cameras and cohorts differ.
const DISTANCE_TOLERANCE: f64 = 0.05;

/// A mean and its standard deviation.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spread {
    /// The mean.
    pub mean: f64,
    /// The standard deviation.
    pub deviation: f64,
}

/// One point of a cumulative distribution of distances.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quantile {
    /// The share of distances up to this one, from 0 to 1.
    pub share: f64,
    /// The distance, in the model's metric.
    pub distance: f64,
}

/// How much nearer impostors come to a person with several samples.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SamplesFactor {
    /// Samples of the person; the mean of them is compared as well.
    pub samples: usize,
    /// The Euclidean distance as a share of the one to a single sample.
    pub factor: f64,
}

/// The lower bound of a threshold, as a share of its central estimate.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BoundFactor {
    /// People enrolled.
    pub people: usize,
    /// Share of strangers that may be accepted.
    pub target: f64,
    /// The factor on the Euclidean distance.
    pub factor: f64,
}

/// Distances of a person's probes to the person's enrolled samples.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GenuineCurve {
    /// Samples enrolled of each person.
    pub samples: usize,
    /// Quantiles, in order of their shares.
    pub quantiles: Vec<Quantile>,
}

/// Impostor statistics of one model with one metric; see the module.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calibration {
    /// [`CALIBRATION_FORMAT`].
    pub format: u32,
    /// Name of the model.
    pub model: String,
    /// Components of an encoding.
    pub dimensions: usize,
    /// The metric of all distances here.
    pub metric: Metric,
    /// Source of the encodings.
    pub source: String,
    /// People measured.
    pub people: usize,
    /// Encodings measured.
    pub encodings: usize,
    /// Norms of the encodings, before any scaling.
    pub norm: Spread,
    /// Mean distance between encodings of different people.
    pub impostor_distance: f64,
    /// Relative standard deviation of the mean impostor distance of a gallery, times the root of its people.
    pub gallery_deviation: f64,
    /// Distances of strangers to one enrolled sample, in order of their shares.
    pub impostor: Vec<Quantile>,
    /// Factors, in order of samples.
    pub samples: Vec<SamplesFactor>,
    /// Bounds, in order of people, then of targets.
    pub bounds: Vec<BoundFactor>,
    /// Genuine distances, in order of samples; empty if no person has enough encodings.
    pub genuine: Vec<GenuineCurve>,
}

/// Why a calibration cannot be used.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum CalibrationFault {
    /// Written by a newer program.
    #[error("the calibration has format {0}; this program reads format {CALIBRATION_FORMAT}: upgrade it")]
    Format(u32),
    /// Values that no measurement can give.
    #[error(
        "the calibration is damaged: {0}; save it again with gatehouse gallery evaluate --save-calibration"
    )]
    Damaged(&'static str),
    /// It belongs to another model than the gallery.
    #[error(
        "the calibration is of model {calibration}, the gallery of {gallery}; use the calibration of that model"
    )]
    OtherModel {
        /// Model, dimensions and metric of the calibration.
        calibration: String,
        /// Model, dimensions and metric of the gallery.
        gallery: String,
    },
}

/// How the encodings of a gallery contradict the calibration of its model.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "contradiction")]
pub enum Contradiction {
    /// The mean norms differ.
    Norm {
        /// Of the gallery.
        have: f64,
        /// Of the calibration.
        want: f64,
    },
    /// The mean distances between different people differ.
    Distance {
        /// Of the gallery.
        have: f64,
        /// Of the calibration.
        want: f64,
    },
}

/// The enrollment figures on which a threshold depends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Enrolled {
    /// People, at least one.
    pub(crate) people: usize,
    /// Mean number of samples of each person.
    pub(crate) samples: f64,
}

impl Calibration {
    /// Validates values that were read from a file.
    ///
    /// # Errors
    /// [`CalibrationFault::Format`] or [`CalibrationFault::Damaged`].
    pub fn check(&self) -> Result<(), CalibrationFault> {
        if self.format != CALIBRATION_FORMAT {
            return Err(CalibrationFault::Format(self.format));
        }
        let is_positive = |number: f64| number.is_finite() && number > 0.0;
        let is_factor = |number: f64| number.is_finite() && (0.0..=1.0).contains(&number);
        let is_curve = |curve: &[Quantile]| {
            let ordered =
                curve.windows(2).all(|two| two[0].share < two[1].share && two[0].distance <= two[1].distance);
            let valid =
                |point: &Quantile| is_factor(point.share) && point.share > 0.0 && is_positive(point.distance);
            ordered && curve.len() <= ROWS_MAX && curve.iter().all(valid)
        };
        let is_text =
            |text: &str, most: usize| (1..=most).contains(&text.len()) && !text.chars().any(char::is_control);
        let is_genuine =
            |curve: &GenuineCurve| curve.quantiles.len() <= GENUINE_POINTS_MAX && is_curve(&curve.quantiles);
        let checks = [
            (self.people >= 3 && self.encodings >= self.people, "too few people or encodings"),
            (is_positive(self.norm.mean) && self.norm.deviation >= 0.0, "norms"),
            (is_positive(self.impostor_distance) && self.gallery_deviation >= 0.0, "mean impostor distance"),
            (self.impostor.len() >= 2 && is_curve(&self.impostor), "impostor distances"),
            (
                is_text(&self.model, MODEL_BYTES_MAX) && is_text(&self.source, SOURCE_BYTES_MAX),
                "model or source",
            ),
            (self.genuine.len() <= GENUINE_MAX && self.genuine.iter().all(is_genuine), "genuine distances"),
            (is_table(self.samples.iter().map(|row| (row.samples, 0.0, row.factor))), "factors by samples"),
            (
                is_table(self.bounds.iter().map(|row| (row.people, row.target, row.factor))),
                "factors by people",
            ),
        ];
        checks
            .iter()
            .find(|(holds, _)| !holds)
            .map_or(Ok(()), |(_, what)| Err(CalibrationFault::Damaged(what)))
    }

    /// Model, dimensions and metric, as an operator writes them.
    pub fn title(&self) -> String {
        title(&self.model, self.dimensions, self.metric)
    }

    /// Whether it belongs to a model with these dimensions and metric.
    pub fn is_of(&self, model: &str, dimensions: usize, metric: Metric) -> bool {
        self.model == model && self.dimensions == dimensions && self.metric == metric
    }

    /// The largest Euclidean distance at which, with 95 % confidence, at most the share `target` of strangers
    /// is accepted. `None` if the statistics do not cover the target, see [`smallest_target`].
    pub(crate) fn bound(&self, enrolled: Enrolled, target: f64) -> Option<f64> {
        if !covers(self.people, enrolled.people, target) {
            return None;
        }
        let factor = self.bound_factor(enrolled.people, target);
        let distance = self.central(enrolled, target)? * factor;
        (factor >= BOUND_FACTOR_MIN).then_some(distance)
    }

    /// The distance at which the expected share of accepted strangers is `target`.
    pub(crate) fn central(&self, enrolled: Enrolled, target: f64) -> Option<f64> {
        let distance = self.impostor_at(per_person(target, enrolled.people))?;
        Some(distance * self.samples_factor(enrolled.samples))
    }

    /// The expected share of strangers within a Euclidean distance.
    pub(crate) fn expected_share(&self, enrolled: Enrolled, distance: f64) -> f64 {
        let share = self.impostor_share(distance / self.samples_factor(enrolled.samples));
        -(ratio(enrolled.people) * (-share).ln_1p()).exp_m1()
    }

    /// The upper 95 % confidence bound of the share of strangers within a Euclidean distance.
    pub(crate) fn bounded_share(&self, enrolled: Enrolled, distance: f64) -> f64 {
        share_at(|share| self.bound(enrolled, share), distance)
    }

    /// The share of an enrolled person's probes beyond a Euclidean distance; `None` if it was not measured.
    pub(crate) fn missed_share(&self, samples: f64, distance: f64) -> Option<f64> {
        let nearest = |curve: &&GenuineCurve| (ratio(curve.samples).ln() - samples.max(1.0).ln()).abs();
        let curve = self.genuine.iter().min_by(|a, b| nearest(a).total_cmp(&nearest(b)))?;
        let points = &curve.quantiles;
        let at = |point: &Quantile| self.metric.euclidean_of(point.distance);
        let above = points.iter().position(|point| at(point) > distance);
        Some(match above {
            None => 1.0 - points.last()?.share,
            Some(0) => 1.0,
            Some(next) => {
                let (low, high) = (&points[next - 1], &points[next]);
                let part = (distance - at(low)) / (at(high) - at(low)).max(f64::MIN_POSITIVE);
                1.0 - (low.share + part * (high.share - low.share))
            }
        })
    }

    /// The Euclidean distance below which a sample is attributed to the other person that it resembles.
    /// `has_own`: the person has other samples, to which the distance must be clearly larger. Measured by
    /// `gatehouse-bench thresholds`.
    pub(crate) fn mistaken(&self, enrolled: Enrolled, has_own: bool) -> Option<f64> {
        /// Share of strangers within this distance of one sample.
        const WITH_OWN: f64 = 3e-5;
        /// Share of new people within this distance of any enrolled person.
        const ALONE: f64 = 5e-4;
        if has_own { self.impostor_at(WITH_OWN) } else { self.central(enrolled, ALONE) }
    }

    /// The Euclidean distance beyond which a face clearly belongs to no enrolled person.
    pub(crate) fn clear(&self, enrolled: Enrolled) -> Option<f64> {
        /// Share of a person's own probes that are nearer.
        const GENUINE_SHARE: f64 = 0.95;
        /// Without measured genuine distances: share of strangers that are nearer to one person.
        const IMPOSTOR_SHARE: f64 = 0.01;
        let impostor = self.impostor_at(IMPOSTOR_SHARE)? * self.samples_factor(enrolled.samples);
        let genuine = self.genuine.iter().rfind(|curve| ratio(curve.samples) <= enrolled.samples.max(1.0));
        let genuine =
            genuine.and_then(|curve| curve.quantiles.iter().find(|point| point.share >= GENUINE_SHARE));
        Some(genuine.map_or(impostor, |point| impostor.max(self.metric.euclidean_of(point.distance))))
    }

    /// How the gallery's encodings contradict the calibration, if they do. `mean_distance` is the mean
    /// Euclidean distance between enrolled samples of different people.
    pub(crate) fn contradiction(
        &self,
        mean_norm: Option<f64>,
        people: usize,
        mean_distance: Option<f64>,
    ) -> Option<Contradiction> {
        let want = self.norm.mean;
        let reach = (NORM_DEVIATIONS * self.norm.deviation).max(NORM_TOLERANCE * want);
        if let Some(have) = mean_norm.filter(|have| (have - want).abs() > reach) {
            return Some(Contradiction::Norm { have, want });
        }
        let want = self.metric.euclidean_of(self.impostor_distance);
        let reach = DISTANCE_DEVIATIONS * self.distance_deviation(people) + DISTANCE_TOLERANCE;
        let have = mean_distance.filter(|have| (have / want - 1.0).abs() > reach)?;
        Some(Contradiction::Distance { have, want })
    }

    /// The factor, at most 1, by which a gallery's people are nearer to each other than chance explains.
    pub(crate) fn gallery_scale(&self, people: usize, mean_distance: Option<f64>) -> f64 {
        let want = self.metric.euclidean_of(self.impostor_distance) * (1.0 - self.distance_deviation(people));
        mean_distance.map_or(1.0, |have| (have / want).clamp(0.0, 1.0))
    }

    fn distance_deviation(&self, people: usize) -> f64 {
        self.gallery_deviation / ratio(people.max(1)).sqrt()
    }

    /// The quantile `share` of the Euclidean distances between strangers' faces and one sample.
    fn impostor_at(&self, share: f64) -> Option<f64> {
        let first = self.impostor.first()?;
        let at = |point: &Quantile| (point.share.log10(), self.metric.euclidean_of(point.distance));
        let wanted = share.log10();
        let (lowest, nearest) = at(first);
        if wanted >= lowest {
            return interpolate(self.impostor.iter().map(at), wanted);
        }
        if lowest - wanted > EXTRAPOLATION_DECADES_MAX {
            return None;
        }
        let distance = nearest + self.tail_slope(lowest)? * (wanted - lowest);
        (distance > 0.0).then_some(distance)
    }

    /// The share of strangers' faces within a Euclidean distance of one sample.
    fn impostor_share(&self, distance: f64) -> f64 {
        let points = || {
            self.impostor.iter().map(|point| (self.metric.euclidean_of(point.distance), point.share.log10()))
        };
        let Some((nearest, lowest)) = points().next() else { return 1.0 };
        if distance >= nearest {
            return 10.0_f64.powf(interpolate(points(), distance).unwrap_or(0.0));
        }
        let slope = self.tail_slope(lowest).unwrap_or(0.0);
        if slope <= 0.0 { 1.0 } else { 10.0_f64.powf(lowest - (nearest - distance) / slope) }
    }

    /// The distance covered by the lowest decade of shares of the curve.
    fn tail_slope(&self, lowest: f64) -> Option<f64> {
        let at = |point: &Quantile| (point.share.log10(), self.metric.euclidean_of(point.distance));
        let nearest = at(self.impostor.first()?).1;
        let end = self.impostor.iter().map(at).take_while(|(share, _)| *share <= lowest + 1.0).last()?;
        Some((end.1 - nearest) / (end.0 - lowest).max(0.1))
    }

    fn samples_factor(&self, samples: f64) -> f64 {
        let rows = self.samples.iter().map(|row| (ratio(row.samples).ln(), row.factor));
        interpolate(rows, samples.max(1.0).ln()).unwrap_or(1.0)
    }

    /// A gallery that is larger than the measured ones has the factor of the largest one at the same share
    /// for each person. The thresholds of smaller galleries vary more, so this factor is not too large.
    fn bound_factor(&self, people: usize, target: f64) -> f64 {
        let largest = self.bounds.last().map_or(people, |row| row.people);
        let (people, target) = if people > largest {
            (largest, target * ratio(largest) / ratio(people))
        } else {
            (people, target)
        };
        let mut by_people: Vec<(f64, f64)> = Vec::new();
        for rows in self.bounds.chunk_by(|a, b| a.people == b.people) {
            let targets = rows.iter().map(|row| (row.target.log10(), row.factor));
            let factor = interpolate(targets, target.log10());
            by_people.extend(rows.first().zip(factor).map(|(row, factor)| (ratio(row.people).ln(), factor)));
        }
        interpolate(by_people.into_iter(), ratio(people.max(1)).ln()).unwrap_or(0.0)
    }
}

impl std::fmt::Display for Contradiction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (what, have, want) = match self {
            Self::Norm { have, want } => ("norm", have, want),
            Self::Distance { have, want } => ("distance between different people", have, want),
        };
        write!(f, "the mean {what} of the enrolled encodings is {have:.3}, the model's is {want:.3}")
    }
}

/// Model, dimensions and metric, as an operator writes them.
pub fn title(model: &str, dimensions: usize, metric: Metric) -> String {
    let metric = match metric {
        Metric::Euclidean => "euclidean",
        Metric::Cosine => "cosine",
    };
    format!("{model} with {dimensions} components, {metric}")
}

/// The share of strangers who may be within the threshold of one person.
pub(crate) fn per_person(target: f64, people: usize) -> f64 {
    -((-target).ln_1p() / ratio(people.max(1))).exp_m1()
}

/// The smallest target that statistics of `measured` people cover for a gallery of `enrolled` people.
///
/// - The promise is about one gallery. At a smaller share than one of all measured people, no measured
///   gallery shows what share of strangers it accepts. One wrong label would exceed the target.
/// - The threshold depends on the share of pairs of people within it. At least [`PAIRS_MIN`] measured pairs
///   must be expected there. This limits the number of enrolled people.
pub(crate) fn smallest_target(measured: usize, enrolled: usize) -> f64 {
    let candidates = measured.min(CANDIDATES_MAX);
    // Each candidate is compared with all people; two candidates are one pair.
    let pairs = ratio(candidates) * (ratio(measured) - (ratio(candidates) + 1.0) / 2.0);
    let of_pairs = -(ratio(enrolled.max(1)) * (-(PAIRS_MIN / pairs).min(1.0)).ln_1p()).exp_m1();
    of_pairs.max(1.0 / ratio(measured.max(1)))
}

/// Whether a target is at least [`smallest_target`].
pub(crate) fn covers(measured: usize, enrolled: usize, target: f64) -> bool {
    /// Relative error of a target that the settings give as `f32`.
    const ROUNDING: f64 = 1e-6;
    target * (1.0 + ROUNDING) >= smallest_target(measured, enrolled)
}

/// The share whose threshold equals the distance, by bisection of its logarithm.
fn share_at(threshold: impl Fn(f64) -> Option<f64>, distance: f64) -> f64 {
    const STEPS: u32 = 50;
    let (mut low, mut high) = (-12.0_f64, 0.0_f64);
    for _ in 0..STEPS {
        let middle = f64::midpoint(low, high);
        let is_nearer = threshold(10.0_f64.powf(middle)).is_none_or(|threshold| threshold < distance);
        if is_nearer { low = middle } else { high = middle }
    }
    10.0_f64.powf(high)
}

/// Linear interpolation between points in ascending order; beyond them, the value of the nearest point.
fn interpolate(points: impl Iterator<Item = (f64, f64)>, at: f64) -> Option<f64> {
    let mut before: Option<(f64, f64)> = None;
    for (x, y) in points {
        if at <= x {
            return Some(
                before.map_or(y, |(x0, y0)| y0 + (y - y0) * (at - x0) / (x - x0).max(f64::MIN_POSITIVE)),
            );
        }
        before = Some((x, y));
    }
    before.map(|(_, y)| y)
}

/// Whether rows are in ascending order and their factors are shares.
fn is_table(rows: impl Iterator<Item = (usize, f64, f64)>) -> bool {
    let rows: Vec<_> = rows.collect();
    let ordered = rows.windows(2).all(|two| (two[0].0, two[0].1) < (two[1].0, two[1].1));
    let valid =
        |row: &(usize, f64, f64)| row.0 > 0 && (0.0..=1.0).contains(&row.2) && (0.0..1.0).contains(&row.1);
    ordered && (1..=ROWS_MAX).contains(&rows.len()) && rows.iter().all(valid)
}

#[expect(clippy::cast_precision_loss, reason = "counts of people and samples are far below 2^52")]
fn ratio(count: usize) -> f64 {
    count as f64
}
