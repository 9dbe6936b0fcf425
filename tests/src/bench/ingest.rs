//! Latency from a camera's PUBLISH to the identification, and durable events per second from a broker's backlog. For
//! comparison: clients of the same broker that only repeat, only receive, or receive and answer the same messages.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use fastrand::Rng;
use gatehouse_testkit::broker::Broker;
use gatehouse_testkit::camera::{Address, Answering, Camera, Echo, Listener, all_taken};
use gatehouse_testkit::daemon::{Daemon, DaemonOptions};
use gatehouse_testkit::folder::Folder;
use gatehouse_testkit::synthetic::{EventMessage, SyntheticPerson, people};
use serde_json::json;

use super::measure::{Spread, bare_append, millis};
use super::nodelay;
use super::steady;
use super::table::Table;

/// Enrolled people.
const PEOPLE: usize = 2000;
/// Encodings of each.
pub(super) const SAMPLES: usize = 5;
/// Round trips of one measurement.
const ROUNDS: usize = 2000;
/// Events per second of the measurement with several cameras.
const PACE: u32 = 200;
/// Events of the backlog.
const BACKLOG: usize = 60_000;
/// How often it is asked how far the daemon is: each time a process starts, on the cores that it works on.
const POLL_INTERVAL: Duration = Duration::from_millis(200);
/// Each step ends within this, or the benchmark fails.
const TIMEOUT: Duration = Duration::from_secs(180);
/// Records of one fdatasync in the limit of the disk: about what a full receive window gives.
const GROUP: usize = 128;

/// Measures latency, what a steady pace costs, and throughput.
///
/// # Errors
/// If a service is missing or anything takes too long.
pub async fn run() -> Result<Vec<Table>> {
    let broker = Broker::start()?;
    let address = Address::local(broker.port());
    let mut daemon = connected(&broker, "bench")?;
    let people = people(1, PEOPLE);
    let mut rng = Rng::with_seed(2);
    for person in &people {
        daemon.enroll(&person.id, &person.name, &person.samples(&mut rng, SAMPLES))?;
    }
    let latency = latency(&address, &people).await?;
    let steady = steady::run(&daemon, &address, &people).await?;
    let throughput = throughput(&broker, &mut daemon, &people).await?;
    let nodelay = nodelay::run(&mut daemon, &people).await?;
    Ok(vec![latency, nodelay, steady, throughput])
}

fn connected(broker: &Broker, device: &str) -> Result<Daemon> {
    let mut daemon = Daemon::new(DaemonOptions {
        device: device.into(),
        mqtt_url: broker.url(),
        settings: settings(),
        ..DaemonOptions::default()
    })?;
    daemon.start()?;
    daemon.wait_connected(TIMEOUT)?;
    Ok(daemon)
}

/// No limit per camera: the benchmark is one.
pub(super) fn settings() -> BTreeMap<String, String> {
    BTreeMap::from([("sources".to_owned(), "events_per_second = 100000\nburst = 1000000\n".to_owned())])
}

async fn latency(address: &Address, people: &[SyntheticPerson]) -> Result<Table> {
    let _echo = Echo::start(address, "echo/in", "echo/out");
    let camera = Camera::connect("bench", address);
    let topics = ["gatehouse/bench/identification", "echo/out"];
    let answers = Listener::subscribe("bench", address, &topics[..1], TIMEOUT).await?;
    let echoes = Listener::subscribe("echo", address, &topics[1..], TIMEOUT).await?;
    // The echo subscribes in the background.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let echo = one_by_one(&camera, &echoes, "echo/in", people, "echo").await?;
    let ours = one_by_one(&camera, &answers, "gatehouse/bench/event", people, "one").await?;
    let paced = paced(&camera, &answers, people).await?;
    let mut table = Table::new(
        &format!("PUBLISH to identification, gallery of {PEOPLE} people (lower is better)"),
        &["way", "p50 ms", "p99 ms", "p50 of echo", "p99 of echo"],
    );
    for (way, spread) in [
        ("camera -> broker -> gatehoused -> broker -> camera, one at a time".to_owned(), ours),
        (format!("the same, {PACE} events/s"), paced),
        ("camera -> broker -> echo -> broker -> camera, one at a time".to_owned(), echo),
    ] {
        table.rows.push(vec![
            json!(way),
            json!(spread.p50),
            json!(spread.p99),
            json!(spread.p50 / echo.p50),
            json!(spread.p99 / echo.p99),
        ]);
    }
    table.notes =
        vec!["echo: the same broker and client library, QoS 1 both ways, and nothing done in between".into()];
    Ok(table)
}

/// The next message goes when the answer to the last one is there.
async fn one_by_one(
    camera: &Camera,
    listener: &Listener,
    topic: &str,
    people: &[SyntheticPerson],
    prefix: &str,
) -> Result<Spread> {
    let mut rng = Rng::with_seed(3);
    let mut times = Vec::with_capacity(ROUNDS);
    for round in 0..ROUNDS {
        let payload = event(&format!("{prefix}-{round}"), people, &mut rng);
        let start = Instant::now();
        let _receipt = camera.send(topic, payload, false);
        listener.until_count(round + 1, TIMEOUT).await?;
        let at = listener.with(|messages| messages.last().map(|message| message.at)).context("no answer")?;
        times.push(millis(start, at));
    }
    // The first rounds warm caches.
    Ok(Spread::of(times.split_off(ROUNDS / 20)))
}

/// Messages go at a steady pace, answered or not.
async fn paced(camera: &Camera, listener: &Listener, people: &[SyntheticPerson]) -> Result<Spread> {
    let mut rng = Rng::with_seed(4);
    let mut sent = HashMap::with_capacity(ROUNDS);
    let before = listener.count();
    let mut clock = tokio::time::interval(Duration::from_secs(1) / PACE);
    for round in 0..ROUNDS {
        let id = format!("paced-{round}");
        let payload = event(&id, people, &mut rng);
        clock.tick().await;
        sent.insert(id, Instant::now());
        let _receipt = camera.send("gatehouse/bench/event", payload, false);
    }
    listener.until_count(before + ROUNDS, TIMEOUT).await?;
    let times = listener.with(|messages| {
        let of = |message: &gatehouse_testkit::camera::Received| {
            let start = sent.get(message.json()["event_id"].as_str()?)?;
            Some(millis(*start, message.at))
        };
        messages[before..].iter().filter_map(of).collect::<Vec<_>>()
    });
    ensure!(times.len() == ROUNDS, "{} answers of {ROUNDS}", times.len());
    Ok(Spread::of(times))
}

async fn throughput(broker: &Broker, daemon: &mut Daemon, people: &[SyntheticPerson]) -> Result<Table> {
    let address = &Address::local(broker.port());
    // Sessions for the same events, all disconnected: the daemon's, that of one with an empty gallery, and those of
    // two bare clients.
    let mut empty = connected(broker, "empty")?;
    drop(Listener::subscribe("drain", address, &["gatehouse/flood/event"], TIMEOUT).await?);
    let topic = "gatehouse/answering/identification";
    let answering = Answering::prepare(address, "gatehouse/flood/event", topic, TIMEOUT).await?;
    let before = stored(daemon)?;
    daemon.terminate()?;
    empty.terminate()?;
    let mut rng = Rng::with_seed(5);
    let camera = Camera::connect("flood", address);
    let mut bytes = 0;
    let receipts = (0..BACKLOG).map(|number| {
        let payload = event(&format!("flood-{number}"), people, &mut rng);
        bytes = payload.len();
        camera.send("gatehouse/flood/event", payload, false)
    });
    all_taken(receipts.collect(), TIMEOUT).await?;

    let bare = Listener::subscribe("drain", address, &["gatehouse/flood/event"], TIMEOUT).await?;
    bare.until_count(BACKLOG, TIMEOUT).await?;
    let drained = bare.with(|messages| messages.last().map(|last| millis(messages[0].at, last.at)));
    let drained = BACKLOG as f64 * 1e3 / drained.context("nothing drained")?;
    drop(bare);
    let answered = answering.drain(BACKLOG, TIMEOUT).await?;

    daemon.start()?;
    let ours = drain_rate(daemon, before).await?;
    daemon.terminate()?;
    empty.start()?;
    let unsearched = drain_rate(&empty, 0).await?;
    let folder = Folder::new("append")?;
    let append = bare_append(folder.path(), 600, GROUP)?.rate;
    let mut table = Table::new(
        &format!("Durable events per second, backlog of {BACKLOG} (higher is better)"),
        &["what", "events/s", "ours of it"],
    );
    for (what, rate) in [
        ("gatehoused: received, identified, answered, sealed, durable, acknowledged".to_owned(), ours),
        ("the same with an empty gallery: nothing is searched".to_owned(), unsearched),
        ("two bare clients: one drains the same backlog, one answers each with as much".to_owned(), answered),
        ("a bare client that drains the same backlog and keeps nothing".to_owned(), drained),
        (format!("append of 600 bytes and fdatasync, groups of {GROUP}"), append),
    ] {
        table.rows.push(vec![json!(what), json!(rate), json!(ours / rate)]);
    }
    let encodings = people.len() * SAMPLES;
    table.notes = vec![
        format!("an event has {bytes} bytes: its face as base64, the shortest form that the contract knows"),
        format!(
            "the first line searches {encodings} encodings for each event; all share the machine with the broker"
        ),
    ];
    Ok(table)
}

/// From the first tenth of the backlog to the last look before its end: neither the start counts nor an idle end.
async fn drain_rate(daemon: &Daemon, before: u64) -> Result<f64> {
    let (first, last) = (before + BACKLOG as u64 / 10, before + BACKLOG as u64);
    let end = Instant::now() + TIMEOUT;
    let mut looks: Vec<(Instant, u64)> = Vec::new();
    loop {
        let (now, have) = (Instant::now(), stored(daemon)?);
        ensure!(now < end, "{have} of {last} events within {} s:\n{}", TIMEOUT.as_secs(), daemon.log_tail());
        if have >= last {
            break;
        }
        looks.extend((have >= first).then_some((now, have)));
        tokio::time::sleep(POLL_INTERVAL).await;
    }
    let [(start, from), .., (end, to)] = looks[..] else { bail!("the backlog was gone at once") };
    Ok((to - from) as f64 * 1e3 / millis(start, end))
}

fn stored(daemon: &Daemon) -> Result<u64> {
    daemon.json(&["ledger"])?["events"]["stored"].as_u64().context("a ledger without events")
}

/// An event with the face of a resident.
pub(super) fn event(id: &str, people: &[SyntheticPerson], rng: &mut Rng) -> Vec<u8> {
    let mut message = EventMessage::face(id, people[rng.usize(..people.len())].sample(rng));
    message.faces.iter_mut().for_each(|face| face.base64 = true);
    message.payload()
}
