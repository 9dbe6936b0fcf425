//! Publishes answers and status through a client of its own.
//!
//! Constraint: a stale identification never leaves as actionable. So an answer is written out only when the
//! broker has room for it and has been confirming (the [`Window`]), and what could not be written for a moment
//! is thrown away with the connection; what was not confirmed is written anew. What remains is the network
//! itself: bytes that the kernel already has may arrive late by as long as the broker was silent; the window
//! keeps them few.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gatehouse_config::Config;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{
    ConnAck, Disconnect, DisconnectReasonCode, Packet, PingReq, PubAckReason, Publish, PublishProperties,
};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Interval, MissedTickBehavior, interval, timeout};
use tracing::{info, warn};

use crate::answer::{ANSWER_EXPIRY, Outgoing, StatusMessage};
use crate::backoff::Backoff;
use crate::counters::AnswerCounters;
use crate::link::LinkState;
use crate::moment::Moment;
use crate::options::{self, KEEP_ALIVE};
use crate::receipt::Receipt;
use crate::session::{SessionError, pings};
use crate::window::{STALL, What, Window};
use crate::wire::{Wire, WireError};
use crate::{Phase, reached};

/// How often deadlines are looked at where answers have any: a small part of the shortest of them.
const TICK: Duration = Duration::from_millis(250);

/// Answers that are taken at once before the window is looked at.
const ORDERS_AT_ONCE: usize = 64;

/// The pipeline's end.
#[derive(Debug, Clone)]
pub struct Publisher {
    // Unbounded by itself: every answer belongs to a message under way, and those are bounded by the budget.
    orders: mpsc::UnboundedSender<What>,
}

impl Publisher {
    /// Publishes as soon as the broker takes it.
    pub fn send(&self, message: Outgoing) -> Receipt {
        let (sender, receiver) = oneshot::channel();
        // Where the task has ended the receipt says so.
        let _ = self.orders.send(What::Message(message, sender));
        Receipt(receiver)
    }
}

/// The task's end.
pub struct PublisherTask {
    config: Arc<Config>,
    counters: Arc<AnswerCounters>,
    link: LinkState,
    orders: mpsc::UnboundedReceiver<What>,
    status: watch::Receiver<StatusMessage>,
    phase: watch::Receiver<Phase>,
    window: Window,
}

/// What happens next.
#[allow(clippy::large_enum_variant, reason = "one at a time, moved once")]
enum Step {
    Hear(Packet),
    Orders,
    Status,
    Phase,
    Ping,
    Tick,
}

/// One connection.
struct Connection {
    wire: Wire,
    status_due: bool,
    /// The last word of the broker.
    heard_at: Instant,
}

impl PublisherTask {
    /// Both ends.
    pub fn new(
        config: Arc<Config>,
        counters: Arc<AnswerCounters>,
        link: LinkState,
        status: watch::Receiver<StatusMessage>,
        phase: watch::Receiver<Phase>,
    ) -> (Publisher, Self) {
        let (sender, orders) = mpsc::unbounded_channel();
        let window = Window::default();
        (Publisher { orders: sender }, Self { config, counters, link, orders, status, phase, window })
    }

    /// Publishes until the phase is [`Phase::Disconnect`] and everything is settled.
    pub async fn run(mut self) {
        let mut backoff = Backoff::default();
        loop {
            let began = Instant::now();
            let end = self.connection().await;
            self.window.reset();
            match end {
                Ok(()) => return self.link.down("answers", None),
                Err(failure) => self.link.down("answers", Some(failure.to_string())),
            }
            let pause = tokio::time::sleep(backoff.next(began.elapsed()));
            if self.meanwhile(pause).await.is_none() {
                return;
            }
        }
    }

    /// Keeps taking answers while there is no connection; none when it is time to stop.
    async fn meanwhile<T>(&mut self, awaited: impl Future<Output = T>) -> Option<T> {
        tokio::pin!(awaited);
        let mut looks = looks();
        loop {
            tokio::select! {
                done = &mut awaited => return Some(done),
                () = reached(&mut self.phase, Phase::Disconnect) => return None,
                Some(what) = self.orders.recv() => self.window.push(what, Instant::now()),
                _ = looks.tick(), if self.window.unsettled() > 0 => self.prune(),
            }
        }
    }

    /// One connection from its begin to its end; an end in order is asked for.
    async fn connection(&mut self) -> Result<(), SessionError> {
        let (config, last) = (self.config.clone(), offline(&self.status.borrow()));
        let will = options::will(&self.status_topic(), last.body());
        let open = async move {
            let door = tokio::task::spawn_blocking(move || options::answers(&config, will)).await;
            // Only an ending runtime does not do it.
            let Ok(door) = door else { return Err(SessionError::Silent) };
            Ok(Wire::open(door?).await?)
        };
        let Some(opened) = self.meanwhile(open).await else { return Ok(()) };
        let (wire, answer) = opened?;
        let mut connection = Connection { wire, status_due: true, heard_at: Instant::now() };
        let mut pings = self.stands(&answer);
        let mut looks = looks();
        let mut taken = Vec::with_capacity(ORDERS_AT_ONCE);
        loop {
            self.send(&mut connection).await?;
            if self.closing() && !connection.status_due && self.window.unsettled() == 0 {
                return Ok(connection.end().await?);
            }
            let step = tokio::select! {
                packet = connection.wire.read() => Step::Hear(packet?),
                1.. = self.orders.recv_many(&mut taken, ORDERS_AT_ONCE) => Step::Orders,
                Ok(()) = self.status.changed() => Step::Status,
                Ok(()) = self.phase.changed() => Step::Phase,
                _ = pings.tick() => Step::Ping,
                _ = looks.tick(), if self.window.unsettled() > 0 => Step::Tick,
            };
            match step {
                Step::Hear(packet) => self.hear(&mut connection, packet)?,
                Step::Orders => {
                    let now = Instant::now();
                    taken.drain(..).for_each(|what| self.window.push(what, now));
                }
                Step::Status => connection.status_due = true,
                // The last word is that we go, whether the numbers of it have been told already or not.
                Step::Phase => connection.status_due |= self.closing(),
                Step::Ping => connection.ping()?,
                Step::Tick => {
                    self.prune();
                    if self.window.stalled(Instant::now()) {
                        return Err(SessionError::Unconfirmed);
                    }
                }
            }
        }
    }

    fn closing(&self) -> bool {
        *self.phase.borrow() == Phase::Disconnect
    }

    fn stands(&mut self, answer: &ConnAck) -> Interval {
        let properties = answer.properties.as_ref();
        let receive_max = properties.and_then(|properties| properties.receive_max);
        self.window.open(receive_max.unwrap_or(u16::MAX));
        self.link.up();
        info!(client = "answers", "connected to the broker");
        pings(properties.and_then(|properties| properties.server_keep_alive))
    }

    /// Takes this packet and all that came with it.
    fn hear(&mut self, connection: &mut Connection, first: Packet) -> Result<(), WireError> {
        connection.heard_at = Instant::now();
        let mut next = Some(first);
        while let Some(packet) = next {
            if let Packet::PubAck(ack) = packet {
                let taken = matches!(ack.reason, PubAckReason::Success | PubAckReason::NoMatchingSubscribers);
                self.settle(ack.pkid, taken);
            }
            next = connection.wire.read_now()?;
        }
        Ok(())
    }

    /// Writes whatever may leave now, all of it at once.
    async fn send(&mut self, connection: &mut Connection) -> Result<(), WireError> {
        let now = Instant::now();
        if connection.status_due
            && let Some(id) = self.window.send_status(now)
        {
            connection.status_due = false;
            let status = self.status.borrow_and_update().clone();
            let body = if self.closing() { offline(&status) } else { status }.body();
            let properties = properties(None, None);
            connection.wire.queue(&publish(id, &self.status_topic(), true, body, properties))?;
        }
        while let Some((id, message, resent)) = self.window.next(now) {
            let body = message.body(Moment::now(), resent);
            let properties = properties(Some(ANSWER_EXPIRY), message.correlation());
            connection.wire.queue(&publish(id, message.topic(), false, body, properties))?;
            self.counters.sent.add(1);
        }
        self.counters.waiting.set(self.window.unsettled() as u64);
        // What could not leave at once is as old as this when it does.
        timeout(STALL, connection.wire.flush()).await.map_err(|_| WireError::Timeout)?
    }

    fn settle(&mut self, packet: u16, taken: bool) {
        if let Some(topic) = self.window.settle(packet, taken) {
            self.counters.refused.add(1);
            warn!(topic, "the broker refused what was published; check its access list");
        }
    }

    fn prune(&mut self) {
        // While stopping without a broker nobody is helped by waiting: it delivers the events again.
        let everything = *self.phase.borrow() > Phase::Run && self.link.get().since.is_none();
        let given_up = self.window.prune(Instant::now(), everything);
        self.counters.waiting.set(self.window.unsettled() as u64);
        if given_up > 0 {
            self.counters.given_up.add(given_up);
            warn!(given_up, "answers could not be published in time");
        }
    }

    fn status_topic(&self) -> String {
        format!("{}/status", self.config.mqtt.topic_root)
    }
}

/// Looks at deadlines.
fn looks() -> Interval {
    let mut looks = interval(TICK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    looks
}

/// What the broker tells when the connection breaks.
fn offline(status: &StatusMessage) -> StatusMessage {
    StatusMessage { online: false, ..status.clone() }
}

impl Connection {
    fn ping(&mut self) -> Result<(), SessionError> {
        if self.heard_at.elapsed() > 2 * KEEP_ALIVE {
            return Err(SessionError::Silent);
        }
        // It leaves with the next flush, which is at once.
        Ok(self.wire.queue(&Packet::PingReq(PingReq))?)
    }

    async fn end(mut self) -> Result<(), WireError> {
        let goodbye = Disconnect::new(DisconnectReasonCode::NormalDisconnection);
        self.wire.write([Packet::Disconnect(goodbye)]).await?;
        self.wire.close().await;
        Ok(())
    }
}

fn publish(id: u16, topic: &str, retain: bool, body: Vec<u8>, properties: PublishProperties) -> Packet {
    let mut publish = Publish::new(topic, QoS::AtLeastOnce, body, Some(properties));
    publish.pkid = id;
    publish.retain = retain;
    Packet::Publish(publish)
}

fn properties(expiry: Option<Duration>, correlation: Option<&str>) -> PublishProperties {
    PublishProperties {
        payload_format_indicator: Some(1),
        message_expiry_interval: expiry.and_then(|expiry| u32::try_from(expiry.as_secs()).ok()),
        content_type: Some("application/json".to_owned()),
        user_properties: correlation
            .map(|id| ("correlation-id".to_owned(), id.to_owned()))
            .into_iter()
            .collect(),
        ..PublishProperties::default()
    }
}
