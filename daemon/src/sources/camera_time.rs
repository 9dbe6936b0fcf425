//! The `time` of an event, in the forms that cameras write.
//!
//! Freshness depends on it, so an unreadable value must never count as "now". The event then has no time, and its answer is
//! not actionable.

use gatehouse_model::Timestamp;
use serde_json::value::RawValue;

/// Earliest plausible time: 2020-01-01.
pub(crate) const PLAUSIBLE_FROM: Timestamp = Timestamp(1_577_836_800_000_000);

/// First time that is too late to be plausible: 2100-01-01.
const PLAUSIBLE_UNTIL: Timestamp = Timestamp(4_102_444_800_000_000);

/// How far a camera's clock may run ahead, in microseconds: one day.
const AHEAD_MAX_MICROS: i64 = 86_400_000_000;

/// Longest text that is parsed, in bytes; RFC 3339 with a zone name needs below 80.
const TEXT_BYTES_MAX: usize = 128;

/// Why a time is not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TimeFault {
    /// No supported form.
    NotUnderstood,
    /// An implausible time.
    Implausible,
}

impl TimeFault {
    /// The note in the answer.
    pub(crate) fn note(self) -> &'static str {
        match self {
            Self::NotUnderstood => {
                "time was not understood: send RFC 3339 with a zone, such as 2026-11-30T14:10:00Z, or Unix seconds or \
                 milliseconds; without it the age is unknown and the answer is not actionable"
            }
            Self::Implausible => {
                "time cannot be right (before 2020, after 2099 or more than a day ahead): set the camera's clock or \
                 send no time; the age is unknown and the answer is not actionable"
            }
        }
    }
}

/// Reads a time. `now` bounds it only if the clock of the appliance is plausible: a board without a clock starts in 1970.
pub(crate) fn read(raw: &RawValue, now: Timestamp) -> Result<Timestamp, TimeFault> {
    let time = parse(raw.get()).ok_or(TimeFault::NotUnderstood)?;
    let is_ahead = now >= PLAUSIBLE_FROM && time.0 > now.0.saturating_add(AHEAD_MAX_MICROS);
    if time < PLAUSIBLE_FROM || time >= PLAUSIBLE_UNTIL || is_ahead {
        return Err(TimeFault::Implausible);
    }
    Ok(time)
}

fn parse(json: &str) -> Option<Timestamp> {
    if !json.starts_with('"') {
        return unix(json);
    }
    let text: String = serde_json::from_str(json).ok()?;
    let text = text.trim();
    if text.len() > TEXT_BYTES_MAX { None } else { unix(text).or_else(|| calendar(text)) }
}

/// Unix seconds, milliseconds, microseconds or nanoseconds. Plausible times in these units are a factor of 1,000 apart
/// and their ranges do not overlap, so the number itself shows its unit.
fn unix(number: &str) -> Option<Timestamp> {
    let (whole, fraction) = if number.contains(['e', 'E']) {
        let value: f64 = number.parse().ok()?;
        // Writers use an exponent for large floats, whose fraction is below their own precision.
        (format!("{value:.3}").split_once('.')?.0.to_owned(), "0")
    } else {
        let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
        (whole.to_owned(), fraction)
    };
    let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_digits(&whole) || !is_digits(fraction) {
        return None;
    }
    let whole: i64 = whole.parse().ok()?;
    let nanos: i64 = format!("{fraction:0<9}").get(..9)?.parse().ok()?;
    let in_unit = |per_second: i64| {
        let seconds = whole / per_second;
        (PLAUSIBLE_FROM.0 / MICROS..PLAUSIBLE_UNTIL.0 / MICROS).contains(&seconds)
    };
    let micros = match [1, 1000, MICROS, 1000 * MICROS].into_iter().find(|unit| in_unit(*unit))? {
        1 => whole * MICROS + nanos / 1000,
        1000 => whole * 1000 + nanos / MICROS,
        MICROS => whole,
        _ => whole / 1000,
    };
    Some(Timestamp(micros))
}

/// Microseconds of a second.
const MICROS: i64 = 1_000_000;

/// A date and a time with a zone: RFC 3339, and ISO 8601 as programs write it. Without a zone it is no instant.
fn calendar(text: &str) -> Option<Timestamp> {
    let text = without_zone_names(text)?;
    let at = text.find(['T', 't', ' ', '_'])?;
    let (date, rest) = (date(&text[..at])?, text[at + 1..].trim_start());
    let end = rest.find(|c: char| !matches!(c, '0'..='9' | ':' | '.' | ','))?;
    let (time, zone) = (time_of_day(&rest[..end])?, zone(rest[end..].trim_start())?);
    Timestamp::parse(&format!("{date}T{time}{zone}"))
}

/// Cuts suffixes such as `[Europe/Berlin]` (RFC 9557). The offset before them decides, so they add nothing.
fn without_zone_names(mut text: &str) -> Option<&str> {
    while let Some(inner) = text.strip_suffix(']') {
        let at = inner.rfind('[')?;
        let is_name =
            |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '_' | '+' | '-' | ':' | '=' | '!' | '.');
        if !inner[at + 1..].chars().all(is_name) {
            return None;
        }
        text = inner[..at].trim_end();
    }
    Some(text)
}

/// `YYYY-MM-DD` from that or from `YYYYMMDD`.
fn date(text: &str) -> Option<String> {
    match text.len() {
        10 => Some(text.to_owned()),
        8 => Some(format!("{}-{}-{}", text.get(..4)?, text.get(4..6)?, text.get(6..)?)),
        _ => None,
    }
}

/// `HH:MM:SS.fraction` from that, from `HH:MM` and from forms without colons; a comma is a decimal point.
fn time_of_day(text: &str) -> Option<String> {
    let (clock, fraction) = text.split_once(['.', ',']).unwrap_or((text, "0"));
    let is_fraction = !fraction.is_empty() && fraction.bytes().all(|byte| byte.is_ascii_digit());
    if !is_fraction {
        return None;
    }
    let digits = clock.replace(':', "");
    let seconds = if digits.len() == 4 && clock.len() == text.len() { "00" } else { digits.get(4..)? };
    let has_form = [clock.len() == digits.len(), clock.len() == digits.len() + digits.len() / 2 - 1];
    if !has_form.contains(&true) || seconds.len() != 2 {
        return None;
    }
    Some(format!("{}:{}:{seconds}.{fraction}", digits.get(..2)?, digits.get(2..4)?))
}

/// `Z` or `+HH:MM` from the usual forms.
fn zone(text: &str) -> Option<String> {
    if matches!(text, "Z" | "z" | "UTC" | "GMT") {
        return Some("Z".to_owned());
    }
    let digits = text.strip_prefix(['+', '-'])?.replace(':', "");
    let (hours, minutes) = match digits.len() {
        2 => (digits.get(..2)?, "00"),
        4 => (digits.get(..2)?, digits.get(2..)?),
        _ => return None,
    };
    Some(format!("{}{hours}:{minutes}", text.get(..1)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn at(value: &Value) -> Result<String, TimeFault> {
        let text = value.to_string();
        let raw: &RawValue = serde_json::from_str(&text).unwrap();
        read(raw, Timestamp::parse("2026-11-30T14:10:00Z").unwrap()).map(|time| time.to_string())
    }

    #[test]
    fn calendar_times_with_a_zone_are_understood() {
        for (given, right) in [
            ("2026-11-30T14:10:00Z", "2026-11-30T14:10:00.000000Z"),
            ("2026-11-30t14:10:00z", "2026-11-30T14:10:00.000000Z"),
            ("2026-11-30 14:10:00Z", "2026-11-30T14:10:00.000000Z"),
            ("2026-11-30T14:10:00.123456789Z", "2026-11-30T14:10:00.123456Z"),
            ("2026-11-30T14:10:00,123Z", "2026-11-30T14:10:00.123000Z"),
            ("2026-11-30T14:10:00+0100", "2026-11-30T13:10:00.000000Z"),
            ("2026-11-30T14:10:00+01", "2026-11-30T13:10:00.000000Z"),
            ("2026-11-30T14:10:00-00:00", "2026-11-30T14:10:00.000000Z"),
            ("2026-11-30T14:10:00+02:00[Europe/Berlin]", "2026-11-30T12:10:00.000000Z"),
            ("20261130T141000Z", "2026-11-30T14:10:00.000000Z"),
            ("20261130T141000.5+0100", "2026-11-30T13:10:00.500000Z"),
            ("2026-11-30T14:10Z", "2026-11-30T14:10:00.000000Z"),
            ("2026-11-30T14:10:00Z ", "2026-11-30T14:10:00.000000Z"),
            (" 2026-11-30T14:10:00Z", "2026-11-30T14:10:00.000000Z"),
            ("2026-11-30T14:10:00 Z", "2026-11-30T14:10:00.000000Z"),
            ("2026-11-30T14:10:00\u{202f}Z", "2026-11-30T14:10:00.000000Z"),
            ("2026-06-30T23:59:60Z", "2026-07-01T00:00:00.000000Z"),
            ("2026-11-30 15:10:00.5 +0100", "2026-11-30T14:10:00.500000Z"),
        ] {
            assert_eq!(at(&json!(given)).as_deref(), Ok(right), "{given}");
        }
    }

    #[test]
    fn unix_times_of_every_unit_are_understood_as_numbers_and_as_texts() {
        for (given, right) in [
            ("1796047800", "2026-11-30T14:10:00.000000Z"),
            ("1796047800.25", "2026-11-30T14:10:00.250000Z"),
            ("1796047800.1234567899", "2026-11-30T14:10:00.123456Z"),
            ("1796047800123", "2026-11-30T14:10:00.123000Z"),
            ("1796047800123.5", "2026-11-30T14:10:00.123500Z"),
            ("1796047800123456", "2026-11-30T14:10:00.123456Z"),
            ("1796047800123456789", "2026-11-30T14:10:00.123456Z"),
            ("1.7960478E9", "2026-11-30T14:10:00.000000Z"),
            ("1.796047800123e12", "2026-11-30T14:10:00.123000Z"),
        ] {
            let raw: &RawValue = serde_json::from_str(given).unwrap();
            let number = read(raw, Timestamp(0)).map(|time| time.to_string());
            assert_eq!(number.as_deref(), Ok(right), "{given}");
            assert_eq!(at(&json!(given)).as_deref(), Ok(right), "{given}");
        }
    }

    #[test]
    fn all_else_is_said_to_be_not_understood() {
        for given in [
            "2026-11-30T14:10:00",
            "2026-11-30 14:10:00",
            "2026-10-25T02:30:00",
            "10000-01-01T00:00:00Z",
            "+10000-01-01T00:00:00Z",
            "-0001-01-01T00:00:00Z",
            "2026-02-30T10:00:00Z",
            "2026-11-30T24:00:00Z",
            "2026-11-30T14:10:00+25:00",
            "2026-11-30T14:10:61Z",
            "2026-11-30T14:10:0Z",
            "2026-11-30T1:41:00:0Z",
            "2026-11-30T14:10:00.Z",
            "2026-11-30T14.5Z",
            "2026-11-30T14:10:00[Europe/Berlin]",
            "2026-11-30T14:10:00Z[a b]",
            "2026-11-30T14:10:00+1",
            "2026-11-30",
            "20261130141000",
            "Mon, 30 Nov 2026 14:10:00 GMT",
            "30.11.2026 14:10",
            "11/30/2026 2:10 PM",
            "",
            "now",
            "1e400",
            "NaN",
            "٢٠٢٦-١١-٣٠",
            "2026-11-3\u{fffd}T14:10:00Z",
        ] {
            assert_eq!(at(&json!(given)), Err(TimeFault::NotUnderstood), "{given}");
        }
        let others =
            [json!(0), json!(-1), json!(1e30), json!(true), json!(["2026-11-30"]), json!({"sec": 1})];
        for given in others.iter().chain([&json!(17.5), &json!("x".repeat(1000)), &json!(-1_796_047_800)]) {
            assert_eq!(at(given), Err(TimeFault::NotUnderstood), "{given}");
        }
    }

    #[test]
    fn a_time_that_cannot_be_right_is_implausible() {
        for given in [
            "1970-01-01T00:00:00Z",
            "1969-12-31T23:59:59Z",
            "2016-12-31T23:59:60Z",
            "0000-01-01T00:00:00Z",
            "9999-12-31T23:59:59Z",
            "2106-02-07T06:28:15Z",
            "2026-12-02T12:00:00Z",
        ] {
            assert_eq!(at(&json!(given)), Err(TimeFault::Implausible), "{given}");
        }
        assert_eq!(at(&json!(1_800_000_000)), Err(TimeFault::Implausible), "more than a day ahead");
    }

    #[test]
    fn an_appliance_whose_clock_starts_in_1970_does_not_make_cameras_wrong() {
        let raw: &RawValue = serde_json::from_str("\"2026-11-20T12:00:00Z\"").unwrap();
        assert!(read(raw, Timestamp(0)).is_ok());
    }
}
