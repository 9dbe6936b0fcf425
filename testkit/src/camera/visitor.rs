//! A camera that publishes and receives its answers on one connection, one event at a time.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::Packet;
use rumqttc::v5::{AsyncClient, Event, EventLoop};
use tokio::time::timeout;

use super::{Address, CHANNEL};

/// One connection; nothing is read between two events.
pub struct Visitor {
    client: AsyncClient,
    events: EventLoop,
    timeout: Duration,
}

impl std::fmt::Debug for Visitor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Visitor")
    }
}

impl Visitor {
    /// Connects and subscribes to `filter` with this QoS.
    ///
    /// # Errors
    /// If the broker does not confirm within `timeout`.
    pub async fn connect(address: &Address, filter: &str, qos: QoS, timeout: Duration) -> Result<Self> {
        let (client, events) = AsyncClient::new(address.options("visitor"), CHANNEL);
        let mut visitor = Self { client, events, timeout };
        visitor.until("a connection", |packet| matches!(packet, Packet::ConnAck(_))).await?;
        visitor.client.try_subscribe(filter, qos)?;
        visitor.until("a subscription", |packet| matches!(packet, Packet::SubAck(_))).await?;
        Ok(visitor)
    }

    /// Returns the time from the PUBLISH with QoS 1 to the next message.
    ///
    /// # Errors
    /// If none arrives in time.
    pub async fn ask(&mut self, topic: &str, payload: Vec<u8>) -> Result<Duration> {
        let start = Instant::now();
        self.client.try_publish(topic, QoS::AtLeastOnce, false, payload)?;
        self.until("an answer", |packet| matches!(packet, Packet::Publish(_))).await?;
        Ok(start.elapsed())
    }

    async fn until(&mut self, what: &str, wanted: impl Fn(&Packet) -> bool) -> Result<()> {
        let read = async {
            loop {
                match self.events.poll().await {
                    Ok(Event::Incoming(packet)) if wanted(&packet) => return Ok(()),
                    Ok(_) => {}
                    Err(error) => bail!("{what}: {error}"),
                }
            }
        };
        timeout(self.timeout, read).await.with_context(|| format!("{what} did not come in time"))?
    }
}
