//! The words that must not occur in comments, texts and names, and the words that a review looks at. This file is the
//! only one that contains them, so the search leaves it out.

/// Path of this file from the top folder.
pub const PATH: &str = "tests/src/measure/words.rs";

/// Words that must not occur. A component is a thing: it is not a person and does not speak.
pub const FORBIDDEN: [&str; 13] = [
    "somebody",
    "nobody",
    "everybody",
    "whoever",
    "told",
    "tells",
    "hears",
    "of before",
    "anew",
    "lies",
    "beside",
    "truth",
    "truths",
];

/// Words that are often a metaphor or a person for a thing. They are counted, not forbidden.
pub const WATCHED: [&str; 17] = [
    "anybody",
    "whom",
    "tell",
    "hear",
    "heard",
    "knows",
    "house",
    "shelf",
    "room",
    "crew",
    "sift",
    "lately",
    "neighbour",
    "whatever",
    "bury",
    "timeout",
    "letting go",
];

/// The parts of a name that say what a duration bounds.
pub const DURATION_NAMES: [&str; 30] = [
    "TIMEOUT",
    "INTERVAL",
    "DEADLINE",
    "DELAY",
    "AGE",
    "PERIOD",
    "PAUSE",
    "WINDOW",
    "BACKOFF",
    "TTL",
    "LIFETIME",
    "EXPIRY",
    "VALIDITY",
    "GRACE",
    "LEASE",
    "SKEW",
    "TOLERANCE",
    "UPTIME",
    "DOWNTIME",
    "LATENCY",
    "LAG",
    "RETENTION",
    "COOLDOWN",
    "DRIFT",
    "HORIZON",
    "DURATION",
    "RUNTIME",
    "RESOLUTION",
    "OFFSET",
    "OUTAGE",
];

/// Names of units of time, which are exact.
pub const UNIT_NAMES: [&str; 6] = ["MILLISECOND", "SECOND", "MINUTE", "HOUR", "DAY", "YEAR"];

/// A place that may contain a forbidden word.
pub struct Exception {
    /// Path from the top folder.
    pub path: &'static str,
    /// The word.
    pub word: &'static str,
    /// Why it must be there.
    pub reason: &'static str,
}

/// The places that may contain a forbidden word.
pub const EXCEPTIONS: [Exception; 0] = [];
