//! Tells what the broker kept for us while we were away from what happens now.
//!
//! A camera without a clock does not say when something happened, and MQTT does not say how long a message
//! waited. But the broker sends the backlog of a session in order. So the input subscribes the appliance's
//! own retained status as well: its copy is queued behind the backlog, and everything before it may have
//! waited for as long as the connection was away. An identifier of the subscription tells this copy from
//! those of earlier connections. Where it does not come (an access list may hide it, a broker may know no
//! identifiers) a moment of quiet ends the backlog, and in the end a deadline does.

use std::time::{Duration, Instant};

/// Quiet that ends the backlog: with a free window a broker sends its backlog without a pause.
const QUIET: Duration = Duration::from_secs(1);

/// End of the backlog in any case.
const DEADLINE: Duration = Duration::from_secs(300);

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    /// Since when, while it is open.
    open: Option<Instant>,
    /// Last sign of life of the connection before.
    away_since: Option<Instant>,
    /// Last sign of life.
    alive: Option<Instant>,
}

impl Backlog {
    /// A connection stands; with a session that was there before there may be a backlog.
    pub(crate) fn connected(&mut self, session_present: bool, now: Instant) {
        self.away_since = self.alive;
        self.open = session_present.then_some(now);
    }

    /// Something came from the broker.
    pub(crate) fn alive(&mut self, now: Instant) {
        self.alive = Some(now);
        if self.open.is_some_and(|since| now.saturating_duration_since(since) > DEADLINE) {
            self.open = None;
        }
    }

    /// Everything from here on is new.
    pub(crate) fn close(&mut self) {
        self.open = None;
    }

    pub(crate) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// How long to wait for a message until the backlog counts as over.
    pub(crate) fn patience(&self) -> Duration {
        QUIET
    }

    /// The longest that a message which arrives now may have waited; without bound for the first connection.
    pub(crate) fn waited(&self, now: Instant) -> Duration {
        match (self.open, self.away_since) {
            (None, _) => Duration::ZERO,
            (Some(_), Some(away)) => now.saturating_duration_since(away),
            (Some(_), None) => Duration::MAX,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_backlog_of_an_unknown_time_waited_without_bound_until_it_is_over() {
        let (mut backlog, now) = (Backlog::default(), Instant::now());
        backlog.connected(true, now);
        assert_eq!(backlog.waited(now), Duration::MAX);
        backlog.close();
        assert_eq!(backlog.waited(now), Duration::ZERO);
    }

    #[test]
    fn the_backlog_of_an_outage_waited_at_most_as_long_as_the_outage() {
        let (mut backlog, now) = (Backlog::default(), Instant::now());
        backlog.connected(false, now);
        assert_eq!(backlog.waited(now), Duration::ZERO);
        backlog.alive(now);
        let back = now + Duration::from_secs(7);
        backlog.connected(true, back);
        backlog.alive(back);
        assert_eq!(backlog.waited(back), Duration::from_secs(7));
        backlog.alive(back + DEADLINE + QUIET);
        assert!(!backlog.is_open());
    }
}
