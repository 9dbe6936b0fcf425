//! The signature of an export of a person: where and when it was made, and the hash of its list of files.

use gatehouse_model::Timestamp;

use crate::keys::{Signer, TrustedKeys};
use crate::note::Note;
use crate::place::Place;
use crate::statement::sign_as;
use crate::text::{FormError, Parser, TextError, canonical, parse_digest, parse_time, print_digest, push};

/// Longest signed export, in bytes.
pub const EXPORT_BYTES_MAX: usize = 16 * 1024;
/// First line of the text. No statement and no cover begins with it.
const FORMAT: &str = "gatehouse-export/v1";

/// What is signed of an export. It says nothing about the person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Export {
    /// Where it was made: an appliance, or the central database.
    pub place: Place,
    /// When it was made.
    pub issued: Timestamp,
    /// SHA-256 of the list of files.
    pub manifest: [u8; 32],
}

impl Export {
    /// The canonical text, signed with the key of the place.
    ///
    /// # Errors
    /// [`FormError::NotCanonical`] for a time out of range, and [`TextError::OtherKey`] for the key of another place.
    pub fn sign(&self, signer: &Signer) -> Result<Note, TextError> {
        let text = self.print();
        if Self::parse(&text)? != *self {
            return Err(FormError::NotCanonical.into());
        }
        sign_as(&text, &self.place, signer)
    }

    /// Reads a note that is signed with the trusted key of its place.
    ///
    /// # Errors
    /// [`TextError`] if it has another form, or that key did not sign it.
    pub fn verify(note: &str, keys: &TrustedKeys) -> Result<Self, TextError> {
        let note = Note::parse(note)?;
        let export = Self::parse(note.text())?;
        let (signers, expected) = (note.signers(keys)?, export.place.key_name());
        match signers.contains(&expected) {
            true => Ok(export),
            false => Err(TextError::OtherKey {
                key: signers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
                expected: expected.to_string(),
            }),
        }
    }

    fn parse(text: &str) -> Result<Self, FormError> {
        if text.len() > EXPORT_BYTES_MAX {
            return Err(FormError::TooLong { bytes: EXPORT_BYTES_MAX });
        }
        let mut lines = Parser::new(text, FORMAT)?;
        let place = lines.field("place", Place::parse)?;
        let issued = lines.field("issued", parse_time)?;
        let manifest = lines.field("manifest", parse_digest)?;
        lines.end()?;
        canonical(Self { place, issued, manifest }, text, Self::print)
    }

    fn print(&self) -> String {
        let mut text = format!("{FORMAT}\n");
        push(&mut text, "place", self.place.to_string());
        push(&mut text, "issued", self.issued.to_string());
        push(&mut text, "manifest", print_digest(&self.manifest));
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::KeyName;

    fn signer(name: &str, seed: u8) -> Signer {
        Signer::from_seed(KeyName::new(name).unwrap(), &[seed; 32]).unwrap()
    }

    #[test]
    fn an_export_is_signed_by_its_place_only() {
        let place = Place::device("prod", "house-1", None).unwrap();
        let export = Export { place, issued: Timestamp(1_796_000_000_000_000), manifest: [7; 32] };
        let (own, other) = (signer("prod/house-1", 1), signer("prod/house-2", 2));
        assert!(matches!(export.sign(&other), Err(TextError::OtherKey { .. })));
        let note = export.sign(&own).unwrap().to_string();
        let keys = |signer: &Signer| TrustedKeys::new(vec![signer.verifier_key().clone()]);
        assert_eq!(Export::verify(&note, &keys(&own)), Ok(export.clone()));
        assert!(Export::verify(&note, &keys(&other)).is_err());
        assert!(Export::verify(&note.replace("0707", "0708"), &keys(&own)).is_err());
        let statement = note.replace(FORMAT, "gatehouse-erasure/v1");
        assert!(Export::verify(&statement, &keys(&own)).is_err());
    }
}
