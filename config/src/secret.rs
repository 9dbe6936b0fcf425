//! Secrets: read from files or systemd credentials, wiped on drop, never shown.

use std::fmt;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

/// Longest secret read: passwords and keys are far below; a file above it is some other file.
const SECRET_BYTES_MAX: u64 = 64 * 1024;

/// The secrets there are; as systemd credentials each has `gatehouse.` before its name.
pub const SECRETS: [&str; 6] = [
    "root-key",
    "mqtt-password",
    "rows-password",
    "objects-access-key",
    "objects-secret-key",
    "deployment-key",
];

/// A password or key. Its `Debug` shows nothing; its memory is wiped on drop.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// Takes the bytes over.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The bytes. Callers must not copy them further than needed.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The bytes as text, for passwords; `None` where they are not UTF-8.
    pub fn text(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Why a secret could not be read; never holds any of it.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file could not be read.
    #[error(
        "cannot read the secret file {path}: {source}; check that it exists and that the service may read it"
    )]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file has no content.
    #[error("the secret file {path} is empty; write the secret into it")]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// The file is too long to be a secret.
    #[error("the secret file {path} is longer than 64 KiB; check that it is the right file")]
    TooLong {
        /// The file.
        path: PathBuf,
    },
}

/// Reads a secret file; one line end at its end is not part of the secret.
///
/// # Errors
/// See [`SecretError`].
pub fn read_secret(path: &Path) -> Result<Secret, SecretError> {
    let read_error = |source| SecretError::Read { path: path.to_owned(), source };
    let mut file = fs::File::open(path).map_err(read_error)?.take(SECRET_BYTES_MAX + 1);
    // Space for all of it at once: a growing buffer would leave unwiped copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(SECRET_BYTES_MAX as usize + 1));
    file.read_to_end(&mut bytes).map_err(read_error)?;
    if bytes.len() as u64 > SECRET_BYTES_MAX {
        return Err(SecretError::TooLong { path: path.to_owned() });
    }
    let mut end = bytes.len();
    if bytes.ends_with(b"\n") {
        end -= 1;
        if bytes[..end].ends_with(b"\r") {
            end -= 1;
        }
    }
    if end == 0 {
        return Err(SecretError::Empty { path: path.to_owned() });
    }
    Ok(Secret::new(bytes[..end].to_vec()))
}

/// Reads a secret from `file` where given, else from the systemd credential `gatehouse.<name>` (names:
/// [`SECRETS`]), else there is none.
///
/// # Errors
/// See [`SecretError`]; a credential that does not exist is no error.
pub fn credential(file: Option<&Path>, name: &str) -> Result<Option<Secret>, SecretError> {
    let folder = std::env::var_os("CREDENTIALS_DIRECTORY");
    credential_in(file, folder.map(PathBuf::from).as_deref(), name)
}

fn credential_in(
    file: Option<&Path>,
    folder: Option<&Path>,
    name: &str,
) -> Result<Option<Secret>, SecretError> {
    if let Some(file) = file {
        return read_secret(file).map(Some);
    }
    match folder.map(|folder| folder.join(format!("gatehouse.{name}"))) {
        Some(path) if path.exists() => read_secret(&path).map(Some),
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_loses_its_line_end_and_shows_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gatehouse.rows-password");
        fs::write(&path, "hunter2\n").unwrap();
        let secret = read_secret(&path).unwrap();
        assert_eq!(secret.text(), Some("hunter2"));
        assert!(!format!("{secret:?}").contains("hunter"));
        let found = credential_in(None, Some(folder.path()), "rows-password").unwrap();
        assert_eq!(found, Some(secret));
        assert_eq!(credential_in(None, Some(folder.path()), "mqtt-password").unwrap(), None);
    }

    #[test]
    fn empty_long_and_missing_secret_files_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        assert!(matches!(read_secret(&path), Err(SecretError::Read { .. })));
        fs::write(&path, "\r\n").unwrap();
        assert!(matches!(read_secret(&path), Err(SecretError::Empty { .. })));
        fs::write(&path, vec![b'x'; 70_000]).unwrap();
        assert!(matches!(read_secret(&path), Err(SecretError::TooLong { .. })));
    }
}
