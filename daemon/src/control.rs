//! The daemon's side of the control socket. Crate `gatehouse-control` has the types of both directions and the client.

mod connection;
mod doctor;
mod handlers;
pub mod server;

use std::path::PathBuf;
use std::time::Instant;

use gatehouse_store::Store;
use gatehouse_store::store::OpenReport;

use crate::app::Settings;
use crate::pipeline::PipelineHandle;

/// What the request handlers use.
pub struct Services {
    /// The store.
    pub store: Store,
    /// Delivery to the central services.
    pub sync: gatehouse_sync::Sync,
    /// The pipeline.
    pub pipeline: PipelineHandle,
    /// The settings in force.
    pub settings: Settings,
    /// File of the root key, whose permissions doctor checks.
    pub root_key_file: PathBuf,
    /// The report of opening the store.
    pub opened: OpenReport,
    /// Start of the daemon.
    pub started: Instant,
}
