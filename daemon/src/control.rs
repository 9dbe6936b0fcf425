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

/// What the orders of the operator are carried out with.
pub struct Services {
    /// Everything durable.
    pub store: Store,
    /// Delivery to the central side.
    pub sync: gatehouse_sync::Sync,
    /// The way of the events.
    pub pipeline: PipelineHandle,
    /// The settings in force.
    pub settings: Settings,
    /// File of the root key, to look after its permissions.
    pub root_key_file: PathBuf,
    /// What was found when the store opened.
    pub opened: OpenReport,
    /// Start of the daemon.
    pub started: Instant,
}
