//! Measures the source of this repository: sizes, interfaces, language, duplicates. `gatehouse-measure` prints the
//! figures, and `tests/tests/tidy.rs` holds limits on the same figures.

pub mod code;
pub mod duplicates;
pub mod language;
pub mod lexer;
pub mod report;
pub mod sources;
pub mod words;

/// A position in a file of the repository.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// Path from the top folder.
    pub path: String,
    /// Line, from 1.
    pub line: usize,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.path, self.line)
    }
}
