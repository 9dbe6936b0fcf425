//! Answers from the pipeline until the confirmation of the broker.
//!
//! An answer waits, is sent under a packet id (in flight), and is settled by the PUBACK of the broker. When the connection
//! ends, answers in flight may have arrived or not. They wait again in the old order and are marked `resent`. Every answer is
//! settled within [`ANSWER_TIMEOUT`].

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::answer::Outgoing;
use crate::receipt::Confirmation;

/// How long an answer is tried. It is longer than a restart of the broker, and short enough that a broker that accepts no
/// answers does not delay acknowledgements for long.
pub(crate) const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Most answers in flight, if the broker's receive maximum allows as many.
const WINDOW_MAX: u16 = 64;

/// The window closes when an answer is not confirmed within this. An answer that is written then could stay in a buffer and
/// arrive late with an outdated age.
const CONFIRM_DELAY_MAX: Duration = Duration::from_secs(1);

/// The connection is closed when an answer is not confirmed or not written within this.
pub(crate) const STALL_TIMEOUT: Duration = Duration::from_secs(5);

/// A message to be published.
#[derive(Debug)]
pub(crate) enum Publication {
    /// A message to the topic of a camera.
    Message(Outgoing, oneshot::Sender<Confirmation>),
    /// The retained status.
    Status,
}

#[derive(Debug)]
struct Queued {
    what: Publication,
    deadline: Instant,
    sent_at: Instant,
    resent: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Window {
    /// Free packet ids. Together with those in flight they are the window. Empty without a connection.
    free: Vec<u16>,
    waiting: VecDeque<Queued>,
    /// By packet id, in the order of sending. The broker confirms in the same order.
    in_flight: VecDeque<(u16, Queued)>,
}

impl Window {
    /// A connection is established. The broker accepts `receive_max` messages at once.
    pub(crate) fn open(&mut self, receive_max: u16) {
        self.free = (1..=WINDOW_MAX.min(receive_max)).collect();
    }

    /// Queues an answer.
    pub(crate) fn push(&mut self, what: Publication, now: Instant) {
        self.waiting.push_back(queued(what, now));
    }

    /// The packet id for the status, which is sent before all answers; none while the window is full.
    pub(crate) fn send_status(&mut self, now: Instant) -> Option<u16> {
        let packet = self.free_packet_id(now)?;
        self.in_flight.push_back((packet, queued(Publication::Status, now)));
        Some(packet)
    }

    /// The next answer to send, its packet id, and whether it is sent again. It counts as sent.
    pub(crate) fn next(&mut self, now: Instant) -> Option<(u16, &Outgoing, bool)> {
        if self.waiting.is_empty() {
            return None;
        }
        let packet = self.free_packet_id(now)?;
        let mut order = self.waiting.pop_front()?;
        order.sent_at = now;
        self.in_flight.push_back((packet, order));
        match self.in_flight.back()? {
            (_, Queued { what: Publication::Message(message, _), resent, .. }) => {
                Some((packet, message, *resent))
            }
            (_, Queued { what: Publication::Status, .. }) => None,
        }
    }

    /// The broker settled a packet id. Returns the topic if it refused the message.
    pub(crate) fn settle(&mut self, packet: u16, taken: bool) -> Option<String> {
        // The first one, unless the broker confirms out of order.
        let at = self.in_flight.iter().position(|(in_flight, _)| *in_flight == packet)?;
        let (_, order) = self.in_flight.remove(at)?;
        self.free.push(packet);
        let refused = |topic: &str| (!taken).then(|| topic.to_owned());
        match order.what {
            Publication::Message(message, receipt) => {
                // While the pipeline ends the receiver may be dropped.
                let _ = receipt.send(if taken { Confirmation::Confirmed } else { Confirmation::Refused });
                refused(message.topic())
            }
            Publication::Status => refused("status"),
        }
    }

    /// The connection ended.
    pub(crate) fn reset(&mut self) {
        self.free.clear();
        while let Some((_, mut order)) = self.in_flight.pop_back() {
            if matches!(order.what, Publication::Message(..)) {
                order.resent = true;
                self.waiting.push_front(order);
            }
        }
    }

    /// Gives up the answers that waited too long, or all that wait. Returns their number.
    pub(crate) fn prune(&mut self, now: Instant, everything: bool) -> u64 {
        let mut given_up = 0;
        // The deadlines are in order: every answer has the same timeout.
        while self.waiting.front().is_some_and(|order| everything || order.deadline <= now) {
            if let Some(Queued { what: Publication::Message(_, receipt), .. }) = self.waiting.pop_front() {
                let _ = receipt.send(Confirmation::GivenUp);
                given_up += 1;
            }
        }
        given_up
    }

    /// Whether an answer is unconfirmed for too long.
    pub(crate) fn stalled(&self, now: Instant) -> bool {
        self.longest_unconfirmed(now) > STALL_TIMEOUT
    }

    /// Answers that are not settled.
    pub(crate) fn unsettled(&self) -> usize {
        self.waiting.len() + self.in_flight.len()
    }

    /// A free packet id, if the window is open.
    fn free_packet_id(&mut self, now: Instant) -> Option<u16> {
        if self.longest_unconfirmed(now) > CONFIRM_DELAY_MAX {
            return None;
        }
        self.free.pop()
    }

    fn longest_unconfirmed(&self, now: Instant) -> Duration {
        let oldest = self.in_flight.front();
        oldest.map(|(_, order)| now.saturating_duration_since(order.sent_at)).unwrap_or_default()
    }
}

fn queued(what: Publication, now: Instant) -> Queued {
    Queued { what, deadline: now + ANSWER_TIMEOUT, sent_at: now, resent: false }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answer::Rejected;

    fn push(window: &mut Window, reason: &str, now: Instant) -> oneshot::Receiver<Confirmation> {
        let camera = "door";
        let message = Outgoing::Rejected(Rejected::new("g", camera, reason, ""));
        let (sender, receiver) = oneshot::channel();
        window.push(Publication::Message(message, sender), now);
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
        let later = now + CONFIRM_DELAY_MAX + Duration::from_millis(1);
        assert!(next(&mut window, later).is_none() && !window.stalled(later));
        assert!(window.stalled(now + STALL_TIMEOUT + Duration::from_millis(1)));
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
        assert_eq!(window.prune(now + ANSWER_TIMEOUT / 2, false), 0);
        assert_eq!(window.prune(now + ANSWER_TIMEOUT, false), 1);
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
    fn a_refused_answer_returns_its_topic() {
        let (mut window, now) = (Window::default(), Instant::now());
        window.open(10);
        let mut receipt = push(&mut window, "a", now);
        let (packet, ..) = send(&mut window, now).unwrap();
        assert_eq!(window.settle(packet, false), Some("g/door/rejected".to_owned()));
        assert_eq!(receipt.try_recv(), Ok(Confirmation::Refused));
    }
}
