//! The deployment key of the settings.

use gatehouse_config::{Config, credential};
use gatehouse_store::deployment::DeploymentKey;

use crate::error::SyncError;

/// The deployment key that the settings or a credential provide. None if there is neither.
///
/// # Errors
/// [`SyncError::Setup`] if it cannot be read or is not a key.
pub fn deployment_key(config: &Config) -> Result<Option<DeploymentKey>, SyncError> {
    let invalid = |message: String| SyncError::Setup(format!("central.people.key_file: {message}"));
    let secret = credential(config.central.people.key_file.as_deref(), "deployment-key")
        .map_err(|error| invalid(error.to_string()))?;
    secret
        .map(|secret| DeploymentKey::new(secret.bytes()))
        .transpose()
        .map_err(|error| invalid(error.to_string()))
}
