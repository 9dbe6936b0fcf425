//! Principal axes: the directions of largest variance of a set of vectors.
//!
//! Subspace iteration on the covariance, with a fixed number of iterations from fixed random directions. It
//! need not converge: a search with sketches is exact with any axes that do not lengthen a vector, and faster
//! with better ones. Therefore the axes are checked to be orthonormal, and shortened so that rounding to
//! `f32` lengthens no vector.

use zeroize::Zeroizing;

use super::mapped::Mapped;

/// Number of iterations: axes of different variance are well separated after these.
const ITERATIONS: usize = 8;
/// Largest deviation of the axes from orthonormality.
const ORTHONORMALITY_TOLERANCE: f64 = 1e-12;
/// Factor by which axes are shortened before they are rounded. Rounding the 39 axes of a sketch lengthens a
/// vector by at most 39^(1/2) times 2^-24 of its length, which is 3.8e-7.
const SHORTENING: f64 = 1.0 - 1e-6;
/// Independent partial sums of a dot product, for vector instructions.
const LANES: usize = 8;

/// Mean and principal axes of a set of vectors.
pub(super) struct Axes {
    /// The mean of its vectors.
    pub middle: Zeroizing<Vec<f64>>,
    /// The axes, one after another: orthonormal except for rounding. The projection on all of them lengthens
    /// no vector.
    pub axes: Zeroizing<Vec<f32>>,
}

/// The mean of `sample`, which contains vectors of `dimensions` one after another, and its first `count`
/// axes.
pub(super) fn principal_axes(sample: &[f32], dimensions: usize, count: usize) -> Option<Axes> {
    if sample.is_empty() || dimensions < count {
        return None;
    }
    let middle = middle(sample, dimensions);
    let covariance = covariance(sample, &middle)?;
    let mut random = fastrand::Rng::with_seed(1);
    let (mut axes, mut next) = (Mapped::new(count * dimensions)?, Mapped::new(count * dimensions)?);
    axes.fill_with(|| random.f64() - 0.5);
    for _ in 0..ITERATIONS {
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

/// Covariance of the sample, up to a factor. A small variance is added in every direction, so that no axis
/// vanishes. None if there is no memory for it.
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

/// Gram-Schmidt, twice for each axis: once is inaccurate for nearly parallel axes.
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
        rows()
            .take(i + 1)
            .all(|(j, b)| (dot(a, b) - f64::from(u8::from(i == j))).abs() < ORTHONORMALITY_TOLERANCE)
    })
}

/// Axes in `f32`, for half the memory.
fn rounded(axes: &[f64]) -> Zeroizing<Vec<f32>> {
    #[expect(clippy::cast_possible_truncation, reason = "SHORTENING covers it")]
    Zeroizing::new(axes.iter().map(|x| (x * SHORTENING) as f32).collect())
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
    fn axes_are_found_in_order_of_variance() {
        let mut random = fastrand::Rng::with_seed(5);
        let widths = [0.1, 3.0, 0.2, 1.0, 0.05];
        let sample: Vec<f32> =
            (0..400).flat_map(|_| widths.map(|w| 7.0 + w * (random.f32() - 0.5))).collect();
        let Axes { middle, axes } = principal_axes(&sample, 5, 2).unwrap();
        assert!(middle.iter().all(|m| (m - 7.0).abs() < 0.2));
        assert!(axes[1].abs() > 0.99 && axes[5 + 3].abs() > 0.99, "{axes:?}");
    }

    #[test]
    fn identical_vectors_have_orthonormal_axes_or_none() {
        if let Some(Axes { axes, .. }) = principal_axes(&[0.5; 64 * 20], 64, 31) {
            let axes: Vec<f64> = axes.iter().map(|x| f64::from(*x)).collect();
            for (i, a) in axes.chunks_exact(64).enumerate() {
                assert!(dot(a, a) < 1.0, "rounding lengthens nothing");
                for (j, b) in axes.chunks_exact(64).enumerate() {
                    assert!((dot(a, b) - f64::from(u8::from(i == j))).abs() < 1e-5, "{i} and {j}");
                }
            }
        }
        assert!(principal_axes(&[], 64, 31).is_none());
        assert!(principal_axes(&[1.0; 40], 20, 31).is_none());
    }
}
