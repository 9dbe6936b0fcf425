//! Collects messages with a session that survives the broker and the connection.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use anyhow::Result;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{ConnectProperties, Filter, Packet};
use rumqttc::v5::{AsyncClient, Event, MqttOptions};
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::{Address, PACKET_MAX, RECONNECT_DELAY};
use crate::wait;

/// The broker keeps the session this long, in seconds.
const SESSION: u32 = 3600;

/// A message as it arrived.
#[derive(Debug, Clone)]
pub struct Received {
    /// Topic.
    pub topic: String,
    /// Payload.
    pub payload: Vec<u8>,
    /// Whether it is a retained message.
    pub retain: bool,
    /// MQTT's `correlation-id` user property.
    pub correlation: Option<String>,
    /// Message Expiry in seconds.
    pub expiry: Option<u32>,
    /// When it arrived.
    pub at: Instant,
    /// The same by the wall clock.
    pub clock: SystemTime,
}

impl Received {
    /// The payload as JSON; null if it is not JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.payload).unwrap_or(Value::Null)
    }
}

/// Subscribes and collects; disconnected on drop.
#[derive(Debug)]
pub struct Listener {
    shared: Arc<Mutex<Collected>>,
    count: watch::Receiver<usize>,
    task: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Collected {
    subscribed: bool,
    messages: Vec<Received>,
}

/// How a listener connects: the broker keeps its session.
pub(super) fn options(name: &str, address: &Address) -> MqttOptions {
    let mut options = address.options(&format!("listener-{name}"));
    options.set_clean_start(false);
    let mut properties = ConnectProperties::new();
    properties.session_expiry_interval = Some(SESSION);
    properties.max_packet_size = Some(PACKET_MAX);
    options.set_connect_properties(properties);
    options
}

impl Listener {
    /// Connects with a persistent session, subscribes and returns once the broker has confirmed it.
    ///
    /// # Errors
    /// If the broker does not confirm within `timeout`.
    pub async fn subscribe(
        name: &str,
        address: &Address,
        filters: &[&str],
        timeout: Duration,
    ) -> Result<Self> {
        let options = options(name, address);
        let shared = Arc::new(Mutex::new(Collected::default()));
        let filters = filters.iter().map(|f| Filter::new(*f, QoS::AtLeastOnce)).collect();
        let (counted, count) = watch::channel(0);
        let task = tokio::spawn(run(options, filters, shared.clone(), counted));
        let listener = Self { shared, count, task };
        wait::until_async("a subscription", timeout, || async { listener.lock().subscribed }).await?;
        Ok(listener)
    }

    /// How many messages have arrived.
    pub fn count(&self) -> usize {
        self.lock().messages.len()
    }

    /// Waits until `count` messages have arrived; returns at once when they have.
    ///
    /// # Errors
    /// After `timeout`.
    pub async fn until_count(&self, count: usize, timeout: Duration) -> Result<()> {
        let mut counter = self.count.clone();
        let reached = tokio::time::timeout(timeout, counter.wait_for(|have| *have >= count)).await;
        match reached {
            Ok(Ok(_)) => Ok(()),
            _ => anyhow::bail!("{} of {count} messages within {} s", self.count(), timeout.as_secs()),
        }
    }

    /// Everything that has arrived, in order.
    pub fn messages(&self) -> Vec<Received> {
        self.lock().messages.clone()
    }

    /// Accesses the messages without a copy.
    pub fn with<T>(&self, look: impl FnOnce(&[Received]) -> T) -> T {
        look(&self.lock().messages)
    }

    /// Waits for a message that `wanted` accepts, among earlier and later ones.
    ///
    /// # Errors
    /// After `timeout`; the message contains `what`.
    pub async fn wait_for(
        &self,
        what: &str,
        timeout: Duration,
        wanted: impl Fn(&Received) -> bool,
    ) -> Result<Received> {
        let find = || self.lock().messages.iter().find(|m| wanted(m)).cloned();
        wait::until_async(what, timeout, || async { find().is_some() }).await?;
        find().ok_or_else(|| anyhow::anyhow!("{what}"))
    }

    fn lock(&self) -> MutexGuard<'_, Collected> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn run(
    options: MqttOptions,
    filters: Vec<Filter>,
    shared: Arc<Mutex<Collected>>,
    counted: watch::Sender<usize>,
) {
    let lock = || shared.lock().unwrap_or_else(PoisonError::into_inner);
    // One client for all connections: its pending acknowledgements belong to the session.
    let (client, mut events) = AsyncClient::new(options, 64);
    loop {
        match events.poll().await {
            Ok(Event::Incoming(Packet::ConnAck(_))) => {
                let _ = client.try_subscribe_many(filters.clone());
            }
            Ok(Event::Incoming(Packet::SubAck(_))) => lock().subscribed = true,
            Ok(Event::Incoming(Packet::Publish(publish))) => {
                let properties = publish.properties.unwrap_or_default();
                let correlation = properties
                    .user_properties
                    .iter()
                    .find(|(name, _)| name == "correlation-id")
                    .map(|p| p.1.clone());
                lock().messages.push(Received {
                    topic: String::from_utf8_lossy(&publish.topic).into_owned(),
                    payload: publish.payload.to_vec(),
                    retain: publish.retain,
                    correlation,
                    expiry: properties.message_expiry_interval,
                    at: Instant::now(),
                    clock: SystemTime::now(),
                });
                counted.send_modify(|count| *count += 1);
            }
            Ok(_) => {}
            Err(_) => tokio::time::sleep(RECONNECT_DELAY.max(Duration::from_millis(50))).await,
        }
    }
}
