//! The answers between the pipeline and the broker's confirmation.
//!
//! An answer waits, is sent under a packet id (*flying*), and is settled by the broker's PUBACK. When the
//! connection ends, whatever was flying may have arrived or not: it waits again, in the old order, and is
//! `resent`. Everything is settled within [`ANSWER_PATIENCE`].

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::answer::Outgoing;
use crate::receipt::Confirmation;

/// How long an answer is tried for. Longer than a broker needs to restart, short enough that a broker that
/// takes events but no answers does not hold up acknowledgements for long.
pub(crate) const ANSWER_PATIENCE: Duration = Duration::from_secs(30);

/// Most answers on their way at once, if the broker takes as many.
const WINDOW_MAX: u16 = 64;

/// An answer that the broker has not confirmed for this long makes the window close: what would be sent now
/// could lie in a buffer and leave late, as fresh as it was when it was written.
const SUSPICION: Duration = Duration::from_secs(1);

/// An answer that the broker has not confirmed, or not even taken, for this long ends the connection.
pub(crate) const STALL: Duration = Duration::from_secs(5);

/// What is published.
#[derive(Debug)]
pub(crate) enum What {
    /// To a camera's topic.
    Message(Outgoing, oneshot::Sender<Confirmation>),
    /// The retained status.
    Status,
}

#[derive(Debug)]
struct Order {
    what: What,
    deadline: Instant,
    sent_at: Instant,
    resent: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Window {
    /// Packet ids that are free: with those that fly as many as may be on their way; none without a connection.
    free: Vec<u16>,
    waiting: VecDeque<Order>,
    /// By packet id, in the order of sending, in which the broker confirms as well.
    flying: VecDeque<(u16, Order)>,
}

impl Window {
    /// A connection stands; the broker takes `receive_max` at once.
    pub(crate) fn open(&mut self, receive_max: u16) {
        self.free = (1..=WINDOW_MAX.min(receive_max)).collect();
    }

    /// Takes an answer.
    pub(crate) fn push(&mut self, what: What, now: Instant) {
        self.waiting.push_back(order(what, now));
    }

    /// The packet id for the status, which goes before everything else; none where there is no room now.
    pub(crate) fn send_status(&mut self, now: Instant) -> Option<u16> {
        let packet = self.room(now)?;
        self.flying.push_back((packet, order(What::Status, now)));
        Some(packet)
    }

    /// The next answer to be sent now, its packet id, and whether it is sent again; it counts as sent.
    pub(crate) fn next(&mut self, now: Instant) -> Option<(u16, &Outgoing, bool)> {
        if self.waiting.is_empty() {
            return None;
        }
        let packet = self.room(now)?;
        let mut order = self.waiting.pop_front()?;
        order.sent_at = now;
        self.flying.push_back((packet, order));
        match self.flying.back()? {
            (_, Order { what: What::Message(message, _), resent, .. }) => Some((packet, message, *resent)),
            (_, Order { what: What::Status, .. }) => None,
        }
    }

    /// The broker settled a packet id; the topic it refused, if it did.
    pub(crate) fn settle(&mut self, packet: u16, taken: bool) -> Option<String> {
        // The first, unless a broker confirms out of turn.
        let at = self.flying.iter().position(|(flying, _)| *flying == packet)?;
        let (_, order) = self.flying.remove(at)?;
        self.free.push(packet);
        let refused = |topic: &str| (!taken).then(|| topic.to_owned());
        match order.what {
            What::Message(message, receipt) => {
                // Nobody waits any more where the pipeline is ending.
                let _ = receipt.send(if taken { Confirmation::Confirmed } else { Confirmation::Refused });
                refused(message.topic())
            }
            What::Status => refused("status"),
        }
    }

    /// The connection ended.
    pub(crate) fn reset(&mut self) {
        self.free.clear();
        while let Some((_, mut order)) = self.flying.pop_back() {
            if matches!(order.what, What::Message(..)) {
                order.resent = true;
                self.waiting.push_front(order);
            }
        }
    }

    /// Gives up what has waited too long, or everything that waits; how many.
    pub(crate) fn prune(&mut self, now: Instant, everything: bool) -> u64 {
        let mut given_up = 0;
        // The deadlines are in order: every answer has the same patience.
        while self.waiting.front().is_some_and(|order| everything || order.deadline <= now) {
            if let Some(Order { what: What::Message(_, receipt), .. }) = self.waiting.pop_front() {
                let _ = receipt.send(Confirmation::GivenUp);
                given_up += 1;
            }
        }
        given_up
    }

    /// Whether the broker has left an answer unconfirmed for too long.
    pub(crate) fn stalled(&self, now: Instant) -> bool {
        self.longest_unconfirmed(now) > STALL
    }

    /// Answers that are not settled.
    pub(crate) fn unsettled(&self) -> usize {
        self.waiting.len() + self.flying.len()
    }

    /// A packet id for what is sent now.
    fn room(&mut self, now: Instant) -> Option<u16> {
        if self.longest_unconfirmed(now) > SUSPICION {
            return None;
        }
        self.free.pop()
    }

    fn longest_unconfirmed(&self, now: Instant) -> Duration {
        let oldest = self.flying.front();
        oldest.map(|(_, order)| now.saturating_duration_since(order.sent_at)).unwrap_or_default()
    }
}

fn order(what: What, now: Instant) -> Order {
    Order { what, deadline: now + ANSWER_PATIENCE, sent_at: now, resent: false }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answer::Rejected;

    fn push(window: &mut Window, reason: &str, now: Instant) -> oneshot::Receiver<Confirmation> {
        let camera = "door";
        let message = Outgoing::Rejected(Rejected::new("g", camera, None, None, reason, ""));
        let (sender, receiver) = oneshot::channel();
        window.push(What::Message(message, sender), now);
        receiver
    }

    fn next(window: &mut Window, now: Instant) -> Option<(String, bool)> {
        send(window, now).map(|(_, reason, resent)| (reason, resent))
    }

    fn send(window: &mut Window, now: Instant) -> Option<(u16, String, bool)> {
        let (packet, message, resent) = window.next(now)?;
        let body = String::from_utf8(message.body(crate::moment::Moment::now(), resent)).unwrap();
        Some((packet, body.split("\"reason\":\"").nth(1)?.split('"').next()?.to_owned(), resent))
    }

    #[test]
    fn unconfirmed_answers_wait_again_in_order_and_as_resent() {
        let (mut window, now) = (Window::default(), Instant::now());
        window.open(10);
        let mut receipts: Vec<_> = ["a", "b", "c"].map(|reason| push(&mut window, reason, now)).into();
        let (first, ..) = send(&mut window, now).unwrap();
        assert_eq!(next(&mut window, now), Some(("b".to_owned(), false)));
        assert_eq!(window.settle(first, true), None);
        assert_eq!(receipts.remove(0).try_recv(), Ok(Confirmation::Confirmed));
        window.reset();
        assert_eq!(next(&mut window, now), None);
        window.open(10);
        assert_eq!(next(&mut window, now), Some(("b".to_owned(), true)));
        assert_eq!(next(&mut window, now), Some(("c".to_owned(), false)));
    }

    #[test]
    fn the_window_closes_on_a_silent_broker_and_the_stall_is_seen() {
        let (mut window, now) = (Window::default(), Instant::now());
        window.open(10);
        let _receipts = [push(&mut window, "a", now), push(&mut window, "b", now)];
        assert!(next(&mut window, now).is_some());
        let later = now + SUSPICION + Duration::from_millis(1);
        assert!(next(&mut window, later).is_none() && !window.stalled(later));
        assert!(window.stalled(now + STALL + Duration::from_millis(1)));
    }

    #[test]
    fn no_more_is_under_way_than_the_broker_takes() {
        let (mut window, now) = (Window::default(), Instant::now());
        window.open(1);
        let _receipts = [push(&mut window, "a", now), push(&mut window, "b", now)];
        assert!(next(&mut window, now).is_some());
        assert!(next(&mut window, now).is_none());
        assert!(window.send_status(now).is_none());
    }

    #[test]
    fn every_answer_is_settled_within_its_patience() {
        let (mut window, now) = (Window::default(), Instant::now());
        let mut receipt = push(&mut window, "a", now);
        assert_eq!(window.prune(now + ANSWER_PATIENCE / 2, false), 0);
        assert_eq!(window.prune(now + ANSWER_PATIENCE, false), 1);
        assert_eq!(receipt.try_recv(), Ok(Confirmation::GivenUp));
        assert_eq!(window.unsettled(), 0);
    }

    #[test]
    fn a_packet_id_is_free_again_once_the_broker_confirmed_in_whatever_order() {
        let (mut window, now) = (Window::default(), Instant::now());
        window.open(2);
        let _receipts: Vec<_> = ["a", "b", "c"].map(|reason| push(&mut window, reason, now)).into();
        let (first, second) = (send(&mut window, now).unwrap().0, send(&mut window, now).unwrap().0);
        assert!(first != second && next(&mut window, now).is_none());
        assert_eq!(window.settle(second, true), None);
        assert_eq!(window.settle(second, true), None, "settled already");
        assert_eq!(send(&mut window, now), Some((second, "c".to_owned(), false)));
        assert_eq!(window.unsettled(), 2);
    }

    #[test]
    fn a_refused_answer_is_told_with_its_topic() {
        let (mut window, now) = (Window::default(), Instant::now());
        window.open(10);
        let mut receipt = push(&mut window, "a", now);
        let (packet, ..) = send(&mut window, now).unwrap();
        assert_eq!(window.settle(packet, false), Some("g/door/rejected".to_owned()));
        assert_eq!(receipt.try_recv(), Ok(Confirmation::Refused));
    }
}
