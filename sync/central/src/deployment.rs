//! The deployment key of the settings.

use gatehouse_config::{Config, credential};
use gatehouse_store::deployment::DeploymentKey;

use crate::error::SyncError;

/// The deployment key that the settings name, or the credential; none where there is neither.
///
/// # Errors
/// [`SyncError::Setup`] where it cannot be read or is none.
pub fn deployment_key(config: &Config) -> Result<Option<DeploymentKey>, SyncError> {
    let told = |words: String| SyncError::Setup(format!("central.people.key_file: {words}"));
    let secret = credential(config.central.people.key_file.as_deref(), "deployment-key")
        .map_err(|error| told(error.to_string()))?;
    secret
        .map(|secret| DeploymentKey::new(secret.bytes()))
        .transpose()
        .map_err(|error| told(error.to_string()))
}
