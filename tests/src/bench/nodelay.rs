//! The cost of Nagle's algorithm at the broker for a camera that publishes and receives on one connection, and what a
//! camera can do about it.
//!
//! The broker answers a camera's PUBLISH with a PUBACK at once. The identification follows a millisecond later, and waits
//! until the camera has acknowledged the segment with the PUBACK. The kernel of the camera delays that by 40 ms.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use fastrand::Rng;
use gatehouse_testkit::broker::{Broker, BrokerOptions};
use gatehouse_testkit::camera::{Address, Camera, Listener, QoS, Visitor};
use gatehouse_testkit::daemon::Daemon;
use gatehouse_testkit::synthetic::SyntheticPerson;
use serde_json::json;

use super::ingest::event;
use super::measure::{Spread, millis};
use super::table::Table;

/// Events of one line; those before the first tenth only warm up.
const ROUNDS: usize = 110;
/// Between two events: visits come one by one, and the kernel judges a connection by its pauses.
const PAUSE: Duration = Duration::from_millis(50);
const TIMEOUT: Duration = Duration::from_secs(60);
const EVENTS: &str = "gatehouse/single/event";
const ANSWERS: &str = "gatehouse/single/identification";

/// How the camera of one line receives.
enum Receives {
    OnItsConnection(QoS),
    OnAnother,
}

/// Measures with the broker's default and with `set_tcp_nodelay true`. The daemon must not run, and does not after it.
pub(super) async fn run(daemon: &mut Daemon, people: &[SyntheticPerson]) -> Result<Table> {
    let mut table = Table::new(
        "PUBLISH to identification, one event at a time, one connection (lower is better)",
        &["broker", "camera", "p50 ms", "p99 ms"],
    );
    let one = || Receives::OnItsConnection(QoS::AtLeastOnce);
    let lines = [
        (false, "subscribed with QoS 1", one()),
        (false, "subscribed with QoS 0", Receives::OnItsConnection(QoS::AtMostOnce)),
        (false, "receives on a second connection", Receives::OnAnother),
        (true, "subscribed with QoS 1", one()),
    ];
    for (nodelay, camera, receives) in lines {
        let broker = Broker::start_with(&BrokerOptions { nodelay, ..BrokerOptions::default() })?;
        connect(daemon, &broker)?;
        let address = Address::local(broker.port());
        let spread = match receives {
            Receives::OnItsConnection(qos) => on_one(&address, qos, people).await?,
            Receives::OnAnother => on_two(&address, people).await?,
        };
        daemon.terminate()?;
        let broker = if nodelay { "set_tcp_nodelay true" } else { "mosquitto's default" };
        table.rows.push(vec![json!(broker), json!(camera), json!(spread.p50), json!(spread.p99)]);
    }
    table.notes = vec![
        "Nothing that the appliance sends avoids the 40 ms: the PUBACK is the broker's, and goes before the answer can".into(),
    ];
    Ok(table)
}

fn connect(daemon: &mut Daemon, broker: &Broker) -> Result<()> {
    daemon.reconfigure(|options| options.mqtt_url = broker.url())?;
    daemon.start()?;
    daemon.wait_connected(TIMEOUT)
}

async fn on_one(address: &Address, qos: QoS, people: &[SyntheticPerson]) -> Result<Spread> {
    let mut visitor = Visitor::connect(address, ANSWERS, qos, TIMEOUT).await?;
    let mut rng = Rng::with_seed(6);
    let mut times = Vec::with_capacity(ROUNDS);
    for round in 0..ROUNDS {
        let payload = event(&format!("single-{qos:?}-{}-{round}", address.port), people, &mut rng);
        times.push(visitor.ask(EVENTS, payload).await?.as_secs_f64() * 1e3);
        tokio::time::sleep(PAUSE).await;
    }
    Ok(Spread::of(times.split_off(ROUNDS / 10)))
}

async fn on_two(address: &Address, people: &[SyntheticPerson]) -> Result<Spread> {
    let camera = Camera::connect("single", address);
    let answers = Listener::subscribe("single", address, &[ANSWERS], TIMEOUT).await?;
    let mut rng = Rng::with_seed(6);
    let mut times = Vec::with_capacity(ROUNDS);
    for round in 0..ROUNDS {
        let payload = event(&format!("two-{}-{round}", address.port), people, &mut rng);
        let start = Instant::now();
        let _receipt = camera.send(EVENTS, payload, false);
        answers.until_count(round + 1, TIMEOUT).await?;
        let at = answers.with(|messages| messages.last().map(|message| message.at)).context("no answer")?;
        times.push(millis(start, at));
        tokio::time::sleep(PAUSE).await;
    }
    Ok(Spread::of(times.split_off(ROUNDS / 10)))
}
