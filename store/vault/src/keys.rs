//! Keys: a root key from outside wraps data keys that can be destroyed.
//!
//! Whatever identifies a person is sealed with a data key of its own kind and owner. To forget is to destroy the
//! key: its slot in the key table is overwritten in place, and what it sealed is noise from then on, wherever
//! copies of it lie. That is why the wrapped keys live in a file of their own and never in a log or a database.
//! What a flash controller keeps of overwritten pages can be unwrapped only with the root key.

mod root;
mod slot;
mod table;

use std::path::PathBuf;

pub use gatehouse_model::KeyId;
use thiserror::Error;

use crate::error::IoError;
use crate::seal::SealError;

pub use root::RootKey;
pub use table::{DamagedSlot, KeyFault, KeyTable};

/// What a key seals. The numbers are on disk: never change one, never use one again.
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
    /// The notice of an erasure, until it is delivered.
    Erasure = 5,
    /// The transform of all templates, and a share in what seals them.
    Template = 6,
}

impl KeyKind {
    /// All kinds.
    pub const ALL: [Self; 6] =
        [Self::Journal, Self::Person, Self::Media, Self::View, Self::Erasure, Self::Template];

    /// The kind in a word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Journal => "journal",
            Self::Person => "person",
            Self::Media => "media",
            Self::View => "view",
            Self::Erasure => "erasure",
            Self::Template => "template",
        }
    }

    fn from_u8(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == number)
    }
}

/// What can go wrong with keys.
#[derive(Debug, Error)]
pub enum KeyError {
    /// The disk failed; nothing is known to have changed, and the act may be tried again.
    #[error("key table: {0}")]
    Io(#[from] IoError),
    /// The file of the root key holds something else.
    #[error("root key {}: 32 bytes or 64 hexadecimal digits are needed; restore the file from its backup", .0.display())]
    RootFormat(PathBuf),
    /// The root key is not the one with which this state directory was made.
    #[error(
        "the root key does not fit this state directory; give the root key it was made with, \
         or an empty state directory"
    )]
    WrongRoot,
    /// The file is no key table, or nothing of it is left.
    #[error("{} is not a key table or is damaged beyond use; restore the state directory from a backup", .0.display())]
    NotATable(PathBuf),
    /// The file is of another version of the program.
    #[error(
        "the key table has format version {0}; install the version of Gatehouse that wrote it, or a newer one"
    )]
    Version(u16),
    /// The key was destroyed, or was never here. What it sealed is gone for good, by intent.
    #[error("key {0} is destroyed or unknown; what it sealed cannot be read any more")]
    Destroyed(KeyId),
    /// The key is there but does not authenticate.
    #[error("key {0} is damaged and what it sealed cannot be read; the disk may be failing: look at dmesg")]
    Damaged(KeyId),
    /// The cipher failed.
    #[error(transparent)]
    Seal(#[from] SealError),
}

impl KeyError {
    /// Whether there is no room on the disk.
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Io(error) if error.is_full())
    }
}

#[cfg(test)]
mod tests;
