//! The signed note of C2SP: a text, an empty line, and lines `— NAME SIGNATURE`.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use gatehouse_model::sha256;
use thiserror::Error;

use crate::keys::{KeyName, ShortId, Signer, TrustedKeys};

/// Most signatures of a note: one of the place, and others of witnesses.
pub const SIGNATURES_MAX: usize = 16;
/// Longest note that is read, in bytes: the longest text and its signatures.
pub(crate) const NOTE_BYTES_MAX: usize = crate::cover::COVER_BYTES_MAX + SIGNATURES_MAX * LINE_BYTES_MAX;
/// Longest line of a signature, in bytes: larger signatures than those of Ed25519 are skipped as unknown.
const LINE_BYTES_MAX: usize = 8_192;
/// Begins the line of a signature: an em dash and a space.
pub(crate) const MARK: &str = "\u{2014} ";

/// Why a note is not valid.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NoteError {
    /// The text is empty, does not end with a line end, or has a control character.
    #[error("the text of a note ends with a line end and has no control characters")]
    Text,
    /// It does not consist of a text, an empty line and signatures.
    #[error("it is not a text followed by an empty line and signatures")]
    Form,
    /// The note or its number of signatures is too large.
    #[error("it is longer than {NOTE_BYTES_MAX} bytes or has more than {SIGNATURES_MAX} signatures")]
    TooLong,
    /// A signature with the name and id of a trusted key is not by that key.
    #[error("the signature of `{0}` is wrong: the text or the signature was changed")]
    Signature(KeyName),
    /// No trusted key signed.
    #[error("no trusted key signed it")]
    Unsigned,
}

/// A signature, verified or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    name: KeyName,
    id: ShortId,
    bytes: Vec<u8>,
}

impl Signature {
    /// Name of the key that is said to have signed.
    pub fn name(&self) -> &KeyName {
        &self.name
    }

    fn parse(line: &str) -> Option<Self> {
        if line.len() > LINE_BYTES_MAX {
            return None;
        }
        let (name, code) = line.strip_prefix(MARK)?.split_once(' ')?;
        let decoded = BASE64.decode(code).ok()?;
        let (id, bytes) = decoded.split_first_chunk()?;
        if bytes.is_empty() {
            return None;
        }
        Some(Self { name: KeyName::new(name).ok()?, id: *id, bytes: bytes.to_vec() })
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let code = BASE64.encode([self.id.as_slice(), &self.bytes].concat());
        writeln!(f, "{MARK}{} {code}", self.name)
    }
}

/// A text with at least one signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    text: String,
    signatures: Vec<Signature>,
}

impl Note {
    /// A note with one signature.
    ///
    /// # Errors
    /// [`NoteError::Text`] or [`NoteError::TooLong`] for a text that a note cannot have.
    pub fn sign(text: &str, signer: &Signer) -> Result<Self, NoteError> {
        check_text(text)?;
        let key = signer.verifier_key();
        let signature = Signature { name: key.name().clone(), id: key.id(), bytes: signer.sign(text) };
        Ok(Self { text: text.to_owned(), signatures: vec![signature] })
    }

    /// Parses a note and verifies nothing.
    ///
    /// # Errors
    /// [`NoteError::Text`], [`NoteError::Form`] or [`NoteError::TooLong`].
    pub fn parse(input: &str) -> Result<Self, NoteError> {
        if input.len() > NOTE_BYTES_MAX {
            return Err(NoteError::TooLong);
        }
        let end = input.rfind("\n\n").ok_or(NoteError::Form)?;
        let (text, lines) = (&input[..=end], &input[end + 2..]);
        check_text(text)?;
        let lines = lines.strip_suffix('\n').ok_or(NoteError::Form)?;
        let mut signatures = Vec::new();
        for line in lines.split('\n') {
            if signatures.len() == SIGNATURES_MAX {
                return Err(NoteError::TooLong);
            }
            signatures.push(Signature::parse(line).ok_or(NoteError::Form)?);
        }
        Ok(Self { text: text.to_owned(), signatures })
    }

    /// The signed text, with its last line end.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// SHA-256 of the signed text. Signatures are not part of it, so a further one does not change it.
    pub fn digest(&self) -> [u8; 32] {
        sha256(self.text.as_bytes())
    }

    /// The signatures, verified or not.
    pub fn signatures(&self) -> &[Signature] {
        &self.signatures
    }

    /// Names of the trusted keys that signed. Signatures of unknown keys are skipped, as C2SP demands.
    ///
    /// # Errors
    /// [`NoteError::Signature`] if a signature of a trusted key is wrong, [`NoteError::Unsigned`] without a trusted one.
    pub fn signers(&self, keys: &TrustedKeys) -> Result<Vec<KeyName>, NoteError> {
        let mut signers = Vec::new();
        for signature in &self.signatures {
            let mut candidates = keys.find(&signature.name, signature.id).peekable();
            if candidates.peek().is_none() {
                continue;
            }
            if !candidates.any(|key| key.verifies(&self.text, &signature.bytes)) {
                return Err(NoteError::Signature(signature.name.clone()));
            }
            signers.push(signature.name.clone());
        }
        if signers.is_empty() { Err(NoteError::Unsigned) } else { Ok(signers) }
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.text)?;
        self.signatures.iter().try_for_each(|signature| signature.fmt(f))
    }
}

fn check_text(text: &str) -> Result<(), NoteError> {
    if text.len() > crate::cover::COVER_BYTES_MAX {
        return Err(NoteError::TooLong);
    }
    let is_refused = |c: char| c.is_ascii_control() && c != '\n';
    if text.ends_with('\n') && !text.contains(is_refused) { Ok(()) } else { Err(NoteError::Text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signer(name: &str, seed: u8) -> Signer {
        Signer::from_seed(KeyName::new(name).unwrap(), &[seed; 32]).unwrap()
    }

    fn trusted(signers: &[&Signer]) -> TrustedKeys {
        TrustedKeys::new(signers.iter().map(|signer| signer.verifier_key().clone()).collect())
    }

    /// A note and a key that Go's `sumdb/note` publishes in its documentation.
    #[test]
    fn a_published_note_verifies() {
        let text = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n";
        let signature =
            "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=";
        let key = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
        let note = Note::parse(&format!("{text}\n\u{2014} PeterNeumann {signature}\n")).unwrap();
        assert_eq!(note.text(), text);
        let signers = note.signers(&TrustedKeys::parse(key).unwrap());
        assert_eq!(signers.map(|names| names.len()), Ok(1));
    }

    #[test]
    fn a_note_is_read_as_it_was_written_and_any_change_is_found() {
        let signer = signer("prod/a", 1);
        let note = Note::sign("first\n\nsecond\n", &signer).unwrap();
        let text = note.to_string();
        assert_eq!(Note::parse(&text), Ok(note.clone()));
        assert_eq!(note.signers(&trusted(&[&signer])).unwrap()[0].as_str(), "prod/a");
        for at in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] ^= 1;
            let changed = String::from_utf8(bytes).ok().and_then(|text| Note::parse(&text).ok());
            assert!(changed.is_none_or(|note| note.signers(&trusted(&[&signer])).is_err()), "byte {at}");
        }
    }

    #[test]
    fn unknown_keys_are_skipped_and_a_wrong_signature_of_a_known_key_is_not() {
        let (a, b, other) = (signer("prod/a", 1), signer("prod/b", 2), signer("prod/a", 3));
        let mut note = Note::sign("text\n", &a).unwrap();
        note.signatures.push(Note::sign("text\n", &b).unwrap().signatures.remove(0));
        assert_eq!(note.signers(&trusted(&[&a, &b])).unwrap().len(), 2);
        assert_eq!(note.signers(&trusted(&[&a])).unwrap().len(), 1);
        assert_eq!(note.signers(&trusted(&[&other])), Err(NoteError::Unsigned));
        note.signatures[1].bytes[0] ^= 1;
        assert_eq!(note.signers(&trusted(&[&a])).unwrap().len(), 1);
        assert!(
            matches!(note.signers(&trusted(&[&a, &b])), Err(NoteError::Signature(name)) if name.as_str() == "prod/b")
        );
    }

    #[test]
    fn texts_that_are_no_notes_are_refused() {
        let signer = signer("prod/a", 1);
        for bad in ["", "no end", "tab\t\n", "cr\r\n"] {
            assert_eq!(Note::sign(bad, &signer), Err(NoteError::Text), "{bad:?}");
        }
        let good = Note::sign("text\n", &signer).unwrap().to_string();
        for bad in
            ["", "text\n", "text\n\n", &good[..good.len() - 1], &format!("{good}\n"), &format!("{good}x\n")]
        {
            assert!(Note::parse(bad).is_err(), "{bad:?}");
        }
        let line = good.lines().last().unwrap();
        let many = format!("text\n\n{}", format!("{line}\n").repeat(SIGNATURES_MAX + 1));
        assert_eq!(Note::parse(&many), Err(NoteError::TooLong));
    }
}
