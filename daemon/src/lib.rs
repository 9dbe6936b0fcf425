//! The daemon `gatehoused` and the operator's tool `gatehouse`, over one library.
//!
//! A message flows in one direction: `mqtt` -> `sources` -> `pipeline` -> store. `app` is the only place that
//! wires components together; `control` is the local door for the operator, `cli` its other end.

pub mod app;
pub mod arguments;
pub mod cli;
pub mod control;
mod credstore;
pub mod exit;
pub mod log;
pub mod mqtt;
pub mod notes;
pub mod pipeline;
pub mod sources;
pub mod supervise;
mod tool;

/// Version of both programs.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
