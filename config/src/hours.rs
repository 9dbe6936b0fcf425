//! Hours of the day as text: `22:00-06:00`.

use std::time::Duration;

const DAY: u32 = 86_400;

/// A part of every day, also over midnight, by the clock on the wall.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hours {
    /// Its first second, from midnight.
    from: u32,
    /// The first second after it.
    to: u32,
}

impl Hours {
    /// Reads `22:00-06:00`. `None` for anything else, and where both are the same.
    pub fn parse(text: &str) -> Option<Self> {
        let (from, to) = text.split_once('-')?;
        let (from, to) = (second(from.trim())?, second(to.trim())?);
        (from != to).then_some(Self { from, to })
    }

    /// How long it is until they begin, at a second of the day; none where they have begun.
    pub fn begin_in(&self, second: u32) -> Option<Duration> {
        let since = |from: u32, to: u32| (to % DAY + DAY - from % DAY) % DAY;
        let inside = since(self.from, second) < since(self.from, self.to);
        (!inside).then(|| Duration::from_secs(since(second, self.from).into()))
    }
}

fn second(text: &str) -> Option<u32> {
    let (hour, minute) = text.split_once(':')?;
    let number = |text: &str, below: u32| -> Option<u32> {
        let digits = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse().ok().filter(|number| digits && *number < below)
    };
    Some(number(hour, 24)? * 3600 + number(minute, 60)? * 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begin_in(text: &str, hour: u32, minute: u32) -> Option<u64> {
        let hours = Hours::parse(text).unwrap();
        hours.begin_in(hour * 3600 + minute * 60).map(|time| time.as_secs() / 60)
    }

    #[test]
    fn hours_hold_over_midnight_and_not_at_their_end() {
        let night = |hour, minute| begin_in("22:00-06:00", hour, minute);
        assert_eq!([night(22, 0), night(23, 59), night(0, 0), night(5, 59)], [None; 4]);
        assert_eq!([night(6, 0), night(12, 30), night(21, 59)], [Some(960), Some(570), Some(1)]);
        let noon = |hour, minute| begin_in("12:00-13:15", hour, minute);
        assert_eq!([noon(12, 0), noon(13, 14)], [None; 2]);
        assert_eq!([noon(13, 15), noon(0, 0), noon(11, 59)], [Some(1365), Some(720), Some(1)]);
        assert_eq!(begin_in("00:00-23:59", 23, 59), Some(1));
    }

    #[test]
    fn anything_else_is_no_hours() {
        for text in [
            "",
            "22:00",
            "22:00-",
            "22-06",
            "24:00-06:00",
            "22:60-06:00",
            "2:00-6:00",
            "06:00-06:00",
            "+2:00-06:00",
        ] {
            assert_eq!(Hours::parse(text), None, "{text}");
        }
    }
}
