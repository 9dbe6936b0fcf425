//! Durations as text: `250ms`, `1s`, `5m`, `2h`, `7d`.

use std::time::Duration;

/// Units, the largest first, in milliseconds. `ms` before `m` and `s` would be wrong when matched as a suffix, so
/// the number is split off first.
const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Reads a whole number and one unit: `ms`, `s`, `m`, `h` or `d`. `None` for anything else.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit.trim())?;
    number.parse::<u64>().ok()?.checked_mul(*factor).map(Duration::from_millis)
}

/// Writes a duration in the largest unit that holds it without a fraction (whole milliseconds).
pub fn duration_text(duration: Duration) -> String {
    let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if millis == 0 {
        return "0s".to_owned();
    }
    let (unit, factor) =
        UNITS.iter().find(|(_, factor)| millis.is_multiple_of(*factor)).unwrap_or(&("ms", 1));
    format!("{}{unit}", millis / factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_back_as_written() {
        for text in ["250ms", "1s", "90s", "5m", "2h", "7d"] {
            assert_eq!(duration_text(parse_duration(text).unwrap()), text);
        }
        assert_eq!(parse_duration("60s"), parse_duration("1m"));
    }

    #[test]
    fn durations_without_unit_sign_or_bound_are_refused() {
        for text in ["", "5", "s", "-1s", "1.5s", "1w", "99999999999999999999s", "18446744073709551615d"] {
            assert_eq!(parse_duration(text), None, "{text:?}");
        }
    }
}
