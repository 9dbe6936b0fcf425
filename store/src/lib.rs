//! Everything durable and everything secret of Gatehouse.
//!
//! The journal is the truth; sled views, the gallery in RAM and the ledger follow from it. [`Store`] is the one
//! door for the daemon and for sync.

pub mod clock;
pub mod deployment;
pub mod disk;
pub mod error;
pub mod files;
pub mod gallery;
mod index;
pub mod journal;
pub mod keys;
pub mod ledger;
pub mod names;
pub mod people;
pub mod record;
pub mod seal;
pub mod space;
pub mod store;
pub mod time;
mod views;

pub use seal::sha256;
pub use store::Store;
