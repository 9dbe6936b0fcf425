//! The daemon `gatehoused`.
//!
//! A message flows in one direction: MQTT -> `sources` -> `pipeline` -> store. `app` is the only place that wires
//! components together. `control` serves the operator over a local socket.

pub mod app;
pub mod arguments;
pub mod control;
pub mod log;
pub mod pipeline;
pub mod sources;
pub mod supervise;
