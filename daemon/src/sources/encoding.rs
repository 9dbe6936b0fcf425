//! Encodings from JSON: an array of numbers, or base64 of little-endian 32-bit floats.
//!
//! Lengths are checked before decoding, and every intermediate buffer is wiped.

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use gatehouse_gallery::{Encoding, EncodingFault};
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use crate::sources::refusal::{Fault, Reason};

/// Padding is optional, because cameras differ. Everything else is strict.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Reads the encoding of a face.
pub(crate) fn encoding(raw: &RawValue, dimensions: usize) -> Result<Encoding, Fault> {
    let text = raw.get().trim();
    let values = match text.as_bytes().first() {
        Some(b'[') => from_array(text, dimensions)?,
        Some(b'"') => from_base64(text, dimensions)?,
        _ => {
            let detail =
                "an encoding must be an array of numbers, or a text with base64 of little-endian f32";
            return Err(Fault::new(Reason::WrongType, detail));
        }
    };
    Encoding::new(values, dimensions).map_err(|fault| match fault {
        EncodingFault::Length { have, want } => wrong_dimensions(have, want),
        EncodingFault::NotFinite => not_finite(),
        EncodingFault::Zero => Fault::new(Reason::ZeroVector, "an encoding is all zeros"),
    })
}

/// `text` is valid JSON and starts with a bracket; an element that is no number does not parse as one.
fn from_array(text: &str, dimensions: usize) -> Result<Vec<f32>, Fault> {
    let inner = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text).trim();
    let have = if inner.is_empty() { 0 } else { inner.bytes().filter(|byte| *byte == b',').count() + 1 };
    if have != dimensions {
        return Err(wrong_dimensions(have, dimensions));
    }
    // The full capacity at once: a growing vector leaves copies that are not wiped.
    let mut values = Zeroizing::new(Vec::with_capacity(dimensions));
    for part in inner.split(',') {
        let value = match part.trim() {
            // What JavaScript writes for NaN and infinity.
            "null" => return Err(not_finite()),
            part => part.parse::<f32>().map_err(|_| no_number(part))?,
        };
        values.push(value);
    }
    Ok(std::mem::take(&mut *values))
}

fn from_base64(text: &str, dimensions: usize) -> Result<Vec<f32>, Fault> {
    // Unescaped by the parser: some writers write `\/`.
    let text: Zeroizing<String> = serde_json::from_str::<String>(text)
        .map(Zeroizing::new)
        .map_err(|_| Fault::new(Reason::BadBase64, "an encoding is not base64"))?;
    let want = dimensions * size_of::<f32>();
    // The estimate may exceed the length by some bytes. A text that is too long is refused before it is decoded.
    let estimate = base64::decoded_len_estimate(text.len());
    if estimate > want + 8 {
        return Err(wrong_dimensions(estimate / size_of::<f32>(), dimensions));
    }
    let mut bytes = Zeroizing::new(vec![0; estimate]);
    let length = BASE64
        .decode_slice(text.as_bytes(), &mut bytes)
        .map_err(|_| Fault::new(Reason::BadBase64, "an encoding is not base64 of the standard alphabet"))?;
    if length != want {
        return Err(wrong_dimensions(length / size_of::<f32>(), dimensions));
    }
    Ok(bytes[..length].as_chunks::<4>().0.iter().map(|chunk| f32::from_le_bytes(*chunk)).collect())
}

fn wrong_dimensions(have: usize, want: usize) -> Fault {
    Fault::new(Reason::WrongDimensions, format!("an encoding has {have} components, the gallery has {want}"))
}

/// The scan has quoted numbers that no float holds, such as NaN and 1e400.
fn no_number(part: &str) -> Fault {
    let number = part.trim_matches('"').parse::<f64>();
    let is_cut = part.ends_with("...\"");
    if is_cut || number.is_ok_and(|number| !number.is_finite()) {
        return not_finite();
    }
    Fault::new(Reason::WrongType, "an encoding must hold numbers alone, without quotes or inner lists")
}

fn not_finite() -> Fault {
    Fault::new(Reason::NotFinite, "an encoding holds a number that is not finite")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Vec<f32>, Reason> {
        let raw: &RawValue = serde_json::from_str(json).unwrap();
        encoding(raw, 3).map(|encoding| encoding.as_slice().to_vec()).map_err(|fault| fault.reason)
    }

    fn base64(values: &[f32]) -> String {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        format!("\"{}\"", base64::prelude::BASE64_STANDARD.encode(bytes))
    }

    #[test]
    fn both_forms_give_the_same() {
        let values = [1.5, -0.25, 1e-3];
        assert_eq!(read("[1.5, -0.25,1e-3 ]"), Ok(values.to_vec()));
        assert_eq!(read(&base64(&values)), Ok(values.to_vec()));
        assert_eq!(read(&base64(&values).replace('/', "\\/")), Ok(values.to_vec()));
        assert_eq!(read(&base64(&values).replace('=', "")), Ok(values.to_vec()));
    }

    #[test]
    fn what_is_no_encoding_is_refused_with_its_reason() {
        let cases = [
            ("[]", Reason::WrongDimensions),
            ("[1,2]", Reason::WrongDimensions),
            ("[1,2,3,4]", Reason::WrongDimensions),
            ("[1,2,1e999]", Reason::NotFinite),
            ("[1,2,-1e39]", Reason::NotFinite),
            ("[1,2,null]", Reason::NotFinite),
            ("[1,2,\"NaN\"]", Reason::NotFinite),
            ("[1,\"-Infinity\",2]", Reason::NotFinite),
            ("[1,2,\"1e400\"]", Reason::NotFinite),
            ("[1,2,\"999...\"]", Reason::NotFinite),
            ("[0,0,-0.0]", Reason::ZeroVector),
            ("[1,2,\"3\"]", Reason::WrongType),
            ("[1,[2],3]", Reason::WrongType),
            ("[[1,2,3]]", Reason::WrongType),
            ("[1,2,true]", Reason::WrongType),
            ("null", Reason::WrongType),
            ("7", Reason::WrongType),
            ("{}", Reason::WrongType),
            ("\"\"", Reason::WrongDimensions),
            ("\"!!!!\"", Reason::BadBase64),
            ("\"\\ud800\"", Reason::BadBase64),
            ("\"AAAA\"", Reason::WrongDimensions),
        ];
        for (json, reason) in cases {
            assert_eq!(read(json), Err(reason), "{json}");
        }
        assert_eq!(read(&base64(&[1.0, f32::NAN, 0.0])), Err(Reason::NotFinite));
        assert_eq!(read(&base64(&[1.0, f32::INFINITY, 0.0])), Err(Reason::NotFinite));
        assert_eq!(read(&base64(&[0.0; 3])), Err(Reason::ZeroVector));
        assert_eq!(read(&base64(&[1.0; 1000])), Err(Reason::WrongDimensions));
    }
}
