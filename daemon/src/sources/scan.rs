//! Scans the raw bytes of a JSON text before it is parsed.
//!
//! The parser checks the JSON; the scan bounds its nesting. It also repairs defects that a parser refuses although they affect
//! only a side field: padding of C strings, invalid UTF-8, unpaired surrogates, and numbers beyond a 64-bit float. Such a
//! number becomes a text, never `null`: a safety field must not look absent because its value is invalid.

use std::borrow::Cow;
use std::ops::Deref;

use zeroize::Zeroizing;

use crate::sources::notes::Notes;
use crate::sources::refusal::{Fault, Reason};

/// Deepest accepted nesting, the bound of the parser. An event needs 4 (object, faces, face, encoding).
pub(crate) const DEPTH_MAX: usize = 128;

/// Longest accepted number, in bytes. Programs write a 64-bit float with less than 30.
pub(crate) const NUMBER_BYTES_MAX: usize = 64;

/// Largest accepted exponent of either sign: beyond a 64-bit float, and far below the limit of Postgres.
const EXPONENT_MAX: u32 = 400;

/// Kept characters of a number that is too long.
const NUMBER_CHARS_KEPT: usize = 24;

/// Words that C, Python and JavaScript write for numbers that JSON cannot express.
const NOT_FINITE: [&str; 6] = ["NaN", "nan", "Infinity", "infinity", "Inf", "inf"];

/// A JSON text: the original bytes, or a repaired copy, which is wiped.
pub(crate) enum Text<'a> {
    AsSent(&'a str),
    Repaired(Zeroizing<String>),
}

impl Deref for Text<'_> {
    type Target = str;
    fn deref(&self) -> &str {
        match self {
            Self::AsSent(text) => text,
            Self::Repaired(text) => text,
        }
    }
}

/// Removes a byte order mark, NUL padding and blanks around the JSON text.
pub(crate) fn without_padding(bytes: &[u8]) -> &[u8] {
    let mut bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    while let [rest @ .., 0 | b' ' | b'\t' | b'\r' | b'\n'] = bytes {
        bytes = rest;
    }
    bytes
}

/// Scans the bytes and returns them as text.
pub(crate) fn scan<'a>(bytes: &'a [u8], notes: &mut Notes) -> Result<Text<'a>, Fault> {
    match String::from_utf8_lossy(bytes) {
        Cow::Borrowed(text) => {
            let repaired = Repair::new(text).run(notes)?;
            Ok(repaired.map_or(Text::AsSent(text), Text::Repaired))
        }
        Cow::Owned(text) => {
            notes.add("the event is not UTF-8: each broken character was replaced by U+FFFD");
            let text = Zeroizing::new(text);
            let repaired = Repair::new(&text).run(notes)?;
            Ok(Text::Repaired(repaired.unwrap_or(text)))
        }
    }
}

/// One pass over a text. It is copied only if it needs a repair.
struct Repair<'a> {
    text: &'a str,
    out: Option<Zeroizing<String>>,
    /// The text is copied up to here.
    copied: usize,
    has_surrogates: bool,
    has_numbers: bool,
}

impl<'a> Repair<'a> {
    fn new(text: &'a str) -> Self {
        Self { text, out: None, copied: 0, has_surrogates: false, has_numbers: false }
    }

    fn run(mut self, notes: &mut Notes) -> Result<Option<Zeroizing<String>>, Fault> {
        let bytes = self.text.as_bytes();
        let mut depth = 0_usize;
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            at = match byte {
                b'"' => self.string(at),
                b'{' | b'[' => {
                    depth += 1;
                    if depth > DEPTH_MAX {
                        let detail = format!("nested deeper than {DEPTH_MAX} at byte {at}");
                        return Err(Fault::new(Reason::TooDeep, detail));
                    }
                    at + 1
                }
                b'}' | b']' => {
                    depth = depth.saturating_sub(1);
                    at + 1
                }
                b'-' | b'0'..=b'9' | b'N' | b'n' | b'I' | b'i' => self.number(at),
                // The rest of a word, so that no part of it counts as a word.
                _ if byte.is_ascii_alphabetic() => word_end(bytes, at),
                _ => at + 1,
            };
        }
        if self.has_surrogates {
            notes.add("half of a surrogate pair was replaced by U+FFFD");
        }
        if self.has_numbers {
            notes.add(
                "a number that no 64-bit float holds, or of more than 64 characters, was kept as a text",
            );
        }
        let Some(mut out) = self.out else { return Ok(None) };
        out.push_str(&self.text[self.copied..]);
        Ok(Some(out))
    }

    /// Scans the string that starts at `start` and returns the index after it.
    fn string(&mut self, start: usize) -> usize {
        let bytes = self.text.as_bytes();
        let mut at = start + 1;
        while let Some(&byte) = bytes.get(at) {
            match byte {
                b'\\' => {
                    let (length, is_half) = escape(&bytes[at..]);
                    if is_half {
                        self.has_surrogates = true;
                        self.replace(at, at + length, "\\ufffd");
                    }
                    at += length;
                }
                b'"' => return at + 1,
                _ => at += 1,
            }
        }
        bytes.len()
    }

    /// Scans the number, or the word for one, that starts at `start` and returns the index after it.
    fn number(&mut self, start: usize) -> usize {
        let bytes = self.text.as_bytes();
        let unsigned = if bytes[start] == b'-' { start + 1 } else { start };
        let is_word = bytes.get(unsigned).is_some_and(u8::is_ascii_alphabetic);
        let end = if is_word { word_end(bytes, unsigned) } else { number_end(bytes, unsigned) };
        let token = &self.text[start..end];
        let is_kept =
            if is_word { !NOT_FINITE.contains(&&self.text[unsigned..end]) } else { is_representable(token) };
        if !is_kept {
            self.has_numbers = true;
            let is_long = token.len() > NUMBER_BYTES_MAX;
            let kept = if is_long { &token[..NUMBER_CHARS_KEPT] } else { token };
            let kept = format!("\"{kept}{}\"", if is_long { "..." } else { "" });
            self.replace(start, end, &kept);
        }
        end.max(start + 1)
    }

    fn replace(&mut self, start: usize, end: usize, by: &str) {
        // The full capacity at once: a growing string leaves copies that are not wiped. A repair at most doubles a token.
        let out = self.out.get_or_insert_with(|| Zeroizing::new(String::with_capacity(2 * self.text.len())));
        out.push_str(&self.text[self.copied..start]);
        out.push_str(by);
        self.copied = end;
    }
}

/// Length of the escape that the bytes begin with, and whether it is half of a surrogate pair.
fn escape(bytes: &[u8]) -> (usize, bool) {
    match unit(bytes) {
        Some(0xd800..=0xdbff) => match bytes.get(6..).and_then(unit) {
            Some(0xdc00..=0xdfff) => (12, false),
            _ => (6, true),
        },
        Some(0xdc00..=0xdfff) => (6, true),
        Some(_) => (6, false),
        None => (2, false),
    }
}

/// The code unit of a `\uXXXX` that the bytes begin with.
fn unit(bytes: &[u8]) -> Option<u16> {
    let digits = bytes.strip_prefix(b"\\u")?.get(..4)?;
    let value =
        |unit: u16, digit: &u8| Some(unit << 4 | u16::try_from(char::from(*digit).to_digit(16)?).ok()?);
    digits.iter().try_fold(0, value)
}

/// The index after the string that starts at `start`.
pub(crate) fn string_end(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// The index after the number that starts at `start`.
pub(crate) fn number_end(bytes: &[u8], start: usize) -> usize {
    let part = |byte: &&u8| matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-');
    start + bytes[start..].iter().take_while(part).count()
}

fn word_end(bytes: &[u8], start: usize) -> usize {
    start + bytes[start..].iter().take_while(|byte| byte.is_ascii_alphanumeric()).count()
}

/// Whether all JSON readers can represent the number. The parser checks whether it is one.
fn is_representable(number: &str) -> bool {
    if number.len() > NUMBER_BYTES_MAX {
        return false;
    }
    let Some((_, exponent)) = number.split_once(['e', 'E']) else { return true };
    let digits = exponent.trim_start_matches(['+', '-']);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return true;
    }
    let is_small = digits.parse::<u32>().is_ok_and(|exponent| exponent <= EXPONENT_MAX);
    is_small && number.parse::<f64>().map_or(true, f64::is_finite)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(bytes: &[u8]) -> Option<Reason> {
        scan(bytes, &mut Notes::default()).err().map(|fault| fault.reason)
    }

    fn repaired(text: impl AsRef<[u8]>) -> (String, usize) {
        let mut notes = Notes::default();
        let text = scan(text.as_ref(), &mut notes).ok().unwrap().to_string();
        (text, notes.finish().len())
    }

    #[test]
    fn open_brackets_are_seen_before_anything_is_built() {
        assert_eq!(reason("[".repeat(100_000).as_bytes()), Some(Reason::TooDeep));
        assert_eq!(reason("{\"a\":".repeat(100_000).as_bytes()), Some(Reason::TooDeep));
        assert_eq!(reason("[]".repeat(1000).as_bytes()), None);
    }

    #[test]
    fn what_stands_in_a_string_does_not_count() {
        assert_eq!(reason(format!("\"{}\"", "[".repeat(1000)).as_bytes()), None);
        assert_eq!(reason(format!("\"\\\"{}\"", "[".repeat(1000)).as_bytes()), None);
        for text in [format!("\"{}\"", "9".repeat(100)), "\"NaN".to_owned(), "\"\\".to_owned()] {
            assert_eq!(repaired(&text), (text, 0));
        }
    }

    #[test]
    fn numbers_that_nothing_holds_become_texts() {
        for (text, right) in [
            ("[1e400,-1E+999]", "[\"1e400\",\"-1E+999\"]"),
            ("[NaN,-Infinity,nan]", "[\"NaN\",\"-Infinity\",\"nan\"]"),
            ("[1e-99999999999]", "[\"1e-99999999999\"]"),
        ] {
            assert_eq!(repaired(text), (right.to_owned(), 1), "{text}");
        }
        let long = format!("{{\"a\":{}}}", "9".repeat(140_000));
        assert_eq!(repaired(long).0, format!("{{\"a\":\"{}...\"}}", "9".repeat(NUMBER_CHARS_KEPT)));
        for text in ["[1e-400,1e300,0.1,-5]", "ON", "NOTHING", "null", "[1e]", "-", "[null,-n]", "1e1e1"] {
            assert_eq!(repaired(text), (text.to_owned(), 0), "{text}");
        }
    }

    #[test]
    fn halves_of_surrogate_pairs_and_broken_bytes_are_replaced() {
        assert_eq!(repaired(r#""a\ud800""#), (r#""a\ufffd""#.to_owned(), 1));
        assert_eq!(repaired(r#""\ude00\ud83d""#), (r#""\ufffd\ufffd""#.to_owned(), 1));
        assert_eq!(repaired(r#""\ud83d\ude00\\ud800\u00""#).1, 0);
        assert_eq!(repaired(b"\"T\xfcr\""), ("\"T\u{fffd}r\"".to_owned(), 1));
    }

    #[test]
    fn padding_is_cut() {
        assert_eq!(without_padding(b"\xef\xbb\xbf{}\0\0\r\n\0"), b"{}");
        assert_eq!(without_padding(b"\0\0"), b"");
    }
}
