//! Keys, sealing, and the disk under them.
//!
//! The key table holds wrapped data keys that can be destroyed in place. [`seal`] encrypts with them. [`disk`] is the
//! seam through which durable files are written, and [`space`] keeps a reserve for a full disk.

pub mod disk;
pub mod error;
pub mod keys;
pub mod seal;
pub mod space;
