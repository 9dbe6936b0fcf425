//! Face encodings on the control socket: an array of numbers, or base64 of little-endian f32.
//!
//! The values are wiped when dropped and never shown. Errors contain a position, never a value.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::{Zeroize, Zeroizing};

/// Most numbers in one encoding: eight times the longest that a usual face model gives (512).
pub const NUMBERS_MAX: usize = 4096;

/// One encoding, not checked against the dimensions of the gallery yet.
#[derive(Clone, PartialEq)]
pub struct RawEncoding(Zeroizing<Vec<f32>>);

impl RawEncoding {
    /// The numbers. The gallery checks them.
    pub fn to_vec(&self) -> Vec<f32> {
        self.0.to_vec()
    }
}

impl From<Vec<f32>> for RawEncoding {
    fn from(numbers: Vec<f32>) -> Self {
        Self(Zeroizing::new(numbers))
    }
}

impl fmt::Debug for RawEncoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RawEncoding({} numbers)", self.0.len())
    }
}

impl Serialize for RawEncoding {
    /// Always as base64: a quarter of the size of numbers in text.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let bytes: Zeroizing<Vec<u8>> = Zeroizing::new(self.0.iter().flat_map(|n| n.to_le_bytes()).collect());
        serializer.serialize_str(&Zeroizing::new(STANDARD.encode(&*bytes)))
    }
}

impl<'de> Deserialize<'de> for RawEncoding {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(EncodingVisitor)
    }
}

struct EncodingVisitor;

impl<'de> Visitor<'de> for EncodingVisitor {
    type Value = RawEncoding;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of numbers or a base64 string of little-endian f32")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<RawEncoding, E> {
        if text.len() > NUMBERS_MAX * 6 {
            return Err(E::custom("encoding is too long"));
        }
        let bytes = STANDARD.decode(text).map_err(|_| E::custom("encoding is not base64"))?;
        let bytes = Zeroizing::new(bytes);
        let (numbers, rest) = bytes.as_chunks::<4>();
        if !rest.is_empty() {
            return Err(E::custom("encoding is not a whole number of 4-byte values"));
        }
        Ok(RawEncoding(Zeroizing::new(numbers.iter().map(|b| f32::from_le_bytes(*b)).collect())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<RawEncoding, A::Error> {
        // The full capacity at once: a growing vector leaves copies that are not wiped.
        let mut numbers = Zeroizing::new(Vec::with_capacity(NUMBERS_MAX));
        while let Some(number) = seq.next_element::<f32>()? {
            if numbers.len() == NUMBERS_MAX {
                numbers.zeroize();
                return Err(A::Error::custom("encoding is too long"));
            }
            numbers.push(number);
        }
        Ok(RawEncoding(numbers))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_base64_give_the_same_encoding() {
        let numbers: RawEncoding = serde_json::from_str("[0.5, -1, 2e0]").unwrap();
        let text = serde_json::to_string(&numbers).unwrap();
        assert_eq!(text, "\"AAAAPwAAgL8AAABA\"");
        assert_eq!(serde_json::from_str::<RawEncoding>(&text).unwrap(), numbers);
    }

    #[test]
    fn what_is_no_encoding_is_refused_without_repeating_it() {
        for bad in ["\"A\"", "\"AAAA\"", "[\"x\"]", "{}", "3", "[1e999]"] {
            let error = serde_json::from_str::<RawEncoding>(bad);
            assert!(error.is_err(), "{bad}");
        }
        let long = format!("[{}0]", "0,".repeat(NUMBERS_MAX));
        assert!(serde_json::from_str::<RawEncoding>(&long).is_err());
    }

    #[test]
    fn debug_shows_no_number() {
        assert_eq!(format!("{:?}", RawEncoding::from(vec![0.25; 3])), "RawEncoding(3 numbers)");
    }
}
