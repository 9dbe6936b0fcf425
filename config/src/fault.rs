//! What is wrong with the settings, in words that say what to do.

use std::fmt;

use serde::Serialize;

use crate::source::Source;

/// One fault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// The file, or `environment`.
    pub file: String,
    /// Line in the file, from 1; `None` where the fault has no line (a missing key, a variable).
    pub line: Option<usize>,
    /// The key (`mqtt.url`); empty where the file as a whole is at fault.
    pub key: String,
    /// What is wrong and what to do.
    pub words: String,
}

impl Fault {
    pub(crate) fn new(source: &Source, main: &str, key: &str, words: impl Into<String>) -> Self {
        let (file, line, mut words) = match source {
            Source::Default => (main.to_owned(), None, words.into()),
            Source::File { file, line } => (file.clone(), Some(*line), words.into()),
            Source::Environment { variable } => {
                ("environment".to_owned(), None, format!("{} (variable {variable})", words.into()))
            }
        };
        words.truncate(words.trim_end().len());
        Self { file, line, key: key.to_owned(), words }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if !self.key.is_empty() {
            write!(f, ": {}", self.key)?;
        }
        write!(f, ": {}", self.words)
    }
}

/// All faults of one load, in the order file, line, key. Displays as one per line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(transparent)]
pub struct Faults(Vec<Fault>);

impl Faults {
    pub(crate) fn new(mut faults: Vec<Fault>) -> Self {
        faults.sort_by(|a, b| (&a.file, a.line, &a.key).cmp(&(&b.file, b.line, &b.key)));
        faults.dedup();
        Self(faults)
    }

    /// The faults.
    pub fn iter(&self) -> impl Iterator<Item = &Fault> {
        self.0.iter()
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, fault) in self.0.iter().enumerate() {
            if n > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{fault}")?;
        }
        Ok(())
    }
}
