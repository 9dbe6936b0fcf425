//! Labeled encodings from a CSV file, as written by spreadsheets, pandas and numpy.
//!
//! The first field is the person, the others are numbers. Also accepted: a header, blank lines, quotes around
//! any field, brackets and blanks around the numbers, and `;` or tabs instead of commas. Errors report line
//! and field, never the content.

use std::collections::HashMap;
use std::io::{BufRead, ErrorKind, Read};

use thiserror::Error;
use zeroize::{Zeroize, Zeroizing};

use crate::{Encoding, EncodingFault};

/// Minimum and maximum components of an encoding, as in the settings.
const DIMENSIONS: std::ops::RangeInclusive<usize> = 2..=4096;
/// From this many numbers on, a row that counts up from 0 or 1 is a header: a model never returns such an
/// encoding.
const COUNTED_MIN: usize = 8;
/// Longest line: the longest encoding at 32 characters per number, and a name.
const LINE_BYTES_MAX: usize = 4096 * 32 + 4096;

/// Why a file has no encodings to evaluate.
#[derive(Debug, Error)]
pub enum SamplesFault {
    /// Reading the file failed.
    #[error("line {line}: cannot be read: {kind}")]
    Read {
        /// Number of the line, from 1.
        line: usize,
        /// The error of the operating system.
        kind: ErrorKind,
    },
    /// Not text, or longer than any encoding.
    #[error("line {line}: is no line of text of at most {LINE_BYTES_MAX} bytes")]
    Text {
        /// Number of the line, from 1.
        line: usize,
    },
    /// No person in the first field.
    #[error("line {line}: has no person; the first field must be the person of the encoding")]
    Person {
        /// Number of the line, from 1.
        line: usize,
    },
    /// A field after the person is not a number.
    #[error("line {line}: field {field} is not a number; all fields after the person must be numbers")]
    Number {
        /// Number of the line, from 1.
        line: usize,
        /// Number of the field, from 1; the person is field 1.
        field: usize,
    },
    /// The first encoding is too short or too long.
    #[error("line {line}: has {have} numbers; an encoding has from 2 to 4096")]
    Dimensions {
        /// Number of the line, from 1.
        line: usize,
        /// Numbers on the line.
        have: usize,
    },
    /// Not a valid encoding, or another count of numbers than on the first line.
    #[error("line {line}: {fault}")]
    Encoding {
        /// Number of the line, from 1.
        line: usize,
        /// The reason.
        fault: EncodingFault,
    },
    /// No encoding at all.
    #[error("there is no encoding in it; a line is: person, number, number, ...")]
    Empty,
}

/// Encodings with their people.
#[derive(Debug, Default)]
pub struct Samples {
    people: HashMap<String, u32>,
    list: Vec<(u32, Encoding)>,
}

impl Samples {
    /// Reads all lines of `input`.
    ///
    /// # Errors
    /// The first invalid line, with the reason.
    pub fn read(mut input: impl BufRead) -> Result<Self, SamplesFault> {
        let mut samples = Self::default();
        let mut bytes = Zeroizing::new(Vec::with_capacity(LINE_BYTES_MAX + 1));
        let mut numbers = Zeroizing::new(Vec::with_capacity(*DIMENSIONS.end() + 1));
        let mut is_first = true;
        for line in 1.. {
            bytes.zeroize();
            let read = input.by_ref().take(LINE_BYTES_MAX as u64 + 1).read_until(b'\n', &mut bytes);
            if read.map_err(|error| SamplesFault::Read { line, kind: error.kind() })? == 0 {
                break;
            }
            if bytes.len() > LINE_BYTES_MAX {
                return Err(SamplesFault::Text { line });
            }
            let text = std::str::from_utf8(&bytes).map_err(|_| SamplesFault::Text { line })?;
            let text = text.trim_start_matches('\u{feff}').trim();
            if text.is_empty() {
                continue;
            }
            let (person, rest) = split_person(text);
            if std::mem::take(&mut is_first) && is_header(rest) {
                continue;
            }
            if person.is_empty() {
                return Err(SamplesFault::Person { line });
            }
            parse(rest, &mut numbers).map_err(|field| SamplesFault::Number { line, field })?;
            samples.take(&person, &numbers, line)?;
        }
        if samples.list.is_empty() { Err(SamplesFault::Empty) } else { Ok(samples) }
    }

    fn take(&mut self, person: &str, numbers: &[f32], line: usize) -> Result<(), SamplesFault> {
        let have = numbers.len();
        if self.list.is_empty() && !DIMENSIONS.contains(&have) {
            return Err(SamplesFault::Dimensions { line, have });
        }
        let want = if self.list.is_empty() { have } else { self.dimensions() };
        let encoding = Encoding::new(numbers.to_vec(), want);
        self.push(person, encoding.map_err(|fault| SamplesFault::Encoding { line, fault })?);
        Ok(())
    }

    /// Adds one encoding of a person. All must have the same length; others are excluded from the evaluation.
    pub fn push(&mut self, person: &str, encoding: Encoding) {
        let next = u32::try_from(self.people.len()).unwrap_or(u32::MAX);
        let number = match self.people.get(person) {
            Some(number) => *number,
            None => *self.people.entry(person.to_owned()).or_insert(next),
        };
        self.list.push((number, encoding));
    }

    /// Components of an encoding; 0 without encodings.
    pub fn dimensions(&self) -> usize {
        self.list.first().map_or(0, |(_, encoding)| encoding.as_slice().len())
    }

    /// Number of people.
    pub fn people(&self) -> usize {
        self.people.len()
    }

    /// Every encoding with its person's number, from 0.
    pub fn list(&self) -> &[(u32, Encoding)] {
        &self.list
    }
}

/// The person without quotes, and the rest of the line.
fn split_person(text: &str) -> (String, &str) {
    if let Some(quoted) = text.strip_prefix('"') {
        let mut from = 0;
        while let Some(at) = quoted[from..].find('"').map(|at| at + from) {
            if !quoted[at + 1..].starts_with('"') {
                return (quoted[..at].replace("\"\"", "\"").trim().to_owned(), &quoted[at + 1..]);
            }
            from = at + 2;
        }
    }
    let end = text.find([',', ';', '\t']).or_else(|| text.find(char::is_whitespace));
    let (person, rest) = end.map_or((text, ""), |end| (&text[..end], &text[end..]));
    (person.trim().trim_matches('\'').to_owned(), rest)
}

/// The fields after the person.
fn fields(rest: &str) -> impl Iterator<Item = &str> {
    let is_mark = |c: char| c.is_whitespace() || matches!(c, ',' | ';' | '"' | '\'' | '[' | ']' | '(' | ')');
    rest.split(is_mark).filter(|field| !field.is_empty())
}

/// Whether the first line is a header: words, or column numbers.
fn is_header(rest: &str) -> bool {
    let mut numbers = fields(rest).map(|field| field.parse::<f32>().ok()).peekable();
    if numbers.peek().is_none() {
        return false;
    }
    let numbers: Vec<Option<f32>> = numbers.collect();
    let is_counted = |from: usize| {
        let mut pairs = numbers.iter().enumerate();
        // Column numbers are small, so f32 represents them exactly.
        pairs.all(|(at, number)| *number == Some((at + from) as f32))
    };
    numbers.iter().all(Option::is_none) || (numbers.len() >= COUNTED_MIN && (is_counted(0) || is_counted(1)))
}

/// Reads the numbers. On failure, returns the number of the first invalid field.
fn parse(rest: &str, numbers: &mut Vec<f32>) -> Result<(), usize> {
    numbers.zeroize();
    for (at, field) in fields(rest).enumerate() {
        if numbers.len() > *DIMENSIONS.end() {
            break;
        }
        numbers.push(field.parse().map_err(|_| at + 2)?);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Samples, SamplesFault> {
        Samples::read(text.as_bytes())
    }

    #[test]
    fn encodings_are_read_as_spreadsheets_and_scripts_write_them() {
        for text in [
            "a,0.5,-1\nb,0.25,2e0\na,1,2\n",
            "\u{feff}person,e0,e1\r\na,0.5,-1\r\n\r\nb,0.25,2\r\na,1,2",
            "\"\",\"x\",\"y\"\n\"a\",\"0.5\",\"-1\"\n\n\"b\", 0.25, 2\na;1;2\n",
            "name;e1;e2\na,\"[0.5, -1]\"\nb\t0.25\t2\na [1 2]\n",
        ] {
            let samples = read(text).unwrap_or_else(|fault| panic!("{text}: {fault}"));
            assert_eq!((samples.people(), samples.dimensions(), samples.list.len()), (2, 2, 3), "{text}");
            assert_eq!(samples.list[1].1.as_slice(), [0.25, 2.0], "{text}");
            assert_eq!((samples.list[0].0, samples.list[2].0), (0, 0), "{text}");
        }
    }

    #[test]
    fn columns_may_be_named_by_their_numbers() {
        let counted: Vec<String> = (0..8).map(|n| n.to_string()).collect();
        let samples = read(&format!("person,{}\na,1,1,1,1,1,1,1,1\n", counted.join(","))).unwrap();
        assert_eq!((samples.people(), samples.list.len()), (1, 1));
    }

    #[test]
    fn a_name_may_hold_commas_and_quotes() {
        let samples = read("\"Doe, \"\"J\"\" Jane\",1,2\n").unwrap();
        assert!(samples.people.contains_key("Doe, \"J\" Jane"));
    }

    #[test]
    fn errors_have_the_line_and_never_the_content() {
        for (text, words) in [
            ("a,1,2\n\nsecret,1,secret\n", "line 3: field 3 is not a number"),
            ("a,1,2\nb,1,2,3\n", "line 2: encoding has 3 components"),
            ("a,1,2\nb,nan,1\n", "line 2: encoding holds NaN"),
            ("a,1,2\nb,0,0\n", "line 2: encoding is zero"),
            ("a,1,2\n,1,2\n", "line 2: has no person"),
            ("a,7\n", "line 1: has 1 numbers"),
            ("a\n", "line 1: has 0 numbers"),
            ("person,e0\n\n", "there is no encoding"),
            ("", "there is no encoding"),
        ] {
            let fault = read(text).unwrap_err().to_string();
            assert!(fault.starts_with(words) && !fault.contains("secret"), "{fault}");
        }
        assert!(matches!(Samples::read(&b"a,1,2\n\xff,1,2\n"[..]), Err(SamplesFault::Text { line: 2 })));
        assert!(matches!(read(&"x".repeat(LINE_BYTES_MAX + 1)), Err(SamplesFault::Text { line: 1 })));
    }
}
