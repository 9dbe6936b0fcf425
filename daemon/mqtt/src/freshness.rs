//! Bounds the age of a message at the moment it is read.
//!
//! A camera without a clock does not send a time, and MQTT does not say how long a message waited: at the broker
//! while the connection was away, in a stalled TCP connection, or in the socket of a process that was stopped or
//! suspended. The broker sends in order, so two replies prove a lower bound for everything read after them:
//! - A PINGRESP, if nothing was unacknowledged at the PINGREQ and no message was read in between. The broker's queue
//!   was empty then, and whatever follows was published after the PINGREQ was sent.
//! - The copy of a retained message (the marker), which the broker queues behind its backlog when it is subscribed
//!   again. Whatever follows was published after that SUBSCRIBE was sent. Needed only while messages flow. A
//!   subscription identifier distinguishes the copy from those of earlier subscriptions.
//!
//! A message may be as old as the last proof. Without markers (an access list may hide them, a broker may not
//! support identifiers) any PINGRESP counts, except after a gap: then only an idle moment proves that the backlog is
//! over, or [`BACKLOG_TIMEOUT`] ends it.

use std::time::Duration;

use crate::moment::Moment;

/// Interval of the proofs: a fifth of what makes an answer stale, and still only a few bytes per second.
pub(crate) const PROOF_INTERVAL: Duration = Duration::from_secs(2);

/// A last proof older than this is a gap: more than two intervals, and half of what makes an answer stale.
const GAP_AGE_MIN: Duration = Duration::from_secs(5);

/// A marker that has not arrived by now is sent again: what is behind it would be stale anyway.
const MARKER_TIMEOUT: Duration = Duration::from_secs(10);

/// Without markers a backlog counts as over after this, even if messages never pause.
const BACKLOG_TIMEOUT: Duration = Duration::from_secs(300);

/// How long a message may have waited before it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waited {
    /// When it was read.
    pub read_at: Moment,
    /// Without bound where nothing is known.
    pub at_most: Duration,
    /// It did not come from a backlog, nor after a gap.
    pub is_live: bool,
}

/// What is due on the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Due {
    pub(crate) marker: bool,
    pub(crate) ping: bool,
}

/// A PINGREQ without its PINGRESP.
#[derive(Debug, Clone, Copy)]
struct Ping {
    sent_at: Moment,
    /// Nothing was unacknowledged, and no message was read since.
    is_idle: bool,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Freshness {
    has_marker: bool,
    /// Everything that is read now was published after this; none where nothing is known.
    proven: Option<Moment>,
    connected_at: Moment,
    /// A proof was read on this connection, or there was no backlog.
    is_caught_up: bool,
    /// Messages read on this connection and not acknowledged.
    unacknowledged: usize,
    /// A message was read since proofs were last due.
    is_busy: bool,
    ping: Option<Ping>,
    /// Further unanswered pings, sent only to keep the connection alive.
    untimed: u64,
    last_ping: Moment,
    marker_sent: Option<Moment>,
    /// Markers arrive on this connection.
    is_marker_seen: bool,
}

impl Freshness {
    /// Before the first connection; `has_marker` where a marker can be subscribed.
    pub(crate) fn new(has_marker: bool) -> Self {
        let now = Moment::now();
        Self {
            has_marker,
            proven: None,
            connected_at: now,
            is_caught_up: false,
            unacknowledged: 0,
            is_busy: false,
            ping: None,
            untimed: 0,
            last_ping: now,
            marker_sent: None,
            is_marker_seen: false,
        }
    }

    /// A connection was accepted and is about to subscribe, with the marker if there is one.
    pub(crate) fn connected(&mut self, session_present: bool, now: Moment) {
        *self = Self {
            // A new session has no backlog.
            proven: if session_present { self.proven } else { Some(now) },
            connected_at: now,
            is_caught_up: !session_present,
            last_ping: now,
            marker_sent: self.has_marker.then_some(now),
            ..Self::new(self.has_marker)
        };
    }

    /// What is due at this tick; it counts as sent. `keep_alive` is the longest pause between two pings.
    pub(crate) fn due(&mut self, now: Moment, keep_alive: Duration) -> Due {
        let is_idle = self.unacknowledged == 0;
        let is_busy = std::mem::take(&mut self.is_busy) || !is_idle;
        if self.marker_sent.is_some_and(|sent| now - sent > MARKER_TIMEOUT) {
            self.marker_sent = None;
            self.is_marker_seen = false;
        }
        let marker = self.has_marker && is_busy && self.marker_sent.is_none();
        if marker {
            self.marker_sent = Some(now);
        }
        let is_timed = self.ping.is_none() && self.untimed == 0;
        let ping = is_timed || now - self.last_ping >= keep_alive;
        if is_timed {
            self.ping = Some(Ping { sent_at: now, is_idle });
        } else if ping {
            self.untimed = self.untimed.saturating_add(1);
        }
        if ping {
            self.last_ping = now;
        }
        Due { marker, ping }
    }

    /// A PINGRESP was read.
    pub(crate) fn ping_answered(&mut self, now: Moment) {
        // Replies come in order, and the timed ping is always the oldest one.
        let Some(Ping { sent_at, is_idle }) = self.ping.take() else {
            self.untimed = self.untimed.saturating_sub(1);
            return;
        };
        let is_gap = self.proven.is_none_or(|proven| sent_at - proven > GAP_AGE_MIN);
        let since = self.proven.map_or(self.connected_at, |proven| proven.max(self.connected_at));
        let is_flowing = self.is_caught_up && !is_gap || now - since > BACKLOG_TIMEOUT;
        if is_idle || !self.is_marker_seen && is_flowing {
            self.prove(sent_at);
        }
    }

    /// A copy of the marker for the latest subscription was read.
    pub(crate) fn marker_arrived(&mut self) {
        self.is_marker_seen = true;
        if let Some(sent_at) = self.marker_sent.take() {
            self.prove(sent_at);
        }
    }

    /// A message was read; `is_marker` where it is a copy for the latest subscription of the marker.
    pub(crate) fn message_read(&mut self, is_marker: bool) {
        self.unacknowledged += 1;
        self.is_busy |= !is_marker;
        if let Some(ping) = &mut self.ping {
            ping.is_idle = false;
        }
    }

    /// Acknowledgements were written.
    pub(crate) fn acknowledged(&mut self, messages: usize) {
        self.unacknowledged = self.unacknowledged.saturating_sub(messages);
    }

    /// How long a message that is read now may have waited.
    pub(crate) fn waited(&self, now: Moment) -> Waited {
        let at_most = self.proven.map_or(Duration::MAX, |proven| now - proven);
        Waited { read_at: now, at_most, is_live: self.is_caught_up && at_most <= GAP_AGE_MIN }
    }

    fn prove(&mut self, sent_at: Moment) {
        self.is_caught_up = true;
        self.proven = self.proven.max(Some(sent_at));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(10);

    fn connected(session_present: bool) -> (Freshness, Moment) {
        let (mut freshness, now) = (Freshness::new(true), Moment::now());
        freshness.connected(session_present, now);
        (freshness, now)
    }

    #[test]
    fn the_backlog_of_an_unknown_time_waited_without_bound_until_the_marker() {
        let (mut freshness, now) = connected(true);
        freshness.message_read(false);
        assert_eq!(freshness.waited(now).at_most, Duration::MAX);
        freshness.marker_arrived();
        let waited = freshness.waited(now + SECOND);
        assert!(waited.at_most == SECOND && waited.is_live, "{waited:?}");
    }

    #[test]
    fn the_backlog_of_an_outage_waited_at_most_since_the_last_proof() {
        let (mut freshness, now) = connected(false);
        freshness.connected(true, now + 3 * SECOND);
        let waited = freshness.waited(now + 3 * SECOND);
        assert!(waited.at_most == 3 * SECOND && !waited.is_live, "{waited:?}");
        freshness.marker_arrived();
        assert!(freshness.waited(now + 3 * SECOND).is_live);
    }

    #[test]
    fn what_is_read_after_a_gap_is_as_old_as_the_last_idle_ping() {
        let (mut freshness, now) = connected(false);
        freshness.marker_arrived();
        assert_eq!(freshness.due(now, KEEP_ALIVE_INTERVAL), Due { marker: false, ping: true });
        freshness.ping_answered(now);
        // Stopped for 12 s; more messages wait at the broker than its window holds.
        let later = now + 12 * SECOND;
        assert!(freshness.due(later, KEEP_ALIVE_INTERVAL).ping);
        freshness.message_read(false);
        assert_eq!(freshness.waited(later).at_most, 12 * SECOND);
        freshness.ping_answered(later);
        assert_eq!(freshness.waited(later).at_most, 12 * SECOND, "more may be queued behind the window");
        assert!(freshness.due(later, KEEP_ALIVE_INTERVAL).marker);
        freshness.marker_arrived();
        assert_eq!(freshness.waited(later).at_most, Duration::ZERO);
    }

    #[test]
    fn flowing_messages_stay_fresh_with_and_without_markers() {
        for has_markers in [true, false] {
            let (mut freshness, mut now) = connected(false);
            freshness.is_marker_seen = has_markers;
            freshness.marker_sent = None;
            for _ in 0..100 {
                now = now + PROOF_INTERVAL;
                let due = freshness.due(now, KEEP_ALIVE_INTERVAL);
                freshness.message_read(false);
                freshness.ping_answered(now);
                if due.marker && has_markers {
                    freshness.marker_arrived();
                }
                let waited = freshness.waited(now + PROOF_INTERVAL);
                assert!(waited.is_live, "{has_markers} {waited:?}");
            }
        }
    }

    #[test]
    fn pings_of_a_stalled_connection_are_few_and_prove_nothing_later() {
        let (mut freshness, now) = connected(false);
        assert!(freshness.due(now, KEEP_ALIVE_INTERVAL).ping);
        let pings =
            (1..=10).filter(|&n| freshness.due(now + n * PROOF_INTERVAL, KEEP_ALIVE_INTERVAL).ping).count();
        assert_eq!(pings, 2);
        let later = now + 10 * PROOF_INTERVAL;
        for _ in 0..3 {
            freshness.ping_answered(later);
            assert_eq!(freshness.waited(later).at_most, 10 * PROOF_INTERVAL);
        }
        assert!(freshness.due(later, KEEP_ALIVE_INTERVAL).ping);
        freshness.ping_answered(later);
        assert_eq!(freshness.waited(later).at_most, Duration::ZERO);
    }
}
