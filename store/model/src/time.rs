//! Instants as the appliance stores them.

use std::fmt;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};

/// Microseconds since 1970-01-01 UTC: the resolution of Postgres, and small in the journal.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// The appliance's wall clock.
    pub fn now() -> Self {
        Self(Utc::now().timestamp_micros())
    }

    /// Parses RFC 3339; none for other text or a time out of range.
    pub fn parse(text: &str) -> Option<Self> {
        DateTime::parse_from_rfc3339(text).ok().map(|t| Self(t.timestamp_micros()))
    }

    /// As a chrono type; the epoch for a value out of chrono's range.
    pub fn to_chrono(self) -> DateTime<Utc> {
        DateTime::from_timestamp_micros(self.0).unwrap_or(DateTime::UNIX_EPOCH)
    }

    /// Whole days since 1970-01-01 UTC.
    pub fn day(self) -> i32 {
        i32::try_from(self.0.div_euclid(86_400_000_000)).unwrap_or(0)
    }

    /// Whether this instant is more than `than` before `now`.
    pub fn is_older_than(self, than: Duration, now: Self) -> bool {
        now.0.saturating_sub(self.0) > i64::try_from(than.as_micros()).unwrap_or(i64::MAX)
    }

    /// Milliseconds from `earlier` to this instant, 0 where the clock went back.
    pub fn millis_since(self, earlier: Self) -> u64 {
        u64::try_from(self.0.saturating_sub(earlier.0) / 1000).unwrap_or(0)
    }
}

impl fmt::Display for Timestamp {
    /// RFC 3339 in UTC with microseconds.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_chrono().to_rfc3339_opts(SecondsFormat::Micros, true))
    }
}
