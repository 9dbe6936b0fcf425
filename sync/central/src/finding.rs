//! Results of preparing and checking the central services: what `gatehouse central init` and `check` report.

use serde::{Deserialize, Serialize};

/// One step of `init` or `migrate`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// What the step is about, e.g. `database: migration 1 (baseline)`.
    pub what: String,
    /// Whether this run changed it. False if it was already in place.
    pub changed: bool,
}

/// One result of `check`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What was checked, e.g. `database: environment`.
    pub what: String,
    /// Whether the check passed.
    pub ok: bool,
    /// What was found.
    pub message: String,
    /// What to do. None if the check passed.
    pub advice: Option<String>,
}

impl Finding {
    /// A check that passed.
    pub fn good(what: &str, message: impl Into<String>) -> Self {
        Self { what: what.to_owned(), ok: true, message: message.into(), advice: None }
    }

    /// A check that failed, with advice if there is any.
    pub fn bad(what: &str, message: impl Into<String>, advice: Option<&str>) -> Self {
        Self { what: what.to_owned(), ok: false, message: message.into(), advice: advice.map(str::to_owned) }
    }
}
