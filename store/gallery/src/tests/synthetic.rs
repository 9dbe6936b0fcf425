//! Encodings that behave like those of dlib: norm about 1.43, samples of a person about 0.44 apart, people
//! about 0.82, with the spread of some forty independent directions.

use crate::Encoding;

/// Decay length of the variance over the components; twice this many are significant.
const DECAY: f32 = 20.0;
/// Squared norm of the mean face, so that encodings have a norm of 1.43.
const MEAN_SQUARE: f32 = 1.71;
/// Total variance of the centres of people.
const BETWEEN: f32 = 0.24;
/// Total variance of one person's samples around their centre.
const WITHIN: f32 = 0.097;

/// A source of people.
pub(crate) struct People {
    pub(crate) random: fastrand::Rng,
    mean: Vec<f32>,
    shares: Vec<f32>,
}

impl People {
    pub(crate) fn new(dimensions: usize, seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let shares: Vec<f32> = (0..dimensions).map(|i| (-(i as f32) / DECAY).exp()).collect();
        let total: f32 = shares.iter().sum();
        let shares = shares.iter().map(|share| share / total).collect();
        let mean: Vec<f32> = (0..dimensions).map(|_| normal(&mut random)).collect();
        let norm = mean.iter().map(|x| x * x).sum::<f32>().sqrt();
        let mean = mean.iter().map(|x| x / norm * MEAN_SQUARE.sqrt()).collect();
        Self { random, mean, shares }
    }

    /// The centre of a new person.
    pub(crate) fn person(&mut self) -> Vec<f32> {
        let mean = self.mean.clone();
        self.around(&mean, BETWEEN)
    }

    /// A sample of a person.
    pub(crate) fn sample(&mut self, person: &[f32]) -> Encoding {
        let sample = self.around(person, WITHIN);
        Encoding::new(sample, person.len()).unwrap()
    }

    /// A sample of a new person.
    pub(crate) fn stranger(&mut self) -> Encoding {
        let person = self.person();
        self.sample(&person)
    }

    /// Another sample of the person of `enrolled`, as far from it as two samples of one person.
    pub(crate) fn near(&mut self, enrolled: &Encoding) -> Encoding {
        let near = self.around(enrolled.as_slice(), 2.0 * WITHIN);
        Encoding::new(near, enrolled.as_slice().len()).unwrap()
    }

    fn around(&mut self, centre: &[f32], variance: f32) -> Vec<f32> {
        let Self { random, shares, .. } = self;
        centre.iter().zip(shares).map(|(x, share)| x + normal(random) * (variance * *share).sqrt()).collect()
    }
}

/// A standard normal number (Box and Muller).
fn normal(random: &mut fastrand::Rng) -> f32 {
    let radius = (-2.0 * (1.0 - random.f32()).ln()).sqrt();
    radius * (std::f32::consts::TAU * random.f32()).cos()
}

#[test]
fn synthetic_encodings_lie_as_far_apart_as_real_ones() {
    let mut people = People::new(128, 1);
    let mut within: Vec<f32> = Vec::new();
    let mut between: Vec<f32> = Vec::new();
    let distance = |a: &Encoding, b: &Encoding| crate::square_distance(a.as_slice(), b.as_slice()).sqrt();
    for _ in 0..500 {
        let person = people.person();
        let (a, b, other) = (people.sample(&person), people.sample(&person), people.stranger());
        within.push(distance(&a, &b));
        between.push(distance(&a, &other));
    }
    within.sort_by(f32::total_cmp);
    between.sort_by(f32::total_cmp);
    assert!((0.41..0.47).contains(&within[250]), "within {}", within[250]);
    assert!((0.78..0.86).contains(&between[250]), "between {}", between[250]);
    assert!((0.5..0.7).contains(&between[5]), "nearest strangers {}", between[5]);
}
