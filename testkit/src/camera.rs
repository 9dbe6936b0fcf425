//! A synthetic MQTT camera, and a listener that collects what the appliance publishes.
//!
//! The camera publishes with QoS 1. A message is delivered when its PUBACK arrives. After a lost connection the camera
//! starts with a clean client and sends all messages without a PUBACK again, in order: at least once, like a real
//! camera.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
pub use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{Packet, PubAckReason};
use rumqttc::v5::{AsyncClient, Event, EventLoop, MqttOptions};
use rumqttc::{Outgoing, TlsConfiguration, Transport};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

mod answering;
mod echo;
mod listener;
mod visitor;
pub use answering::Answering;
pub use echo::Echo;
pub use listener::{Listener, Received};
pub use visitor::Visitor;

/// Messages of one camera in flight.
const WINDOW: usize = 100;
/// Capacity of the channel to the client: more than the window, so that sending never waits.
const CHANNEL: usize = 2 * WINDOW;
/// Largest packet: a 16 MiB picture and its headers.
const PACKET_MAX: u32 = 17 * 1024 * 1024;
/// Delay between two connection attempts.
const RECONNECT_DELAY: Duration = Duration::from_millis(100);

/// Where a broker is and how to sign in.
#[derive(Debug, Clone)]
pub struct Address {
    /// Host.
    pub host: String,
    /// Port.
    pub port: u16,
    /// User and password.
    pub credentials: Option<(String, String)>,
    /// TLS: the authority, and the client's certificate and key, as PEM.
    pub tls: Option<[Vec<u8>; 3]>,
}

impl Address {
    /// A broker on 127.0.0.1 without passwords.
    pub fn local(port: u16) -> Self {
        Self { host: "127.0.0.1".into(), port, credentials: None, tls: None }
    }

    /// A broker on this machine over TLS: `ca.pem`, `NAME.pem` and `NAME.key` are in `folder`.
    ///
    /// # Errors
    /// If a file cannot be read.
    pub fn secure(port: u16, folder: &Path, name: &str) -> Result<Self> {
        let read = |file: String| std::fs::read(folder.join(&file)).with_context(|| file);
        let tls = [read("ca.pem".into())?, read(format!("{name}.pem"))?, read(format!("{name}.key"))?];
        Ok(Self { host: "localhost".into(), port, credentials: None, tls: Some(tls) })
    }

    fn options(&self, client: &str) -> MqttOptions {
        let mut options = MqttOptions::new(client, &self.host, self.port);
        options.set_keep_alive(Duration::from_secs(10));
        options.set_connection_timeout(5);
        options.set_max_packet_size(Some(PACKET_MAX));
        if let Some((user, password)) = &self.credentials {
            options.set_credentials(user, password);
        }
        if let Some([ca, certificate, key]) = self.tls.clone() {
            let client_auth = Some((certificate, key));
            options.set_transport(Transport::Tls(TlsConfiguration::Simple { ca, alpn: None, client_auth }));
        }
        options
    }
}

/// A camera; disconnected on drop.
#[derive(Debug)]
pub struct Camera {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

/// How the broker answered a message.
pub type Receipt = oneshot::Receiver<Result<(), PubAckReason>>;

struct Message {
    topic: String,
    payload: bytes::Bytes,
    retain: bool,
    receipt: oneshot::Sender<Result<(), PubAckReason>>,
}

#[derive(Default)]
struct State {
    client: Option<AsyncClient>,
    /// Not yet handed to the client.
    unsent: VecDeque<Message>,
    /// Handed to the client, which has not given them a packet id yet.
    handed: VecDeque<Message>,
    /// In flight, in the order of sending.
    flying: BTreeMap<u64, (u16, Message)>,
    sent: u64,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Shared")
    }
}

impl Camera {
    /// A camera that connects, and reconnects until it is dropped. Needs a tokio runtime.
    pub fn connect(name: &str, address: &Address) -> Self {
        let shared = Arc::new(Shared::default());
        let options = address.options(&format!("camera-{name}"));
        let task = tokio::spawn(run(options, shared.clone()));
        Self { shared, task }
    }

    /// Sends a message; the receipt completes when the broker acknowledges it.
    pub fn send(&self, topic: &str, payload: impl Into<bytes::Bytes>, retain: bool) -> Receipt {
        let (receipt, answer) = oneshot::channel();
        let message = Message { topic: topic.to_owned(), payload: payload.into(), retain, receipt };
        let mut state = self.shared.lock();
        state.unsent.push_back(message);
        state.hand_over();
        answer
    }

    /// Sends a message and waits for its PUBACK.
    ///
    /// # Errors
    /// If the broker refuses it, or has not answered within `timeout`.
    pub async fn publish(
        &self,
        topic: &str,
        payload: impl Into<bytes::Bytes>,
        retain: bool,
        timeout: Duration,
    ) -> Result<()> {
        let receipt = self.send(topic, payload, retain);
        match tokio::time::timeout(timeout, receipt).await {
            Ok(Ok(Ok(()))) => Ok(()),
            Ok(Ok(Err(reason))) => bail!("the broker refused a message on {topic}: {reason:?}"),
            Ok(Err(_)) => Err(anyhow!("the camera ended")),
            Err(_) => bail!("no PUBACK for a message on {topic} within {} s", timeout.as_secs()),
        }
    }

    /// Messages that the broker has not acknowledged yet.
    pub fn waiting(&self) -> usize {
        let state = self.shared.lock();
        state.unsent.len() + state.handed.len() + state.flying.len()
    }
}

impl Drop for Camera {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Hands messages to the client while the window is not full.
    fn hand_over(&mut self) {
        let Some(client) = self.client.clone() else { return };
        while self.handed.len() + self.flying.len() < WINDOW {
            let Some(message) = self.unsent.pop_front() else { return };
            let (topic, payload) = (message.topic.clone(), message.payload.to_vec());
            if client.try_publish(topic, QoS::AtLeastOnce, message.retain, payload).is_err() {
                self.unsent.push_front(message);
                return;
            }
            self.handed.push_back(message);
        }
    }

    /// After a lost connection: everything without a PUBACK is sent again, in order.
    fn take_back(&mut self) {
        self.client = None;
        while let Some(message) = self.handed.pop_back() {
            self.unsent.push_front(message);
        }
        while let Some((_, (_, message))) = self.flying.pop_last() {
            self.unsent.push_front(message);
        }
    }

    fn sent_as(&mut self, packet: u16) {
        if let Some(message) = self.handed.pop_front() {
            self.sent += 1;
            self.flying.insert(self.sent, (packet, message));
        }
    }

    fn acknowledged(&mut self, packet: u16, reason: PubAckReason) {
        let found = self.flying.iter().find(|(_, (id, _))| *id == packet).map(|(order, _)| *order);
        if let Some((_, message)) = found.and_then(|order| self.flying.remove(&order)) {
            let taken = matches!(reason, PubAckReason::Success | PubAckReason::NoMatchingSubscribers);
            let _ = message.receipt.send(if taken { Ok(()) } else { Err(reason) });
        }
        self.hand_over();
    }
}

async fn run(mut options: MqttOptions, shared: Arc<Shared>) {
    options.set_clean_start(true);
    loop {
        let (client, mut events) = AsyncClient::new(options.clone(), CHANNEL);
        converse(&client, &mut events, &shared).await;
        shared.lock().take_back();
        tokio::time::sleep(RECONNECT_DELAY).await;
    }
}

/// Serves one connection until it breaks.
async fn converse(client: &AsyncClient, events: &mut EventLoop, shared: &Shared) {
    loop {
        let Ok(event) = events.poll().await else { return };
        let mut state = shared.lock();
        match event {
            Event::Incoming(Packet::ConnAck(_)) => {
                state.client = Some(client.clone());
                state.hand_over();
            }
            Event::Outgoing(Outgoing::Publish(packet)) => state.sent_as(packet),
            Event::Incoming(Packet::PubAck(ack)) => state.acknowledged(ack.pkid, ack.reason),
            Event::Incoming(Packet::Disconnect(_)) => return,
            _ => {}
        }
    }
}

/// Waits for all of these receipts.
///
/// # Errors
/// If one is refused, or if not all arrive within `timeout`.
pub async fn all_taken(receipts: Vec<Receipt>, timeout: Duration) -> Result<()> {
    let wait = async {
        for receipt in receipts {
            let answer = receipt.await.context("the camera ended")?;
            answer.map_err(|reason| anyhow!("the broker refused a message: {reason:?}"))?;
        }
        Ok(())
    };
    tokio::time::timeout(timeout, wait).await.context("not all messages were acknowledged in time")?
}
