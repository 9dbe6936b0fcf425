//! Answers every message at once: the cost of a round trip through the broker without any processing.

use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{Packet, Publish};
use rumqttc::v5::{AsyncClient, Event, EventLoop};
use tokio::task::JoinHandle;

use super::{Address, CHANNEL, RECONNECT_DELAY};

/// Publishes every message under another topic; stopped on drop. Like an appliance, it receives and publishes through
/// two clients.
#[derive(Debug)]
pub struct Echo {
    tasks: [JoinHandle<()>; 2],
}

impl Echo {
    /// Subscribes to `from` (a filter) and publishes every payload to `to`.
    pub fn start(address: &Address, from: &str, to: &str) -> Self {
        let (sender, events) = AsyncClient::new(address.options("echo-sends"), CHANNEL);
        let (receiver, messages) = AsyncClient::new(address.options("echo-receives"), CHANNEL);
        let (from, to) = (from.to_owned(), to.to_owned());
        let send = tokio::spawn(poll(events, |_| {}, || {}));
        let repeat = move |publish: Publish| {
            let _ = sender.try_publish(to.clone(), QoS::AtLeastOnce, false, publish.payload.to_vec());
        };
        let receive = tokio::spawn(poll(messages, repeat, move || {
            let _ = receiver.try_subscribe(from.clone(), QoS::AtLeastOnce);
        }));
        Self { tasks: [send, receive] }
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

async fn poll(mut events: EventLoop, on_message: impl Fn(Publish), on_connect: impl Fn()) {
    loop {
        match events.poll().await {
            Ok(Event::Incoming(Packet::ConnAck(_))) => on_connect(),
            Ok(Event::Incoming(Packet::Publish(publish))) => on_message(publish),
            Ok(_) => {}
            Err(_) => tokio::time::sleep(RECONNECT_DELAY).await,
        }
    }
}
