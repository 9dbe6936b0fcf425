//! The directions along which a cloud of vectors is widest.
//!
//! Subspace iteration on the covariance: a few rounds from fixed random directions. It need not have settled, since
//! whoever uses the axes is right with any that lengthen nothing and merely faster with good ones; that they lengthen
//! nothing is therefore checked, and there are none where it does not show.
//!
//! Vectors are asked for one at a time and numbers are `f32`: what is taken here for a moment stays with the process.

use zeroize::Zeroizing;

/// Rounds of the iteration: axes of different width are well apart after these.
const ROUNDS: usize = 8;
/// What axes are shortened by after they were made orthonormal: more than the rounding of that, so that together they
/// lengthen nothing.
const SHORTER: f32 = 1.0 - 2e-5;
/// What the check itself may be wrong by.
const ACCURACY: f64 = 1e-12;
/// Sums of a dot product that are kept apart, so that they can be added at once.
const LANES: usize = 8;

/// Where a cloud lies, and how.
pub(super) struct Axes {
    /// About the mean of its vectors.
    pub middle: Zeroizing<Vec<f32>>,
    /// Its widest directions one after another, orthonormal but for rounding: coordinates along them are never farther
    /// apart than vectors.
    pub axes: Zeroizing<Vec<f32>>,
}

/// Middle of a cloud of vectors of so many `dimensions`, and its `count` widest axes; `vectors` gives all, twice.
pub(super) fn widest<V: Iterator<Item = Zeroizing<Vec<f32>>>>(
    vectors: impl Fn() -> V,
    dimensions: usize,
    count: usize,
) -> Option<Axes> {
    if dimensions < count {
        return None;
    }
    let middle = middle(vectors(), dimensions)?;
    let covariance = covariance(vectors(), &middle);
    let mut random = fastrand::Rng::with_seed(1);
    let mut axes: Zeroizing<Vec<f32>> =
        Zeroizing::new((0..count * dimensions).map(|_| random.f32() - 0.5).collect());
    let mut next = Zeroizing::new(vec![0.0; dimensions]);
    for _ in 0..ROUNDS {
        for axis in axes.chunks_exact_mut(dimensions) {
            let rows = covariance.chunks_exact(dimensions);
            next.iter_mut().zip(rows).for_each(|(x, row)| *x = narrow(dot(row, axis)));
            axis.copy_from_slice(&next);
        }
        make_orthonormal(&mut axes, dimensions);
    }
    axes.iter_mut().for_each(|x| *x *= SHORTER);
    lengthen_nothing(&axes, dimensions).then_some(Axes { middle, axes })
}

fn middle(
    vectors: impl Iterator<Item = Zeroizing<Vec<f32>>>,
    dimensions: usize,
) -> Option<Zeroizing<Vec<f32>>> {
    let mut middle = Zeroizing::new(vec![0.0; dimensions]);
    let mut count = 0.0_f32;
    for vector in vectors {
        middle.iter_mut().zip(&*vector).for_each(|(sum, x)| *sum += x);
        count += 1.0;
    }
    middle.iter_mut().for_each(|sum| *sum /= count);
    (count > 0.0).then_some(middle)
}

/// Covariance up to a factor, with a little in every direction, so that no axis vanishes.
fn covariance(vectors: impl Iterator<Item = Zeroizing<Vec<f32>>>, middle: &[f32]) -> Zeroizing<Vec<f32>> {
    let dimensions = middle.len();
    let mut matrix = Zeroizing::new(vec![0.0_f32; dimensions * dimensions]);
    for mut vector in vectors {
        vector.iter_mut().zip(middle).for_each(|(x, m)| *x -= m);
        for (row, c) in matrix.chunks_exact_mut(dimensions).zip(&*vector) {
            row.iter_mut().zip(&*vector).for_each(|(sum, x)| *sum += c * x);
        }
    }
    let trace: f32 = (0..dimensions).map(|i| matrix[i * dimensions + i]).sum();
    (0..dimensions).for_each(|i| matrix[i * dimensions + i] += trace * 1e-6 + f32::MIN_POSITIVE);
    matrix
}

/// Gram and Schmidt, each axis twice: once leaves an error where axes were nearly parallel.
fn make_orthonormal(axes: &mut [f32], dimensions: usize) {
    for end in (dimensions..=axes.len()).step_by(dimensions) {
        let (before, axis) = axes[..end].split_at_mut(end - dimensions);
        for _ in 0..2 {
            for other in before.chunks_exact(dimensions) {
                let along = narrow(dot(axis, other));
                axis.iter_mut().zip(other).for_each(|(x, o)| *x -= along * o);
            }
            let norm = narrow(dot(axis, axis).sqrt());
            axis.iter_mut().for_each(|x| *x /= norm);
        }
    }
}

/// Whether no vector has coordinates that are longer than itself: the products of the axes with each other are a matrix
/// whose largest eigenvalue is not above the largest sum of the magnitudes in a row of it (Gershgorin).
fn lengthen_nothing(axes: &[f32], dimensions: usize) -> bool {
    let rows = || axes.chunks_exact(dimensions);
    rows().all(|a| rows().map(|b| dot(a, b).abs()).sum::<f64>() <= 1.0 - ACCURACY)
}

#[expect(clippy::cast_possible_truncation, reason = "any axes will do")]
fn narrow(x: f64) -> f32 {
    x as f32
}

/// Dot product, in `f64`.
#[inline(always)]
pub(super) fn dot<A: Copy + Into<f64>, B: Copy + Into<f64>>(a: &[A], b: &[B]) -> f64 {
    let (blocks_a, rest_a) = a.as_chunks::<LANES>();
    let (blocks_b, rest_b) = b.as_chunks::<LANES>();
    let mut lanes = [0.0; LANES];
    for (x, y) in blocks_a.iter().zip(blocks_b) {
        for i in 0..LANES {
            lanes[i] += x[i].into() * y[i].into();
        }
    }
    let rest = rest_a.iter().zip(rest_b).map(|(x, y)| (*x).into() * (*y).into());
    lanes.iter().sum::<f64>() + rest.sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(sample: &[f32], dimensions: usize) -> impl Iterator<Item = Zeroizing<Vec<f32>>> {
        sample.chunks_exact(dimensions).map(|vector| Zeroizing::new(vector.to_vec()))
    }

    #[test]
    fn widest_directions_are_found_in_order() {
        let mut random = fastrand::Rng::with_seed(5);
        let widths = [0.1, 3.0, 0.2, 1.0, 0.05];
        let sample: Vec<f32> =
            (0..400).flat_map(|_| widths.map(|w| 7.0 + w * (random.f32() - 0.5))).collect();
        let Axes { middle, axes } = widest(|| all(&sample, 5), 5, 2).unwrap();
        assert!(middle.iter().all(|m| (m - 7.0).abs() < 0.2));
        assert!(axes[1].abs() > 0.99 && axes[5 + 3].abs() > 0.99, "{axes:?}");
    }

    #[test]
    fn axes_lengthen_nothing_or_there_are_none() {
        let mut random = fastrand::Rng::with_seed(6);
        let sample: Vec<f32> = (0..512 * 100).map(|_| random.f32()).collect();
        assert!(widest(|| all(&sample, 512), 512, 39).is_some(), "what is usual has axes");
        for sample in [vec![0.5; 64 * 20], sample[..64 * 20].to_vec(), vec![1e-30; 64], vec![1e30; 64 * 3]] {
            let Some(Axes { axes, .. }) = widest(|| all(&sample, 64), 64, 31) else { continue };
            // The longest that coordinates can be: those of the vector that a power iteration leads to.
            let mut vector: Vec<f64> = (0..64).map(|_| random.f64() - 0.5).collect();
            for _ in 0..200 {
                let coordinates: Vec<f64> = axes.chunks_exact(64).map(|axis| dot(&vector, axis)).collect();
                let before = vector.iter().map(|x| x * x).sum::<f64>();
                assert!(coordinates.iter().map(|x| x * x).sum::<f64>() <= before);
                let along =
                    |i: usize| axes.chunks_exact(64).zip(&coordinates).map(move |(a, c)| f64::from(a[i]) * c);
                vector = (0..64).map(|i| along(i).sum::<f64>() / before.sqrt()).collect();
            }
        }
        let parallel = [[1.0_f32, 0.0], [1.0, 0.0]].concat();
        assert!(!lengthen_nothing(&parallel, 2) && lengthen_nothing(&[0.6, 0.79, -0.79, 0.6], 2));
        assert!(widest(|| all(&[], 64), 64, 31).is_none());
        assert!(widest(|| all(&[1.0; 40], 20), 20, 31).is_none());
    }
}
