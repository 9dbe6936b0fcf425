//! The source of the root key: `keys.root_key_file`, otherwise the systemd credential. Only in environment `dev` it may be a
//! file in the state directory, which the first start creates.
//!
//! A key is created only for an empty state directory. With existing data a new key would open nothing and would hide that
//! the right key is lost.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use gatehouse_config::{Config, Environment};
use gatehouse_machine::credstore::DEV_ROOT_KEY_FILE;
use gatehouse_vault::keys::{KeyError, RootKey};
use thiserror::Error;
use tracing::info;

use super::state_directory::{StateError, is_fresh};

/// Name of the systemd credential.
pub(crate) const CREDENTIAL: &str = "gatehouse.root-key";

/// Why the root key cannot be used.
#[derive(Debug, Error)]
pub enum RootKeyError {
    /// None is configured, and the environment is not `dev`.
    #[error(
        "no root key: outside of environment dev the daemon does not create one. `gatehouse setup` creates one and \
         seals it for this machine;\n\
         or write 32 random bytes to a file that only the daemon can read and set keys.root_key_file; keep a copy \
         elsewhere: without the key no data on this device can be read"
    )]
    Missing,
    /// The state is sealed, but its key is missing.
    #[error(
        "{} is missing, but the state directory was sealed with it; restore it from your copy, or set state.directory \
         to an empty directory", .0.display()
    )]
    Lost(PathBuf),
    /// The file exists but cannot be used.
    #[error("root key {}: {source}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: KeyError,
    },
    /// The state directory cannot be listed.
    #[error(transparent)]
    State(#[from] StateError),
}

/// The root key and the file it came from. `credentials` is systemd's `$CREDENTIALS_DIRECTORY`.
///
/// # Errors
/// [`RootKeyError`]; a restart will not help against any of them.
pub(crate) fn find(config: &Config, credentials: Option<&Path>) -> Result<(RootKey, PathBuf), RootKeyError> {
    let unusable = |path: &Path| {
        let path = path.to_owned();
        move |source| RootKeyError::Unusable { path, source }
    };
    let dev = config.state.directory.join(DEV_ROOT_KEY_FILE);
    let credential = credentials.map(|folder| folder.join(CREDENTIAL)).filter(|path| path.exists());
    let path = match (config.keys.root_key_file.clone().or(credential), config.device.environment) {
        (Some(path), _) => path,
        (None, Environment::Dev) if dev.exists() => dev,
        (None, Environment::Dev) if is_fresh(&config.state.directory)? => {
            let key = RootKey::create(&dev).map_err(unusable(&dev))?;
            info!(file = %dev.display(), "root key created for environment dev; keep a copy elsewhere");
            return Ok((key, dev));
        }
        (None, Environment::Dev) => return Err(RootKeyError::Lost(dev)),
        (None, _) => return Err(RootKeyError::Missing),
    };
    let key = RootKey::read(&path).map_err(unusable(&path))?;
    Ok((key, path))
}

/// Whether users other than the owner may read the file; none if it cannot be inspected. The group of a systemd credential
/// is only the mask of its access list, in a folder that is closed to others.
pub(crate) fn is_exposed(path: &Path) -> Option<bool> {
    let closed_to = if path.file_name().is_some_and(|name| name == CREDENTIAL) { 0o007 } else { 0o077 };
    std::fs::metadata(path).ok().map(|meta| meta.permissions().mode() & closed_to != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(state: &Path, environment: &str, more: &str) -> Config {
        let text = format!(
            "[device]\nid = \"t\"\nenvironment = \"{environment}\"\n[state]\ndirectory = \"{}\"\n{more}",
            state.display()
        );
        Config::from_text(&text).unwrap()
    }

    #[test]
    fn in_dev_the_key_is_made_once_closed_to_others_and_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path(), "dev", "");
        let (_, path) = find(&config, None).unwrap();
        assert_eq!(is_exposed(&path), Some(false));
        let made = std::fs::read(&path).unwrap();
        std::fs::write(folder.path().join("keys"), "sealed").unwrap();
        find(&config, None).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), made);
    }

    #[test]
    fn a_lost_key_is_not_replaced_next_to_a_sealed_state() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("keys"), "sealed").unwrap();
        let found = find(&config(folder.path(), "dev", ""), None);
        assert!(matches!(found, Err(RootKeyError::Lost(_))));
        assert!(!folder.path().join(DEV_ROOT_KEY_FILE).exists());
    }

    #[test]
    fn outside_of_dev_a_key_must_be_handed_over() {
        let folder = tempfile::tempdir().unwrap();
        let prod = config(folder.path(), "prod", "");
        assert!(matches!(find(&prod, None), Err(RootKeyError::Missing)));
        let credentials = tempfile::tempdir().unwrap();
        std::fs::write(credentials.path().join(CREDENTIAL), [7; 32]).unwrap();
        let (_, path) = find(&prod, Some(credentials.path())).unwrap();
        assert_eq!(path, credentials.path().join(CREDENTIAL));
    }
}
