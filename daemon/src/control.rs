//! The local API on a Unix socket: one JSON line per request, one per reply.
//!
//! The types of both directions stand in [`types`] and [`encodings`]; [`server`] runs in the daemon, [`client`]
//! in the operator's tool. The API is private to programs of one version: nothing outside may rely on it.

pub mod answers;
pub mod client;
mod connection;
pub(crate) mod doctor;
pub mod encodings;
mod handlers;
pub mod server;
pub mod types;

use std::path::{Path, PathBuf};
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

/// Bytes that an ordinary user can still write to the disk of `path`; none where it cannot be asked.
pub(crate) fn free_bytes(path: &Path) -> Option<u64> {
    rustix::fs::statvfs(path).ok().map(|disk| disk.f_bavail.saturating_mul(disk.f_frsize))
}
