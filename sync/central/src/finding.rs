//! Results of preparing and checking the central services: what `gatehouse central init` and `check` report.

use serde::{Deserialize, Serialize};

/// One thing that `init` saw to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// What, in words, e.g. `database: migration 1 (baseline)`.
    pub what: String,
    /// Whether it was made now; false where it was there already.
    pub changed: bool,
}

/// One thing that `check` looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What was looked at, e.g. `database: environment`.
    pub what: String,
    /// Whether it is as it should be.
    pub ok: bool,
    /// What was found.
    pub words: String,
    /// What to do; none where all is well.
    pub advice: Option<String>,
}

impl Finding {
    /// A check that passed.
    pub fn good(what: &str, words: impl Into<String>) -> Self {
        Self { what: what.to_owned(), ok: true, words: words.into(), advice: None }
    }

    /// A check that failed, with advice where there is some.
    pub fn bad(what: &str, words: impl Into<String>, advice: Option<&str>) -> Self {
        Self { what: what.to_owned(), ok: false, words: words.into(), advice: advice.map(str::to_owned) }
    }
}
