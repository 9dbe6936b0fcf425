//! Sealing: AES-256-GCM with a data key. The associated data contains kind and place of the data, so that sealed
//! data is not accepted in another place.
//!
//! A data key must be used in only one of two ways: with random nonces ([`DataKey::seal`]), or with numbers
//! ([`DataKey::seal_numbered`]), each used once. Two plaintexts under one number would reveal both.
//! Secret bytes are wiped when dropped. The expanded key of the cipher is in ring's memory, which ring does not wipe.

use std::fmt;

use gatehouse_model::random;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::{hkdf, hmac};
use thiserror::Error;
use zeroize::Zeroizing;

/// Bytes of a nonce, fixed by GCM.
pub const NONCE_BYTES: usize = 12;
/// Bytes that sealing appends to the ciphertext, fixed by GCM.
pub const TAG_BYTES: usize = 16;

/// Why data could not be sealed or opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SealError {
    /// The data is damaged, or was sealed with another key or for another place.
    #[error(
        "sealed data does not authenticate: it is damaged or belongs elsewhere; look at dmesg for the disk"
    )]
    Open,
    /// The cipher does not accept the input.
    #[error("the cipher refused its input; this is a fault of the program, please report it")]
    Refused,
}

/// A key that seals one object: a journal segment, a person, a media file.
pub struct DataKey {
    aead: LessSafeKey,
    mac: hmac::Key,
}

impl fmt::Debug for DataKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DataKey(..)")
    }
}

impl DataKey {
    /// The key of a 32-byte secret. Cipher and HMAC get separate subkeys.
    pub fn from_secret(secret: &[u8; 32]) -> Result<Self, SealError> {
        let prk = hkdf::Salt::new(hkdf::HKDF_SHA256, b"gatehouse data v1").extract(secret);
        let aead = prk.expand(&[b"seal"], &AES_256_GCM).map_err(|_| SealError::Refused)?;
        let mac = prk.expand(&[b"tag"], hmac::HMAC_SHA256).map_err(|_| SealError::Refused)?;
        Ok(Self { aead: LessSafeKey::new(UnboundKey::from(aead)), mac: hmac::Key::from(mac) })
    }

    /// A key derived from two keys, in this order. It cannot be derived without both.
    pub fn joined(&self, other: &Self) -> Result<Self, SealError> {
        let theirs = Zeroizing::new(other.tag("join", b""));
        Self::from_secret(&Zeroizing::new(self.tag("joined", theirs.as_slice())))
    }

    /// Seals `plain` for the place `ad`: random nonce of 12 bytes, ciphertext, tag of 16 bytes.
    ///
    /// # Errors
    /// [`SealError::Refused`] beyond 64 GiB.
    pub fn seal(&self, ad: &[u8], plain: &[u8]) -> Result<Vec<u8>, SealError> {
        seal_with(&self.aead, ad, plain)
    }

    /// Opens the output of [`DataKey::seal`] for the same place.
    ///
    /// # Errors
    /// [`SealError::Open`] if it does not authenticate.
    pub fn open(&self, ad: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
        open_with(&self.aead, ad, sealed)
    }

    /// Seals `buffer[from..]` in place under a number and appends the tag. The caller must use each number once in
    /// the lifetime of the key.
    ///
    /// # Errors
    /// [`SealError::Refused`] if `from` is beyond the end of the buffer.
    pub fn seal_numbered(
        &self,
        number: u64,
        ad: &[u8],
        buffer: &mut Vec<u8>,
        from: usize,
    ) -> Result<(), SealError> {
        let plain = buffer.get_mut(from..).ok_or(SealError::Refused)?;
        let tag = self
            .aead
            .seal_in_place_separate_tag(numbered(number), Aad::from(ad), plain)
            .map_err(|_| SealError::Refused)?;
        buffer.extend_from_slice(tag.as_ref());
        Ok(())
    }

    /// Opens the output of [`DataKey::seal_numbered`] in place and returns the plaintext part of `sealed`.
    ///
    /// # Errors
    /// [`SealError::Open`] if it does not authenticate; the content of `sealed` is then undefined.
    pub fn open_numbered<'a>(
        &self,
        number: u64,
        ad: &[u8],
        sealed: &'a mut [u8],
    ) -> Result<&'a mut [u8], SealError> {
        self.aead.open_in_place(numbered(number), Aad::from(ad), sealed).map_err(|_| SealError::Open)
    }

    /// HMAC-SHA256 of `message` for one purpose. Without the key, tags can be neither computed nor verified.
    pub fn tag(&self, purpose: &str, message: &[u8]) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&self.mac);
        // The length separates (`ab`, `c`) from (`a`, `bc`).
        context.update(&(purpose.len() as u64).to_le_bytes());
        context.update(purpose.as_bytes());
        context.update(message);
        array(context.sign().as_ref())
    }
}

fn numbered(number: u64) -> Nonce {
    let mut bytes = [0; NONCE_BYTES];
    bytes[4..].copy_from_slice(&number.to_be_bytes());
    Nonce::assume_unique_for_key(bytes)
}

pub(crate) fn seal_with(key: &LessSafeKey, ad: &[u8], plain: &[u8]) -> Result<Vec<u8>, SealError> {
    let nonce: [u8; NONCE_BYTES] = random();
    let mut out = Vec::with_capacity(NONCE_BYTES + plain.len() + TAG_BYTES);
    out.extend_from_slice(&nonce);
    out.extend_from_slice(plain);
    let nonce = Nonce::assume_unique_for_key(nonce);
    let tag = key
        .seal_in_place_separate_tag(nonce, Aad::from(ad), &mut out[NONCE_BYTES..])
        .map_err(|_| SealError::Refused)?;
    out.extend_from_slice(tag.as_ref());
    Ok(out)
}

pub(crate) fn open_with(
    key: &LessSafeKey,
    ad: &[u8],
    sealed: &[u8],
) -> Result<Zeroizing<Vec<u8>>, SealError> {
    let (nonce, sealed) = sealed.split_at_checked(NONCE_BYTES).ok_or(SealError::Open)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| SealError::Open)?;
    let mut plain = Zeroizing::new(sealed.to_vec());
    let length = key.open_in_place(nonce, Aad::from(ad), &mut plain).map_err(|_| SealError::Open)?.len();
    plain.truncate(length);
    Ok(plain)
}

fn array(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(bytes);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> DataKey {
        DataKey::from_secret(&random()).unwrap()
    }

    #[test]
    fn sealed_data_opens_only_at_its_own_place_and_with_its_own_key() {
        let key = key();
        let sealed = key.seal(b"here", b"secret").unwrap();
        assert_eq!(key.open(b"here", &sealed).unwrap().as_slice(), b"secret");
        assert_eq!(key.open(b"there", &sealed).unwrap_err(), SealError::Open);
        assert_eq!(super::tests::key().open(b"here", &sealed).unwrap_err(), SealError::Open);
        for short in 0..sealed.len() {
            assert!(key.open(b"here", &sealed[..short]).is_err());
        }
        assert_eq!(sealed.len(), NONCE_BYTES + 6 + TAG_BYTES);
    }

    #[test]
    fn numbered_data_opens_only_under_its_own_number() {
        let key = key();
        let mut buffer = b"headplain".to_vec();
        key.seal_numbered(7, b"ad", &mut buffer, 4).unwrap();
        assert!(buffer.starts_with(b"head"));
        assert_eq!(key.open_numbered(7, b"ad", &mut buffer.clone()[4..]).unwrap(), b"plain");
        assert!(key.open_numbered(8, b"ad", &mut buffer.clone()[4..]).is_err());
        assert!(key.open_numbered(7, b"da", &mut buffer.clone()[4..]).is_err());
        assert_eq!(key.seal_numbered(9, b"", &mut buffer, 999), Err(SealError::Refused));
    }

    #[test]
    fn tags_differ_by_purpose_and_key_and_stay_the_same_otherwise() {
        let secret = random();
        let (a, b) = (DataKey::from_secret(&secret).unwrap(), DataKey::from_secret(&secret).unwrap());
        assert_eq!(a.tag("day", b"x"), b.tag("day", b"x"));
        assert_ne!(a.tag("ab", b"c"), a.tag("a", b"bc"));
        assert_ne!(a.tag("day", b"x"), key().tag("day", b"x"));
    }
}
