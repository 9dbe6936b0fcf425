//! Bounds the log lines of single events and refusals.

use std::time::{Duration, Instant};

/// Lines per second: more than a camera has events, and few enough to protect a memory card. All events are in the journal in
/// any case.
const LINES_PER_SECOND: u32 = 10;

/// Counts the lines of the current second.
#[derive(Debug, Default)]
pub(crate) struct LogLimit {
    since: Option<Instant>,
    logged: u32,
    left_out: u64,
}

impl LogLimit {
    /// Whether a line may be logged now, and then the number of lines that were left out since the last one.
    pub(crate) fn admit_line(&mut self, now: Instant) -> Option<u64> {
        let is_over = |since| now.saturating_duration_since(since) >= Duration::from_secs(1);
        if self.since.is_none_or(is_over) {
            (self.since, self.logged) = (Some(now), 0);
        }
        if self.logged == LINES_PER_SECOND {
            self.left_out += 1;
            return None;
        }
        self.logged += 1;
        Some(std::mem::take(&mut self.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_has_so_many_lines_and_the_next_one_says_how_many_are_missing() {
        let (mut lines, now) = (LogLimit::default(), Instant::now());
        for _ in 0..LINES_PER_SECOND {
            assert_eq!(lines.admit_line(now), Some(0));
        }
        assert_eq!(lines.admit_line(now), None);
        assert_eq!(lines.admit_line(now + Duration::from_millis(999)), None);
        assert_eq!(lines.admit_line(now + Duration::from_secs(1)), Some(2));
        assert_eq!(lines.admit_line(now + Duration::from_secs(1)), Some(0));
    }
}
