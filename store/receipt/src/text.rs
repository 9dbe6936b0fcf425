//! Lines of the form `key value` in a fixed order.
//!
//! The parsers of single values may accept more than one form of a value. [`canonical`] then compares the text with
//! the printed content, so that only the canonical form is accepted.

use std::collections::BTreeMap;
use std::iter::Peekable;
use std::str::Lines;

use gatehouse_model::Timestamp;
use thiserror::Error;

use crate::note::NoteError;
use crate::words::Word;

/// Stands for an empty list.
pub(crate) const NONE: &str = "none";

/// Why a text is not a statement, a cover or a bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum FormError {
    /// A line is missing, is another one, or has no valid value.
    #[error("line {line} is not a valid `{key}`")]
    Line {
        /// From 1 on, within the signed text.
        line: usize,
        /// The key that belongs there.
        key: &'static str,
    },
    /// There is text after the last line.
    #[error("line {line} does not belong to the text")]
    Surplus {
        /// From 1 on, within the signed text.
        line: usize,
    },
    /// The values are valid, and their form is not the canonical one.
    #[error("the text is not in canonical form")]
    NotCanonical,
    /// Values do not fit together, such as the method of an appliance for a database.
    #[error("the values of the text do not fit together")]
    Contradiction,
    /// The text, or a list in it, is too long.
    #[error("the text is longer than {bytes} bytes or its list is too long")]
    TooLong {
        /// Limit of the text in bytes.
        bytes: usize,
    },
    /// The bytes are not UTF-8.
    #[error("the file is not text in UTF-8")]
    NotText,
    /// There is no cover as the last note.
    #[error("the last note is not a cover")]
    NoCover,
}

/// Why a text cannot be made, signed or read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TextError {
    /// The content has no canonical form.
    #[error(transparent)]
    Form(#[from] FormError),
    /// The note is not valid.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// The key is not that of the place.
    #[error("the key `{key}` does not sign for this place; sign with the key `{expected}`")]
    OtherKey {
        /// Name of the given key.
        key: String,
        /// Name of the key of the place.
        expected: String,
    },
}

/// Reads lines in order.
pub(crate) struct Parser<'a> {
    lines: Peekable<Lines<'a>>,
    line: usize,
}

impl<'a> Parser<'a> {
    /// A parser after the first line, which names the format.
    pub(crate) fn new(text: &'a str, format: &'static str) -> Result<Self, FormError> {
        let mut parser = Self { lines: text.lines().peekable(), line: 1 };
        match parser.lines.next() {
            Some(first) if first == format => Ok(parser),
            _ => Err(FormError::Line { line: 1, key: format }),
        }
    }

    /// The value of the next line, which must have this key.
    pub(crate) fn field<T>(
        &mut self,
        key: &'static str,
        parse: impl FnOnce(&'a str) -> Option<T>,
    ) -> Result<T, FormError> {
        self.line += 1;
        let value = self.lines.next().and_then(|line| value_of(line, key));
        value.and_then(parse).ok_or(FormError::Line { line: self.line, key })
    }

    /// Whether the next line has this key.
    pub(crate) fn is_next(&mut self, key: &str) -> bool {
        self.lines.peek().is_some_and(|line| value_of(line, key).is_some())
    }

    pub(crate) fn end(mut self) -> Result<(), FormError> {
        self.lines.next().map_or(Ok(()), |_| Err(FormError::Surplus { line: self.line + 1 }))
    }
}

fn value_of<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    line.strip_prefix(key)?.strip_prefix(' ')
}

/// Appends a line.
pub(crate) fn push(text: &mut String, key: &str, value: impl AsRef<str>) {
    text.push_str(key);
    text.push(' ');
    text.push_str(value.as_ref());
    text.push('\n');
}

/// The content, if `text` is what `print` makes of it.
pub(crate) fn canonical<T>(content: T, text: &str, print: impl Fn(&T) -> String) -> Result<T, FormError> {
    if print(&content) == text { Ok(content) } else { Err(FormError::NotCanonical) }
}

/// The words of a value, exactly `N`.
pub(crate) fn words<const N: usize>(value: &str) -> Option<[&str; N]> {
    value.split(' ').collect::<Vec<_>>().try_into().ok()
}

/// `word number word number`, or `none`.
pub(crate) fn print_counts<K: Word>(counts: &BTreeMap<K, u64>) -> String {
    let pairs: Vec<String> =
        counts.iter().map(|(word, count)| format!("{} {count}", word.as_str())).collect();
    if pairs.is_empty() { NONE.to_owned() } else { pairs.join(" ") }
}

pub(crate) fn parse_counts<K: Word>(value: &str) -> Option<BTreeMap<K, u64>> {
    let mut counts = BTreeMap::new();
    if value == NONE {
        return Some(counts);
    }
    let words: Vec<&str> = value.split(' ').collect();
    for pair in words.chunks(2) {
        let [word, count] = pair else { return None };
        counts.insert(K::parse(word)?, count.parse().ok()?);
    }
    Some(counts)
}

pub(crate) fn parse_time(value: &str) -> Option<Timestamp> {
    Timestamp::parse(value)
}

/// `sha256:` and 64 hexadecimal digits.
pub(crate) fn print_digest(digest: &[u8; 32]) -> String {
    format!("sha256:{}", hex::encode(digest))
}

pub(crate) fn parse_digest(value: &str) -> Option<[u8; 32]> {
    let mut digest = [0; 32];
    hex::decode_to_slice(value.strip_prefix("sha256:")?, &mut digest).ok()?;
    Some(digest)
}
