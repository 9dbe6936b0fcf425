//! The root key: 32 bytes that must be outside of the state directory in production.

use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use ring::aead::{AES_256_GCM, LessSafeKey, UnboundKey};
use ring::hkdf;
use zeroize::Zeroizing;

use super::KeyError;
use crate::disk::{Disk, FILE_MODE, RealDisk};
use crate::error::IoError;
use crate::seal::SealError;
use gatehouse_model::random;

/// Longest file with a root key: 64 digits and a line end. One more byte detects a longer file.
const FILE_BYTES_MAX: u64 = 64 + 2 + 1;

/// The key that wraps all data keys. Wiped when dropped.
pub struct RootKey(Zeroizing<[u8; 32]>);

impl RootKey {
    /// Reads a file of 32 raw bytes, or of 64 hexadecimal digits with or without a line end.
    ///
    /// # Errors
    /// [`KeyError::Io`], or [`KeyError::RootFormat`] if the file contains anything else.
    pub fn read(path: &Path) -> Result<Self, KeyError> {
        let file = std::fs::File::open(path).map_err(IoError::at("open the root key", path))?;
        // Full capacity at once: a growing vector would leave unwiped copies.
        let mut bytes = Zeroizing::new(Vec::with_capacity(2 * FILE_BYTES_MAX as usize));
        file.take(FILE_BYTES_MAX).read_to_end(&mut bytes).map_err(IoError::at("read the root key", path))?;
        let mut key = Zeroizing::new([0; 32]);
        if bytes.len() == key.len() {
            key.copy_from_slice(&bytes);
        } else {
            hex::decode_to_slice(bytes.trim_ascii_end(), key.as_mut_slice())
                .map_err(|_| KeyError::RootFormat(path.to_owned()))?;
        }
        Ok(Self(key))
    }

    /// Creates a root key in a new file of mode 0600, durable on return.
    ///
    /// # Errors
    /// [`KeyError::Io`], also if the file exists: a root key must never be overwritten.
    pub fn create(path: &Path) -> Result<Self, KeyError> {
        let key = Zeroizing::new(random::<32>());
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(FILE_MODE)
            .open(path)
            .map_err(IoError::at("create the root key", path))?;
        let written = file.write_all(key.as_slice()).and_then(|()| file.sync_all());
        if let Err(error) = written {
            // A partial root key would fail every later start; without the file, the next start tries again.
            let _ = std::fs::remove_file(path);
            return Err(IoError::at("write the root key", path)(error).into());
        }
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        RealDisk.sync_dir(folder).map_err(IoError::at("sync", folder))?;
        Ok(Self(key))
    }

    /// The root key of these bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The cipher that wraps data keys.
    pub(super) fn wrapping_key(&self) -> Result<LessSafeKey, SealError> {
        let prk = hkdf::Salt::new(hkdf::HKDF_SHA256, &[]).extract(self.0.as_slice());
        let okm = prk.expand(&[b"gatehouse wrap v1"], &AES_256_GCM).map_err(|_| SealError::Refused)?;
        Ok(LessSafeKey::new(UnboundKey::from(okm)))
    }
}
