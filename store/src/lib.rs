//! The durable state and the secrets of Gatehouse.
//!
//! The journal is authoritative. The sled views, the gallery in RAM and the ledger are derived from it.
//! [`Store`] opens the state for the daemon and for sync.

pub mod clock;
pub mod deployment;
pub mod files;
mod index;
pub mod ledger;
pub mod people;
pub mod receipt_subject;
pub mod record;
pub mod store;
pub mod terms;
mod views;

pub use store::Store;
