//! Takes what a broker has kept and answers every message: what the same traffic costs somebody who does nothing else.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{Filter, Packet};
use rumqttc::v5::{AsyncClient, Event, EventLoop, MqttOptions};
use tokio::time::timeout;

use super::{Address, CHANNEL, Listener, listener};

/// A session at the broker, and where its messages are answered.
#[derive(Debug)]
pub struct Answering {
    hears: MqttOptions,
    speaks: MqttOptions,
    filter: String,
    topic: String,
}

impl Answering {
    /// Makes the session for `filter` and leaves: from here on the broker keeps what comes.
    ///
    /// # Errors
    /// Where the broker does not confirm within `patience`.
    pub async fn prepare(address: &Address, filter: &str, topic: &str, patience: Duration) -> Result<Self> {
        drop(Listener::subscribe("answering", address, &[filter], patience).await?);
        let hears = listener::options("answering", address);
        let speaks = address.options("answering-speaks");
        Ok(Self { hears, speaks, filter: filter.to_owned(), topic: topic.to_owned() })
    }

    /// Takes `count` messages and answers each with one of the same size, QoS 1 both ways, through two clients. Messages
    /// per second, from the first that comes to the confirmation of the last answer.
    ///
    /// # Errors
    /// Where not all is done within `patience`, or a connection breaks.
    pub async fn drain(self, count: usize, patience: Duration) -> Result<f64> {
        let (speaker, confirmations) = AsyncClient::new(self.speaks, CHANNEL);
        let (hearer, events) = AsyncClient::new(self.hears, CHANNEL);
        hearer.try_subscribe_many([Filter::new(self.filter, QoS::AtLeastOnce)])?;
        let hear = hear(events, &speaker, &self.topic, count);
        let both = Box::pin(async { tokio::try_join!(hear, confirmed(confirmations, count)) });
        let (begin, end) = timeout(patience, both).await.context("not everything was answered in time")??;
        Ok(count as f64 / end.saturating_duration_since(begin).as_secs_f64())
    }
}

/// Hears and answers; when the first message came. The answers wait where the other client cannot keep up.
async fn hear(mut events: EventLoop, speaker: &AsyncClient, topic: &str, count: usize) -> Result<Instant> {
    let (mut begin, mut heard) = (None, 0);
    loop {
        match events.poll().await? {
            Event::Incoming(Packet::Publish(message)) if heard < count => {
                begin.get_or_insert_with(Instant::now);
                heard += 1;
                speaker.publish(topic, QoS::AtLeastOnce, false, message.payload.to_vec()).await?;
            }
            // One more poll: the last acknowledgements leave with it.
            _ if heard == count => return begin.context("no message was asked for"),
            Event::Incoming(Packet::Disconnect(_)) => bail!("the broker closed the connection"),
            _ => {}
        }
    }
}

/// Waits for the confirmations of all answers; when the last came.
async fn confirmed(mut events: EventLoop, count: usize) -> Result<Instant> {
    let mut confirmed = 0;
    while confirmed < count {
        match events.poll().await? {
            Event::Incoming(Packet::PubAck(_)) => confirmed += 1,
            Event::Incoming(Packet::Disconnect(_)) => bail!("the broker closed the connection"),
            _ => {}
        }
    }
    Ok(Instant::now())
}
