//! How many lines the log gets of single events and refusals.

use std::time::{Duration, Instant};

/// Lines per second: more than any door has visitors, and no wear of a card when a camera sends without end. What is left
/// out here is in the journal of events all the same.
const LINES_PER_SECOND: u32 = 10;

/// Counts the lines of the present second.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    since: Option<Instant>,
    told: u32,
    left_out: u64,
}

impl Lines {
    /// Whether there is a line for what happens now, and then how many were left out since the last one.
    pub(crate) fn one_more(&mut self, now: Instant) -> Option<u64> {
        let is_over = |since| now.saturating_duration_since(since) >= Duration::from_secs(1);
        if self.since.is_none_or(is_over) {
            (self.since, self.told) = (Some(now), 0);
        }
        if self.told == LINES_PER_SECOND {
            self.left_out += 1;
            return None;
        }
        self.told += 1;
        Some(std::mem::take(&mut self.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_has_so_many_lines_and_the_next_one_says_how_many_are_missing() {
        let (mut lines, now) = (Lines::default(), Instant::now());
        for _ in 0..LINES_PER_SECOND {
            assert_eq!(lines.one_more(now), Some(0));
        }
        assert_eq!(lines.one_more(now), None);
        assert_eq!(lines.one_more(now + Duration::from_millis(999)), None);
        assert_eq!(lines.one_more(now + Duration::from_secs(1)), Some(2));
        assert_eq!(lines.one_more(now + Duration::from_secs(1)), Some(0));
    }
}
