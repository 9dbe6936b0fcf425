//! Keys: a root key from outside wraps data keys that can be destroyed.
//!
//! Data that identifies a person is sealed with a data key of its kind and owner. To erase the data is to destroy
//! the key: its slot in the key table is overwritten in place, and all copies of the data become unreadable.
//! Therefore wrapped keys are in a file of their own, and must never be in a log or a database. Overwritten pages that
//! a flash controller retains can be unwrapped only with the root key.

mod root;
mod slot;
mod table;

use std::path::PathBuf;

use gatehouse_model::KeyId;
use thiserror::Error;

use crate::error::IoError;
use crate::seal::SealError;

pub use root::RootKey;
pub use table::{DamagedSlot, KeyFault, KeyTable};

/// What a key seals. The numbers are on disk: a number must never be changed or reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum KeyKind {
    /// One journal segment.
    Journal = 1,
    /// One person: profile, templates, references to their visits.
    Person = 2,
    /// One media file.
    Media = 3,
    /// The views.
    View = 4,
    /// An erasure notice, until it is delivered.
    Erasure = 5,
    /// The transform of all templates, which are also sealed with this key.
    Template = 6,
    /// The identity of the appliance: the key that signs its statements is derived from it.
    Identity = 7,
}

impl KeyKind {
    /// All kinds.
    pub const ALL: [Self; 7] =
        [Self::Journal, Self::Person, Self::Media, Self::View, Self::Erasure, Self::Template, Self::Identity];

    /// Name of the kind.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Journal => "journal",
            Self::Person => "person",
            Self::Media => "media",
            Self::View => "view",
            Self::Erasure => "erasure",
            Self::Template => "template",
            Self::Identity => "identity",
        }
    }

    fn from_u8(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == number)
    }
}

/// Errors of the key table.
#[derive(Debug, Error)]
pub enum KeyError {
    /// The disk failed. The operation may be repeated.
    #[error("key table: {0}")]
    Io(#[from] IoError),
    /// The file contains no root key.
    #[error("root key {}: 32 bytes or 64 hexadecimal digits are needed; restore the file from its backup", .0.display())]
    RootFormat(PathBuf),
    /// The state directory was created with another root key.
    #[error(
        "the root key does not match this state directory; use the root key it was created with, \
         or an empty state directory"
    )]
    WrongRoot,
    /// The file is no key table, or is damaged completely.
    #[error("{} is not a key table or is damaged beyond use; restore the state directory from a backup", .0.display())]
    NotATable(PathBuf),
    /// The file has a format version that this program does not support.
    #[error(
        "the key table has format version {0}; install the version of Gatehouse that wrote it, or a newer one"
    )]
    Version(u16),
    /// The key was destroyed or never existed. Its data is erased.
    #[error("key {0} is destroyed or unknown; its data cannot be read any more")]
    Destroyed(KeyId),
    /// The key exists but does not authenticate.
    #[error("key {0} is damaged and its data cannot be read; the disk may be failing: look at dmesg")]
    Damaged(KeyId),
    /// The cipher failed.
    #[error(transparent)]
    Seal(#[from] SealError),
}

impl KeyError {
    /// Whether the disk is full.
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Io(error) if error.is_full())
    }
}

#[cfg(test)]
mod tests;
