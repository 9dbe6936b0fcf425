//! One connection of an input: subscriptions, packets, acknowledgements, pings.

use std::time::{Duration, Instant};

use gatehouse_model::Timestamp;
use rumqttc::v5::mqttbytes::Error as PacketError;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{
    Disconnect, DisconnectReasonCode, Filter, Packet, PingReq, PubAck, Publish, RetainForwardRule, SubAck,
    Subscribe, SubscribeProperties, SubscribeReasonCode,
};
use thiserror::Error;
use tokio::sync::mpsc;
use tokio::time::{Interval, MissedTickBehavior, interval};
use tracing::warn;

use crate::freshness::{Due, PROOF_INTERVAL, Waited};
use crate::input::{Ack, InputSettings};
use crate::options::{KEEP_ALIVE_INTERVAL, OptionsError};
use crate::wire::{Wire, WireError};

/// Packet ids of the two subscriptions. An input sends no other packet with an id.
const TOPICS: u16 = 1;
const MARKER: u16 = 2;

/// Largest subscription identifier of MQTT.
const SUBSCRIPTION_ID_MAX: usize = 268_435_455;

/// Acknowledgements that are written together: a whole group commit.
const ACKS_AT_ONCE: usize = 1024;

/// Why a connection failed; the messages are for the operator.
#[derive(Debug, Error)]
pub(crate) enum SessionError {
    /// The connection could not be set up.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// The connection failed.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// The broker refused a subscription.
    #[error("the broker refused the subscription of {0}; check its access list")]
    Subscription(String),
    /// The broker does not confirm answers.
    #[error("the broker does not confirm published messages")]
    Unconfirmed,
    /// The broker sends nothing, not even PINGRESP.
    #[error("the broker stopped answering")]
    Silent,
}

impl SessionError {
    /// The size of a packet that was above the announced maximum, if that is what broke the connection.
    pub(crate) fn oversize(&self) -> Option<usize> {
        match self {
            Self::Wire(WireError::Packet(PacketError::PayloadSizeLimitExceeded { pkt_size, .. })) => {
                Some(*pkt_size)
            }
            _ => None,
        }
    }
}

/// A message that the budget does not admit yet.
pub(crate) struct Stashed {
    pub(crate) packet: Publish,
    pub(crate) marker: bool,
    pub(crate) received: Instant,
    pub(crate) received_at: Timestamp,
    pub(crate) waited: Waited,
}

/// A received packet.
#[allow(clippy::large_enum_variant, reason = "one at a time, moved once")]
pub(crate) enum Received {
    /// A message.
    Message(Publish),
    /// The topics are subscribed.
    Subscribed,
    /// A PINGRESP.
    Pong,
    /// Nothing to act on.
    Other,
}

/// One connection.
pub(crate) struct Session {
    wire: Wire,
    filters: Vec<String>,
    marker: Option<String>,
    /// Subscription identifier of the marker, different for each connection.
    marker_id: usize,
    /// At most one message that the budget does not admit yet.
    pub(crate) stash: Option<Stashed>,
    /// Since when the input reads and the broker sends nothing.
    pub(crate) silent_since: Instant,
}

impl Session {
    /// Subscribes. This is done on every connection, because a broker may have lost its sessions.
    pub(crate) async fn begin(wire: Wire, settings: &InputSettings) -> Result<Self, SessionError> {
        let marker_id = fastrand::usize(1..=SUBSCRIPTION_ID_MAX);
        let filters = settings.filters.clone();
        let silent_since = Instant::now();
        let mut session =
            Self { wire, filters, marker: settings.marker.clone(), marker_id, stash: None, silent_since };
        let topics =
            settings.filters.iter().map(|path| filter(path, RetainForwardRule::OnNewSubscribe)).collect();
        let mut requests =
            vec![Packet::Subscribe(Subscribe { pkid: TOPICS, filters: topics, properties: None })];
        requests.extend(session.marker());
        session.wire.write(requests).await?;
        Ok(session)
    }

    /// Subscribes the marker under the current identifier; none without a marker.
    fn marker(&self) -> Option<Packet> {
        let filters = vec![filter(self.marker.as_ref()?, RetainForwardRule::OnEverySubscribe)];
        let properties = SubscribeProperties { id: Some(self.marker_id), user_properties: Vec::new() };
        Some(Packet::Subscribe(Subscribe { pkid: MARKER, filters, properties: Some(properties) }))
    }

    /// Waits for a packet. Cancellation is safe.
    pub(crate) async fn receive(&mut self) -> Result<Received, SessionError> {
        let packet = self.wire.read().await?;
        self.silent_since = Instant::now();
        self.classify(packet)
    }

    /// The next packet that is already read.
    pub(crate) fn receive_now(&mut self) -> Result<Option<Received>, SessionError> {
        self.wire.read_now()?.map(|packet| self.classify(packet)).transpose()
    }

    /// Bytes of the message that is not admitted yet.
    pub(crate) fn stashed(&self) -> Option<usize> {
        self.stash.as_ref().map(|stashed| stashed.packet.payload.len())
    }

    fn classify(&self, packet: Packet) -> Result<Received, SessionError> {
        match packet {
            Packet::Publish(publish) => Ok(Received::Message(publish)),
            Packet::SubAck(answer) => self.subscribed(&answer),
            Packet::PingResp(_) => Ok(Received::Pong),
            _ => Ok(Received::Other),
        }
    }

    fn subscribed(&self, answer: &SubAck) -> Result<Received, SessionError> {
        let refused = |code: &SubscribeReasonCode| !matches!(code, SubscribeReasonCode::Success(_));
        let at = answer.return_codes.iter().position(refused);
        match (answer.pkid, at) {
            (TOPICS, None) => Ok(Received::Subscribed),
            (TOPICS, Some(at)) => {
                Err(SessionError::Subscription(self.filters.get(at).cloned().unwrap_or_default()))
            }
            (_, None) => Ok(Received::Other),
            (_, Some(_)) => {
                warn!(
                    "the broker refused the subscription of the own status; the end of a backlog is estimated"
                );
                Ok(Received::Other)
            }
        }
    }

    /// Whether this copy was sent for the marker's subscription of this connection.
    pub(crate) fn is_of_marker(&self, packet: &Publish) -> bool {
        packet.properties.as_ref().is_some_and(|all| all.subscription_identifiers.contains(&self.marker_id))
    }

    /// Writes this acknowledgement and those queued after it. Returns their number.
    pub(crate) async fn acknowledge(
        &mut self,
        first: Ack,
        more: &mut mpsc::UnboundedReceiver<Ack>,
    ) -> Result<usize, SessionError> {
        let mut batch = vec![first];
        while batch.len() < ACKS_AT_ONCE {
            match more.try_recv() {
                Ok(ack) => batch.push(ack),
                Err(_) => break,
            }
        }
        let packets =
            batch.iter().filter_map(|ack| ack.packet).map(|id| Packet::PubAck(PubAck::new(id, None)));
        self.wire.write(packets).await?;
        // The messages are in progress until here.
        Ok(batch.len())
    }

    /// Sends what is due. `reading` is whether the PINGRESP could have been read.
    pub(crate) async fn prove(&mut self, due: Due, reading: bool) -> Result<(), SessionError> {
        if reading && self.silent_since.elapsed() > 2 * KEEP_ALIVE_INTERVAL {
            return Err(SessionError::Silent);
        }
        let marker = if due.marker {
            self.marker_id = fastrand::usize(1..=SUBSCRIPTION_ID_MAX);
            self.marker()
        } else {
            None
        };
        let ping = due.ping.then_some(Packet::PingReq(PingReq));
        Ok(self.wire.write(marker.into_iter().chain(ping)).await?)
    }

    /// Writes the remaining acknowledgements and disconnects. The broker keeps the session.
    pub(crate) async fn end(mut self, acks: &mut mpsc::UnboundedReceiver<Ack>) -> Result<(), SessionError> {
        while let Ok(ack) = acks.try_recv() {
            self.acknowledge(ack, acks).await?;
        }
        let disconnect = Disconnect::new(DisconnectReasonCode::NormalDisconnection);
        self.wire.write([Packet::Disconnect(disconnect)]).await?;
        self.wire.close().await;
        Ok(())
    }
}

fn filter(path: &str, retain_forward_rule: RetainForwardRule) -> Filter {
    Filter {
        path: path.to_owned(),
        qos: QoS::AtLeastOnce,
        nolocal: false,
        // Keeps the flag, so that the refusal of a retained message names the reason.
        preserve_retain: true,
        retain_forward_rule,
    }
}

/// The interval of pings: twice within the keep alive.
pub(crate) fn pings(server_keep_alive: Option<u16>) -> Interval {
    ticks(ping_interval(server_keep_alive))
}

/// The interval of freshness proofs, and the longest pause between two pings.
pub(crate) fn proofs(server_keep_alive: Option<u16>, has_marker: bool) -> (Interval, Duration) {
    let keep_alive = ping_interval(server_keep_alive);
    (ticks(if has_marker { PROOF_INTERVAL.min(keep_alive) } else { keep_alive }), keep_alive)
}

fn ping_interval(server_keep_alive: Option<u16>) -> Duration {
    let allowed = server_keep_alive.map(|seconds| Duration::from_secs(seconds.max(1).into()));
    allowed.map_or(KEEP_ALIVE_INTERVAL, |allowed| KEEP_ALIVE_INTERVAL.min(allowed)) / 2
}

fn ticks(period: Duration) -> Interval {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}
