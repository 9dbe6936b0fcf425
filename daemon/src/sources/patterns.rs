//! Detects possible face encodings in side fields: many numbers in any nesting or notation, or binary data as text. Ordinary
//! words, paths and identifiers must not match.

use crate::sources::scan::{number_end, string_end};

/// Most numbers of a side field. Boxes and a few landmarks have fewer, the shortest encodings in use have 128.
pub(crate) const NUMBERS_MAX: usize = 16;

/// Least binary data that is dropped, in bytes: half of an encoding of 64 16-bit numbers.
const BINARY_BYTES_MIN: usize = 64;

/// Shortest run of the base64 alphabet that counts, in characters: writers wrap lines at 64 or 76.
const RUN_CHARS_MIN: usize = 60;

/// Longest part of a path or list of words between separators, in characters.
const PART_CHARS_MAX: usize = 24;

/// Least share of words in a path or list of words. In base64 with many separators it is below half.
const WORDS_PERCENT_MIN: usize = 75;

/// Prefixes of JPEG, PNG, GIF and RIFF (WebP) in base64.
const PICTURES: [&str; 4] = ["/9j/", "iVBOR", "R0lGOD", "UklGR"];

/// Parts of names under which cameras send encodings.
const NAME_PARTS: [&str; 7] =
    ["encoding", "embedding", "descriptor", "template", "faceprint", "biometric", "face_vector"];

/// Whole names under which cameras send encodings.
const NAMES: [&str; 8] = ["face", "vector", "vec", "feature", "features", "emb", "enc", "face_features"];

/// The pattern of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pattern {
    /// So many numbers.
    Numbers(usize),
    /// So many bytes as text.
    Bytes(usize),
    /// A picture as text.
    Picture,
}

impl Pattern {
    /// The whole text as base64, of any length.
    pub(crate) fn of_base64(text: &str) -> Option<Self> {
        let text = text.trim().trim_end_matches('=');
        let is_base64 = !text.is_empty() && text.bytes().all(is_base64);
        is_base64.then(|| Self::Bytes(text.len() * 6 / 8))
    }
}

/// Whether the name of a field says that it is an encoding.
pub(crate) fn is_encoding_name(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    NAMES.contains(&name.as_str()) || NAME_PARTS.iter().any(|part| name.contains(part))
}

/// Whether a name is one of a numbered series: `0`, `e17`, `v[3]`.
pub(crate) fn is_numbered(name: &str) -> bool {
    let name = name.trim_end_matches(|c: char| !c.is_alphanumeric());
    name.ends_with(|c: char| c.is_ascii_digit())
}

/// The pattern of a text, if it has one.
pub(crate) fn pattern(text: &str) -> Option<Pattern> {
    // A shorter text cannot contain so many numbers or bytes.
    if text.len() <= 2 * NUMBERS_MAX {
        return None;
    }
    hex(text).or_else(|| numbers(text)).or_else(|| base64(text))
}

fn numbers(text: &str) -> Option<Pattern> {
    let count = tokens(text).filter(|token| token.parse::<f64>().is_ok()).count();
    (count > NUMBERS_MAX).then_some(Pattern::Numbers(count))
}

/// Numbers in a JSON text, at any depth, also those written as strings. Names of fields do not count.
pub(crate) fn count_numbers(json: &str) -> usize {
    let bytes = json.as_bytes();
    let (mut at, mut count) = (0, 0);
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => {
                let end = string_end(bytes, at);
                let is_name = json[end..].trim_start().starts_with(':');
                if !is_name {
                    count += numbers_of_string(&json[at + 1..end.saturating_sub(1).max(at + 1)]);
                }
                at = end;
            }
            b'0'..=b'9' => {
                at = number_end(bytes, at);
                count += 1;
            }
            _ => at += 1,
        }
    }
    count
}

/// One for a string that is a number, else its decimal fractions: a date or "zone 1" has none.
fn numbers_of_string(text: &str) -> usize {
    if text.trim().parse::<f64>().is_ok() {
        return 1;
    }
    tokens(text).filter(|token| token.contains('.') && token.parse::<f64>().is_ok()).count()
}

/// Words with a digit. Digits within a longer word, as in base64, are not a number.
fn tokens(text: &str) -> impl Iterator<Item = &str> {
    let words = text.split(|c: char| !c.is_alphanumeric() && !matches!(c, '.' | '+' | '-'));
    // As C writes a 32-bit float.
    let words = words.map(|word| word.trim_end_matches(['f', 'F']));
    words.filter(|word| word.bytes().any(|byte| byte.is_ascii_digit()))
}

/// Bytes as hexadecimal digits, with or without separators, `\x` or `0x`.
fn hex(text: &str) -> Option<Pattern> {
    let is_separator = |c: char| {
        c.is_whitespace()
            || matches!(c, ',' | ':' | ';' | '-' | '_' | '[' | ']' | '(' | ')' | '\'' | '\\' | 'x')
    };
    let mut digits = 0;
    for c in text.chars() {
        if c.is_ascii_hexdigit() {
            digits += 1;
        } else if !is_separator(c) {
            return None;
        }
    }
    (digits >= 2 * BINARY_BYTES_MIN).then_some(Pattern::Bytes(digits / 2))
}

/// Bytes as base64 or base64url: all long runs of its alphabet together, so that wrapped lines, data URLs and JSON
/// within a text are seen.
fn base64(text: &str) -> Option<Pattern> {
    let is_run = |run: &&str| run.len() >= RUN_CHARS_MIN && !is_words(run);
    let mut runs = text.split(|c: char| !u8::try_from(c).is_ok_and(is_base64)).filter(is_run).peekable();
    let is_picture = runs.peek().is_some_and(|run| PICTURES.iter().any(|start| run.starts_with(start)));
    let mut bytes = 0;
    for run in runs {
        let is_hex = run.bytes().all(|byte| byte.is_ascii_hexdigit());
        bytes += if is_hex { run.len() / 2 } else { run.len() * 6 / 8 };
    }
    match bytes >= BINARY_BYTES_MIN {
        true if is_picture => Some(Pattern::Picture),
        true => Some(Pattern::Bytes(bytes)),
        false => None,
    }
}

/// Both alphabets, and the percent sign of a URL.
fn is_base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'-' | b'_' | b'%')
}

/// Whether a run is a path, a list of words or a few identifiers: short parts, most of them of one kind of character.
fn is_words(run: &str) -> bool {
    let mut chars_in_words = 0;
    for part in run.split(['/', '-', '_', '+', '%']) {
        if part.len() > PART_CHARS_MAX {
            return false;
        }
        chars_in_words += if is_word(part.as_bytes()) { part.len() + 1 } else { 0 };
    }
    chars_in_words * 100 > run.len() * WORDS_PERCENT_MIN
}

/// A word or number, also hexadecimal: few changes between small letters, capitals and digits.
fn is_word(part: &[u8]) -> bool {
    let kind = |byte: &u8| (byte.is_ascii_digit(), byte.is_ascii_uppercase());
    let is_hex = |capital: bool| {
        let fits = |byte: &u8| byte.is_ascii_digit() || byte.is_ascii_uppercase() == capital;
        part.iter().all(|byte| byte.is_ascii_hexdigit() && fits(byte))
    };
    let changes = part.windows(2).filter(|pair| kind(&pair[0]) != kind(&pair[1])).count();
    changes <= 1 + part.len() / 8 || is_hex(false) || is_hex(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine;
    use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};

    /// Encodings as models give them: small numbers, and numbers of length 1.
    fn encodings() -> Vec<Vec<f32>> {
        let mut random = fastrand::Rng::with_seed(7);
        let mut of = |count: usize, scale: f32| -> Vec<f32> {
            (0..count).map(|_| (random.f32() - 0.5) * scale).collect()
        };
        (0..100).flat_map(|_| [of(64, 1.0), of(128, 0.4), of(512, 0.1), of(128, 4.0)]).collect()
    }

    #[test]
    fn every_notation_of_an_encoding_is_seen() {
        for numbers in encodings() {
            let half: Vec<u8> = numbers.iter().flat_map(|n| n.to_le_bytes()[2..].to_vec()).collect();
            let single: Vec<u8> = numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
            let big: Vec<u8> = numbers.iter().flat_map(|n| n.to_be_bytes()).collect();
            let double: Vec<u8> = numbers.iter().flat_map(|n| f64::from(*n).to_le_bytes()).collect();
            for bytes in [half, single, big, double] {
                let standard = BASE64_STANDARD.encode(&bytes);
                let lines: Vec<&str> = standard
                    .as_bytes()
                    .chunks(76)
                    .filter_map(|line| std::str::from_utf8(line).ok())
                    .collect();
                let texts = [
                    standard.clone(),
                    BASE64_URL_SAFE_NO_PAD.encode(&bytes),
                    lines.join("\r\n"),
                    format!("data:application/octet-stream;base64,{standard}"),
                    format!("{{\"encoding\":\"{standard}\"}}"),
                    standard.replace('+', "%2B").replace('/', "%2F"),
                    hex::encode(&bytes),
                    hex::encode_upper(&bytes),
                    bytes.iter().map(|byte| format!("{byte:02x}:")).collect(),
                    bytes.iter().map(|byte| format!("\\x{byte:02x}")).collect(),
                    format!("id=7 data={}", hex::encode(&bytes)),
                ];
                for text in texts {
                    assert!(matches!(pattern(&text), Some(Pattern::Bytes(_))), "{text}");
                }
                assert_eq!(pattern(&standard), Some(Pattern::Bytes(bytes.len())));
            }
            let list =
                |separator: &str| numbers.iter().map(ToString::to_string).collect::<Vec<_>>().join(separator);
            for separator in [",", " ", ", ", ";", "\n", "|"] {
                assert_eq!(pattern(&list(separator)), Some(Pattern::Numbers(numbers.len())));
            }
            assert_eq!(count_numbers(&format!("[[{}]]", list(",[]],["))), numbers.len());
            assert_eq!(count_numbers(&format!("[\"{}\"]", list("\",\""))), numbers.len());
            assert_eq!(count_numbers(&format!("{{\"e0\":{}}}", list(",\"e1\": "))), numbers.len());
        }
    }

    #[test]
    fn words_paths_and_identifiers_are_not() {
        for text in [
            "The parcel was left in front of the garage door, the neighbour at number 14 was not there at all.",
            "/media/frigate/recordings/2026-11-30/14/front_door/12-34-clips/Snapshot_2026_11_30T14_10_00.jpg",
            "https://camera.example.org/api/v2/events/1698765432.123456-abcdef/snapshot.jpg?bbox=1&quality=70",
            "6f9619ff-8b86-d011-b42d-00cf4fc964ff_6f9619ff-8b86-d011-b42d-00cf4fc964fe_6f9619ff",
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            "Mozilla/5.0 (X11; Linux armv7l) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Safari/537.36",
            "2026-11-30T14:10:00Z 192.168.1.17 fe80::1 AA:BB:CC:DD:EE:FF 1.2.3-rc4",
            "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft",
        ] {
            assert_eq!(pattern(text), None, "{text}");
        }
        assert_eq!(count_numbers(r#"{"a1":["zone 1","2026-11-30",null,"fe80::1"],"b":{"17":true}}"#), 0);
    }

    #[test]
    fn a_picture_is_recognised() {
        let jpeg = BASE64_STANDARD.encode([&[0xff, 0xd8, 0xff, 0xe0][..], &[7; 200]].concat());
        assert_eq!(pattern(&jpeg), Some(Pattern::Picture));
        assert_eq!(pattern(&format!("data:image/jpeg;base64,{jpeg}")), Some(Pattern::Picture));
    }

    #[test]
    fn names_of_encodings_and_of_series_are_known() {
        for name in ["encoding", "faceEncodings", "Embedding", "face", "descriptor", "face_template"] {
            assert!(is_encoding_name(name), "{name}");
        }
        for name in ["surface", "face_count", "box", "firmware", "plate"] {
            assert!(!is_encoding_name(name), "{name}");
        }
        assert!(is_numbered("0") && is_numbered("e17") && is_numbered("v[3]") && !is_numbered("battery"));
    }
}
