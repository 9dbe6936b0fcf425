//! Models that make face encodings, their metric, and the comparison of two galleries.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::EventKey;

/// Longest name of a model, in bytes.
const NAME_BYTES_MAX: usize = 64;
/// Components that an encoding may have.
const DIMENSIONS: std::ops::RangeInclusive<usize> = 2..=4096;

/// How encodings of a model are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Metric {
    /// Euclidean distance of the vectors as they are.
    Euclidean,
    /// One minus the cosine of the angle.
    Cosine,
}

impl Metric {
    /// The distance of a squared Euclidean distance (of unit vectors where the metric is the cosine).
    pub fn distance(self, square: f32) -> f32 {
        match self {
            Self::Euclidean => square.sqrt(),
            Self::Cosine => square / 2.0,
        }
    }

    /// A distance as the Euclidean one (of unit vectors where the metric is the cosine).
    pub fn euclidean(self, distance: f32) -> f64 {
        self.euclidean_of(f64::from(distance))
    }

    /// As [`Metric::euclidean`], in double precision.
    pub fn euclidean_of(self, distance: f64) -> f64 {
        match self {
            Self::Euclidean => distance,
            Self::Cosine => (2.0 * distance).max(0.0).sqrt(),
        }
    }

    /// The distance in this metric of a Euclidean distance, in double precision.
    pub fn distance_of(self, euclidean: f64) -> f64 {
        match self {
            Self::Euclidean => euclidean,
            Self::Cosine => euclidean * euclidean / 2.0,
        }
    }

    /// The distance in this metric of a Euclidean distance.
    #[expect(clippy::cast_possible_truncation, reason = "distances are small")]
    pub fn of_euclidean(self, distance: f64) -> f32 {
        self.distance_of(distance) as f32
    }
}

/// A model that makes encodings. Encodings of two models cannot be compared, so a gallery is of one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Model {
    /// Its name, by which the gallery is called.
    pub name: String,
    /// Components of an encoding.
    pub dimensions: usize,
    /// How encodings are compared.
    pub metric: Metric,
    /// Whether all its encodings are of length 1.
    pub normalised: bool,
}

/// Why there can be no gallery of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ModelFault {
    /// Its name is not one.
    #[error("name of a model: 1 to {NAME_BYTES_MAX} bytes without control characters or spaces at the ends")]
    Name,
    /// Its encodings are too short or too long.
    #[error("an encoding has {} to {} components", DIMENSIONS.start(), DIMENSIONS.end())]
    Dimensions,
}

impl Model {
    /// Checks what an operator said.
    ///
    /// # Errors
    /// [`ModelFault`] for what the settings would not take either.
    pub fn check(&self) -> Result<(), ModelFault> {
        let name = &self.name;
        let is_name = (1..=NAME_BYTES_MAX).contains(&name.len()) && name.trim() == name;
        if !is_name || name.chars().any(char::is_control) {
            return Err(ModelFault::Name);
        }
        DIMENSIONS.contains(&self.dimensions).then_some(()).ok_or(ModelFault::Dimensions)
    }

    /// Whether a distance, and so a threshold, of one is one of the other.
    pub fn measures_as(&self, other: &Self) -> bool {
        (&self.name, self.dimensions, self.metric) == (&other.name, other.dimensions, other.metric)
    }
}

/// A gallery and its number: what its templates are found and sealed by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GalleryMark {
    /// The number; given again once the gallery is removed.
    pub number: u8,
    /// What it is of.
    pub model: Model,
}

/// What a second gallery would have said of an event, beside what was answered. It names nobody.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compared {
    /// The event.
    pub event: EventKey,
    /// Model of the gallery that answered.
    pub in_use: String,
    /// Model of the other.
    pub other: String,
    /// How the two answers compare.
    pub verdict: Verdict,
}

/// How the people that two galleries recognise in an event compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The same people, or nobody.
    Same,
    /// The gallery in use recognised somebody whom the other did not.
    OnlyInUse,
    /// The other recognised somebody whom the one in use did not.
    OnlyOther,
    /// Each recognised somebody whom the other did not.
    Different,
    /// Not every face came with an encoding of both models that can be read.
    Incomplete,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_model_is_refused() {
        let check = |name: &str, dimensions| {
            Model { name: name.into(), dimensions, metric: Metric::Cosine, normalised: true }.check()
        };
        assert_eq!(check("arcface-512", 512), Ok(()));
        for name in ["", " a", "a\n", &"a".repeat(65)] {
            assert_eq!(check(name, 512), Err(ModelFault::Name), "{name:?}");
        }
        assert_eq!(check("a", 1), Err(ModelFault::Dimensions));
        assert_eq!(check("a", 4097), Err(ModelFault::Dimensions));
    }
}
