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
    /// Converts a squared Euclidean distance to this metric. For the cosine, the vectors must be of length 1.
    pub fn distance(self, square: f32) -> f32 {
        match self {
            Self::Euclidean => square.sqrt(),
            Self::Cosine => square / 2.0,
        }
    }

    /// Converts a distance of this metric to the Euclidean distance; for the cosine, that of vectors of length 1.
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

    /// Converts a Euclidean distance to this metric, in double precision.
    pub fn distance_of(self, euclidean: f64) -> f64 {
        match self {
            Self::Euclidean => euclidean,
            Self::Cosine => euclidean * euclidean / 2.0,
        }
    }

    /// Converts a Euclidean distance to this metric.
    #[expect(clippy::cast_possible_truncation, reason = "distances are small")]
    pub fn of_euclidean(self, distance: f64) -> f32 {
        self.distance_of(distance) as f32
    }
}

/// A model that computes encodings. Encodings of two models cannot be compared, so a gallery has one model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Model {
    /// Its name, which is also the name of the gallery.
    pub name: String,
    /// Components of an encoding.
    pub dimensions: usize,
    /// How encodings are compared.
    pub metric: Metric,
    /// Whether all its encodings have length 1.
    pub normalised: bool,
}

/// Why a model cannot have a gallery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ModelFault {
    /// Its name is invalid.
    #[error("name of a model: 1 to {NAME_BYTES_MAX} bytes without control characters or spaces at the ends")]
    Name,
    /// Its encodings are too short or too long.
    #[error("an encoding has {} to {} components", DIMENSIONS.start(), DIMENSIONS.end())]
    Dimensions,
}

impl Model {
    /// Validates a model that an operator entered.
    ///
    /// # Errors
    /// [`ModelFault`] for what the settings do not accept either.
    pub fn check(&self) -> Result<(), ModelFault> {
        let name = &self.name;
        let is_name = (1..=NAME_BYTES_MAX).contains(&name.len()) && name.trim() == name;
        if !is_name || name.chars().any(char::is_control) {
            return Err(ModelFault::Name);
        }
        DIMENSIONS.contains(&self.dimensions).then_some(()).ok_or(ModelFault::Dimensions)
    }

    /// Whether distances and thresholds of both models are comparable.
    pub fn measures_as(&self, other: &Self) -> bool {
        (&self.name, self.dimensions, self.metric) == (&other.name, other.dimensions, other.metric)
    }
}

/// A gallery and its number, under which its templates are stored and sealed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GalleryMark {
    /// The number; reused after the gallery is removed.
    pub number: u8,
    /// Its model.
    pub model: Model,
}

/// How a second gallery would have answered an event, compared with the published answer. It names no person.
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

/// Comparison of the people that two galleries recognize in an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The same people, or none.
    Same,
    /// The gallery in use recognized a person that the other did not.
    OnlyInUse,
    /// The other recognized a person that the one in use did not.
    OnlyOther,
    /// Each recognized a person that the other did not.
    Different,
    /// Not every face came with valid encodings of both models.
    Incomplete,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_models_are_refused() {
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
