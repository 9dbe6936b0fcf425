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

use super::{Address, PACKET_MAX, RECONNECT};
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
    /// The broker kept it for us: it is no news.
    pub retain: bool,
    /// MQTT's `correlation-id` user property.
    pub correlation: Option<String>,
    /// Message Expiry in seconds.
    pub expiry: Option<u32>,
    /// When it arrived.
    pub at: Instant,
    /// The same on the wall clock.
    pub clock: SystemTime,
}

impl Received {
    /// The payload as JSON, null where it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.payload).unwrap_or(Value::Null)
    }
}

/// Subscribes and collects; ends on drop.
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
    /// Where the broker does not confirm within `patience`.
    pub async fn subscribe(
        name: &str,
        address: &Address,
        filters: &[&str],
        patience: Duration,
    ) -> Result<Self> {
        let options = options(name, address);
        let shared = Arc::new(Mutex::new(Collected::default()));
        let filters = filters.iter().map(|f| Filter::new(*f, QoS::AtLeastOnce)).collect();
        let (counted, count) = watch::channel(0);
        let task = tokio::spawn(run(options, filters, shared.clone(), counted));
        let listener = Self { shared, count, task };
        wait::until_async("a subscription", patience, || async { listener.lock().subscribed }).await?;
        Ok(listener)
    }

    /// How many messages have arrived.
    pub fn count(&self) -> usize {
        self.lock().messages.len()
    }

    /// Waits until `count` messages have arrived, and wakes at once.
    ///
    /// # Errors
    /// Once `patience` has passed.
    pub async fn until_count(&self, count: usize, patience: Duration) -> Result<()> {
        let mut counter = self.count.clone();
        let reached = tokio::time::timeout(patience, counter.wait_for(|have| *have >= count)).await;
        match reached {
            Ok(Ok(_)) => Ok(()),
            _ => anyhow::bail!("{} of {count} messages within {} s", self.count(), patience.as_secs()),
        }
    }

    /// Everything that has arrived, in order.
    pub fn messages(&self) -> Vec<Received> {
        self.lock().messages.clone()
    }

    /// Looks at the messages without a copy.
    pub fn with<T>(&self, look: impl FnOnce(&[Received]) -> T) -> T {
        look(&self.lock().messages)
    }

    /// Waits for a message that `wanted` accepts, among those that have come and those to come.
    ///
    /// # Errors
    /// In the words of `what` once `patience` has passed.
    pub async fn wait_for(
        &self,
        what: &str,
        patience: Duration,
        wanted: impl Fn(&Received) -> bool,
    ) -> Result<Received> {
        let find = || self.lock().messages.iter().find(|m| wanted(m)).cloned();
        wait::until_async(what, patience, || async { find().is_some() }).await?;
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
            Err(_) => tokio::time::sleep(RECONNECT.max(Duration::from_millis(50))).await,
        }
    }
}
