//! A validated face encoding: components reach an index only as this type.

use std::fmt;

use thiserror::Error;
use zeroize::Zeroizing;

use super::norms::Norms;

/// Smallest norm of an encoding. Face models produce norms of 1 to 40. Below this, the direction is noise,
/// and the square is out of range of `f32`.
pub(super) const NORM_MIN: f64 = 1e-6;
/// Largest norm of an encoding: far above any model's, and its square is far from overflow.
const NORM_MAX: f64 = 1e6;

/// Why an encoding is invalid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum EncodingFault {
    /// The number of components is not that of the gallery's model.
    #[error("encoding has {have} components, the gallery's model has {want}; send encodings of that model")]
    Length {
        /// Given components; an incomplete last one counts.
        have: usize,
        /// Components of the model.
        want: usize,
    },
    /// A component is NaN, infinite, or far larger than those of any model.
    #[error("encoding holds NaN, an infinite or an absurdly large number")]
    NotFinite,
    /// All components are zero or nearly zero.
    #[error("encoding is zero; no face has this encoding")]
    Zero,
}

/// A face encoding: finite, not zero, with the expected number of components; wiped on drop.
#[derive(Clone, PartialEq)]
pub struct Encoding(Zeroizing<Vec<f32>>);

impl Encoding {
    /// Validates `components` for a model of `dimensions`.
    ///
    /// # Errors
    /// [`EncodingFault`] for an invalid encoding, which must not reach an index.
    pub fn new(components: Vec<f32>, dimensions: usize) -> Result<Self, EncodingFault> {
        let components = Zeroizing::new(components);
        if components.len() != dimensions || dimensions == 0 {
            return Err(EncodingFault::Length { have: components.len(), want: dimensions });
        }
        let norm = norm(&components);
        if !norm.is_finite() || norm > NORM_MAX {
            return Err(EncodingFault::NotFinite);
        }
        if norm < NORM_MIN {
            return Err(EncodingFault::Zero);
        }
        Ok(Self(components))
    }

    /// Reads little-endian `f32`.
    ///
    /// # Errors
    /// As [`Encoding::new`].
    pub fn from_bytes(bytes: &[u8], dimensions: usize) -> Result<Self, EncodingFault> {
        let (numbers, rest) = bytes.as_chunks::<4>();
        if !rest.is_empty() {
            return Err(EncodingFault::Length { have: bytes.len().div_ceil(4), want: dimensions });
        }
        Self::new(numbers.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect(), dimensions)
    }

    /// As little-endian `f32`.
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        // Exact capacity: a growing vector would leave unwiped copies.
        let mut bytes = Zeroizing::new(Vec::with_capacity(self.0.len() * 4));
        for number in self.0.iter() {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes
    }

    /// The result of an orthogonal transform of a valid encoding, which is valid as well.
    pub(super) fn rotated(components: Zeroizing<Vec<f32>>) -> Self {
        Self(components)
    }

    /// Whether it has length 1, except for rounding.
    pub fn is_unit(&self) -> bool {
        Norms::of(&self.0).is_unit()
    }

    /// The components.
    pub fn as_slice(&self) -> &[f32] {
        &self.0
    }
}

impl fmt::Debug for Encoding {
    /// Shows only the number of components.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Encoding({} components)", self.0.len())
    }
}

/// Euclidean norm; NaN or infinite where a component is.
pub(super) fn norm(components: &[f32]) -> f64 {
    components.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_encodings_are_refused() {
        let with = |x: f32| Encoding::new(vec![0.1, x, 0.3, 0.4], 4).unwrap_err();
        assert_eq!(with(f32::NAN), EncodingFault::NotFinite);
        assert_eq!(with(f32::INFINITY), EncodingFault::NotFinite);
        assert_eq!(with(f32::NEG_INFINITY), EncodingFault::NotFinite);
        assert_eq!(with(f32::MAX), EncodingFault::NotFinite);
        assert_eq!(Encoding::new(vec![0.0; 4], 4).unwrap_err(), EncodingFault::Zero);
        assert_eq!(Encoding::new(vec![f32::MIN_POSITIVE; 4], 4).unwrap_err(), EncodingFault::Zero);
        assert_eq!(Encoding::new(vec![0.1; 3], 4).unwrap_err(), EncodingFault::Length { have: 3, want: 4 });
        assert_eq!(Encoding::new(vec![], 0).unwrap_err(), EncodingFault::Length { have: 0, want: 0 });
    }

    #[test]
    fn bytes_round_trip() {
        let encoding = Encoding::new(vec![0.5, -0.25, 1.0], 3).unwrap();
        let bytes = encoding.to_bytes();
        assert_eq!(Encoding::from_bytes(&bytes, 3).unwrap(), encoding);
        assert_eq!(
            Encoding::from_bytes(&bytes[..11], 3).unwrap_err(),
            EncodingFault::Length { have: 3, want: 3 },
            "an incomplete last component is refused"
        );
    }

    #[test]
    fn debug_shows_no_number() {
        let text = format!("{:?}", Encoding::new(vec![0.5, -0.25], 2).unwrap());
        assert_eq!(text, "Encoding(2 components)");
    }
}
