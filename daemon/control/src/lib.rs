//! The local API on a Unix socket: one JSON line per request, one per reply.
//!
//! [`types`], [`answers`] and [`encodings`] are the types of both directions. [`client`] is for the operator's command; the
//! server is part of the daemon. The API is private to programs of the same version.

pub mod answers;
pub mod client;
pub mod encodings;
pub mod exit;
pub mod types;

/// Version of both programs.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
