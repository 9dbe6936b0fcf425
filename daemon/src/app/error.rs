//! Why the daemon does not start or ends unexpectedly, each with its exit code.

use std::path::PathBuf;

use gatehouse_config::Faults;
use gatehouse_store::store::StoreError;
use gatehouse_vault::keys::KeyError;
use thiserror::Error;

use super::root_key::RootKeyError;
use super::state_directory::StateError;
use crate::control::server::ControlError;
use gatehouse_control::exit;

/// The end of the daemon, other than by a signal.
#[derive(Debug, Error)]
pub enum AppError {
    /// The settings are wrong.
    #[error("{faults}\ncorrect the settings, then run `gatehoused check-config --config {}`", path.display())]
    Config {
        /// The main file.
        path: PathBuf,
        /// All of its faults.
        faults: Faults,
    },
    /// There is no root key, or it cannot be read.
    #[error(transparent)]
    RootKey(#[from] RootKeyError),
    /// The state directory cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// The store does not open.
    #[error("the state directory does not open: {0}")]
    Store(#[from] StoreError),
    /// The control socket cannot be created.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// The system provides no threads or no signals.
    #[error("the system does not provide a required resource: {0}")]
    System(#[from] std::io::Error),
    /// An essential task ended.
    #[error("task `{0}` ended unexpectedly; the log above has the reason, systemd restarts the daemon")]
    TaskEnded(&'static str),
}

impl AppError {
    /// The exit code.
    pub fn code(&self) -> u8 {
        match self {
            Self::Config { .. } | Self::RootKey(_) => exit::CONFIG,
            Self::Store(StoreError::Key(KeyError::WrongRoot) | StoreError::Format(_)) => exit::CONFIG,
            Self::State(StateError::InUse(_)) | Self::Control(ControlError::InUse(_)) => exit::BUSY,
            Self::State(_) | Self::Store(_) | Self::Control(_) => exit::STORAGE,
            Self::System(_) | Self::TaskEnded(_) => exit::SOFTWARE,
        }
    }
}
