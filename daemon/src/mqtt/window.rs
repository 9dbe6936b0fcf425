//! The answers between the pipeline and the broker's confirmation.
//!
//! An answer waits, is handed to the client (*sent*), gets a packet id (*flying*), and is settled by the
//! broker's PUBACK. When the connection ends, whatever was sent or flying may have arrived or not: it waits
//! again, in the old order, and is `resent`. Everything is settled within [`ANSWER_PATIENCE`].

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::mqtt::answer::Outgoing;
use crate::mqtt::receipt::Confirmation;

/// How long an answer is tried for. Longer than a broker needs to restart, short enough that a broker that
/// takes events but no answers does not hold up acknowledgements for long.
pub(crate) const ANSWER_PATIENCE: Duration = Duration::from_secs(30);

/// Most answers on their way at once, if the broker takes as many.
pub(crate) const WINDOW_MAX: usize = 64;

/// An answer that the broker has not confirmed for this long makes the window close: what would be sent now
/// could lie in a buffer and leave late, as fresh as it was when it was written.
const SUSPICION: Duration = Duration::from_secs(1);

/// An answer that the broker has not confirmed for this long ends the connection.
const STALL: Duration = Duration::from_secs(5);

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
    number: u64,
    what: What,
    deadline: Instant,
    sent_at: Instant,
    resent: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Window {
    next_number: u64,
    room: usize,
    waiting: VecDeque<Order>,
    sent: VecDeque<Order>,
    flying: HashMap<u16, Order>,
}

impl Window {
    /// A connection stands; the broker takes `receive_max` at once.
    pub(crate) fn open(&mut self, receive_max: u16) {
        self.room = WINDOW_MAX.min(receive_max.into());
    }

    /// Takes an answer.
    pub(crate) fn push(&mut self, what: What, now: Instant) {
        let order = self.order(what, now);
        self.waiting.push_back(order);
    }

    /// Puts the status before everything else; false where there is no room now.
    pub(crate) fn send_status(&mut self, now: Instant) -> bool {
        let room = self.has_room(now);
        if room {
            let order = self.order(What::Status, now);
            self.sent.push_back(order);
        }
        room
    }

    /// The next answer to be sent now, and whether it is sent again; it counts as sent.
    pub(crate) fn next(&mut self, now: Instant) -> Option<(&Outgoing, bool)> {
        if !self.has_room(now) {
            return None;
        }
        let mut order = self.waiting.pop_front()?;
        order.sent_at = now;
        self.sent.push_back(order);
        match self.sent.back()? {
            Order { what: What::Message(message, _), resent, .. } => Some((message, *resent)),
            Order { what: What::Status, .. } => None,
        }
    }

    /// The client wrote the oldest sent answer under a packet id.
    pub(crate) fn written(&mut self, packet: u16) {
        if let Some(order) = self.sent.pop_front() {
            self.flying.insert(packet, order);
        }
    }

    /// The broker settled a packet id; the topic it refused, if it did.
    pub(crate) fn settle(&mut self, packet: u16, taken: bool) -> Option<String> {
        let order = self.flying.remove(&packet)?;
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
        self.room = 0;
        let mut back: Vec<_> =
            self.sent.drain(..).chain(self.flying.drain().map(|(_, order)| order)).collect();
        back.retain(|order| matches!(order.what, What::Message(..)));
        back.sort_unstable_by_key(|order| std::cmp::Reverse(order.number));
        for mut order in back {
            order.resent = true;
            self.waiting.push_front(order);
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
        self.waiting.len() + self.sent.len() + self.flying.len()
    }

    fn has_room(&self, now: Instant) -> bool {
        self.sent.len() + self.flying.len() < self.room && self.longest_unconfirmed(now) <= SUSPICION
    }

    fn longest_unconfirmed(&self, now: Instant) -> Duration {
        let orders = self.sent.iter().chain(self.flying.values());
        orders.map(|order| now.saturating_duration_since(order.sent_at)).max().unwrap_or_default()
    }

    fn order(&mut self, what: What, now: Instant) -> Order {
        self.next_number += 1;
        Order { number: self.next_number, what, deadline: now + ANSWER_PATIENCE, sent_at: now, resent: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mqtt::answer::Rejected;

    fn push(window: &mut Window, reason: &str, now: Instant) -> oneshot::Receiver<Confirmation> {
        let camera = "door";
        let message = Outgoing::Rejected(Rejected::new("g", camera, None, None, reason, ""));
        let (sender, receiver) = oneshot::channel();
        window.push(What::Message(message, sender), now);
        receiver
    }

    fn next(window: &mut Window, now: Instant) -> Option<(String, bool)> {
        let (message, resent) = window.next(now)?;
        let body = String::from_utf8(message.body(now, resent)).unwrap();
        Some((body.split("\"reason\":\"").nth(1)?.split('"').next()?.to_owned(), resent))
    }

    #[test]
    fn unconfirmed_answers_wait_again_in_order_and_as_resent() {
        let (mut window, now) = (Window::default(), Instant::now());
        window.open(10);
        let mut receipts: Vec<_> = ["a", "b", "c"].map(|reason| push(&mut window, reason, now)).into();
        for (packet, reason) in [(1, "a"), (2, "b")] {
            assert_eq!(next(&mut window, now), Some((reason.to_owned(), false)));
            window.written(packet);
        }
        assert_eq!(window.settle(1, true), None);
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
        assert!(!window.send_status(now));
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
    fn a_refused_answer_is_told_with_its_topic() {
        let (mut window, now) = (Window::default(), Instant::now());
        window.open(10);
        let mut receipt = push(&mut window, "a", now);
        assert!(next(&mut window, now).is_some());
        window.written(1);
        assert_eq!(window.settle(1, false), Some("g/door/rejected".to_owned()));
        assert_eq!(receipt.try_recv(), Ok(Confirmation::Refused));
    }
}
