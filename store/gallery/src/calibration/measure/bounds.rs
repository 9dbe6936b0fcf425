//! Lower bounds of thresholds, over galleries and strangers of resampled people.
//!
//! A bound covers three random choices: the enrolled people, the strangers, and the people behind the curve
//! of the calibration. Each draw resamples all three, so its result is that of a new calibration and of new
//! strangers. A bound that covers only the first two is correct only for the measured people.
//!
//! A stranger may visit once or every day, and no calibration has these frequencies. Therefore each draw is
//! evaluated twice: each stranger has the same weight, and each face has the same weight. The lower bound of
//! both applies.

use fastrand::Rng;

use super::{DRAWS, Faces, Matrix, SET_ASIDE, count, rounded, weighted_quantile};
use crate::calibration::{BoundFactor, Calibration, Enrolled, Quantile};

/// Sizes of galleries for which bounds are measured.
const GALLERIES: [usize; 10] = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512];
/// Maximum share of the people in a drawn gallery: the others are the strangers.
const GALLERY_SHARE_MAX: f64 = 0.5;
/// Targets for which bounds are measured.
const TARGETS: [f64; 4] = [0.0001, 0.001, 0.01, 0.1];
/// Share of draws whose threshold is below the bound: the lower end of a two-sided 98 % interval. The
/// confidence that is promised is 95 %. The difference is for the error of one calibration, which all
/// galleries that use it have in common. Chosen on the choice half of `gatehouse-bench thresholds`.
const BOUND_SHARE: f64 = 0.01;
/// The same end in standard deviations, for an infinite number of people.
const BOUND_DEVIATIONS: f64 = 2.326;
/// Largest share of a curve that is resampled. No target and no gallery needs a larger one.
const CURVE_SHARE_MAX: f64 = 0.1;
/// Distances that are kept for the resampling, as a multiple of the expected number: the share of a resampled
/// curve is reached later or earlier than that of the measured one.
const TAIL_MARGIN: f64 = 1.5;

/// What bounds are measured on.
pub(super) struct Bounds<'a> {
    pub(super) faces: &'a Faces,
    /// Distances, with label errors marked.
    pub(super) matrix: &'a Matrix,
    pub(super) calibration: &'a Calibration,
    /// Calibrations of resampled people, one for each draw.
    pub(super) curves: Vec<Calibration>,
}

/// A threshold of one draw, as a share of the central one.
#[derive(Debug, Clone, Copy, Default)]
struct Share {
    /// If each stranger has the same weight.
    by_person: f64,
    /// If each face has the same weight.
    by_face: f64,
}

/// A distance of the tail.
struct TailDistance {
    distance: f32,
    /// The person of the row.
    stranger: usize,
    /// The person of the column.
    candidate: usize,
    /// Weight of the row.
    weight: f64,
}

/// A stranger's face.
struct StrangerFace {
    /// Distance to the nearest person of a gallery.
    distance: f32,
    /// Weight if each stranger has the same weight.
    by_person: f64,
    /// Weight if each face has the same weight.
    by_face: f64,
}

impl Faces {
    /// Calibrations whose curves are those of resampled people; only the curve differs.
    pub(super) fn resampled_curves(
        &self,
        matrix: &Matrix,
        calibration: &Calibration,
        random: &mut Rng,
    ) -> Vec<Calibration> {
        let tail = self.tail(matrix, calibration);
        let curve = |times: &[u32]| Calibration {
            impostor: self.resampled_curve(matrix, calibration, &tail, times),
            ..calibration.clone()
        };
        (0..DRAWS).map(|_| curve(&self.resampled(random))).collect()
    }

    /// How often each person is drawn, with replacement.
    fn resampled(&self, random: &mut Rng) -> Vec<u32> {
        let mut times = vec![0_u32; self.people()];
        (0..self.people()).for_each(|_| times[random.usize(..self.people())] += 1);
        times
    }

    /// The distances of different people up to [`CURVE_SHARE_MAX`], in ascending order.
    fn tail(&self, matrix: &Matrix, calibration: &Calibration) -> Vec<TailDistance> {
        let limit = calibration.impostor_at((CURVE_SHARE_MAX * TAIL_MARGIN).min(1.0)).unwrap_or(0.0);
        let mut tail = Vec::new();
        for (column, distances) in matrix.distances.chunks(matrix.rows).enumerate() {
            let candidate = matrix.candidates[column];
            for (row, distance) in distances.iter().enumerate() {
                if f64::from(*distance) <= limit && *distance > self.repeat_radius(row) {
                    let (stranger, weight) = (self.persons[row], self.weight(row));
                    tail.push(TailDistance { distance: *distance, stranger, candidate, weight });
                }
            }
        }
        tail.sort_unstable_by(|a, b| a.distance.total_cmp(&b.distance));
        tail
    }

    fn resampled_curve(
        &self,
        matrix: &Matrix,
        calibration: &Calibration,
        tail: &[TailDistance],
        times: &[u32],
    ) -> Vec<Quantile> {
        let strangers: f64 = times.iter().copied().map(f64::from).sum();
        let weight_of = |candidate: &usize| {
            let times = f64::from(times[*candidate]);
            times * (strangers - times)
        };
        let whole: f64 = matrix.candidates.iter().map(weight_of).sum();
        let mut rest = tail.iter();
        let (mut sum, mut last) = (0.0, 0.0_f64);
        let point = |point: &Quantile| {
            while point.share <= CURVE_SHARE_MAX && sum <= point.share * whole {
                let Some(next) = rest.next() else { break };
                sum += next.weight * f64::from(times[next.stranger]) * f64::from(times[next.candidate]);
                last = self.metric.distance_of(f64::from(next.distance));
            }
            let is_resampled = point.share <= CURVE_SHARE_MAX;
            Quantile {
                share: point.share,
                distance: if is_resampled { last } else { last.max(point.distance) },
            }
        };
        calibration.impostor.iter().map(point).collect()
    }
}

impl Bounds<'_> {
    /// Lower bounds, in order of people, then of targets.
    pub(super) fn measure(&self, random: &mut Rng) -> Vec<BoundFactor> {
        let most = (count(self.matrix.people.len()) * GALLERY_SHARE_MAX) as usize;
        let widening = widening(count(self.faces.people()));
        let mut bounds = Vec::new();
        for people in GALLERIES.into_iter().filter(|people| *people <= most) {
            let draws: Vec<[Share; TARGETS.len()]> =
                self.curves.iter().filter_map(|curve| self.draw(curve, people, random)).collect();
            for (at, target) in TARGETS.into_iter().enumerate() {
                let low = |share: &dyn Fn(&Share) -> f64| {
                    let mut shares: Vec<f64> = draws.iter().map(|draw| share(&draw[at])).collect();
                    shares.sort_by(f64::total_cmp);
                    shares.get((count(shares.len()) * BOUND_SHARE) as usize).copied().unwrap_or(0.0)
                };
                let low = low(&|share| share.by_person).min(low(&|share| share.by_face));
                let factor = rounded((1.0 - (1.0 - low) * widening).clamp(0.0, 1.0), 4);
                bounds.push(BoundFactor { people, target, factor });
            }
        }
        bounds
    }

    /// Thresholds of one gallery and its strangers, all of resampled people, as shares of those that the
    /// resampled curve gives.
    fn draw(&self, curve: &Calibration, people: usize, random: &mut Rng) -> Option<[Share; TARGETS.len()]> {
        let mut times = self.faces.resampled(random);
        let drawn = self.matrix.people.iter().copied().filter(|person| times[*person] > 0);
        let enrolled = random.choose_multiple(drawn, people);
        if enrolled.len() < people {
            return None;
        }
        let gallery = self.matrix.one_column_of_each(&enrolled, random);
        for person in &enrolled {
            times[*person] = 0;
        }
        let nearest = self.strangers(&gallery, &times, false);
        let not_set_aside = self.strangers(&gallery, &times, true);
        let smallest = 1.0 / count(nearest.len().max(1));
        let enrolled = Enrolled { people, samples: 1.0 };
        let mut shares = [Share::default(); TARGETS.len()];
        for (share, target) in shares.iter_mut().zip(TARGETS) {
            // So few strangers cannot show a smaller share.
            let shown = target.max(smallest);
            // If one person of all exceeds the target, a label error cannot be distinguished from a stranger.
            let is_decided = shown * count(self.faces.people()) >= 1.0;
            let strangers = if is_decided { &not_set_aside } else { &nearest };
            // Without a central threshold, the share stays 0, and there is no bound.
            let measured = |target: f64| self.calibration.central(enrolled, target);
            let Some((at_target, at_shown)) = measured(target).zip(measured(shown)) else { continue };
            // A curve that does not reach the target is above the measured one, so it is no lower bound.
            let central = at_shown * curve.central(enrolled, target).unwrap_or(at_target) / at_target;
            let at = |weight: &dyn Fn(&StrangerFace) -> f64| {
                let weighted = strangers.iter().map(|face| (face.distance, weight(face)));
                weighted_quantile(weighted, shown) / central
            };
            *share = Share { by_person: at(&|face| face.by_person), by_face: at(&|face| face.by_face) };
        }
        Some(shares)
    }

    /// Faces of the drawn strangers with their distances to a gallery, in ascending order.
    fn strangers(&self, gallery: &[usize], times: &[u32], without_set_aside: bool) -> Vec<StrangerFace> {
        let mut nearest = vec![f32::INFINITY; self.matrix.rows];
        for column in gallery {
            for (nearest, distance) in nearest.iter_mut().zip(self.matrix.column(*column)) {
                let is_left_out = without_set_aside && *distance <= SET_ASIDE;
                *nearest = nearest.min(if is_left_out { f32::INFINITY } else { *distance });
            }
        }
        let mut faces: Vec<StrangerFace> = Vec::with_capacity(nearest.len());
        for (row, distance) in nearest.into_iter().enumerate() {
            let by_face = f64::from(times[self.faces.persons[row]]);
            if by_face > 0.0 {
                faces.push(StrangerFace { distance, by_person: by_face * self.faces.weight(row), by_face });
            }
        }
        faces.sort_unstable_by(|a, b| a.distance.total_cmp(&b.distance));
        faces
    }
}

/// The factor by which a bound from a number of people is widened. It is that of a prediction interval for a
/// normal distribution with estimated mean and deviation: Student's quantile, and the error of the mean.
pub(super) fn widening(people: f64) -> f64 {
    let (z, freedom) = (BOUND_DEVIATIONS, (people - 1.0).max(1.0));
    // The expansion of Student's quantile around the normal one (Abramowitz and Stegun, 26.7.5).
    let first = (z.powi(3) + z) / 4.0;
    let second = (5.0 * z.powi(5) + 16.0 * z.powi(3) + 3.0 * z) / 96.0;
    let student = z + first / freedom + second / freedom.powi(2);
    student / z * (1.0 + 1.0 / people).sqrt()
}
