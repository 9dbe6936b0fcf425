//! Measures the round trip to the broker, for doctor.
//!
//! A connection of its own publishes to a topic of its own with QoS 1 and receives the copy with QoS 0. The broker writes
//! copy and PUBACK one after the other, as it writes PUBACK and identification to a camera. With Nagle's algorithm on at
//! the broker, the second waits until this machine has acknowledged the first, and the kernel delays that by 40 ms. With
//! QoS 1 the acknowledgement of the copy would hide it.

use std::time::{Duration, Instant};

use gatehouse_config::Config;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{
    Filter, Packet, PubAckReason, Publish, RetainForwardRule, Subscribe, SubscribeReasonCode,
};
use thiserror::Error;
use tokio::time::timeout;

use crate::options::{self, OptionsError};
use crate::wire::{Wire, WireError};

/// Messages of one measurement. The number is odd, so that the median is one of them. With Nagle's algorithm they take 0.4 s.
const MESSAGES: u16 = 9;
/// Both packets of a message must arrive within this.
const MESSAGE_TIMEOUT: Duration = Duration::from_secs(2);
/// Bounds the whole measurement: an operator waits for it.
const PROBE_TIMEOUT: Duration = Duration::from_secs(8);
/// Packet id of the subscription; the messages use the following ones.
const SUBSCRIPTION: u16 = 1;

/// Medians of the measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RoundTrip {
    /// From the PUBLISH to the first packet of the broker.
    pub first: Duration,
    /// From the first packet to the second one.
    pub stall: Duration,
}

/// Why the measurement failed.
#[derive(Debug, Error)]
pub enum ProbeError {
    /// The broker's access list does not allow the topic.
    #[error("the broker's access list does not allow publishing and reading {0}")]
    Denied(String),
    /// The connection could not be set up.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// The connection failed.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// The measurement took too long.
    #[error("the broker did not answer in time")]
    Timeout,
}

/// Publishes several messages to the topic of the probe, and measures when copy and PUBACK arrive.
pub async fn measure(config: &Config) -> Result<RoundTrip, ProbeError> {
    timeout(PROBE_TIMEOUT, connect_and_measure(config)).await.map_err(|_| ProbeError::Timeout)?
}

async fn connect_and_measure(config: &Config) -> Result<RoundTrip, ProbeError> {
    let topic = options::probe_topic(config);
    let settings = config.clone();
    let options = tokio::task::spawn_blocking(move || options::probe(&settings)).await;
    // Fails only while the runtime ends.
    let Ok(options) = options else { return Err(ProbeError::Timeout) };
    let (mut wire, _) = Wire::open(options?).await?;
    subscribe(&mut wire, &topic).await?;
    let mut first = Vec::with_capacity(MESSAGES.into());
    let mut stall = Vec::with_capacity(MESSAGES.into());
    for round in 1..=MESSAGES {
        let trip = timeout(MESSAGE_TIMEOUT, self::round(&mut wire, &topic, SUBSCRIPTION + round)).await;
        // Without permission to read, a broker does not deliver and does not report it.
        let trip = trip.map_err(|_| ProbeError::Denied(topic.clone()))??;
        first.push(trip.first);
        stall.push(trip.stall);
    }
    wire.close().await;
    Ok(RoundTrip { first: median(first), stall: median(stall) })
}

async fn subscribe(wire: &mut Wire, topic: &str) -> Result<(), ProbeError> {
    let filter = Filter {
        path: topic.to_owned(),
        qos: QoS::AtMostOnce,
        nolocal: false,
        preserve_retain: false,
        retain_forward_rule: RetainForwardRule::Never,
    };
    let request = Subscribe { pkid: SUBSCRIPTION, filters: vec![filter], properties: None };
    wire.write([Packet::Subscribe(request)]).await?;
    loop {
        let Packet::SubAck(answer) = wire.read().await? else { continue };
        let accepted = |code: &SubscribeReasonCode| matches!(code, SubscribeReasonCode::Success(_));
        return match answer.return_codes.iter().all(accepted) {
            true => Ok(()),
            false => Err(ProbeError::Denied(topic.to_owned())),
        };
    }
}

async fn round(wire: &mut Wire, topic: &str, id: u16) -> Result<RoundTrip, ProbeError> {
    let mut message = Publish::new(topic, QoS::AtLeastOnce, id.to_string(), None);
    message.pkid = id;
    let start = Instant::now();
    wire.write([Packet::Publish(message)]).await?;
    let (mut copy, mut confirmed) = (None, None);
    while copy.is_none() || confirmed.is_none() {
        match wire.read().await? {
            Packet::Publish(_) => copy = Some(start.elapsed()),
            Packet::PubAck(ack) if ack.reason != PubAckReason::Success => {
                return Err(ProbeError::Denied(topic.to_owned()));
            }
            Packet::PubAck(_) => confirmed = Some(start.elapsed()),
            _ => {}
        }
    }
    let (copy, confirmed) = (copy.unwrap_or_default(), confirmed.unwrap_or_default());
    Ok(RoundTrip { first: copy.min(confirmed), stall: copy.abs_diff(confirmed) })
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use gatehouse_testkit::broker::{Broker, BrokerOptions};

    use super::*;

    async fn measured(options: &BrokerOptions) -> Result<RoundTrip, ProbeError> {
        let broker = Broker::start_with(options).unwrap();
        let text = format!(
            "[device]\nid = \"house-1\"\nenvironment = \"dev\"\n[mqtt]\nurl = \"{}\"\n",
            broker.url()
        );
        measure(&Config::from_text(&text).unwrap()).await
    }

    #[tokio::test]
    async fn a_broker_with_nagles_algorithm_differs_from_one_without() {
        let slow = BrokerOptions { nodelay: false, ..BrokerOptions::default() };
        let slow = measured(&slow).await.unwrap();
        assert!(slow.stall > Duration::from_millis(30) && slow.first < slow.stall, "{slow:?}");
        let quick = measured(&BrokerOptions::default()).await.unwrap();
        assert!(quick.stall < slow.stall / 2, "{quick:?} {slow:?}");
    }

    #[tokio::test]
    async fn a_broker_that_allows_only_one_way_or_none_is_a_denial() {
        for allowed in ["topic read #", "topic write #", "topic readwrite other"] {
            let acl = format!("{allowed}\n");
            let denied = measured(&BrokerOptions { acl, ..BrokerOptions::default() }).await.unwrap_err();
            assert!(matches!(denied, ProbeError::Denied(_)), "{allowed}: {denied}");
        }
    }
}
