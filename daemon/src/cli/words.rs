//! Sizes, times and ages as people read them.

use chrono::{DateTime, Utc};
use gatehouse_store::clock::ClockSource;

use crate::control::answers::ClockLine;

/// `1.5 MB`, decimal like the settings.
pub(super) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];
    // Three digits are told; the precision of f64 is far beyond them.
    #[allow(clippy::cast_precision_loss)]
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 999.95 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

/// `3 d 4 h`, `5 min 2 s`: the two largest units.
pub(super) fn duration(seconds: u64) -> String {
    let parts = [
        (seconds / 86_400, "d"),
        (seconds / 3600 % 24, "h"),
        (seconds / 60 % 60, "min"),
        (seconds % 60, "s"),
    ];
    let from = parts.iter().position(|(count, _)| *count > 0).unwrap_or(parts.len() - 1);
    let told = parts.iter().skip(from).take(2).filter(|(count, _)| *count > 0 || from == parts.len() - 1);
    told.map(|(count, unit)| format!("{count} {unit}")).collect::<Vec<_>>().join(" ")
}

/// `2026-11-20 22:54:01Z` of RFC 3339; the text itself where it is none.
pub(super) fn time(text: &str) -> String {
    match DateTime::parse_from_rfc3339(text) {
        Ok(time) => time.with_timezone(&Utc).format("%Y-%m-%d %H:%M:%SZ").to_string(),
        Err(_) => text.to_owned(),
    }
}

/// `5 min 2 s ago` of RFC 3339.
pub(super) fn ago(text: &str) -> String {
    match DateTime::parse_from_rfc3339(text) {
        Ok(time) => {
            let seconds = Utc::now().signed_duration_since(time).num_seconds();
            format!("{} ago", duration(u64::try_from(seconds).unwrap_or(0)))
        }
        Err(_) => text.to_owned(),
    }
}

/// `2026-11-20 22:54:01Z, within 12 ms by the central database`, and how wrong the machine's own clock is.
pub(super) fn clock(clock: &ClockLine) -> String {
    let now = time(&clock.time);
    let Some(off) = clock.uncertainty_ms else {
        return format!("{now}; nobody has told the time since the machine was started");
    };
    let by = match clock.source {
        Some(ClockSource::System) => "a time server",
        Some(ClockSource::Rows) | None => "the central database",
    };
    match clock.wrong_by_ms {
        0 => format!("{now}, within {off} ms by {by}"),
        _ => format!("{now}, within {off} ms by {by}; the machine's own clock says {}", time(&clock.wall)),
    }
}

/// `1 person`, `2 people`.
pub(super) fn count(number: u64, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

/// Three digits after the point, as distances need them; `-` for none.
pub(super) fn distance(value: Option<f32>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.3}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_durations_are_told_with_their_largest_units() {
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(1_500_000), "1.5 MB");
        assert_eq!(bytes(999_999), "1.0 MB");
        assert_eq!(bytes(u64::MAX), "18446744.1 TB");
        assert_eq!(duration(0), "0 s");
        assert_eq!(duration(62), "1 min 2 s");
        assert_eq!(duration(3600), "1 h");
        assert_eq!(duration(86_400 * 3 + 3600 * 4 + 59), "3 d 4 h");
        assert_eq!(time("2026-11-20T22:54:01.123456Z"), "2026-11-20 22:54:01Z");
    }
}
