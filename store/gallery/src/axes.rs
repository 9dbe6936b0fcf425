//! The directions along which a cloud of vectors is widest.
//!
//! Subspace iteration on the covariance: a few rounds from fixed random directions. It need not have settled, since
//! whoever uses the axes is right with any that lengthen nothing and merely faster with good ones; that they are
//! orthonormal is therefore checked, there are none where they are not, and rounding them to `f32` is made up for.

use zeroize::Zeroizing;

use super::mapped::Mapped;

/// Rounds of the iteration: axes of different width are well apart after these.
const ROUNDS: usize = 8;
/// How far from orthonormal the axes may be.
const TOLERANCE: f64 = 1e-12;
/// Factor by which axes are shortened before they are rounded. Rounding so many as a sketch has, 39, lengthens a vector
/// by at most 39^(1/2) times 2^-24 of its length, which is 3.8e-7.
const SHORTER: f64 = 1.0 - 1e-6;
/// Sums of a dot product that are kept apart, so that they can be added at once.
const LANES: usize = 8;

/// Where a cloud lies, and how.
pub(super) struct Axes {
    /// The mean of its vectors.
    pub middle: Zeroizing<Vec<f64>>,
    /// Its widest directions, one after another: orthonormal but for rounding, and together they lengthen no vector.
    pub axes: Zeroizing<Vec<f32>>,
}

/// Middle of `sample`, vectors of so many `dimensions` one after another, and its `count` widest axes.
pub(super) fn widest(sample: &[f32], dimensions: usize, count: usize) -> Option<Axes> {
    if sample.is_empty() || dimensions < count {
        return None;
    }
    let middle = middle(sample, dimensions);
    let covariance = covariance(sample, &middle)?;
    let mut random = fastrand::Rng::with_seed(1);
    let (mut axes, mut next) = (Mapped::new(count * dimensions)?, Mapped::new(count * dimensions)?);
    axes.fill_with(|| random.f64() - 0.5);
    for _ in 0..ROUNDS {
        let pairs = axes.chunks_exact(dimensions).zip(next.chunks_exact_mut(dimensions));
        for (axis, next) in pairs {
            let rows = covariance.chunks_exact(dimensions).map(|row| dot(row, axis));
            next.iter_mut().zip(rows).for_each(|(to, x)| *to = x);
        }
        make_orthonormal(&mut next, dimensions);
        std::mem::swap(&mut axes, &mut next);
    }
    is_orthonormal(&axes, dimensions).then(|| Axes { middle, axes: rounded(&axes) })
}

fn middle(sample: &[f32], dimensions: usize) -> Zeroizing<Vec<f64>> {
    let mut middle = Zeroizing::new(vec![0.0; dimensions]);
    let rows = sample.chunks_exact(dimensions);
    #[expect(clippy::cast_precision_loss, reason = "a sample is small")]
    let count = rows.len() as f64;
    for vector in rows {
        middle.iter_mut().zip(vector).for_each(|(m, x)| *m += f64::from(*x) / count);
    }
    middle
}

/// Covariance of the sample, up to a factor, with a little in every direction, so that no axis vanishes; none where the
/// system has no memory for it.
fn covariance(sample: &[f32], middle: &[f64]) -> Option<Mapped<f64>> {
    let dimensions = middle.len();
    let mut matrix = Mapped::<f64>::new(dimensions * dimensions)?;
    let mut centred = Zeroizing::new(vec![0.0; dimensions]);
    for vector in sample.chunks_exact(dimensions) {
        centred.iter_mut().zip(vector.iter().zip(middle)).for_each(|(c, (x, m))| *c = f64::from(*x) - m);
        for (row, c) in matrix.chunks_exact_mut(dimensions).zip(&*centred) {
            row.iter_mut().zip(&*centred).for_each(|(sum, x)| *sum += c * x);
        }
    }
    let trace: f64 = (0..dimensions).map(|i| matrix[i * dimensions + i]).sum();
    (0..dimensions).for_each(|i| matrix[i * dimensions + i] += trace * 1e-9 + f64::MIN_POSITIVE);
    Some(matrix)
}

/// Gram and Schmidt, each axis twice: once leaves an error where axes were nearly parallel.
fn make_orthonormal(axes: &mut [f64], dimensions: usize) {
    for end in (dimensions..=axes.len()).step_by(dimensions) {
        let (before, axis) = axes[..end].split_at_mut(end - dimensions);
        for _ in 0..2 {
            for other in before.chunks_exact(dimensions) {
                let along = dot(axis, other);
                axis.iter_mut().zip(other).for_each(|(x, o)| *x -= along * o);
            }
            let norm = dot(axis, axis).sqrt();
            axis.iter_mut().for_each(|x| *x /= norm);
        }
    }
}

fn is_orthonormal(axes: &[f64], dimensions: usize) -> bool {
    let rows = || axes.chunks_exact(dimensions).enumerate();
    rows().all(|(i, a)| {
        rows().take(i + 1).all(|(j, b)| (dot(a, b) - f64::from(u8::from(i == j))).abs() < TOLERANCE)
    })
}

/// Axes in `f32`, which take half the memory.
fn rounded(axes: &[f64]) -> Zeroizing<Vec<f32>> {
    #[expect(clippy::cast_possible_truncation, reason = "SHORTER covers it")]
    Zeroizing::new(axes.iter().map(|x| (x * SHORTER) as f32).collect())
}

/// Dot product.
#[inline(always)]
pub(super) fn dot<T: Copy + Into<f64>>(a: &[f64], b: &[T]) -> f64 {
    let (blocks_a, rest_a) = a.as_chunks::<LANES>();
    let (blocks_b, rest_b) = b.as_chunks::<LANES>();
    let mut lanes = [0.0; LANES];
    for (x, y) in blocks_a.iter().zip(blocks_b) {
        for i in 0..LANES {
            lanes[i] += x[i] * y[i].into();
        }
    }
    lanes.iter().sum::<f64>() + rest_a.iter().zip(rest_b).map(|(x, y)| x * (*y).into()).sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widest_directions_are_found_in_order() {
        let mut random = fastrand::Rng::with_seed(5);
        let widths = [0.1, 3.0, 0.2, 1.0, 0.05];
        let sample: Vec<f32> =
            (0..400).flat_map(|_| widths.map(|w| 7.0 + w * (random.f32() - 0.5))).collect();
        let Axes { middle, axes } = widest(&sample, 5, 2).unwrap();
        assert!(middle.iter().all(|m| (m - 7.0).abs() < 0.2));
        assert!(axes[1].abs() > 0.99 && axes[5 + 3].abs() > 0.99, "{axes:?}");
    }

    #[test]
    fn identical_vectors_have_orthonormal_axes_or_none() {
        if let Some(Axes { axes, .. }) = widest(&[0.5; 64 * 20], 64, 31) {
            let axes: Vec<f64> = axes.iter().map(|x| f64::from(*x)).collect();
            for (i, a) in axes.chunks_exact(64).enumerate() {
                assert!(dot(a, a) < 1.0, "rounding lengthens nothing");
                for (j, b) in axes.chunks_exact(64).enumerate() {
                    assert!((dot(a, b) - f64::from(u8::from(i == j))).abs() < 1e-5, "{i} and {j}");
                }
            }
        }
        assert!(widest(&[], 64, 31).is_none());
        assert!(widest(&[1.0; 40], 20, 31).is_none());
    }
}
