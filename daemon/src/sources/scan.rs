//! A look over the raw bytes of a JSON text before anything is built from it.
//!
//! It does not check JSON: the parser does that. It makes sure that the parser can be let at it: text is
//! UTF-8, nesting and the length of numbers are bounded.

use crate::sources::refusal::{Fault, Reason};

/// Deepest nesting taken. An event needs 4 (object, faces, face, encoding); the rest is for attributes.
pub(crate) const DEPTH_MAX: usize = 16;

/// Longest number taken, in bytes. The longest that a program writes for a 64-bit float has below 30.
pub(crate) const NUMBER_BYTES_MAX: usize = 64;

/// Checks the bytes and gives them as text.
pub(crate) fn scan(bytes: &[u8]) -> Result<&str, Fault> {
    let text = std::str::from_utf8(bytes)
        .map_err(|error| Fault::new(Reason::NotJson, format!("not UTF-8 at byte {}", error.valid_up_to())))?;
    let mut depth = 0_usize;
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'"' => at = string_end(bytes, at),
            b'{' | b'[' => {
                depth += 1;
                if depth > DEPTH_MAX {
                    let detail = format!("nested deeper than {DEPTH_MAX} at byte {at}");
                    return Err(Fault::new(Reason::TooDeep, detail));
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            b'0'..=b'9' => at = number_end(bytes, at)?,
            // Some writers put NaN and Infinity where JSON has no word: tell them what is wrong.
            b'N' | b'I' => {
                let detail = format!("a number that is not finite at byte {at}");
                return Err(Fault::new(Reason::NotFinite, detail));
            }
            _ => {}
        }
        at += 1;
    }
    Ok(text)
}

/// Index of the closing quote of the string that starts at `start`, or the end.
fn string_end(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'\\' => at += 2,
            b'"' => return at,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// Index of the last byte of the number that starts at `start`.
fn number_end(bytes: &[u8], start: usize) -> Result<usize, Fault> {
    let part = |byte: &u8| matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-');
    let length = bytes[start..].iter().take(NUMBER_BYTES_MAX + 1).take_while(|byte| part(byte)).count();
    if length > NUMBER_BYTES_MAX {
        let detail = format!("a number of more than {NUMBER_BYTES_MAX} characters at byte {start}");
        return Err(Fault::new(Reason::TooLarge, detail));
    }
    Ok(start + length.max(1) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(bytes: &[u8]) -> Option<Reason> {
        scan(bytes).err().map(|fault| fault.reason)
    }

    #[test]
    fn open_brackets_and_long_numbers_are_seen_before_anything_is_built() {
        assert_eq!(reason("[".repeat(100_000).as_bytes()), Some(Reason::TooDeep));
        assert_eq!(reason("{\"a\":".repeat(100_000).as_bytes()), Some(Reason::TooDeep));
        assert_eq!(reason(&[b'9'; 100_000]), Some(Reason::TooLarge));
        assert_eq!(reason(b"[1,\xff]"), Some(Reason::NotJson));
        assert_eq!(reason(b"[-Infinity]"), Some(Reason::NotFinite));
        assert_eq!(reason("[]".repeat(1000).as_bytes()), None);
    }

    #[test]
    fn what_stands_in_a_string_does_not_count() {
        assert_eq!(reason(format!("\"{}\"", "[".repeat(100)).as_bytes()), None);
        assert_eq!(reason(format!("\"\\\"{}\"", "[".repeat(100)).as_bytes()), None);
        assert_eq!(reason(format!("\"{}\"", "9".repeat(100)).as_bytes()), None);
        assert_eq!(reason(b"\"NaN"), None);
        assert_eq!(reason(b"\"\\"), None);
    }
}
