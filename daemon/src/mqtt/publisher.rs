//! Publishes answers and status through a client of its own.
//!
//! Constraint: a stale identification never leaves as actionable. So an answer is written out only when the
//! broker has room for it and has been confirming (the [`Window`]); with the connection the client and
//! everything in it is thrown away, and what was not confirmed is written anew. What remains is the network
//! itself: bytes that the kernel already has may arrive late by as long as the broker was silent; the window
//! keeps them few.

use std::sync::Arc;
use std::time::{Duration, Instant};

use gatehouse_config::Config;
use rumqttc::Outgoing as Written;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{ConnAck, Packet, PubAckReason, PublishProperties};
use rumqttc::v5::{AsyncClient, Event, EventLoop};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Interval, MissedTickBehavior, interval};
use tracing::{info, warn};

use crate::mqtt::answer::{ANSWER_EXPIRY, Outgoing, StatusMessage};
use crate::mqtt::backoff::Backoff;
use crate::mqtt::link::LinkState;
use crate::mqtt::options;
use crate::mqtt::receipt::Receipt;
use crate::mqtt::window::{WINDOW_MAX, What, Window};
use crate::mqtt::{Phase, reached, words};
use crate::pipeline::Counters;

/// Packet ids that the client cycles through: above the window, so that an id is free again when its turn
/// comes.
const PACKET_IDS: u16 = 256;

/// How often deadlines are looked at where answers have any: a small part of the shortest of them.
const TICK: Duration = Duration::from_millis(250);

/// The pipeline's end.
#[derive(Debug, Clone)]
pub(crate) struct Publisher {
    // Unbounded by itself: every answer belongs to a message under way, and those are bounded by the budget.
    orders: mpsc::UnboundedSender<What>,
}

impl Publisher {
    /// Publishes as soon as the broker takes it.
    pub(crate) fn send(&self, message: Outgoing) -> Receipt {
        let (sender, receiver) = oneshot::channel();
        // Where the task has ended the receipt says so.
        let _ = self.orders.send(What::Message(message, sender));
        Receipt(receiver)
    }
}

/// The task's end.
pub(crate) struct PublisherTask {
    config: Arc<Config>,
    counters: Arc<Counters>,
    link: LinkState,
    orders: mpsc::UnboundedReceiver<What>,
    status: watch::Receiver<StatusMessage>,
    phase: watch::Receiver<Phase>,
    window: Window,
    tick: Interval,
}

enum End {
    Stopped,
    Lost(String),
}

/// What changed while the client was polled.
#[allow(clippy::large_enum_variant, reason = "one at a time, moved once")]
enum Change {
    Polled(Result<Event, rumqttc::v5::ConnectionError>),
    Status,
    Tick,
}

/// One connection.
struct Connection {
    client: AsyncClient,
    stands: bool,
    status_due: bool,
    disconnecting: bool,
}

impl PublisherTask {
    /// Both ends.
    pub(crate) fn new(
        config: Arc<Config>,
        counters: Arc<Counters>,
        link: LinkState,
        status: watch::Receiver<StatusMessage>,
        phase: watch::Receiver<Phase>,
    ) -> (Publisher, Self) {
        let (sender, orders) = mpsc::unbounded_channel();
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let window = Window::default();
        (Publisher { orders: sender }, Self { config, counters, link, orders, status, phase, window, tick })
    }

    /// Publishes until the phase is [`Phase::Disconnect`] and everything is settled.
    pub(crate) async fn run(mut self) {
        let mut backoff = Backoff::default();
        loop {
            let began = Instant::now();
            let end = self.connection().await;
            self.window.reset();
            match end {
                End::Stopped => return self.link.down("answers", None),
                End::Lost(words) => self.link.down("answers", Some(words)),
            }
            if !self.wait(backoff.next(began.elapsed())).await {
                return;
            }
        }
    }

    /// Keeps taking answers while there is no connection; false when it is time to stop.
    async fn wait(&mut self, time: Duration) -> bool {
        let end = tokio::time::sleep(time);
        tokio::pin!(end);
        loop {
            tokio::select! {
                () = &mut end => return true,
                () = reached(&mut self.phase, Phase::Disconnect) => return false,
                Some(what) = self.orders.recv() => self.window.push(what, Instant::now()),
                _ = self.tick.tick(), if self.window.unsettled() > 0 => self.prune(),
            }
        }
    }

    async fn connection(&mut self) -> End {
        let (config, last) = (self.config.clone(), offline(&self.status.borrow()));
        let will = options::will(&self.status_topic(), last.body());
        let build = tokio::task::spawn_blocking(move || options::answers(&config, will, PACKET_IDS));
        let options = match build.await {
            Ok(Ok(options)) => options,
            Ok(Err(error)) => return End::Lost(error.to_string()),
            Err(_) => return End::Stopped,
        };
        let (client, mut polled) = AsyncClient::new(options, WINDOW_MAX * 2);
        let mut connection = Connection { client, stands: false, status_due: true, disconnecting: false };
        loop {
            let event = match self.poll(&mut connection, &mut polled).await {
                Ok(event) => event,
                Err(end) => return end,
            };
            match event {
                Event::Incoming(Packet::ConnAck(answer)) => self.stands(&mut connection, &answer),
                Event::Incoming(Packet::PubAck(ack)) => {
                    let taken =
                        matches!(ack.reason, PubAckReason::Success | PubAckReason::NoMatchingSubscribers);
                    self.settle(ack.pkid, taken);
                }
                Event::Outgoing(Written::Publish(packet)) => self.window.written(packet),
                Event::Outgoing(Written::Disconnect) => return End::Stopped,
                _ => {}
            }
        }
    }

    /// One event of the client. The poll is never cut off half way: what happens beside it is done between.
    async fn poll(&mut self, connection: &mut Connection, polled: &mut EventLoop) -> Result<Event, End> {
        let poll = polled.poll();
        tokio::pin!(poll);
        loop {
            self.send(connection);
            let closing = *self.phase.borrow() == Phase::Disconnect;
            if closing && !connection.stands {
                return Err(End::Stopped);
            }
            let change = tokio::select! {
                event = &mut poll => Change::Polled(event),
                Some(what) = self.orders.recv() => {
                    self.window.push(what, Instant::now());
                    continue;
                }
                Ok(()) = self.status.changed() => Change::Status,
                Ok(()) = self.phase.changed() => {
                    // The last word is that we go, whether the numbers of it have been told already or not.
                    connection.status_due |= *self.phase.borrow() == Phase::Disconnect;
                    continue;
                }
                _ = self.tick.tick(), if self.window.unsettled() > 0 => Change::Tick,
            };
            match change {
                Change::Polled(Ok(event)) => return Ok(event),
                Change::Polled(Err(_)) if connection.disconnecting => return Err(End::Stopped),
                Change::Polled(Err(error)) => return Err(End::Lost(words::of(&error))),
                Change::Status => connection.status_due = true,
                Change::Tick => {
                    self.prune();
                    if self.window.stalled(Instant::now()) {
                        return Err(End::Lost("the broker does not confirm what is published".to_owned()));
                    }
                }
            }
        }
    }

    fn stands(&mut self, connection: &mut Connection, answer: &ConnAck) {
        let receive_max = answer.properties.as_ref().and_then(|properties| properties.receive_max);
        self.window.open(receive_max.unwrap_or(u16::MAX));
        connection.stands = true;
        self.link.up();
        info!(client = "answers", "connected to the broker");
    }

    /// Hands the client whatever may leave now.
    fn send(&mut self, connection: &mut Connection) {
        if !connection.stands || connection.disconnecting {
            return;
        }
        let now = Instant::now();
        if connection.status_due && self.window.send_status(now) {
            connection.status_due = false;
            let status = self.status.borrow_and_update().clone();
            let closing = *self.phase.borrow() == Phase::Disconnect;
            let body = if closing { offline(&status) } else { status }.body();
            let topic = self.status_topic();
            publish(&connection.client, &topic, true, body, properties(None, None));
        }
        while let Some((message, resent)) = self.window.next(now) {
            let body = message.body(now, resent);
            let properties = properties(Some(ANSWER_EXPIRY), message.correlation());
            publish(&connection.client, message.topic(), false, body, properties);
            self.counters.answers_sent.add(1);
        }
        self.counters.answers_waiting.set(self.window.unsettled() as u64);
        let closing = *self.phase.borrow() == Phase::Disconnect;
        if closing && !connection.status_due && self.window.unsettled() == 0 {
            connection.disconnecting = connection.client.try_disconnect().is_ok();
        }
    }

    fn settle(&mut self, packet: u16, taken: bool) {
        if let Some(topic) = self.window.settle(packet, taken) {
            self.counters.answers_refused.add(1);
            warn!(topic, "the broker refused what was published; check its access list");
        }
    }

    fn prune(&mut self) {
        // While stopping without a broker nobody is helped by waiting: it delivers the events again.
        let everything = *self.phase.borrow() > Phase::Run && self.link.get().since.is_none();
        let given_up = self.window.prune(Instant::now(), everything);
        self.counters.answers_waiting.set(self.window.unsettled() as u64);
        if given_up > 0 {
            self.counters.answers_given_up.add(given_up);
            warn!(given_up, "answers could not be published in time");
        }
    }

    fn status_topic(&self) -> String {
        format!("{}/status", self.config.mqtt.topic_root)
    }
}

/// What the broker tells when the connection breaks.
fn offline(status: &StatusMessage) -> StatusMessage {
    StatusMessage { online: false, ..status.clone() }
}

/// The queue of the client has room for the whole window: a failure means that the event loop is gone, and
/// the window takes everything back.
fn publish(client: &AsyncClient, topic: &str, retain: bool, body: Vec<u8>, properties: PublishProperties) {
    let _ = client.try_publish_with_properties(topic, QoS::AtLeastOnce, retain, body, properties);
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
