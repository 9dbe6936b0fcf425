//! Arithmetic on encodings: quantization with a known error, and the two kernels of all searches.
//!
//! The loops are plain code over fixed blocks that the compiler turns into vector instructions; `pulp`
//! compiles them once more for newer x86 processors and chooses at run time.

use zeroize::Zeroizing;

use super::encoding::{NORM_MIN, norm};
use super::norms::Norms;

/// Components per block of the `i8` kernel: four to eight registers on common processors.
const COARSE_BLOCK: usize = 128;
/// Lanes of the `f32` kernel. They define the order of the sum, so that the result is the same on every
/// processor.
const FINE_LANES: usize = 16;
/// Largest magnitude of a quantized component; -128 is not used, so that the range is symmetric.
const COARSE_MAX: f32 = 127.0;
/// Units of a [`residual`] per quantization step: half a step is 127 units.
const RESIDUAL_UNITS: f32 = 254.0;

/// Quantization of a vector `x` as `scale * q`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Coarse {
    /// Factor of the quantized components.
    pub scale: f32,
    /// Squared norm of `scale * q`.
    pub square: f32,
    /// Upper bound of the norm of `x - scale * q`.
    pub error: f32,
}

/// A vector to be compared with templates, full and quantized; wiped on drop.
pub(super) struct Probe {
    /// The components, of unit length for a cosine gallery.
    pub fine: Zeroizing<Vec<f32>>,
    /// The quantized components.
    pub quantised: Zeroizing<Vec<i8>>,
    /// The quantization.
    pub coarse: Coarse,
    /// Its norm before it was scaled.
    pub norms: Norms,
}

impl Probe {
    /// Prepares components for comparison; `unit` scales them to length one first.
    pub(super) fn new(components: &[f32], unit: bool) -> Self {
        let norms = Norms::of(components);
        let mut fine = Zeroizing::new(components.to_vec());
        if unit {
            to_unit(&mut fine);
        }
        let mut quantised = Zeroizing::new(vec![0; fine.len()]);
        let coarse = quantise(&fine, &mut quantised);
        Self { fine, quantised, coarse, norms }
    }

    /// The mean template of a person's samples, [rounded](Self::rounded); none if they cancel each other out.
    pub(super) fn mean<'a>(
        samples: impl Iterator<Item = &'a [f32]>,
        dimensions: usize,
        unit: bool,
    ) -> Option<Self> {
        let mut mean = Zeroizing::new(vec![0.0_f32; dimensions]);
        let mut count = 0.0;
        for sample in samples {
            mean.iter_mut().zip(sample).for_each(|(sum, x)| *sum += x);
            count += 1.0;
        }
        mean.iter_mut().for_each(|sum| *sum /= count);
        (norm(&mean) >= NORM_MIN).then(|| Self::new(&mean, unit).rounded())
    }

    /// The same with sixteen bits per component: the quantized one and a [`residual`].
    #[must_use]
    pub(super) fn rounded(mut self) -> Self {
        let scale = self.coarse.scale;
        let mut error = 0.0_f64;
        for (x, q) in self.fine.iter_mut().zip(self.quantised.iter()) {
            *x = restored(*q, residual(*x, *q, scale), scale);
            error += (f64::from(*x) - f64::from(scale) * f64::from(*q)).powi(2);
        }
        self.coarse.error = upper(error.sqrt());
        self
    }
}

/// The quantization residual of a component, in units of its scale divided by [`RESIDUAL_UNITS`].
#[expect(clippy::cast_possible_truncation, reason = "rounded and clamped before")]
pub(super) fn residual(x: f32, q: i8, scale: f32) -> i8 {
    rounded(x / scale * RESIDUAL_UNITS - RESIDUAL_UNITS * f32::from(q)).clamp(-COARSE_MAX, COARSE_MAX) as i8
}

/// The component of a quantized one and its residual.
#[inline(always)]
pub(super) fn restored(q: i8, residual: i8, scale: f32) -> f32 {
    // The sum is exact.
    (f32::from(q) * RESIDUAL_UNITS + f32::from(residual)) * (scale / RESIDUAL_UNITS)
}

/// Scales a vector to length one.
fn to_unit(components: &mut [f32]) {
    let norm = norm(components);
    for x in components {
        #[expect(clippy::cast_possible_truncation, reason = "a quotient of at most one fits")]
        {
            *x = (f64::from(*x) / norm) as f32;
        }
    }
}

/// Quantizes `components` into `quantised`, each vector with its own scale.
///
/// The error is computed in `f64` from the values, not assumed, so that the bound is valid for any model.
#[expect(clippy::cast_possible_truncation, reason = "rounded and clamped before")]
pub(super) fn quantise(components: &[f32], quantised: &mut [i8]) -> Coarse {
    let largest = components.iter().fold(0.0_f32, |largest, x| largest.max(x.abs()));
    let scale = largest / COARSE_MAX;
    let (mut square, mut error) = (0.0_f64, 0.0_f64);
    for (x, q) in components.iter().zip(quantised) {
        *q = rounded(x / scale).clamp(-COARSE_MAX, COARSE_MAX) as i8;
        let quantized = f64::from(scale) * f64::from(*q);
        square += quantized * quantized;
        error += (f64::from(*x) - quantized).powi(2);
    }
    Coarse { scale, square: square as f32, error: upper(error.sqrt()) }
}

/// Rounds a number below four million to the nearest integer, without the function call that processors
/// without SSE 4.1 need for it.
#[inline(always)]
fn rounded(x: f32) -> f32 {
    /// The middle of the range in which adjacent `f32` differ by one.
    const WHOLE: f32 = 1.5 * (1_u32 << 23) as f32;
    (x + WHOLE) - WHOLE
}

/// Rounds an error up to `f32`.
#[expect(clippy::cast_possible_truncation, reason = "GUARD rounds up")]
fn upper(error: f64) -> f32 {
    /// Covers the rounding of the error to `f32` and of the sum in `f64`.
    const GUARD: f64 = 1.0 + 1e-6;
    (error * GUARD) as f32
}

/// Dot product of quantized vectors; `get` reads a component. Exact: no model has enough components for an
/// overflow (133,000).
#[inline(always)]
pub(super) fn dot<A, B>(a: &[A], b: &[B], get_a: impl Fn(&A) -> i8, get_b: impl Fn(&B) -> i8) -> i32 {
    let (blocks_a, rest_a) = a.as_chunks::<COARSE_BLOCK>();
    let (blocks_b, rest_b) = b.as_chunks::<COARSE_BLOCK>();
    let mut sum = 0_i32;
    for (x, y) in blocks_a.iter().zip(blocks_b) {
        let mut part = 0_i32;
        for i in 0..COARSE_BLOCK {
            part += i32::from(get_a(&x[i])) * i32::from(get_b(&y[i]));
        }
        sum += part;
    }
    for (x, y) in rest_a.iter().zip(rest_b) {
        sum += i32::from(get_a(x)) * i32::from(get_b(y));
    }
    sum
}

/// Dot products with `rows`, one after another. They are computed block by block of components, so that those
/// of `a` stay in registers.
#[inline(always)]
pub(super) fn dots(a: &[i8], rows: &[i8], products: &mut [i32]) {
    products.fill(0);
    let (blocks, rest) = a.as_chunks::<COARSE_BLOCK>();
    for (number, block) in blocks.iter().enumerate() {
        let wide = block.map(i16::from);
        for (row, product) in rows.chunks_exact(a.len()).zip(&mut *products) {
            let Some(other) = row.as_chunks::<COARSE_BLOCK>().0.get(number) else { continue };
            let mut part = 0_i32;
            for i in 0..COARSE_BLOCK {
                part += i32::from(wide[i]) * i32::from(other[i]);
            }
            *product += part;
        }
    }
    if !rest.is_empty() {
        for (row, product) in rows.chunks_exact(a.len()).zip(products) {
            *product += dot(rest, row.as_chunks::<COARSE_BLOCK>().1, |x| *x, |y| *y);
        }
    }
}

/// Squared Euclidean distance in `f32`, the one by which decisions are made.
#[inline(always)]
pub(super) fn square_distance(a: &[f32], b: &[f32]) -> f32 {
    let (blocks_a, rest_a) = a.as_chunks::<FINE_LANES>();
    let (blocks_b, rest_b) = b.as_chunks::<FINE_LANES>();
    let mut lanes = [0.0_f32; FINE_LANES];
    for (x, y) in blocks_a.iter().zip(blocks_b) {
        add_squares(&mut lanes, x, y);
    }
    total(&lanes, rest_a.iter().zip(rest_b.iter().copied()))
}

/// The same for a vector that is [`restored`] from quantized components and residuals: identical to the last
/// bit.
#[inline(always)]
pub(super) fn square_distance_restored(a: &[f32], quantised: &[i8], rests: &[i8], scale: f32) -> f32 {
    let (blocks_a, rest_a) = a.as_chunks::<FINE_LANES>();
    let (blocks_q, rest_q) = quantised.as_chunks::<FINE_LANES>();
    let (blocks_r, rest_r) = rests.as_chunks::<FINE_LANES>();
    let mut lanes = [0.0_f32; FINE_LANES];
    for (x, (q, r)) in blocks_a.iter().zip(blocks_q.iter().zip(blocks_r)) {
        // Not with `from_fn`, whose closure is not compiled for the processor's instruction set.
        let mut y = [0.0_f32; FINE_LANES];
        for i in 0..FINE_LANES {
            y[i] = restored(q[i], r[i], scale);
        }
        add_squares(&mut lanes, x, &y);
    }
    total(&lanes, rest_a.iter().zip(rest_q.iter().zip(rest_r).map(|(q, r)| restored(*q, *r, scale))))
}

/// Adds squared differences, lane by lane.
#[inline(always)]
fn add_squares(lanes: &mut [f32; FINE_LANES], a: &[f32; FINE_LANES], b: &[f32; FINE_LANES]) {
    for i in 0..FINE_LANES {
        let d = a[i] - b[i];
        lanes[i] += d * d;
    }
}

/// The sum of all lanes and of the remaining components.
#[inline(always)]
fn total<'a>(lanes: &[f32; FINE_LANES], rest: impl Iterator<Item = (&'a f32, f32)>) -> f32 {
    let mut sum = lanes.iter().sum::<f32>();
    for (x, y) in rest {
        sum += (x - y) * (x - y);
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantization_error_is_within_its_bound() {
        let mut random = fastrand::Rng::with_seed(7);
        for length in [1, 3, 64, 128, 129, 512] {
            for exponent in [-5, 0, 5] {
                let vector: Vec<f32> =
                    (0..length).map(|_| (random.f32() - 0.5) * 10.0_f32.powi(exponent)).collect();
                let probe = Probe::new(&vector, false);
                let restored: Vec<f64> =
                    probe.quantised.iter().map(|&q| f64::from(probe.coarse.scale) * f64::from(q)).collect();
                let error: f64 = vector.iter().zip(&restored).map(|(x, y)| (f64::from(*x) - y).powi(2)).sum();
                assert!(error.sqrt() <= f64::from(probe.coarse.error), "{length} components of 1e{exponent}");
                let rounded = Probe::new(&vector, false).rounded();
                let error: f64 =
                    rounded.fine.iter().zip(&restored).map(|(x, y)| (f64::from(*x) - y).powi(2)).sum();
                assert!(error.sqrt() <= f64::from(rounded.coarse.error), "{length} rounded components");
                let scale = probe.coarse.scale;
                let pairs = rounded.fine.iter().zip(&*probe.quantised);
                let rests: Vec<i8> = pairs.map(|(x, q)| residual(*x, *q, scale)).collect();
                let restored = square_distance_restored(&vector, &probe.quantised, &rests, scale);
                assert_eq!(restored, square_distance(&vector, &rounded.fine));
                assert!(
                    restored.sqrt() <= probe.coarse.error / 100.0 + f32::EPSILON * scale * 128.0,
                    "{restored}"
                );
            }
        }
    }

    #[test]
    fn numbers_are_rounded_to_the_nearest() {
        for (x, nearest) in [(0.4, 0.0), (0.6, 1.0), (-126.7, -127.0), (1.5, 2.0), (2.5, 2.0), (-0.5, 0.0)] {
            assert_eq!(rounded(x), nearest);
        }
    }

    #[test]
    fn kernels_agree_with_the_definition_at_every_length() {
        let mut random = fastrand::Rng::with_seed(8);
        for length in 1..200 {
            let a: Vec<i8> = (0..length).map(|_| random.i8(-127..=127)).collect();
            let b: Vec<i8> = (0..length).map(|_| random.i8(-127..=127)).collect();
            let want: i32 = a.iter().zip(&b).map(|(x, y)| i32::from(*x) * i32::from(*y)).sum();
            assert_eq!(dot(&a, &b, |x| *x, |y| *y), want);
            let rows = [&b[..], &a, &b].concat();
            let mut products = [7; 3];
            dots(&a, &rows, &mut products);
            assert_eq!((products[0], products[1]), (want, dot(&a, &a, |x| *x, |y| *y)));
            assert_eq!(products[2], want);
            let a: Vec<f32> = a.iter().map(|&x| f32::from(x)).collect();
            let b: Vec<f32> = b.iter().map(|&x| f32::from(x)).collect();
            let want: f32 = a.iter().zip(&b).map(|(x, y)| (x - y) * (x - y)).sum();
            assert_eq!(square_distance(&a, &b), want, "whole numbers have no rounding");
        }
    }
}
