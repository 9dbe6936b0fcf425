//! The list of all places that must answer an order of erasure, signed by the central services.

use std::collections::BTreeMap;
use std::fmt;

use gatehouse_model::Timestamp;
use serde::{Serialize, Serializer};
use uuid::Uuid;

use crate::keys::{KeyName, Signer};
use crate::note::Note;
use crate::place::{Place, Subject};
use crate::statement::sign_as;
use crate::text::{FormError, Parser, TextError, canonical, parse_digest, parse_time, print_digest, push};

/// Longest text of a cover, in bytes.
pub const COVER_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Most places of an order: more than a deployment has appliances. A line has at most 400 bytes.
pub const PLACES_MAX: usize = 4_096;
/// First line of a cover.
pub(crate) const FORMAT: &str = "gatehouse-cover/v1";
/// Stands for a contact that did not happen yet.
const NEVER: &str = "never";

/// Where the erasure stands at a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum PlaceState {
    /// The place has erased, and its statement is in the bundle.
    Done {
        /// When the central services recorded the statement.
        #[serde(serialize_with = "as_text")]
        at: Timestamp,
        /// SHA-256 of the text of the statement.
        #[serde(serialize_with = "as_hex")]
        sha256: [u8; 32],
    },
    /// The place has not answered yet.
    Pending {
        /// Its last contact with the central services, if there was one.
        #[serde(serialize_with = "as_optional_text")]
        last_contact: Option<Timestamp>,
    },
    /// The place cannot answer any more: the appliance is lost, and its data is sealed.
    Impossible {
        /// When that was recorded.
        #[serde(serialize_with = "as_text")]
        at: Timestamp,
    },
    /// The place was taken out of use before it answered.
    Retired {
        /// When that was recorded.
        #[serde(serialize_with = "as_text")]
        at: Timestamp,
    },
}

impl fmt::Display for PlaceState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done { at, sha256 } => write!(f, "done {at} {}", print_digest(sha256)),
            Self::Pending { last_contact: Some(at) } => write!(f, "pending last-contact {at}"),
            Self::Pending { last_contact: None } => write!(f, "pending last-contact {NEVER}"),
            Self::Impossible { at } => write!(f, "impossible {at}"),
            Self::Retired { at } => write!(f, "retired {at}"),
        }
    }
}

impl PlaceState {
    fn parse(words: &[&str]) -> Option<Self> {
        match *words {
            ["done", at, digest] => Some(Self::Done { at: parse_time(at)?, sha256: parse_digest(digest)? }),
            ["pending", "last-contact", NEVER] => Some(Self::Pending { last_contact: None }),
            ["pending", "last-contact", at] => Some(Self::Pending { last_contact: Some(parse_time(at)?) }),
            ["impossible", at] => Some(Self::Impossible { at: parse_time(at)? }),
            ["retired", at] => Some(Self::Retired { at: parse_time(at)? }),
            _ => None,
        }
    }
}

/// The list of all places that must answer an order. All belong to one environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cover {
    /// Id of the order.
    pub order: Uuid,
    /// The person.
    pub subject: Subject,
    /// When the cover was made.
    pub issued: Timestamp,
    /// The places, at least one.
    pub places: BTreeMap<Place, PlaceState>,
}

impl Cover {
    /// The canonical text.
    ///
    /// # Errors
    /// [`FormError::Contradiction`] without places or with places of several environments, [`FormError::NotCanonical`] for
    /// a time out of range, and [`FormError::TooLong`].
    pub fn to_text(&self) -> Result<String, FormError> {
        let text = self.print();
        if Self::parse(&text)? == *self { Ok(text) } else { Err(FormError::NotCanonical) }
    }

    /// The text, signed with the key of the central services.
    ///
    /// # Errors
    /// As [`Cover::to_text`], and [`TextError::OtherKey`] for another key.
    pub fn sign(&self, signer: &Signer) -> Result<Note, TextError> {
        let text = self.to_text()?;
        let central = self.central().ok_or(FormError::Contradiction)?;
        sign_as(&text, &central, signer)
    }

    /// Parses the canonical text. Text of any other form is refused.
    ///
    /// # Errors
    /// [`FormError`] with the first line that is not valid.
    pub fn parse(text: &str) -> Result<Self, FormError> {
        if text.len() > COVER_BYTES_MAX {
            return Err(FormError::TooLong { bytes: COVER_BYTES_MAX });
        }
        let mut lines = Parser::new(text, FORMAT)?;
        let order = lines.field("order", |value| value.parse().ok())?;
        let subject = lines.field("subject", Subject::parse)?;
        let issued = lines.field("issued", parse_time)?;
        let mut places = BTreeMap::new();
        while lines.is_next("place") {
            if places.len() == PLACES_MAX {
                return Err(FormError::TooLong { bytes: COVER_BYTES_MAX });
            }
            let line = lines.field("place", PlaceLine::parse)?;
            places.insert(line.place, line.state);
        }
        lines.end()?;
        let cover = Self { order, subject, issued, places };
        if cover.central().is_none() {
            return Err(FormError::Contradiction);
        }
        canonical(cover, text, Self::print)
    }

    /// Name of the key that signs the cover; none without places.
    pub fn key_name(&self) -> Option<KeyName> {
        self.central().map(|place| place.key_name())
    }

    /// The database of the environment, whose key signs the cover; none without places or with several environments.
    fn central(&self) -> Option<Place> {
        let mut environments = self.places.keys().map(Place::environment);
        let first = environments.next()?;
        if environments.any(|other| other != first) {
            return None;
        }
        Place::postgres(first).ok()
    }

    fn print(&self) -> String {
        let mut text = format!("{FORMAT}\n");
        push(&mut text, "order", self.order.to_string());
        push(&mut text, "subject", self.subject.to_string());
        push(&mut text, "issued", self.issued.to_string());
        for (place, state) in &self.places {
            push(&mut text, "place", format!("{place} {state}"));
        }
        text
    }
}

struct PlaceLine {
    place: Place,
    state: PlaceState,
}

impl PlaceLine {
    fn parse(value: &str) -> Option<Self> {
        let words: Vec<&str> = value.split(' ').collect();
        let of_place = if words.first() == Some(&"device") { 4 } else { 2 };
        let (place, state) = words.split_at_checked(of_place)?;
        Some(Self { place: Place::parse(&place.join(" "))?, state: PlaceState::parse(state)? })
    }
}

/// Serializes a value as the text that a receipt contains.
pub(crate) fn as_text<S: Serializer>(value: &impl fmt::Display, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

fn as_optional_text<S: Serializer>(value: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
    value.map(|value| value.to_string()).serialize(serializer)
}

fn as_hex<S: Serializer>(digest: &[u8; 32], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&hex::encode(digest))
}
