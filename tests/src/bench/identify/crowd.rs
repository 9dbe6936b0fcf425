//! Synthetic people and encodings of any number and length, with the distances of real ones. They are much faster to
//! make than those of the testkit, which gives only the statistics.

use fastrand::Rng;

/// Root of the mean square distance between the centres of two people.
const BETWEEN: f32 = 0.70;
/// Median distance between two samples of one person.
const WITHIN: f32 = 0.43;
/// Spread of the logarithm of a sample's noise.
const WITHIN_SPREAD: f32 = 0.21;
/// Decay of the variance between people over the dimensions.
const DECAY: f32 = 24.0;
/// Norm of the mean of all encodings.
const MEAN_NORM: f32 = 1.31;

/// Where people come from.
pub(super) struct Crowd {
    pub(super) random: Rng,
    mean: Vec<f32>,
    widths: Vec<f32>,
}

impl Crowd {
    pub(super) fn new(dimensions: usize, seed: u64) -> Self {
        let mut random = Rng::with_seed(seed);
        let mean: Vec<f32> = (0..dimensions).map(|_| gauss(&mut random)).collect();
        let norm = mean.iter().map(|x| x * x).sum::<f32>().sqrt();
        let widths: Vec<f32> = (0..dimensions).map(|i| (-(i as f32) / DECAY).exp()).collect();
        let total: f32 = widths.iter().map(|w| w * w).sum();
        let scale = BETWEEN / (2.0 * total).sqrt();
        let mean = mean.into_iter().map(|x| x * MEAN_NORM / norm).collect();
        Self { random, mean, widths: widths.into_iter().map(|w| w * scale).collect() }
    }

    /// The center of a new person.
    pub(super) fn person(&mut self) -> Vec<f32> {
        let random = &mut self.random;
        self.mean.iter().zip(&self.widths).map(|(m, w)| m + w * gauss(random)).collect()
    }

    /// A sample of a person.
    pub(super) fn sample(&mut self, person: &[f32]) -> Vec<f32> {
        let spread = (WITHIN_SPREAD * gauss(&mut self.random)).exp();
        let scale = spread * WITHIN / (2.0 * person.len() as f32).sqrt();
        person.iter().map(|x| x + scale * gauss(&mut self.random)).collect()
    }
}

/// Box and Muller.
fn gauss(random: &mut Rng) -> f32 {
    let (u, v) = (1.0 - random.f32(), random.f32());
    (-2.0 * u.ln()).sqrt() * (std::f32::consts::TAU * v).cos()
}
