//! People and encodings with the statistics of real dlib encodings, all from a seed.
//!
//! Measured on 12,812 real encodings: norm 1.43 on average; L2 distance within a person 5 % .33, 50 % .44,
//! 95 % .56, 99 % .75; between people 0.1 % .54, 1 % .62, 50 % .82. In the model every person is a
//! center around a common mean, every sample is the center plus noise, and some samples are poor (more noise). A
//! test below checks the percentiles.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use fastrand::Rng;
use serde_json::{Map, Value, json};

/// Length of an encoding.
pub const DIMENSIONS: usize = 128;
/// Norm of the mean of all encodings.
const MEAN_NORM: f32 = 1.31;
/// Root of the mean square distance between the centers of two people.
const BETWEEN: f32 = 0.70;
/// Median distance between two samples of one person.
const WITHIN: f32 = 0.43;
/// Spread of the noise from sample to sample, of its logarithm.
const WITHIN_SPREAD: f32 = 0.21;
/// Share of poor samples.
const POOR_SHARE: f32 = 0.02;
/// How much noisier they are.
const POOR_FACTOR: f32 = 2.0;
/// Decay of the variance between people over the dimensions: about 40 of them matter.
const DECAY: f32 = 24.0;

const FIRST: [&str; 16] = [
    "Aurelia",
    "Bartholomew",
    "Clementine",
    "Dagobert",
    "Euphemia",
    "Ferdinand",
    "Guinevere",
    "Hieronymus",
    "Isadora",
    "Jeremiah",
    "Kunigunde",
    "Leopoldine",
    "Maximilian",
    "Nikodemus",
    "Ottilie",
    "Philomena",
];
const LAST: [&str; 16] = [
    "Quandt",
    "Rosenzweig",
    "Sommerfeld",
    "Trautwein",
    "Unterberg",
    "Vandermeer",
    "Wolkenstein",
    "Xanthopoulos",
    "Ypsilanti",
    "Zimmerwald",
    "Achterberg",
    "Brandauer",
    "Czerny",
    "Dornbusch",
    "Eichendorff",
    "Fuchsberger",
];

/// A person that can be enrolled.
#[derive(Debug, Clone)]
pub struct SyntheticPerson {
    /// An operator's identifier; long enough that its bytes do not occur by chance.
    pub id: String,
    /// A display name; no other person has it.
    pub name: String,
    center: Vec<f32>,
}

impl SyntheticPerson {
    /// An encoding of this person as a camera would see it.
    pub fn sample(&self, rng: &mut Rng) -> Vec<f32> {
        let poor = if rng.f32() < POOR_SHARE { POOR_FACTOR } else { 1.0 };
        let scale = poor * (WITHIN_SPREAD * gauss(rng)).exp() * WITHIN / (2.0 * DIMENSIONS as f32).sqrt();
        self.center.iter().map(|c| c + scale * gauss(rng)).collect()
    }

    /// Several encodings, for an enrollment.
    pub fn samples(&self, rng: &mut Rng, count: usize) -> Vec<Vec<f32>> {
        (0..count).map(|_| self.sample(rng)).collect()
    }
}

/// `count` different people, the same for the same seed.
pub fn people(seed: u64, count: usize) -> Vec<SyntheticPerson> {
    let mut rng = Rng::with_seed(seed);
    let mean = mean();
    (0..count).map(|number| person(&mut rng, &mean, number)).collect()
}

/// A person that is in no gallery.
pub fn stranger(rng: &mut Rng) -> SyntheticPerson {
    let number = rng.usize(1_000_000..9_000_000);
    person(rng, &mean(), number)
}

fn person(rng: &mut Rng, mean: &[f32], number: usize) -> SyntheticPerson {
    let first = FIRST[number % FIRST.len()];
    // Seven is coprime to the number of names, so consecutive people differ in both names.
    let last = LAST[(7 * number + number / FIRST.len()) % LAST.len()];
    let weights: Vec<f32> = (0..DIMENSIONS).map(|i| (-(i as f32) / DECAY).exp()).collect();
    let total: f32 = weights.iter().map(|w| w * w).sum();
    // The distance of two centers has twice the variance of one.
    let scale = BETWEEN / (2.0 * total).sqrt();
    let center = mean.iter().zip(&weights).map(|(m, w)| m + scale * w * gauss(rng)).collect();
    let tail: String = (0..6).map(|_| rng.lowercase()).collect();
    SyntheticPerson {
        id: format!("resident-{number:05}-{tail}"),
        name: format!("{first} {last} of house {number:05}"),
        center,
    }
}

/// The mean of all encodings, in an arbitrary fixed direction.
fn mean() -> Vec<f32> {
    let mut rng = Rng::with_seed(0x6d65_616e);
    let raw: Vec<f32> = (0..DIMENSIONS).map(|_| gauss(&mut rng)).collect();
    let norm = raw.iter().map(|x| x * x).sum::<f32>().sqrt();
    raw.into_iter().map(|x| x * MEAN_NORM / norm).collect()
}

/// A normally distributed number, by the Box-Muller transform.
fn gauss(rng: &mut Rng) -> f32 {
    let (u, v) = (1.0 - rng.f32(), rng.f32());
    (-2.0 * u.ln()).sqrt() * (std::f32::consts::TAU * v).cos()
}

/// L2 distance.
pub fn distance(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(x, y)| (x - y) * (x - y)).sum::<f32>().sqrt()
}

/// Little-endian bytes of an encoding.
pub fn encoding_bytes(encoding: &[f32]) -> Vec<u8> {
    encoding.iter().flat_map(|x| x.to_le_bytes()).collect()
}

/// One face of a message.
#[derive(Debug, Clone)]
pub struct FaceMessage {
    /// The encoding.
    pub encoding: Vec<f32>,
    /// Whether it goes as base64 or as numbers.
    pub base64: bool,
    /// The camera's quality of it.
    pub quality: Option<f32>,
}

/// An event as a camera sends it.
#[derive(Debug, Clone, Default)]
pub struct EventMessage {
    /// Its id; if none, the appliance derives one.
    pub id: Option<String>,
    /// RFC 3339; none if the camera has no clock.
    pub time: Option<String>,
    /// `face`, `motion`, ...
    pub kind: String,
    /// Its faces.
    pub faces: Vec<FaceMessage>,
    /// Names of its pictures.
    pub media: Vec<String>,
    /// Further fields of the camera.
    pub attributes: Map<String, Value>,
}

impl EventMessage {
    /// A face event with one face of good quality.
    pub fn face(id: &str, encoding: Vec<f32>) -> Self {
        let face = FaceMessage { encoding, base64: id.len().is_multiple_of(2), quality: Some(0.9) };
        Self { id: Some(id.to_owned()), kind: "face".into(), faces: vec![face], ..Self::default() }
    }

    /// The JSON of the contract.
    pub fn to_json(&self) -> Value {
        let mut object = Map::new();
        let mut put = |key: &str, value: Option<Value>| {
            if let Some(value) = value {
                object.insert(key.to_owned(), value);
            }
        };
        put("id", self.id.clone().map(Value::from));
        put("time", self.time.clone().map(Value::from));
        put("kind", Some(self.kind.clone().into()));
        put("faces", Some(self.faces.iter().map(FaceMessage::to_json).collect()));
        put("media", (!self.media.is_empty()).then(|| self.media.clone().into()));
        put("attributes", (!self.attributes.is_empty()).then(|| self.attributes.clone().into()));
        Value::Object(object)
    }

    /// The payload of the message.
    pub fn payload(&self) -> Vec<u8> {
        self.to_json().to_string().into_bytes()
    }
}

impl FaceMessage {
    fn to_json(&self) -> Value {
        let encoding = if self.base64 {
            Value::from(STANDARD.encode(encoding_bytes(&self.encoding)))
        } else {
            Value::from(self.encoding.clone())
        };
        let mut face = json!({ "encoding": encoding, "box": [12, 34, 96, 96] });
        if let Some(quality) = self.quality {
            face["quality"] = json!(quality);
        }
        face
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn percentile(sorted: &[f32], share: f32) -> f32 {
        sorted[((sorted.len() - 1) as f32 * share) as usize]
    }

    fn near(got: f32, want: f32, what: &str) {
        assert!((got - want).abs() < 0.05, "{what}: {got} instead of {want}");
    }

    #[test]
    fn encodings_are_as_far_apart_as_real_ones() {
        let people = people(7, 400);
        let mut rng = Rng::with_seed(8);
        let samples: Vec<Vec<Vec<f32>>> = people.iter().map(|p| p.samples(&mut rng, 5)).collect();
        let (mut within, mut between) = (Vec::new(), Vec::new());
        for (i, own) in samples.iter().enumerate() {
            for a in 0..5 {
                within.extend((a + 1..5).map(|b| distance(&own[a], &own[b])));
            }
            between.extend(samples[i + 1..].iter().map(|other| distance(&own[0], &other[0])));
        }
        within.sort_by(f32::total_cmp);
        between.sort_by(f32::total_cmp);
        for (share, want) in [(0.05, 0.33), (0.5, 0.44), (0.95, 0.56)] {
            near(percentile(&within, share), want, "within");
        }
        for (share, want) in [(0.001, 0.54), (0.01, 0.62), (0.5, 0.82)] {
            near(percentile(&between, share), want, "between");
        }
        let norms: f32 = samples.iter().map(|s| distance(&s[0], &vec![0.0; DIMENSIONS])).sum::<f32>()
            / samples.len() as f32;
        near(norms, 1.43, "norm");
    }

    #[test]
    fn the_same_seed_gives_the_same_people() {
        let (a, b) = (people(3, 5), people(3, 5));
        assert!(a.iter().zip(&b).all(|(x, y)| x.id == y.id && x.center == y.center));
    }
}
