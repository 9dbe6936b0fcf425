//! Everything durable and everything secret of Gatehouse.
//!
//! The journal is the truth; sled views, the gallery in RAM and the ledger follow from it. [`Store`] opens
//! it for the daemon and for sync.

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

pub use store::Store;
