//! A value and where it came from, for faults and for `gatehouse config show`.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "from", rename_all = "lowercase")]
pub enum Source {
    /// The default in code.
    Default,
    /// A settings file.
    File {
        /// Its path.
        file: String,
        /// The line, from 1.
        line: usize,
    },
    /// An environment variable.
    Environment {
        /// Its name.
        variable: String,
    },
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { file, line } => write!(f, "{file}:{line}"),
            Self::Environment { variable } => write!(f, "environment {variable}"),
        }
    }
}

/// A value as it was written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Value {
    /// Whole number.
    Integer(i64),
    /// Number with a fraction.
    Number(f64),
    /// True or false.
    Boolean(bool),
    /// Text, also of paths, durations and choices.
    Text(String),
    /// List of whole numbers.
    Integers(Vec<i64>),
    /// Something no key takes (a list of texts, a date); holds its name.
    #[serde(skip)]
    Other(String),
}

impl Value {
    /// What to call this kind of value.
    pub(crate) fn kind(&self) -> &str {
        match self {
            Self::Integer(_) => "a whole number",
            Self::Number(_) => "a number",
            Self::Boolean(_) => "true or false",
            Self::Text(_) => "a text",
            Self::Integers(_) => "a list",
            Self::Other(kind) => kind,
        }
    }
}

/// As TOML writes it.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integer(n) => write!(f, "{n}"),
            Self::Number(n) => write!(f, "{n:?}"),
            Self::Boolean(value) => write!(f, "{value}"),
            Self::Text(text) => write!(f, "{}", toml::Value::from(text.as_str())),
            Self::Integers(list) => write!(f, "{list:?}"),
            Self::Other(kind) => f.write_str(kind),
        }
    }
}

/// A key with its value and the source of the value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// The key (`mqtt.url`).
    pub key: String,
    /// The value in force; `None` for a key that is not set and has no default.
    pub value: Option<Value>,
    /// Where the value came from.
    pub source: Source,
    /// Whether a reload applies a new value. Otherwise it is applied by a restart.
    pub is_live: bool,
}
