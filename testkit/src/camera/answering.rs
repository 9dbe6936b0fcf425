//! Receives what a broker has queued and answers every message: the cost of the same traffic without any processing.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{Filter, Packet};
use rumqttc::v5::{AsyncClient, Event, EventLoop, MqttOptions};

use super::{Address, CHANNEL, Listener, listener};

/// A session at the broker and the topic of its answers.
#[derive(Debug)]
pub struct Answering {
    receives: MqttOptions,
    speaks: MqttOptions,
    filter: String,
    topic: String,
}

impl Answering {
    /// Makes the session for `filter` and disconnects: from now on the broker queues its messages.
    ///
    /// # Errors
    /// If the broker does not confirm within `timeout`.
    pub async fn prepare(address: &Address, filter: &str, topic: &str, timeout: Duration) -> Result<Self> {
        drop(Listener::subscribe("answering", address, &[filter], timeout).await?);
        let receives = listener::options("answering", address);
        let speaks = address.options("answering-speaks");
        Ok(Self { receives, speaks, filter: filter.to_owned(), topic: topic.to_owned() })
    }

    /// Receives `count` messages and answers each with one of the same size, QoS 1 in both directions, through two
    /// clients. Returns messages per second, from the first message to the acknowledgement of the last answer.
    ///
    /// # Errors
    /// If not all is done within `timeout`, or if a connection breaks.
    pub async fn drain(self, count: usize, timeout: Duration) -> Result<f64> {
        let (speaker, confirmations) = AsyncClient::new(self.speaks, CHANNEL);
        let (hearer, events) = AsyncClient::new(self.receives, CHANNEL);
        hearer.try_subscribe_many([Filter::new(self.filter, QoS::AtLeastOnce)])?;
        let receive = receive(events, &speaker, &self.topic, count);
        let both = Box::pin(async { tokio::try_join!(receive, confirmed(confirmations, count)) });
        let (begin, end) =
            tokio::time::timeout(timeout, both).await.context("not everything was answered in time")??;
        Ok(count as f64 / end.saturating_duration_since(begin).as_secs_f64())
    }
}

/// Receives and answers; returns when the first message came. It waits if the other client cannot keep up.
async fn receive(mut events: EventLoop, speaker: &AsyncClient, topic: &str, count: usize) -> Result<Instant> {
    let (mut begin, mut received) = (None, 0);
    loop {
        match events.poll().await? {
            Event::Incoming(Packet::Publish(message)) if received < count => {
                begin.get_or_insert_with(Instant::now);
                received += 1;
                speaker.publish(topic, QoS::AtLeastOnce, false, message.payload.to_vec()).await?;
            }
            // One more poll sends the last acknowledgements.
            _ if received == count => return begin.context("no message was asked for"),
            Event::Incoming(Packet::Disconnect(_)) => bail!("the broker closed the connection"),
            _ => {}
        }
    }
}

/// Waits for the acknowledgements of all answers; returns when the last came.
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
