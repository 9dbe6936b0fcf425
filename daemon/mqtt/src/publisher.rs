//! Publishes answers and status through a client of its own.
//!
//! A stale identification must never be sent as actionable. So an answer is written only while the broker confirms and its
//! receive window has space (the [`Window`]). If a write stalls, the connection is closed, and unconfirmed answers are created
//! again. The rest is the network: bytes in kernel buffers may arrive late by as long as the broker was silent. The window
//! bounds their number.

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
use crate::options::{self, KEEP_ALIVE_INTERVAL};
use crate::receipt::Receipt;
use crate::session::{SessionError, pings};
use crate::window::{Publication, STALL_TIMEOUT, Window};
use crate::wire::{Wire, WireError};
use crate::{Phase, reached};

/// How often deadlines of answers are checked: a small part of the shortest deadline.
const DEADLINE_CHECK_INTERVAL: Duration = Duration::from_millis(250);

/// Answers that are dequeued before the window is checked.
const ORDERS_AT_ONCE: usize = 64;

/// The sender, for the pipeline.
#[derive(Debug, Clone)]
pub struct Publisher {
    // Unbounded: every answer belongs to a message in progress, and the budget bounds those.
    orders: mpsc::UnboundedSender<Publication>,
}

impl Publisher {
    /// Publishes as soon as the broker accepts it.
    pub fn send(&self, message: Outgoing) -> Receipt {
        let (sender, receiver) = oneshot::channel();
        // After the end of the task the receipt resolves to `GivenUp`.
        let _ = self.orders.send(Publication::Message(message, sender));
        Receipt(receiver)
    }
}

/// The task.
pub struct PublisherTask {
    config: Arc<Config>,
    counters: Arc<AnswerCounters>,
    link: LinkState,
    orders: mpsc::UnboundedReceiver<Publication>,
    status: watch::Receiver<StatusMessage>,
    phase: watch::Receiver<Phase>,
    window: Window,
}

/// The next action.
#[allow(clippy::large_enum_variant, reason = "one at a time, moved once")]
enum Step {
    Received(Packet),
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
    /// When the last packet was received.
    received_at: Instant,
}

impl PublisherTask {
    /// The sender and the task.
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

    /// Publishes until the phase is [`Phase::Disconnect`] and every answer is settled.
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

    /// Queues answers while there is no connection. None at the phase [`Phase::Disconnect`].
    async fn meanwhile<T>(&mut self, awaited: impl Future<Output = T>) -> Option<T> {
        tokio::pin!(awaited);
        let mut deadline_checks = deadline_checks();
        loop {
            tokio::select! {
                done = &mut awaited => return Some(done),
                () = reached(&mut self.phase, Phase::Disconnect) => return None,
                Some(what) = self.orders.recv() => self.window.push(what, Instant::now()),
                _ = deadline_checks.tick(), if self.window.unsettled() > 0 => self.prune(),
            }
        }
    }

    /// One connection from start to end. Returns `Ok` only after an orderly shutdown.
    async fn connection(&mut self) -> Result<(), SessionError> {
        let (config, last) = (self.config.clone(), offline(&self.status.borrow()));
        let will = options::will(&self.status_topic(), last.body());
        let open = async move {
            let options = tokio::task::spawn_blocking(move || options::answers(&config, will)).await;
            // Fails only while the runtime ends.
            let Ok(options) = options else { return Err(SessionError::Silent) };
            Ok(Wire::open(options?).await?)
        };
        let Some(opened) = self.meanwhile(open).await else { return Ok(()) };
        let (wire, answer) = opened?;
        let mut connection = Connection { wire, status_due: true, received_at: Instant::now() };
        let mut pings = self.connected(&answer);
        let mut deadline_checks = deadline_checks();
        let mut taken = Vec::with_capacity(ORDERS_AT_ONCE);
        loop {
            self.send(&mut connection).await?;
            if self.closing() && !connection.status_due && self.window.unsettled() == 0 {
                return Ok(connection.end().await?);
            }
            let step = tokio::select! {
                packet = connection.wire.read() => Step::Received(packet?),
                1.. = self.orders.recv_many(&mut taken, ORDERS_AT_ONCE) => Step::Orders,
                Ok(()) = self.status.changed() => Step::Status,
                Ok(()) = self.phase.changed() => Step::Phase,
                _ = pings.tick() => Step::Ping,
                _ = deadline_checks.tick(), if self.window.unsettled() > 0 => Step::Tick,
            };
            match step {
                Step::Received(packet) => self.handle_packets(&mut connection, packet)?,
                Step::Orders => {
                    let now = Instant::now();
                    taken.drain(..).for_each(|what| self.window.push(what, now));
                }
                Step::Status => connection.status_due = true,
                // The last status is offline, even if its numbers were published before.
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

    fn connected(&mut self, answer: &ConnAck) -> Interval {
        let properties = answer.properties.as_ref();
        let receive_max = properties.and_then(|properties| properties.receive_max);
        self.window.open(receive_max.unwrap_or(u16::MAX));
        self.link.up();
        info!(client = "answers", "connected to the broker");
        pings(properties.and_then(|properties| properties.server_keep_alive))
    }

    /// Handles this packet and all that arrived with it.
    fn handle_packets(&mut self, connection: &mut Connection, first: Packet) -> Result<(), WireError> {
        connection.received_at = Instant::now();
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

    /// Writes together all that may be sent now.
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
        // An answer that is written late is older by up to this.
        timeout(STALL_TIMEOUT, connection.wire.flush()).await.map_err(|_| WireError::Timeout)?
    }

    fn settle(&mut self, packet: u16, taken: bool) {
        if let Some(topic) = self.window.settle(packet, taken) {
            self.counters.refused.add(1);
            warn!(topic, "the broker refused a message; check its access list");
        }
    }

    fn prune(&mut self) {
        // Without a connection a shutdown does not wait: the broker delivers the events again.
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

/// The interval of deadline checks.
fn deadline_checks() -> Interval {
    let mut deadline_checks = interval(DEADLINE_CHECK_INTERVAL);
    deadline_checks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    deadline_checks
}

/// The status that the broker publishes when the connection is lost.
fn offline(status: &StatusMessage) -> StatusMessage {
    StatusMessage { online: false, ..status.clone() }
}

impl Connection {
    fn ping(&mut self) -> Result<(), SessionError> {
        if self.received_at.elapsed() > 2 * KEEP_ALIVE_INTERVAL {
            return Err(SessionError::Silent);
        }
        // The next flush writes it at once.
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
