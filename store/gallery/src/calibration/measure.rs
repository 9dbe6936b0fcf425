//! Measures a [`Calibration`] on labeled encodings: a public set of the model, or the people of a gallery.
//!
//! Every person has the same weight, whatever the number of encodings. Encodings of one person are not
//! independent. Therefore bounds come from galleries and strangers of resampled people (Efron and Tibshirani,
//! "An Introduction to the Bootstrap", 1993, chapter 6).
//!
//! Pairs of people who are too near to each other are set aside as label errors, see
//! [`Faces::set_aside_below`]. This applies only if the target allows at least one accepted stranger in the
//! set. At a smaller target, one label error decides the result.

mod bounds;

use std::collections::{HashMap, HashSet};

use fastrand::Rng;

use bounds::Bounds;

use super::{CALIBRATION_FORMAT, Calibration, GenuineCurve, Quantile, SamplesFactor, Spread};
use crate::vector::{Probe, square_distance};
use crate::{Metric, repeat_radius};

/// Minimum number of people for a measurement.
pub const CALIBRATION_PEOPLE_MIN: usize = 8;
/// Maximum number of probes per person.
const PROBES_MAX: usize = 60;
/// Bins of the histogram of distances.
const BINS: usize = 1 << 16;
/// Numbers of samples per person that are measured.
const SAMPLES: [usize; 5] = [1, 2, 5, 10, 20];
/// Minimum number of people with enough encodings, for a row about samples.
const SAMPLES_PEOPLE_MIN: usize = 8;
/// Shares at which the factors by samples are measured.
const SAMPLES_SHARES: [f64; 3] = [0.03, 0.01, 0.003];
/// Number of galleries drawn for each bound.
const DRAWS: usize = 400;
/// Maximum number of people that drawn galleries select from: bounds the memory of the matrix.
pub(super) const CANDIDATES_MAX: usize = 1000;
/// Probability that any pair of people is set aside although all labels are correct.
const SET_ASIDE_PROBABILITY: f64 = 0.05;
/// Maximum expected share of wrong labels. Above ten times their share, the curve is assumed to be free of
/// them.
const LABEL_ERRORS_MAX: f64 = 0.01;
/// Marks in the matrix of bounds that the candidate and the person of the row are treated as one person.
const SET_ASIDE: f32 = 0.0;
/// Target number of columns of the matrix of a small set.
const COLUMNS_WANTED: usize = 400;
/// Maximum number of columns of one person.
const COLUMNS_PER_PERSON_MAX: usize = 10;
/// Minimum number of distances behind the smallest share of the curve.
const TAIL_DISTANCES_MIN: f64 = 10.0;
/// Points of the curve in each decade of shares.
const POINTS_PER_DECADE: f64 = 4.0;
/// Shares of the genuine curves.
const GENUINE_SHARES: [f64; 16] =
    [0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.93, 0.95, 0.98, 0.99];

/// Model and source of a measurement.
#[derive(Debug, Clone)]
pub struct CalibrationTitle {
    /// Name of the model.
    pub model: String,
    /// Source of the encodings.
    pub source: String,
}

/// A calibration and the data that was set aside.
#[derive(Debug, Clone)]
pub struct Measured {
    /// The statistics.
    pub calibration: Calibration,
    /// Pairs of people that were set aside as label errors.
    pub pairs_set_aside: usize,
    /// The distance below which two people are treated as one, in the model's metric.
    pub set_aside_below: f64,
}

/// Encodings with the number of their person.
pub(crate) struct Faces {
    metric: Metric,
    dimensions: usize,
    /// Prepared for comparison.
    rows: Vec<Probe>,
    /// The person of each row.
    persons: Vec<usize>,
    /// Rows of each person.
    by_person: Vec<Vec<usize>>,
}

/// Distances of rows to people who may be enrolled.
struct Matrix {
    /// By candidate, then by row; infinite for the candidate's own rows.
    distances: Vec<f32>,
    /// Number of rows of each candidate.
    rows: usize,
    /// The person of each candidate.
    candidates: Vec<usize>,
    /// The people, each once.
    people: Vec<usize>,
}

impl Faces {
    /// Takes encodings by person. Persons without encodings are left out.
    pub(crate) fn new<'a>(
        metric: Metric,
        dimensions: usize,
        people: impl Iterator<Item = Vec<&'a [f32]>>,
    ) -> Self {
        let mut faces =
            Self { metric, dimensions, rows: Vec::new(), persons: Vec::new(), by_person: Vec::new() };
        for encodings in people.filter(|encodings| !encodings.is_empty()) {
            let person = faces.by_person.len();
            let from = faces.rows.len();
            for encoding in encodings.into_iter().take(PROBES_MAX) {
                faces.rows.push(Probe::new(encoding, metric == Metric::Cosine));
                faces.persons.push(person);
            }
            faces.by_person.push((from..faces.rows.len()).collect());
        }
        faces
    }

    /// Number of people.
    pub(crate) fn people(&self) -> usize {
        self.by_person.len()
    }

    /// Measures a calibration; `None` with fewer people than [`CALIBRATION_PEOPLE_MIN`].
    pub(crate) fn measure(&self, title: CalibrationTitle, seed: u64) -> Option<Measured> {
        if self.people() < CALIBRATION_PEOPLE_MIN {
            return None;
        }
        let mut random = Rng::with_seed(seed);
        let mut matrix = self.matrix(1, CANDIDATES_MAX, &mut random);
        let mut calibration = Calibration {
            format: CALIBRATION_FORMAT,
            model: title.model,
            dimensions: self.dimensions,
            metric: self.metric,
            source: title.source,
            people: self.people(),
            encodings: self.rows.len(),
            norm: self.norms(),
            impostor_distance: 0.0,
            gallery_deviation: 0.0,
            impostor: Vec::new(),
            samples: vec![SamplesFactor { samples: 1, factor: 1.0 }],
            bounds: Vec::new(),
            genuine: Vec::new(),
        };
        self.impostor(&matrix, &mut calibration)?;
        self.gallery_deviation(&matrix, &mut calibration, &mut random);
        self.samples(&mut calibration, &mut random);
        let limit = self.set_aside_below(&matrix, &calibration)?;
        let curves = self.resampled_curves(&matrix, &calibration, &mut random);
        let pairs_set_aside = self.set_aside(&mut matrix, limit);
        calibration.bounds =
            Bounds { faces: self, matrix: &matrix, calibration: &calibration, curves }.measure(&mut random);
        calibration.check().ok()?;
        let set_aside_below = self.metric.distance_of(limit);
        Some(Measured { calibration, pairs_set_aside, set_aside_below })
    }

    /// The Euclidean distance below which two people are treated as one. If all labels are correct, such a
    /// pair occurs among all measured distances with a probability of at most [`SET_ASIDE_PROBABILITY`]
    /// (Bonferroni's inequality).
    ///
    /// The distance is extrapolated from the decade of the curve that label errors cannot reach. The
    /// logarithm of the share is concave, so the true distance is larger and look-alikes are not set aside.
    /// The minimum is 0.
    fn set_aside_below(&self, matrix: &Matrix, calibration: &Calibration) -> Option<f64> {
        // A wrong label makes one of all people an impostor at a genuine distance.
        let from = 10.0 * 2.0 * LABEL_ERRORS_MAX / count(self.people());
        let (near, far) = (calibration.impostor_at(from)?, calibration.impostor_at(10.0 * from)?);
        let wanted = SET_ASIDE_PROBABILITY / count(matrix.distances.len());
        Some((near + (far - near) * (wanted / from).log10()).max(0.0))
    }

    /// Marks all distances of people who are nearer to each other than the limit, and of repeated pictures.
    /// Returns the number of such pairs of people.
    fn set_aside(&self, matrix: &mut Matrix, limit: f64) -> usize {
        let height = matrix.rows;
        let pair = |row: usize, column: usize| {
            let (one, other) = (self.persons[row], matrix.candidates[column]);
            (one.min(other), one.max(other))
        };
        let radius = |row: usize| limit.max(f64::from(self.repeat_radius(row)));
        let radii: Vec<f64> = (0..self.rows.len()).map(radius).collect();
        let mut pairs: HashSet<(usize, usize)> = HashSet::new();
        for (column, distances) in matrix.distances.chunks(matrix.rows).enumerate() {
            let near = distances.iter().zip(&radii).map(|(distance, radius)| f64::from(*distance) <= *radius);
            pairs.extend(near.enumerate().filter(|(_, is_near)| *is_near).map(|(row, _)| pair(row, column)));
        }
        let people: HashSet<usize> = pairs.iter().flat_map(|(one, other)| [*one, *other]).collect();
        let columns: Vec<usize> = (0..matrix.candidates.len())
            .filter(|column| people.contains(&matrix.candidates[*column]))
            .collect();
        let rows = (0..self.rows.len()).filter(|row| people.contains(&self.persons[*row]));
        let marked: Vec<usize> = rows
            .flat_map(|row| columns.iter().map(move |column| (row, *column)))
            .filter(|(row, column)| pairs.contains(&pair(*row, *column)))
            .map(|(row, column)| column * height + row)
            .collect();
        marked.into_iter().for_each(|at| matrix.distances[at] = SET_ASIDE);
        pairs.len()
    }

    fn norms(&self) -> Spread {
        let norms = self.rows.iter().map(|row| row.norms.mean().unwrap_or_default());
        let Spread { mean, deviation } = spread(norms.map(|norm| (norm, 1.0)));
        Spread { mean: rounded(mean, 5), deviation: rounded(deviation, 5) }
    }

    /// The Euclidean distance within which another row shows the same picture.
    #[expect(clippy::cast_possible_truncation, reason = "a share of a norm")]
    fn repeat_radius(&self, row: usize) -> f32 {
        repeat_radius(&self.rows[row].fine) as f32
    }

    /// Weight of a row: every person has the same weight.
    fn weight(&self, row: usize) -> f64 {
        1.0 / count(self.by_person[self.persons[row]].len())
    }

    /// Distances of all rows to people with `samples` random samples each. A person of a small set has
    /// several columns, each with a different selection of samples.
    fn matrix(&self, samples: usize, most: usize, random: &mut Rng) -> Matrix {
        let mut people: Vec<usize> =
            (0..self.people()).filter(|person| self.by_person[*person].len() >= samples).collect();
        random.shuffle(&mut people);
        people.truncate(most);
        let columns = (COLUMNS_WANTED / people.len().max(1)).clamp(1, COLUMNS_PER_PERSON_MAX);
        let several =
            |person: &usize| std::iter::repeat_n(*person, columns.min(self.by_person[*person].len()));
        let candidates: Vec<usize> = people.iter().flat_map(several).collect();
        let templates: Vec<Vec<Probe>> =
            candidates.iter().map(|person| self.enroll(*person, samples, random).0).collect();
        let mut distances = Vec::with_capacity(self.rows.len() * candidates.len());
        for (candidate, templates) in candidates.iter().zip(&templates) {
            for (row, person) in self.rows.iter().zip(&self.persons) {
                distances.push(if candidate == person { f32::INFINITY } else { nearest(row, templates) });
            }
        }
        Matrix { distances, rows: self.rows.len(), candidates, people }
    }

    /// Templates of a person from `samples` random rows, with their mean, and the remaining rows.
    fn enroll(&self, person: usize, samples: usize, random: &mut Rng) -> (Vec<Probe>, Vec<usize>) {
        let mut rows = self.by_person[person].clone();
        random.shuffle(&mut rows);
        let rest = rows.split_off(samples.min(rows.len()));
        let is_unit = self.metric == Metric::Cosine;
        let fine = || rows.iter().map(|row| &self.rows[*row].fine[..]);
        let mut templates: Vec<Probe> = fine().map(|sample| Probe::new(sample, false)).collect();
        if rows.len() > 1 {
            templates.extend(Probe::mean(fine(), self.dimensions, is_unit));
        }
        (templates, rest)
    }

    /// The curve of impostor distances and their mean.
    fn impostor(&self, matrix: &Matrix, calibration: &mut Calibration) -> Option<()> {
        let mut histogram = Histogram::new(matrix.largest());
        let row = |row: usize| (self.repeat_radius(row), self.weight(row));
        let rows: Vec<(f32, f64)> = (0..self.rows.len()).map(row).collect();
        for distances in matrix.distances.chunks(matrix.rows) {
            let different = distances.iter().zip(&rows).filter(|(distance, (radius, _))| *distance > radius);
            different.for_each(|(distance, (_, weight))| histogram.add(*distance, *weight));
        }
        let mut shares = vec![0.99, 0.95, 0.9, 0.8, 0.7, 0.6, 0.5];
        let lowest = TAIL_DISTANCES_MIN / histogram.counted.max(1.0);
        let mut next = 0.3;
        while next > lowest {
            shares.push(next);
            next *= 10.0_f64.powf(-1.0 / POINTS_PER_DECADE);
        }
        for share in shares.into_iter().rev() {
            let distance = rounded(self.metric.distance_of(histogram.quantile(share)), 4);
            if calibration.impostor.last().is_none_or(|last| last.distance < distance) && distance > 0.0 {
                calibration.impostor.push(Quantile { share: rounded(share, 9), distance });
            }
        }
        calibration.impostor_distance = rounded(self.metric.distance_of(histogram.mean()), 4);
        (calibration.impostor.len() >= 2).then_some(())
    }

    /// The deviation of the mean impostor distance between galleries.
    fn gallery_deviation(&self, matrix: &Matrix, calibration: &mut Calibration, random: &mut Rng) {
        const PEOPLE: usize = 5;
        let mean = |random: &mut Rng| {
            let chosen = random.choose_multiple(0..matrix.candidates.len(), PEOPLE);
            let rows = chosen.iter().map(|column| self.by_person[matrix.candidates[*column]][0]);
            let pairs = rows.flat_map(|row| chosen.iter().map(move |column| matrix.column(*column)[row]));
            let finite: Vec<f64> = pairs.filter(|distance| distance.is_finite()).map(f64::from).collect();
            (finite.iter().sum::<f64>() / count(finite.len().max(1)), 1.0)
        };
        let Spread { mean, deviation } = spread((0..DRAWS).map(|_| mean(random)));
        let relative = deviation / mean.max(f64::MIN_POSITIVE);
        calibration.gallery_deviation = rounded(relative * count(PEOPLE).sqrt(), 4);
    }

    /// Factors and genuine curves by samples.
    fn samples(&self, calibration: &mut Calibration, random: &mut Rng) {
        let one = self.matrix(1, self.people(), random);
        for samples in SAMPLES {
            let matrix = self.matrix(samples, CANDIDATES_MAX, random);
            if matrix.people.len() < SAMPLES_PEOPLE_MIN {
                break;
            }
            calibration.genuine.extend(self.genuine(samples, &matrix.people, random));
            if samples == 1 {
                continue;
            }
            // The baseline has the same people with one sample each: people with many pictures are not
            // typical.
            let columns: Vec<usize> = one.columns_of(&matrix.people);
            let (single, several) = (self.histogram(&one, &columns), self.histogram(&matrix, &[]));
            let factors = SAMPLES_SHARES.map(|share| several.quantile(share) / single.quantile(share));
            let last = calibration.samples.last().map_or(1.0, |row| row.factor);
            let factor = (factors.iter().sum::<f64>() / count(factors.len())).min(last);
            calibration.samples.push(SamplesFactor { samples, factor: rounded(factor, 4) });
        }
    }

    /// Weighted distances to some candidates, or to all.
    fn histogram(&self, matrix: &Matrix, columns: &[usize]) -> Histogram {
        let mut histogram = Histogram::new(matrix.largest());
        let weights: Vec<f64> = (0..self.rows.len()).map(|row| self.weight(row)).collect();
        let all: Vec<usize> = (0..matrix.candidates.len()).collect();
        for column in if columns.is_empty() { &all } else { columns } {
            let distances = matrix.column(*column).iter().zip(&weights);
            distances.for_each(|(distance, weight)| histogram.add(*distance, *weight));
        }
        histogram
    }

    /// Distances of people's remaining pictures to their own samples, with `samples` enrolled.
    fn genuine(&self, samples: usize, people: &[usize], random: &mut Rng) -> Option<GenuineCurve> {
        let mut own: Vec<(f32, f64)> = Vec::new();
        let mut with_rest = 0;
        for person in people {
            let (templates, rest) = self.enroll(*person, samples, random);
            with_rest += usize::from(!rest.is_empty());
            let weight = 1.0 / count(rest.len().max(1));
            own.extend(rest.iter().map(|row| (nearest(&self.rows[*row], &templates), weight)));
        }
        if with_rest < SAMPLES_PEOPLE_MIN {
            return None;
        }
        own.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut quantiles: Vec<Quantile> = Vec::new();
        for share in GENUINE_SHARES {
            let distance = rounded(self.metric.distance_of(weighted_quantile(own.iter().copied(), share)), 4);
            if quantiles.last().is_none_or(|last| last.distance < distance) && distance > 0.0 {
                quantiles.push(Quantile { share, distance });
            }
        }
        Some(GenuineCurve { samples, quantiles })
    }
}

impl Matrix {
    /// Distances of all rows to a candidate.
    fn column(&self, candidate: usize) -> &[f32] {
        &self.distances[candidate * self.rows..][..self.rows]
    }

    fn largest(&self) -> f32 {
        self.distances.iter().copied().filter(|distance| distance.is_finite()).fold(0.0, f32::max)
    }

    /// The columns of some people.
    fn columns_of(&self, people: &[usize]) -> Vec<usize> {
        let is_meant: HashSet<usize> = people.iter().copied().collect();
        (0..self.candidates.len()).filter(|column| is_meant.contains(&self.candidates[*column])).collect()
    }

    fn one_column_of_each(&self, people: &[usize], random: &mut Rng) -> Vec<usize> {
        let mut columns: HashMap<usize, Vec<usize>> = HashMap::new();
        for column in self.columns_of(people) {
            columns.entry(self.candidates[column]).or_default().push(column);
        }
        columns.into_values().filter_map(|of_one| random.choice(of_one)).collect()
    }
}

/// Weighted distances, counted by bins of equal width.
struct Histogram {
    width: f64,
    bins: Vec<f64>,
    /// Distances counted.
    counted: f64,
    weight: f64,
}

impl Histogram {
    fn new(largest: f32) -> Self {
        let width = (f64::from(largest) / count(BINS - 1)).max(f64::MIN_POSITIVE);
        Self { width, bins: vec![0.0; BINS], counted: 0.0, weight: 0.0 }
    }

    fn add(&mut self, distance: f32, weight: f64) {
        if distance.is_finite() {
            let bin = ((f64::from(distance) / self.width) as usize).min(BINS - 1);
            self.bins[bin] += weight;
            self.counted += 1.0;
            self.weight += weight;
        }
    }

    /// The lower end of the bin in which the share is reached.
    fn quantile(&self, share: f64) -> f64 {
        let wanted = share * self.weight;
        let mut sum = 0.0;
        let reached = self.bins.iter().position(|weight| {
            sum += weight;
            sum > wanted
        });
        count(reached.unwrap_or(BINS - 1)) * self.width
    }

    fn mean(&self) -> f64 {
        spread(self.bins.iter().enumerate().map(|(bin, weight)| ((count(bin) + 0.5) * self.width, *weight)))
            .mean
    }
}

/// The largest distance with at most a share of the weight within it; the distances must be sorted.
fn weighted_quantile(ordered: impl Iterator<Item = (f32, f64)> + Clone, share: f64) -> f64 {
    let wanted = share * ordered.clone().map(|(_, weight)| weight).sum::<f64>();
    let (mut sum, mut last) = (0.0, 0.0);
    for (distance, weight) in ordered {
        sum += weight;
        last = distance;
        if sum > wanted {
            break;
        }
    }
    f64::from(last)
}

fn spread(values: impl Iterator<Item = (f64, f64)>) -> Spread {
    let (mut weight, mut sum, mut squares) = (0.0, 0.0, 0.0);
    for (value, of) in values {
        weight += of;
        sum += of * value;
        squares += of * value * value;
    }
    let mean = if weight > 0.0 { sum / weight } else { 0.0 };
    Spread {
        mean,
        deviation: if weight > 0.0 { (squares / weight - mean * mean).max(0.0).sqrt() } else { 0.0 },
    }
}

/// Rounds to a number of decimal places, because operators read calibrations.
fn rounded(number: f64, digits: i32) -> f64 {
    let scale = 10.0_f64.powi(digits);
    (number * scale).round() / scale
}

/// The Euclidean distance of the nearest template.
fn nearest(row: &Probe, templates: &[Probe]) -> f32 {
    templates
        .iter()
        .map(|template| square_distance(&row.fine, &template.fine))
        .fold(f32::INFINITY, f32::min)
        .sqrt()
}

#[expect(clippy::cast_precision_loss, reason = "counts of people and encodings are far below 2^52")]
fn count(of: usize) -> f64 {
    of as f64
}

#[cfg(test)]
mod tests;
