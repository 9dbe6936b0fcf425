//! The statements of an erasure and its cover in one file.

use std::fmt;

use crate::cover::{COVER_BYTES_MAX, Cover, PLACES_MAX};
use crate::note::{MARK, Note, NoteError};
use crate::statement::{STATEMENT_BYTES_MAX, Statement};
use crate::text::{FormError, TextError};

/// Longest file, in bytes: 4,096 statements of usual length, and the cover. It bounds the memory of a check.
pub const BUNDLE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A note with its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Signed<T> {
    pub(crate) note: Note,
    pub(crate) content: T,
}

/// The statements of an erasure, and the cover as the last note. Nothing in it is verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
    pub(crate) statements: Vec<Signed<Statement>>,
    pub(crate) cover: Signed<Cover>,
}

impl Bundle {
    /// The bundle of these notes.
    ///
    /// # Errors
    /// [`TextError::Form`] if a note has no valid content, or for more than [`PLACES_MAX`] statements.
    pub fn new(statements: Vec<Note>, cover: Note) -> Result<Self, TextError> {
        if statements.len() > PLACES_MAX {
            return Err(FormError::TooLong { bytes: BUNDLE_BYTES_MAX }.into());
        }
        let signed = |note: Note| -> Result<Signed<Statement>, TextError> {
            Ok(Signed { content: Statement::parse(note.text())?, note })
        };
        let statements = statements.into_iter().map(signed).collect::<Result<_, _>>()?;
        let content = Cover::parse(cover.text())?;
        Ok(Self { statements, cover: Signed { note: cover, content } })
    }

    /// Parses a file.
    ///
    /// # Errors
    /// [`TextError`] if it is not a sequence of statements with a cover at its end.
    pub fn parse(bytes: &[u8]) -> Result<Self, TextError> {
        if bytes.len() > BUNDLE_BYTES_MAX {
            return Err(FormError::TooLong { bytes: BUNDLE_BYTES_MAX }.into());
        }
        let text = std::str::from_utf8(bytes).map_err(|_| FormError::NotText)?;
        let mut notes = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            if notes.len() > PLACES_MAX {
                return Err(FormError::TooLong { bytes: BUNDLE_BYTES_MAX }.into());
            }
            let end = note_end(rest).ok_or(NoteError::Form)?;
            notes.push(Note::parse(&rest[..end])?);
            rest = &rest[end..];
        }
        let cover = notes.pop().ok_or(FormError::NoCover)?;
        if !cover.text().starts_with(crate::cover::FORMAT) {
            return Err(FormError::NoCover.into());
        }
        Self::new(notes, cover)
    }

    /// The statements.
    pub fn statements(&self) -> impl ExactSizeIterator<Item = &Statement> {
        self.statements.iter().map(|signed| &signed.content)
    }

    /// The cover.
    pub fn cover(&self) -> &Cover {
        &self.cover.content
    }
}

impl fmt::Display for Bundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.statements.iter().try_for_each(|signed| signed.note.fmt(f))?;
        self.cover.note.fmt(f)
    }
}

/// Where the first note of a text ends. The texts of statements and covers have no empty line, so the first one is
/// followed by signatures.
fn note_end(text: &str) -> Option<usize> {
    let mut end = text.find("\n\n")? + 2;
    while let Some(line) = text[end..].strip_prefix(MARK) {
        end += MARK.len() + line.find('\n')? + 1;
    }
    Some(end)
}

// A statement must fit into a note, and a file must have space for a cover and many statements.
const _: () = assert!(STATEMENT_BYTES_MAX < COVER_BYTES_MAX && 4 * COVER_BYTES_MAX < BUNDLE_BYTES_MAX);
