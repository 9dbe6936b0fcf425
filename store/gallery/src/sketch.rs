//! A sketch of a template: 40 bytes whose distances are never longer than those of the templates.
//!
//! Proof: a sketch contains `Ax`, the coordinates of the template along 39 axes through the mean of the
//! gallery. The last coordinate is the length of the remainder, `(|x|^2 - |Ax|^2)^(1/2)`. The axes are nearly
//! orthonormal and lengthen no vector. So the remainder is the length of `Bx` for some matrix `B` with
//! `|Ax|^2 + |Bx|^2 = |x|^2` for every `x`. `Ax` and `Bx` together preserve distances. Replacing `Bx` by its
//! length shortens distances (`|a - b| >= ||a| - |b||`), and so does clamping every coordinate to an
//! interval. Coordinates are then rounded to steps, with a known error. So a template whose sketch is too far
//! away cannot be near. A search that reads all sketches, and only the remaining templates, is exact with any
//! axes. Better axes leave fewer templates: they are the principal axes of the gallery, see
//! [`super::principal_axes`].
//!
//! Sketches are biometric data as templates are: in memory only, and wiped.

use zeroize::Zeroizing;

use super::mapped::Mapped;
use super::principal_axes::{self, Axes};
use super::vector::square_distance;

/// Bytes of a sketch: about the effective number of dimensions of face encodings.
pub(super) const SKETCH: usize = 40;
/// Number of axes; the last coordinate is the length of the remainder.
const AXES: usize = SKETCH - 1;
/// Largest coordinate in steps: the finest that a byte holds.
const STEPS: f32 = 255.0;
/// Largest distance in steps: its square must fit 16 bits. Larger distances are not distinguished.
const REACH: f32 = 255.0;
/// Steps by which the distance of one in [`NEARER`] pairs of a sample is scaled: with rounding, below
/// [`REACH`].
const NEAR: f64 = 245.0;
/// Share of those pairs, one in so many: the second person of a gallery is nearly always nearer to a probe.
const NEARER: usize = 10;
/// Vectors of the sample whose distances are measured.
const NEAR_SAMPLE: usize = 100;
/// Share of coordinates along the widest axis that are clamped in a typical gallery, one in so many.
const CLAMPED: usize = 100;
/// Vectors of the sample with which that is measured.
const WIDTH_SAMPLE: usize = 300;
/// Coordinates are computed in `f64` from numbers below [`FAR`] steps, squares of them with an error of 1e-12
/// of that: the square root of it, the largest error of the length of the remainder, is well below this, in
/// steps.
const SLACK: f32 = 0.01;
/// Norm, in steps, beyond which a probe is not sketched. A template beyond twice this norm is farther from
/// any other probe than two sketches can be. So the limit of accuracy does not affect results.
const FAR: f64 = 2_000.0;

/// Axes and step size of sketches.
pub(super) struct Lens {
    middle: Zeroizing<Vec<f64>>,
    /// One after another, each as long as a template.
    axes: Zeroizing<Vec<f32>>,
    /// Lowest coordinates.
    floors: [f64; SKETCH],
    step: f64,
}

/// The sketch of a probe.
pub(super) struct Sketch {
    /// The coordinates in steps.
    pub steps: [u8; SKETCH],
    /// Their rounding error in steps.
    error: f32,
    step: f32,
}

impl Sketch {
    /// Squared distance in steps beyond which no template is within `reach`, with sketches of at most this
    /// rounding `error`; none if every template may be.
    #[inline]
    pub(super) fn limit(&self, reach: f32, error: f32) -> Option<u16> {
        let steps = reach / self.step + self.error + error + SLACK;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "in range by the condition"
        )]
        (steps < REACH).then(|| (steps * steps).ceil() as u16)
    }
}

impl Lens {
    /// A lens for vectors like those of `sample`, which contains vectors of `dimensions` one after another.
    pub(super) fn new(sample: &[f32], dimensions: usize) -> Option<Self> {
        let Axes { middle, axes } = principal_axes::principal_axes(sample, dimensions, AXES)?;
        let mut lens = Self { middle, axes, floors: [0.0; SKETCH], step: 1.0 };
        // A part of the sample is enough to estimate it.
        let vectors = sample.chunks_exact(dimensions);
        let stride = vectors.len().div_ceil(WIDTH_SAMPLE).max(1);
        let rows = vectors.len().div_ceil(stride).max(1);
        let mut columns = Mapped::<f64>::new(SKETCH * rows)?;
        for (row, vector) in vectors.step_by(stride).enumerate() {
            let (coordinates, _) = lens.coordinates(vector);
            coordinates.iter().enumerate().for_each(|(at, c)| columns[at * rows + row] = *c);
        }
        let cut = rows / CLAMPED / 2;
        let mut width = 0.0_f64;
        for (floor, column) in lens.floors.iter_mut().zip(columns.chunks_exact_mut(rows)) {
            column.sort_unstable_by(f64::total_cmp);
            width = width.max(column[rows - 1 - cut] - column[cut]);
            *floor = column[rows / 2];
        }
        lens.step = (width / f64::from(STEPS)).max(nearer(sample, dimensions)? / NEAR);
        let reach = lens.step * f64::from(STEPS);
        lens.floors.iter_mut().for_each(|floor| *floor -= reach / 2.0);
        (lens.step.is_normal() && lens.floors.iter().all(|floor| floor.is_finite())).then_some(lens)
    }

    /// Coordinates of a vector, and its squared distance from the mean.
    #[inline(always)]
    fn coordinates(&self, vector: &[f32]) -> ([f64; SKETCH], f64) {
        let centred: Zeroizing<Vec<f64>> =
            Zeroizing::new(vector.iter().zip(&*self.middle).map(|(x, m)| f64::from(*x) - m).collect());
        let square = principal_axes::dot(&centred, &centred);
        let mut coordinates = [0.0; SKETCH];
        let mut rest = square;
        for (coordinate, axis) in coordinates.iter_mut().zip(self.axes.chunks_exact(vector.len())) {
            *coordinate = principal_axes::dot(&centred, axis);
            rest -= *coordinate * *coordinate;
        }
        coordinates[AXES] = rest.max(0.0).sqrt();
        (coordinates, square)
    }

    /// A template's sketch and its rounding error in steps.
    pub(super) fn template(&self, vector: &[f32]) -> ([u8; SKETCH], f32) {
        self.round(&self.coordinates(vector).0)
    }

    /// A probe's sketch; none if the probe is too far from all templates.
    #[inline(always)]
    pub(super) fn probe(&self, vector: &[f32]) -> Option<Sketch> {
        let (coordinates, square) = self.coordinates(vector);
        if square.sqrt() > FAR * self.step {
            return None;
        }
        let (steps, error) = self.round(&coordinates);
        #[expect(clippy::cast_possible_truncation, reason = "SLACK covers it")]
        Some(Sketch { steps, error, step: self.step as f32 })
    }

    /// Clamped and rounded coordinates, and their rounding error in steps.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped before")]
    fn round(&self, coordinates: &[f64; SKETCH]) -> ([u8; SKETCH], f32) {
        let mut steps = [0; SKETCH];
        let mut error = 0.0;
        for ((step, coordinate), floor) in steps.iter_mut().zip(coordinates).zip(&self.floors) {
            let exact = ((coordinate - floor) / self.step).clamp(0.0, f64::from(STEPS));
            let rounded = exact.round();
            error += (exact - rounded) * (exact - rounded);
            *step = rounded as u8;
        }
        (steps, error.sqrt() as f32)
    }
}

/// The distance below which one in [`NEARER`] pairs of the sample is; none if there is no memory for them.
fn nearer(sample: &[f32], dimensions: usize) -> Option<f64> {
    let vectors = sample.chunks_exact(dimensions);
    let stride = vectors.len().div_ceil(NEAR_SAMPLE).max(1);
    let some: Vec<&[f32]> = vectors.step_by(stride).collect();
    let pairs = some.iter().enumerate().flat_map(|(at, a)| some[..at].iter().map(move |b| (a, b)));
    let mut squares = Mapped::<f32>::new(some.len() * some.len().saturating_sub(1) / 2)?;
    squares.iter_mut().zip(pairs).for_each(|(square, (a, b))| *square = square_distance(a, b));
    squares.sort_unstable_by(f32::total_cmp);
    Some(squares.get(squares.len() / NEARER).map_or(0.0, |square| f64::from(*square).sqrt()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::synthetic::People;

    /// Unit-length encodings that are nearly orthogonal are far apart compared with their width along any
    /// axis.
    #[test]
    fn steps_reach_as_far_as_the_second_person_whatever_the_model() {
        let mut random = fastrand::Rng::with_seed(6);
        for used in [30, 100, 400] {
            let mut vector = || {
                let mut vector: Vec<f32> = (0..512)
                    .map(|i| if i < used { (0..6).map(|_| random.f32() - 0.5).sum() } else { 0.0 })
                    .collect();
                let norm = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
                vector.iter_mut().for_each(|x| *x /= norm);
                vector
            };
            let sample: Vec<f32> = (0..600).flat_map(|_| vector()).collect();
            let lens = Lens::new(&sample, 512).unwrap();
            let others = || sample.chunks_exact(512);
            let error = others().map(|other| lens.template(other).1).fold(0.0, f32::max);
            assert!(error < (SKETCH as f32).sqrt() / 2.0);
            for _ in 0..20 {
                let probe = vector();
                let mut squares: Vec<f32> = others().map(|other| square_distance(&probe, other)).collect();
                squares.sort_unstable_by(f32::total_cmp);
                assert!(lens.probe(&probe).unwrap().limit(squares[1].sqrt(), error).is_some(), "{used}");
            }
        }
    }

    #[test]
    fn sketches_are_never_farther_apart_than_templates() {
        for dimensions in [40, 128] {
            let mut people = People::new(dimensions, 3);
            let sample: Vec<f32> = (0..200).flat_map(|_| people.stranger().as_slice().to_vec()).collect();
            let lens = Lens::new(&sample, dimensions).unwrap();
            let mut random = fastrand::Rng::with_seed(4);
            for number in 0..500 {
                let wild = [1.0, 1.0, 30.0, 1e-3, 1e4, 1e30][number % 6];
                let a: Vec<f32> = people.stranger().as_slice().iter().map(|x| x * wild).collect();
                let b: Vec<f32> = a.iter().map(|x| x + (random.f32() - 0.5) * 0.1).collect();
                for other in [&b[..], &sample[..dimensions]] {
                    let distance: f64 =
                        a.iter().zip(other).map(|(x, y)| (f64::from(*x) - f64::from(*y)).powi(2)).sum();
                    let Some(sketch) = lens.probe(&a) else { continue };
                    let (template, error) = lens.template(other);
                    let limit = sketch.limit(distance.sqrt() as f32, error);
                    let square: u32 =
                        sketch.steps.iter().zip(template).map(|(x, y)| u32::from(x.abs_diff(y)).pow(2)).sum();
                    assert!(limit.is_none_or(|limit| square <= u32::from(limit)), "{square} of {limit:?}");
                }
            }
        }
    }
}
