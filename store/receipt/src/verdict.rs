//! Verification of a receipt.

use std::collections::BTreeSet;

use gatehouse_model::Timestamp;
use serde::{Serialize, Serializer};
use thiserror::Error;
use uuid::Uuid;

use crate::bundle::{Bundle, Signed};
use crate::cover::{Cover, PlaceState, as_text};
use crate::keys::{KeyName, TrustedKeys};
use crate::note::{Note, NoteError};
use crate::place::{Place, Subject};
use crate::statement::Statement;
use crate::text::TextError;

/// Why a receipt is not authentic.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Reason {
    /// It is not a receipt.
    #[error("it is not a receipt: {0}")]
    Text(#[from] TextError),
    /// The signatures of a note are wrong, or none of a trusted key.
    #[error("{what}: {error}")]
    Signature {
        /// The place of the statement, or `the cover`.
        what: String,
        /// What is wrong.
        error: NoteError,
    },
    /// Trusted keys signed a note, and not the one of its place.
    #[error("{what}: it must be signed by `{expected}`")]
    OtherSigner {
        /// The place of the statement, or `the cover`.
        what: String,
        /// The key that must sign.
        expected: KeyName,
    },
    /// The receipt is about another person.
    #[error("the receipt is about another person, or the deployment key is another one")]
    OtherPerson,
    /// A statement belongs to another order or another person.
    #[error("{0}: the statement belongs to another order or another person")]
    OtherOrder(Place),
    /// The cover does not list the place of a statement.
    #[error("{0}: the cover does not list this place")]
    NotListed(Place),
    /// The cover lists the place as one without a statement.
    #[error("{0}: there is a statement, and the cover lists none; fetch the newest receipt")]
    NotDone(Place),
    /// The hash on the cover is that of another statement.
    #[error("{0}: the cover belongs to another statement")]
    OtherStatement(Place),
    /// A place has two statements.
    #[error("{0}: there are two statements")]
    Twice(Place),
    /// The cover lists a statement that is not there.
    #[error("{0}: the statement is missing")]
    Missing(Place),
}

impl Serialize for Reason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A place on the cover, and where the erasure stands there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlaceReport {
    /// The place.
    pub place: Place,
    /// Where the erasure stands.
    #[serde(flatten)]
    pub state: PlaceState,
}

/// Content of an authentic receipt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Id of the order.
    #[serde(serialize_with = "as_text")]
    pub order: Uuid,
    /// The person.
    #[serde(serialize_with = "as_text")]
    pub subject: Subject,
    /// When the cover was made.
    #[serde(serialize_with = "as_text")]
    pub issued: Timestamp,
    /// All places, in the order of the cover.
    pub places: Vec<PlaceReport>,
}

impl Report {
    /// Places that have not answered yet.
    pub fn pending(&self) -> impl Iterator<Item = &PlaceReport> {
        self.places.iter().filter(|report| matches!(report.state, PlaceState::Pending { .. }))
    }

    fn of(cover: &Cover) -> Self {
        let places = cover.places.iter();
        Self {
            order: cover.order,
            subject: cover.subject,
            issued: cover.issued,
            places: places
                .map(|(place, state)| PlaceReport { place: place.clone(), state: *state })
                .collect(),
        }
    }
}

/// Result of a verification.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum Verdict {
    /// Every place has erased, or the cover says why it never will.
    Complete(Report),
    /// The receipt is authentic, and places have not answered yet.
    Pending(Report),
    /// The receipt proves nothing.
    NotAuthentic {
        /// Why.
        reason: Reason,
    },
}

/// Verifies a receipt; with `subject` also that it is about that person.
///
/// It is authentic under these conditions:
/// - Every note is signed by the key of its place, and no signature of a trusted key is wrong.
/// - All notes have one order and one person.
/// - Each place that is done on the cover has one statement with the hash on the cover, and no other place has one.
pub fn verify(bundle: &Bundle, keys: &TrustedKeys, subject: Option<&Subject>) -> Verdict {
    if let Err(reason) = check(bundle, keys, subject) {
        return Verdict::NotAuthentic { reason };
    }
    let report = Report::of(bundle.cover());
    let is_pending = report.pending().next().is_some();
    if is_pending { Verdict::Pending(report) } else { Verdict::Complete(report) }
}

/// As [`verify`], for the bytes of a file. What is not a receipt is not authentic.
pub fn verify_bytes(bytes: &[u8], keys: &TrustedKeys, subject: Option<&Subject>) -> Verdict {
    match Bundle::parse(bytes) {
        Ok(bundle) => verify(&bundle, keys, subject),
        Err(error) => Verdict::NotAuthentic { reason: error.into() },
    }
}

fn check(bundle: &Bundle, keys: &TrustedKeys, subject: Option<&Subject>) -> Result<(), Reason> {
    let Signed { note, content: cover } = &bundle.cover;
    let central = cover.key_name().ok_or(TextError::Form(crate::text::FormError::Contradiction))?;
    check_signer(note, keys, central, "the cover")?;
    if subject.is_some_and(|subject| *subject != cover.subject) {
        return Err(Reason::OtherPerson);
    }
    let mut answered = BTreeSet::new();
    for statement in &bundle.statements {
        check_statement(statement, cover, keys)?;
        if !answered.insert(&statement.content.place) {
            return Err(Reason::Twice(statement.content.place.clone()));
        }
    }
    let is_missing = |place: &Place, state: &PlaceState| {
        matches!(state, PlaceState::Done { .. }) && !answered.contains(place)
    };
    match cover.places.iter().find(|(place, state)| is_missing(place, state)) {
        Some((place, _)) => Err(Reason::Missing(place.clone())),
        None => Ok(()),
    }
}

fn check_statement(signed: &Signed<Statement>, cover: &Cover, keys: &TrustedKeys) -> Result<(), Reason> {
    let statement = &signed.content;
    let place = || statement.place.clone();
    check_signer(&signed.note, keys, statement.place.key_name(), &statement.place.to_string())?;
    if statement.order != cover.order || statement.subject != cover.subject {
        return Err(Reason::OtherOrder(place()));
    }
    match cover.places.get(&statement.place) {
        None => Err(Reason::NotListed(place())),
        Some(PlaceState::Done { sha256, .. }) if *sha256 == signed.note.digest() => Ok(()),
        Some(PlaceState::Done { .. }) => Err(Reason::OtherStatement(place())),
        Some(_) => Err(Reason::NotDone(place())),
    }
}

fn check_signer(note: &Note, keys: &TrustedKeys, expected: KeyName, what: &str) -> Result<(), Reason> {
    let signers = note.signers(keys).map_err(|error| Reason::Signature { what: what.to_owned(), error })?;
    if signers.contains(&expected) {
        Ok(())
    } else {
        Err(Reason::OtherSigner { what: what.to_owned(), expected })
    }
}
