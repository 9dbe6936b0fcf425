//! Sizes, times and ages in the form in which the tool prints them.

use std::fmt::Display;

use chrono::{DateTime, Local, TimeZone, Utc};
use gatehouse_store::clock::ClockSource;

use gatehouse_control::answers::ClockLine;

use super::terminal::Terminal;

/// `1.5 MB`, decimal like the settings.
pub(super) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];
    // Three digits are printed; f64 holds 15.
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
    let largest = parts.iter().skip(from).take(2).filter(|(count, _)| *count > 0 || from == parts.len() - 1);
    largest.map(|(count, unit)| format!("{count} {unit}")).collect::<Vec<_>>().join(" ")
}

/// `2026-11-20 23:54:01+01:00` on a terminal, in local time, and `2026-11-20 22:54:01Z` elsewhere, from RFC 3339. Other
/// text is returned unchanged.
pub(super) fn time(text: &str) -> String {
    match Terminal::of_stdout().width {
        Some(_) => time_in(&Local, text),
        None => time_in(&Utc, text),
    }
}

fn time_in<Z: TimeZone>(zone: &Z, text: &str) -> String
where
    Z::Offset: Display,
{
    match DateTime::parse_from_rfc3339(text) {
        Ok(time) => {
            let time = time.with_timezone(zone).format("%Y-%m-%d %H:%M:%S%:z").to_string();
            time.strip_suffix("+00:00").map_or_else(|| time.clone(), |utc| format!("{utc}Z"))
        }
        Err(_) => text.to_owned(),
    }
}

/// `5 min 2 s ago` from RFC 3339. Other text is returned unchanged.
pub(super) fn ago(text: &str) -> String {
    match DateTime::parse_from_rfc3339(text) {
        Ok(time) => {
            let seconds = Utc::now().signed_duration_since(time).num_seconds();
            format!("{} ago", duration(u64::try_from(seconds).unwrap_or(0)))
        }
        Err(_) => text.to_owned(),
    }
}

/// `2026-11-20 22:54:01Z, within 12 ms by the central database`, and the machine's own clock if it differs.
pub(super) fn clock(clock: &ClockLine) -> String {
    let now = time(&clock.time);
    let Some(uncertainty) = clock.uncertainty_ms else {
        return format!("{now}; no reference time since the machine was started");
    };
    let source = match clock.source {
        Some(ClockSource::System) => "a time server",
        Some(ClockSource::Rows) | None => "the central database",
    };
    match clock.wrong_by_ms {
        0 => format!("{now}, within {uncertainty} ms by {source}"),
        _ => format!(
            "{now}, within {uncertainty} ms by {source}; the machine's own clock shows {}",
            time(&clock.wall)
        ),
    }
}

/// `1 person`, `2 people`.
pub(super) fn count(number: u64, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

/// Three digits after the point; `-` for none.
pub(super) fn distance(value: Option<f32>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.3}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_durations_show_their_largest_units() {
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(1_500_000), "1.5 MB");
        assert_eq!(bytes(999_999), "1.0 MB");
        assert_eq!(bytes(u64::MAX), "18446744.1 TB");
        assert_eq!(duration(0), "0 s");
        assert_eq!(duration(62), "1 min 2 s");
        assert_eq!(duration(3600), "1 h");
        assert_eq!(duration(86_400 * 3 + 3600 * 4 + 59), "3 d 4 h");
        let berlin = chrono::FixedOffset::east_opt(3600).unwrap();
        assert_eq!(time_in(&Utc, "2026-11-20T22:54:01.123456Z"), "2026-11-20 22:54:01Z");
        assert_eq!(time_in(&berlin, "2026-11-20T22:54:01.123456Z"), "2026-11-20 23:54:01+01:00");
        assert_eq!(time_in(&berlin, "never"), "never");
    }
}
