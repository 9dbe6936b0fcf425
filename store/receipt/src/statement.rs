//! What one place says about an erasure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use gatehouse_model::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::keys::Signer;
use crate::note::Note;
use crate::place::{Place, Subject};
use crate::text::{
    FormError, NONE, Parser, TextError, canonical, parse_counts, parse_digest, parse_time, print_counts,
    print_digest, push, words,
};
use crate::words::{Check, Condition, Destroyed, KeyKind, Leftover, Method, Program, Word as _};

/// Longest text of a statement, in bytes: all words of all lists with their largest numbers fit.
pub const STATEMENT_BYTES_MAX: usize = 16 * 1024;
/// First line of a statement.
pub(crate) const FORMAT: &str = "gatehouse-erasure/v1";
/// Longest version of a program, in bytes.
const VERSION_BYTES_MAX: usize = 64;
/// Stands for a number that is not known.
const UNKNOWN: &str = "unknown";
/// Microseconds of a day.
const DAY_MICROS: i64 = 86_400_000_000;

/// Numbers by word, in the order of the words. A word without a number is not in it.
pub type Counts<K> = BTreeMap<K, u64>;

/// Who ordered an erasure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum By {
    /// A user of an appliance, by their number.
    User(u32),
    /// The central services, on behalf of another place or of an operator.
    Central,
    /// The retention policy.
    Retention,
    /// The end of the person's consent.
    Expiry,
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(number) => write!(f, "uid {number}"),
            Self::Central => f.write_str("central"),
            Self::Retention => f.write_str("retention"),
            Self::Expiry => f.write_str("expiry"),
        }
    }
}

impl FromStr for By {
    type Err = FormError;

    fn from_str(text: &str) -> Result<Self, FormError> {
        let by = match text {
            "central" => Some(Self::Central),
            "retention" => Some(Self::Retention),
            "expiry" => Some(Self::Expiry),
            text => text.strip_prefix("uid ").and_then(|number| number.parse().ok()).map(Self::User),
        };
        by.ok_or(FormError::NotCanonical)
    }
}

/// The program that erased.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tool {
    /// The program.
    pub program: Program,
    /// Its version: 1 to 64 of `A-Za-z0-9.+~-`.
    pub version: String,
    /// Number of the journal record of the erasure; none for the central tools.
    pub journal_lsn: Option<u64>,
}

impl Tool {
    fn parse(value: &str) -> Option<Self> {
        let mut words = value.split(' ');
        let program = Program::parse(words.next()?)?;
        let version = words.next()?.to_owned();
        let journal_lsn = match words.next() {
            Some("journal-lsn") => Some(words.next()?.parse().ok()?),
            Some(_) => return None,
            None => None,
        };
        words.next().is_none().then_some(Self { program, version, journal_lsn })
    }

    fn is_valid(&self) -> bool {
        let allowed = |c: char| c.is_ascii_alphanumeric() || ".+~-".contains(c);
        (1..=VERSION_BYTES_MAX).contains(&self.version.len()) && self.version.chars().all(allowed)
    }
}

impl fmt::Display for Tool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.program.as_str(), self.version)?;
        self.journal_lsn.map_or(Ok(()), |lsn| write!(f, " journal-lsn {lsn}"))
    }
}

/// A day in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Day(i32);

impl Day {
    /// The day of an instant.
    pub fn of(time: Timestamp) -> Self {
        Self(time.day())
    }

    fn parse(text: &str) -> Option<Self> {
        Timestamp::parse(&format!("{text}T00:00:00Z")).map(Self::of)
    }
}

impl fmt::Display for Day {
    /// As `2026-11-30`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = Timestamp(i64::from(self.0).saturating_mul(DAY_MICROS)).to_string();
        f.write_str(text.split('T').next().unwrap_or_default())
    }
}

/// What ends a leftover.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    /// It is gone at the end of this day.
    Day(Day),
    /// It is gone once this has happened.
    Condition(Condition),
}

/// Something that an erasure leaves for some time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Left {
    /// What it is.
    pub what: Leftover,
    /// What ends it.
    pub until: End,
}

impl Left {
    fn parse(value: &str) -> Option<Self> {
        let [what, "until", until] = words(value)? else { return None };
        let until = match Condition::parse(until) {
            Some(condition) => End::Condition(condition),
            None => End::Day(Day::parse(until)?),
        };
        Some(Self { what: Leftover::parse(what)?, until })
    }
}

impl fmt::Display for Left {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = self.what.as_str();
        match self.until {
            End::Day(day) => write!(f, "{what} until {day}"),
            End::Condition(condition) => write!(f, "{what} until {}", condition.as_str()),
        }
    }
}

/// What one place says about an erasure. It is made after all checks passed; a place that cannot erase stays pending
/// on the cover.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// Id of the order, the same in all statements of one erasure.
    pub order: Uuid,
    /// The person.
    pub subject: Subject,
    /// Where data was erased.
    pub place: Place,
    /// When the erasure was ordered.
    pub ordered: Timestamp,
    /// Who ordered it.
    pub by: By,
    /// When the place had erased.
    pub done: Timestamp,
    /// Largest error of these times, in milliseconds; none without a reference time.
    pub uncertainty_ms: Option<u64>,
    /// How the place erased. It belongs to the kind of the place.
    pub method: Method,
    /// The program that erased.
    pub tool: Tool,
    /// Keys that were destroyed.
    pub keys: Counts<KeyKind>,
    /// What was destroyed.
    pub destroyed: Counts<Destroyed>,
    /// SHA-256 over the sorted keys of the deleted objects, each with a line end; only for a bucket.
    pub object_names: Option<[u8; 32]>,
    /// What was checked, with the number of items, each of which passed.
    pub verified: Counts<Check>,
    /// What is left, and until when.
    pub left: BTreeSet<Left>,
}

impl Statement {
    /// The canonical text.
    ///
    /// # Errors
    /// [`FormError::Contradiction`] or [`FormError::NotCanonical`] for content that has no text, such as a time out of
    /// range, and [`FormError::TooLong`].
    pub fn to_text(&self) -> Result<String, FormError> {
        let text = self.print();
        if Self::parse(&text)? == *self { Ok(text) } else { Err(FormError::NotCanonical) }
    }

    /// The text, signed with the key of the place.
    ///
    /// # Errors
    /// As [`Statement::to_text`], and [`TextError::OtherKey`] for the key of another place.
    pub fn sign(&self, signer: &Signer) -> Result<Note, TextError> {
        sign_as(&self.to_text()?, &self.place, signer)
    }

    /// Parses the canonical text. Text of any other form is refused.
    ///
    /// # Errors
    /// [`FormError`] with the first line that is not valid.
    pub fn parse(text: &str) -> Result<Self, FormError> {
        if text.len() > STATEMENT_BYTES_MAX {
            return Err(FormError::TooLong { bytes: STATEMENT_BYTES_MAX });
        }
        let mut lines = Parser::new(text, FORMAT)?;
        let order = lines.field("order", |value| value.parse().ok())?;
        let subject = lines.field("subject", Subject::parse)?;
        let place = lines.field("place", Place::parse)?;
        let (ordered, by) = lines.field("ordered", |value| {
            let (time, by) = value.split_once(" by ")?;
            Some((parse_time(time)?, by.parse().ok()?))
        })?;
        let (done, uncertainty_ms) = lines.field("done", parse_done)?;
        let statement = Self {
            order,
            subject,
            place,
            ordered,
            by,
            done,
            uncertainty_ms,
            method: lines.field("method", Method::parse)?,
            tool: lines.field("tool", Tool::parse)?,
            keys: lines.field("keys", parse_counts)?,
            destroyed: lines.field("destroyed", parse_counts)?,
            object_names: match lines.is_next("object-names") {
                true => Some(lines.field("object-names", parse_digest)?),
                false => None,
            },
            verified: lines.field("verified", parse_counts)?,
            left: parse_left(&mut lines)?,
        };
        lines.end()?;
        if !statement.is_consistent() {
            return Err(FormError::Contradiction);
        }
        canonical(statement, text, Self::print)
    }

    fn print(&self) -> String {
        let mut text = format!("{FORMAT}\n");
        push(&mut text, "order", self.order.to_string());
        push(&mut text, "subject", self.subject.to_string());
        push(&mut text, "place", self.place.to_string());
        push(&mut text, "ordered", format!("{} by {}", self.ordered, self.by));
        let uncertainty = self.uncertainty_ms.map_or_else(|| UNKNOWN.to_owned(), |ms| ms.to_string());
        push(&mut text, "done", format!("{} uncertainty-ms {uncertainty}", self.done));
        push(&mut text, "method", self.method.as_str());
        push(&mut text, "tool", self.tool.to_string());
        push(&mut text, "keys", print_counts(&self.keys));
        push(&mut text, "destroyed", print_counts(&self.destroyed));
        if let Some(digest) = &self.object_names {
            push(&mut text, "object-names", print_digest(digest));
        }
        push(&mut text, "verified", print_counts(&self.verified));
        if self.left.is_empty() {
            push(&mut text, "left", NONE);
        }
        self.left.iter().for_each(|left| push(&mut text, "left", left.to_string()));
        text
    }

    /// Whether the values belong to the kind of the place.
    fn is_consistent(&self) -> bool {
        let method = match (self.place.is_postgres(), self.place.is_objects()) {
            (true, _) => Method::DeleteRows,
            (_, true) => Method::DeleteObjects,
            _ => Method::CryptoErase,
        };
        let is_device = self.place.device_id().is_some();
        self.method == method
            && self.tool.is_valid()
            && self.place.state().is_some() == is_device
            && (self.object_names.is_none() || self.place.is_objects())
    }
}

/// A note with the signature of the only key that may sign for a place.
pub(crate) fn sign_as(text: &str, place: &Place, signer: &Signer) -> Result<Note, TextError> {
    let (key, expected) = (signer.verifier_key().name(), place.key_name());
    if *key != expected {
        return Err(TextError::OtherKey { key: key.to_string(), expected: expected.to_string() });
    }
    Ok(Note::sign(text, signer)?)
}

fn parse_done(value: &str) -> Option<(Timestamp, Option<u64>)> {
    let [time, "uncertainty-ms", uncertainty] = words(value)? else { return None };
    let uncertainty = match uncertainty {
        UNKNOWN => None,
        number => Some(number.parse().ok()?),
    };
    Some((parse_time(time)?, uncertainty))
}

fn parse_left(lines: &mut Parser<'_>) -> Result<BTreeSet<Left>, FormError> {
    let first = lines.field("left", |value| match value {
        NONE => Some(None),
        value => Left::parse(value).map(Some),
    })?;
    let Some(first) = first else { return Ok(BTreeSet::new()) };
    let mut left = BTreeSet::from([first]);
    while lines.is_next("left") {
        left.insert(lines.field("left", Left::parse)?);
    }
    Ok(left)
}
