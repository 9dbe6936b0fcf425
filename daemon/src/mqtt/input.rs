//! Takes messages from the broker: a persistent session, acknowledged by hand, back again after every failure.
//!
//! Crash story: the broker keeps what was not acknowledged and sends it again on the next connection, whichever
//! side crashed. Acknowledgements belong to a connection: [`AckToken`] holds its client, and with the connection's
//! event loop gone an acknowledgement goes nowhere.
//!
//! The task waits for nothing but the broker and the [`Budget`]. While the budget is exhausted it does not read, so
//! the broker's receive window and TCP hold the rest back; acknowledgements queue without anybody waiting.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use gatehouse_config::Config;
use gatehouse_store::time::Timestamp;
use rumqttc::Outgoing as Written;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{
    Filter, Packet, Publish, RetainForwardRule, SubAck, SubscribeProperties, SubscribeReasonCode,
};
use rumqttc::v5::{AsyncClient, ClientError, Event, EventLoop};
use tokio::sync::{Notify, OwnedSemaphorePermit, mpsc, watch};
use tracing::{error, info, warn};

use crate::mqtt::backlog::Backlog;
use crate::mqtt::backoff::Backoff;
use crate::mqtt::budget::Budget;
use crate::mqtt::link::LinkState;
use crate::mqtt::options::{RECEIVE_MAX, Role, options, packet_max};
use crate::mqtt::{Phase, reached, words};

/// Room for every acknowledgement that the broker can be owed. Brokers overshoot the window that they were given
/// (mosquitto by half under load), and the client reads ten packets for each acknowledgement that it writes.
const REQUESTS_MAX: usize = 16 * RECEIVE_MAX as usize;

/// Largest packet taken from a broker that ignores the announced maximum: better to read it and refuse it than to
/// get it again on every connection.
const PACKET_CEILING: usize = 64 * 1024 * 1024;

/// Largest subscription identifier of MQTT.
const SUBSCRIPTION_ID_MAX: usize = 268_435_455;

/// The acknowledgement of one message, on the connection that delivered it.
#[derive(Debug)]
pub(crate) struct AckToken {
    client: AsyncClient,
    packet: Publish,
    broken: Arc<Notify>,
}

impl AckToken {
    /// Acknowledges. Never waits: a full queue means a broker that sends more than it was allowed to, and the
    /// connection is ended. With the connection gone already it goes nowhere, and the broker delivers again.
    pub(crate) fn send(self) {
        if self.client.try_ack(&self.packet).is_err() {
            self.broken.notify_one();
        }
    }
}

/// A message and what belongs to it.
#[derive(Debug)]
pub(crate) struct Delivery {
    pub(crate) topic: String,
    pub(crate) payload: Bytes,
    /// The broker says that it delivers again.
    pub(crate) dup: bool,
    pub(crate) retained: bool,
    /// Own status that came back: only to be acknowledged in its turn.
    pub(crate) marker: bool,
    pub(crate) received: Instant,
    pub(crate) received_at: Timestamp,
    /// How long it may have waited at the broker for us to come back.
    pub(crate) waited: Duration,
    pub(crate) ack: AckToken,
    pub(crate) bytes: OwnedSemaphorePermit,
    pub(crate) message: OwnedSemaphorePermit,
}

/// What makes one input another.
#[derive(Debug, Clone)]
pub(crate) struct InputSettings {
    /// For the log.
    pub(crate) name: &'static str,
    /// Put after the client id.
    pub(crate) suffix: &'static str,
    /// Topic filters.
    pub(crate) filters: Vec<String>,
    /// Topic of a retained message that the broker sends after the backlog (see [`Backlog`]).
    pub(crate) marker: Option<String>,
}

/// The task.
pub(crate) struct Input {
    config: Arc<Config>,
    settings: InputSettings,
    budget: Budget,
    link: LinkState,
    phase: watch::Receiver<Phase>,
    out: Option<mpsc::UnboundedSender<Delivery>>,
    backlog: Backlog,
    packet_max: u32,
}

enum End {
    Stopped,
    Lost(String),
}

struct Connection {
    client: AsyncClient,
    broken: Arc<Notify>,
    /// Subscription identifier of the marker: other connections have others.
    marker_id: usize,
    subscribed: bool,
    stands: bool,
    disconnecting: bool,
}

impl Input {
    /// An input that hands its messages to `out`; their number is bounded by the budget.
    pub(crate) fn new(
        config: Arc<Config>,
        settings: InputSettings,
        budget: Budget,
        link: LinkState,
        phase: watch::Receiver<Phase>,
        out: mpsc::UnboundedSender<Delivery>,
    ) -> Self {
        let packet_max = packet_max(&config);
        Self { config, settings, budget, link, phase, out: Some(out), backlog: Backlog::default(), packet_max }
    }

    /// Takes messages until the phase is [`Phase::Disconnect`].
    pub(crate) async fn run(mut self) {
        let mut backoff = Backoff::default();
        let name = self.settings.name;
        loop {
            let began = Instant::now();
            match self.connection().await {
                End::Stopped => return self.link.down(None),
                End::Lost(words) => {
                    warn!(client = name, error = words, "no connection to the broker");
                    self.link.down(Some(words));
                }
            }
            let pause = tokio::time::sleep(backoff.next(began.elapsed()));
            tokio::pin!(pause);
            loop {
                tokio::select! {
                    () = &mut pause => break,
                    Ok(()) = self.phase.changed() => if self.phase_now() == Phase::Disconnect { return },
                }
            }
        }
    }

    /// The phase; from [`Phase::Finish`] on nothing is handed on, and the pipeline sees the end of its queue.
    fn phase_now(&mut self) -> Phase {
        let phase = *self.phase.borrow_and_update();
        if phase > Phase::Run {
            self.out = None;
        }
        phase
    }

    async fn connection(&mut self) -> End {
        let (config, suffix, packet_max) = (self.config.clone(), self.settings.suffix, self.packet_max);
        let role = Role::Input { suffix, packet_max };
        let options = match tokio::task::spawn_blocking(move || options(&config, role)).await {
            Ok(Ok(options)) => options,
            Ok(Err(error)) => return End::Lost(error.to_string()),
            Err(_) => return End::Stopped,
        };
        let (client, mut polled) = AsyncClient::new(options, REQUESTS_MAX);
        let broken = Arc::new(Notify::new());
        let marker_id = fastrand::usize(1..=SUBSCRIPTION_ID_MAX);
        let mut connection =
            Connection { client, broken, marker_id, subscribed: false, stands: false, disconnecting: false };
        loop {
            match self.poll(&mut connection, &mut polled).await {
                Ok(Event::Incoming(packet)) => {
                    if let Err(end) = self.incoming(&mut connection, packet).await {
                        return end;
                    }
                }
                Ok(Event::Outgoing(Written::Disconnect)) => return End::Stopped,
                Ok(Event::Outgoing(_)) => {}
                Err(end) => return end,
            }
        }
    }

    /// One event of the client. The poll is never cut off half way: what happens beside it is done between.
    async fn poll(&mut self, connection: &mut Connection, polled: &mut EventLoop) -> Result<Event, End> {
        let poll = polled.poll();
        tokio::pin!(poll);
        loop {
            if self.phase_now() == Phase::Disconnect && !connection.disconnecting {
                // Behind all acknowledgements in the same queue.
                connection.disconnecting = connection.stands && connection.client.try_disconnect().is_ok();
                if !connection.disconnecting {
                    return Err(End::Stopped);
                }
            }
            let quiet = tokio::time::sleep(self.backlog.patience());
            tokio::select! {
                event = &mut poll => return event.map_err(|error| {
                    if connection.disconnecting { End::Stopped } else { self.failed(&error) }
                }),
                Ok(()) = self.phase.changed() => {}
                () = connection.broken.notified() => {
                    return Err(End::Lost("the broker sent more than it was allowed to".to_owned()));
                }
                () = quiet, if self.backlog.is_open() => self.backlog.close(),
            }
        }
    }

    fn failed(&mut self, error: &rumqttc::v5::ConnectionError) -> End {
        if let Some(bytes) = words::oversize(error).filter(|bytes| *bytes <= PACKET_CEILING) {
            self.packet_max = self.packet_max.max(u32::try_from(bytes).unwrap_or(u32::MAX));
            error!(bytes, "the broker ignores the announced maximum packet size; taking it to refuse it");
        }
        End::Lost(words::of(error))
    }

    async fn incoming(&mut self, connection: &mut Connection, packet: Packet) -> Result<(), End> {
        match packet {
            Packet::ConnAck(answer) => {
                self.backlog.connected(answer.session_present, Instant::now());
                connection.stands = true;
                // The queue is empty and has room.
                self.subscribe(connection).map_err(|error| End::Lost(error.to_string()))?;
            }
            Packet::SubAck(answer) => self.subscribed(connection, &answer)?,
            Packet::Publish(publish) => self.deliver(connection, publish).await,
            _ => {}
        }
        self.backlog.alive(Instant::now());
        Ok(())
    }

    fn subscribe(&self, connection: &Connection) -> Result<(), ClientError> {
        let filter = |path: &String, retain_forward_rule| Filter {
            path: path.clone(),
            qos: QoS::AtLeastOnce,
            nolocal: false,
            // A camera that retains its messages is told so with the first of them.
            preserve_retain: true,
            retain_forward_rule,
        };
        let topics = self.settings.filters.iter().map(|path| filter(path, RetainForwardRule::OnNewSubscribe));
        connection.client.try_subscribe_many(topics)?;
        let Some(path) = &self.settings.marker else { return Ok(()) };
        let marker = filter(path, RetainForwardRule::OnEverySubscribe);
        let properties = SubscribeProperties { id: Some(connection.marker_id), user_properties: Vec::new() };
        connection.client.try_subscribe_many_with_properties([marker], properties)
    }

    fn subscribed(&mut self, connection: &mut Connection, answer: &SubAck) -> Result<(), End> {
        let granted = |code: &SubscribeReasonCode| matches!(code, SubscribeReasonCode::Success(_));
        if connection.subscribed {
            // The second answer is about the marker.
            if !answer.return_codes.iter().all(granted) {
                warn!("the broker refused the subscription of the own status; the end of a backlog is guessed");
            }
            return Ok(());
        }
        for (filter, code) in self.settings.filters.iter().zip(&answer.return_codes) {
            if !granted(code) {
                return Err(End::Lost(format!("the broker refused the subscription of {filter}; check its access list")));
            }
        }
        connection.subscribed = true;
        self.link.up();
        info!(client = self.settings.name, "connected to the broker and subscribed");
        Ok(())
    }

    /// Hands a message on, once there is room. While stopping it is left to the broker, which keeps it.
    async fn deliver(&mut self, connection: &Connection, publish: Publish) {
        let received = Instant::now();
        let marker = self.settings.marker.as_ref().is_some_and(|topic| publish.topic == topic.as_bytes());
        let ids = publish.properties.as_ref().map(|properties| properties.subscription_identifiers.as_slice());
        // Copies for an earlier subscription may stand in the middle of the backlog.
        if marker && ids.is_some_and(|ids| ids.contains(&connection.marker_id)) {
            self.backlog.close();
        }
        let admission = tokio::select! {
            admission = self.budget.admit(publish.payload.len()) => admission,
            () = reached(&mut self.phase, Phase::Finish) => None,
        };
        let (Some(out), Some(admission)) = (&self.out, admission) else { return };
        let delivery = Delivery {
            topic: String::from_utf8_lossy(&publish.topic).into_owned(),
            payload: publish.payload,
            dup: publish.dup,
            retained: publish.retain,
            marker,
            received,
            received_at: Timestamp::now(),
            waited: self.backlog.waited(received),
            ack: AckToken {
                client: connection.client.clone(),
                packet: Publish { qos: publish.qos, pkid: publish.pkid, ..Publish::default() },
                broken: connection.broken.clone(),
            },
            bytes: admission.bytes,
            message: admission.message,
        };
        // Where the pipeline has ended the daemon is ending: the broker keeps the message.
        let _ = out.send(delivery);
    }
}
