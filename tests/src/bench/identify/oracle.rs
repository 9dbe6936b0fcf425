//! The correct result and the lower bound: a scan over every full vector, and one read of the quantized ones.

use std::hint::black_box;
use std::time::Instant;

/// The nearest template and the nearest of another person, as rows and distances.
#[derive(Debug, Clone, Copy)]
pub(super) struct Nearest {
    pub(super) row: u32,
    pub(super) distance: f32,
    pub(super) second: f32,
}

/// Compares a probe with every vector; `samples` vectors in a row are one person's.
pub(super) fn nearest(templates: &[f32], probe: &[f32], samples: usize) -> Nearest {
    let (mut best, mut second) = ((0, f32::INFINITY), f32::INFINITY);
    for (row, vector) in templates.chunks_exact(probe.len()).enumerate() {
        let square = square_distance(probe, vector);
        if square < best.1 {
            if row / samples != best.0 / samples {
                second = best.1;
            }
            best = (row, square);
        } else if row / samples != best.0 / samples {
            second = second.min(square);
        }
    }
    Nearest { row: best.0 as u32, distance: best.1.sqrt(), second: second.sqrt() }
}

/// Every person's samples, and their mean behind them, rounded as the gallery does.
pub(super) fn with_means(templates: &[f32], dimensions: usize, samples: usize) -> Vec<f32> {
    let mut all = Vec::with_capacity(templates.len() / samples * (samples + 1));
    for person in templates.chunks_exact(dimensions * samples) {
        all.extend_from_slice(person);
        let mut mean = vec![0.0_f32; dimensions];
        for sample in person.chunks_exact(dimensions) {
            mean.iter_mut().zip(sample).for_each(|(sum, x)| *sum += x);
        }
        mean.iter_mut().for_each(|sum| *sum /= samples as f32);
        all.extend(rounded(&mean));
    }
    all
}

/// A vector as two times eight bits per component, with a scale of its own.
fn rounded(vector: &[f32]) -> impl Iterator<Item = f32> {
    let scale = vector.iter().fold(0.0_f32, |largest, x| largest.max(x.abs())) / 127.0;
    vector.iter().map(move |x| {
        let coarse = (x / scale).round_ties_even();
        let rest = (x / scale * 254.0 - 254.0 * coarse).round_ties_even().clamp(-127.0, 127.0);
        (coarse * 254.0 + rest) * (scale / 254.0)
    })
}

/// As a careful programmer writes it: sixteen sums that the compiler keeps in vector registers.
fn square_distance(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0_f32; 16];
    for (x, y) in a.as_chunks::<16>().0.iter().zip(b.as_chunks::<16>().0) {
        for i in 0..16 {
            lanes[i] += (x[i] - y[i]) * (x[i] - y[i]);
        }
    }
    lanes.iter().sum()
}

/// Microseconds to read so many bytes once.
pub(super) fn read_time(bytes: usize) -> f64 {
    let words = vec![1_u64; bytes / 8];
    let mut times: Vec<f64> = (0..30)
        .map(|_| {
            let begin = Instant::now();
            black_box(black_box(&words).iter().sum::<u64>());
            begin.elapsed().as_secs_f64() * 1e6
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn second_is_the_nearest_of_another_person() {
        let mut templates = vec![0.0_f32; 16 * 6];
        for (row, x) in [5.0, 3.0, 1.0, 2.0, 9.0, 8.0].into_iter().enumerate() {
            templates[row * 16] = x;
        }
        let found = nearest(&templates, &[0.0; 16], 2);
        assert_eq!((found.row, found.distance, found.second), (2, 1.0, 3.0));
    }
}
