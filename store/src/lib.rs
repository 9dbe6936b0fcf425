//! Everything durable and everything secret of Gatehouse.
//!
//! The journal is the truth; sled views, the gallery in RAM and the ledger follow from it. [`Store`] is the one
//! door for the daemon and for sync.

pub mod clock;
pub mod deployment;
pub mod error;
pub mod files;
mod index;
pub mod ledger;
pub mod people;
pub mod record;
pub mod store;
mod views;

// Paths of these crates as they were, for callers that do not name the crates yet.
pub use gatehouse_gallery as gallery;
pub use gatehouse_journal as journal;
pub use gatehouse_model::{names, sha256, time};
pub use gatehouse_vault::{disk, keys, seal, space};
pub use store::Store;
