//! Keys that sign notes, and the list of keys that are trusted.
//!
//! The text of a verifier key is `NAME+ID+KEY`, as C2SP defines it: the id is the beginning of a SHA-256 over name and
//! key in hexadecimal digits, and the key is base64 of the algorithm's number and the public key.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use gatehouse_model::Sha256;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use thiserror::Error;

use crate::place::CENTRAL;

/// Longest name of a key, in bytes: an environment and an appliance of 64 bytes each, and a slash.
pub const NAME_BYTES_MAX: usize = 129;
/// Most keys in a file: more than a deployment has appliances.
pub const KEYS_MAX: usize = 8_192;
/// Number of Ed25519 in C2SP. Other numbers are other algorithms.
const ED25519_TYPE: u8 = 0x01;
/// Bytes of a public key.
const KEY_BYTES: usize = 32;

/// Name of a key: not empty, without space, plus and control characters.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyName(String);

impl KeyName {
    /// A name.
    ///
    /// # Errors
    /// [`KeysError::Name`] if it is invalid.
    pub fn new(text: &str) -> Result<Self, KeysError> {
        let is_refused = |c: char| c.is_whitespace() || c.is_control() || c == '+';
        if text.is_empty() || text.len() > NAME_BYTES_MAX || text.contains(is_refused) {
            return Err(KeysError::Name);
        }
        Ok(Self(text.to_owned()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The key of an appliance. Both parts are validated names.
pub(crate) fn device_key_name(environment: &str, device: &str) -> KeyName {
    KeyName(format!("{environment}/{device}"))
}

/// Name of the key of the central services of an environment.
pub fn central_key_name(environment: &str) -> KeyName {
    device_key_name(environment, CENTRAL)
}

/// Why a key or a list of keys is not valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum KeysError {
    /// The name is invalid.
    #[error("the name of a key is 1 to {NAME_BYTES_MAX} bytes without space and plus")]
    Name,
    /// The text is not a verifier key of Ed25519.
    #[error("not a verifier key of the form NAME+ID+KEY with Ed25519; copy the line again from its source")]
    Key,
    /// A line of a list is not a verifier key of Ed25519.
    #[error(
        "line {line} is not a verifier key of the form NAME+ID+KEY with Ed25519; copy it again from its source"
    )]
    Line {
        /// From 1 on.
        line: usize,
    },
    /// The list has too many keys.
    #[error("there are more than {KEYS_MAX} keys; give only those of one deployment")]
    TooMany,
    /// The list has no key.
    #[error(
        "there is no key; give the verifier keys of the appliances and of the central services, one per line"
    )]
    Empty,
}

/// First bytes of a hash over name and public key. They select a key and prove nothing.
pub(crate) type ShortId = [u8; 4];

/// The public half of a key, with its name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct VerifierKey {
    name: KeyName,
    key: [u8; KEY_BYTES],
}

impl VerifierKey {
    /// Parses `NAME+ID+KEY`.
    ///
    /// # Errors
    /// [`KeysError::Key`] for other text, another algorithm, or an id that does not fit the name and key.
    pub fn parse(text: &str) -> Result<Self, KeysError> {
        let mut parts = text.splitn(3, '+');
        let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(KeysError::Key);
        };
        let bytes = BASE64.decode(key).map_err(|_| KeysError::Key)?;
        let Some((&ED25519_TYPE, key)) = bytes.split_first() else { return Err(KeysError::Key) };
        let key = key.try_into().map_err(|_| KeysError::Key)?;
        let parsed = Self { name: KeyName::new(name).map_err(|_| KeysError::Key)?, key };
        if hex::encode(parsed.id()) == id { Ok(parsed) } else { Err(KeysError::Key) }
    }

    /// The name.
    pub fn name(&self) -> &KeyName {
        &self.name
    }

    pub(crate) fn id(&self) -> ShortId {
        let mut hash = Sha256::new();
        hash.update(self.name.as_str().as_bytes());
        hash.update(&[b'\n', ED25519_TYPE]);
        hash.update(&self.key);
        let mut id = ShortId::default();
        id.copy_from_slice(&hash.finish()[..4]);
        id
    }

    pub(crate) fn verifies(&self, text: &str, signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, self.key).verify(text.as_bytes(), signature).is_ok()
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = BASE64.encode([&[ED25519_TYPE], self.key.as_slice()].concat());
        write!(f, "{}+{}+{key}", self.name, hex::encode(self.id()))
    }
}

/// A key that signs. ring does not wipe its memory on drop.
pub struct Signer {
    pair: Ed25519KeyPair,
    public: VerifierKey,
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signer({}, ..)", self.public.name)
    }
}

impl Signer {
    /// The key of a secret of 32 random bytes.
    ///
    /// # Errors
    /// [`KeysError::Key`], which does not happen for 32 bytes.
    pub fn from_seed(name: KeyName, seed: &[u8; 32]) -> Result<Self, KeysError> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| KeysError::Key)?;
        let key = pair.public_key().as_ref().try_into().map_err(|_| KeysError::Key)?;
        Ok(Self { pair, public: VerifierKey { name, key } })
    }

    /// The public half.
    pub fn verifier_key(&self) -> &VerifierKey {
        &self.public
    }

    pub(crate) fn sign(&self, text: &str) -> Vec<u8> {
        self.pair.sign(text.as_bytes()).as_ref().to_vec()
    }
}

/// The keys that are trusted: a text with one verifier key per line. Empty lines and lines that begin with `#` are
/// comments.
#[derive(Debug, Clone, Default)]
pub struct TrustedKeys {
    keys: Vec<VerifierKey>,
}

impl TrustedKeys {
    /// Parses the text.
    ///
    /// # Errors
    /// [`KeysError::Line`] for a line that is not a key, [`KeysError::TooMany`], and [`KeysError::Empty`] without a key.
    pub fn parse(text: &str) -> Result<Self, KeysError> {
        let mut keys = Vec::new();
        for (at, line) in text.lines().map(str::trim).enumerate() {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            keys.push(VerifierKey::parse(line).map_err(|_| KeysError::Line { line: at + 1 })?);
            if keys.len() > KEYS_MAX {
                return Err(KeysError::TooMany);
            }
        }
        if keys.is_empty() { Err(KeysError::Empty) } else { Ok(Self { keys }) }
    }

    /// The list of these keys.
    pub fn new(keys: Vec<VerifierKey>) -> Self {
        Self { keys }
    }

    /// The keys.
    pub fn keys(&self) -> &[VerifierKey] {
        &self.keys
    }

    /// Keys with this name and id: usually one, and several only if the beginnings of their hashes are equal.
    pub(crate) fn find(&self, name: &KeyName, id: ShortId) -> impl Iterator<Item = &VerifierKey> {
        self.keys.iter().filter(move |key| key.name == *name && key.id() == id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signer(name: &str, seed: u8) -> Signer {
        Signer::from_seed(KeyName::new(name).unwrap(), &[seed; 32]).unwrap()
    }

    #[test]
    fn a_verifier_key_has_one_text() {
        let key = signer("prod/house-1", 1).verifier_key().clone();
        let text = key.to_string();
        assert_eq!(VerifierKey::parse(&text), Ok(key));
        let renamed = text.replace("house-1", "house-2");
        let other_algorithm = text.replace("+A", "+B");
        for bad in ["", "a", "a+b", "prod/house-1+00000000+AAAA", &renamed, &other_algorithm, &text[1..]] {
            assert_eq!(VerifierKey::parse(bad), Err(KeysError::Key), "{bad}");
        }
        for name in ["", "a b", "a+b", "a\n", "a\u{2003}b", &"x".repeat(130)] {
            assert_eq!(KeyName::new(name), Err(KeysError::Name), "{name:?}");
        }
    }

    /// The example of <https://c2sp.org/signed-note>, made by another program.
    #[test]
    fn the_key_of_a_published_example_is_read() {
        let text = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
        assert_eq!(VerifierKey::parse(text).unwrap().to_string(), text);
    }

    #[test]
    fn a_list_of_keys_has_comments_and_names_its_bad_line() {
        let (a, b) = (signer("prod/a", 1), signer("prod/b", 2));
        let text = format!("# appliances\n{}\n\n  {}  \n", a.verifier_key(), b.verifier_key());
        let keys = TrustedKeys::parse(&text).unwrap();
        assert_eq!(keys.keys(), [a.verifier_key().clone(), b.verifier_key().clone()]);
        assert_eq!(TrustedKeys::parse(&format!("{text}x\n")).unwrap_err(), KeysError::Line { line: 5 });
        assert_eq!(TrustedKeys::parse("# nothing\n").unwrap_err(), KeysError::Empty);
        let many = format!("{}\n", a.verifier_key()).repeat(KEYS_MAX + 1);
        assert_eq!(TrustedKeys::parse(&many).unwrap_err(), KeysError::TooMany);
    }
}
