//! The main job without a central side, at its edges: doubles, late and lost events, floods, TLS, a broker that comes
//! late.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use gatehouse_testkit::broker::{Broker, BrokerOptions};
use gatehouse_testkit::camera::{Address, Camera, Listener};
use gatehouse_testkit::daemon::{Daemon, DaemonOptions, binary};
use gatehouse_testkit::jpeg::jpeg;
use gatehouse_testkit::synthetic::{EventMessage, people};
use gatehouse_testkit::wait;
use gatehouse_tests::setup::Ledger;
use serde_json::{Value, json};

const TIMEOUT: Duration = Duration::from_secs(60);

/// A daemon that is connected to a broker, and to nothing else.
async fn appliance(broker: &Broker, settings: BTreeMap<String, String>) -> Result<Daemon> {
    binary("gatehoused")?;
    let mqtt_url = broker.url();
    let mut daemon =
        Daemon::new(DaemonOptions { device: "edge".into(), mqtt_url, settings, ..DaemonOptions::default() })?;
    daemon.start()?;
    daemon.wait_connected(TIMEOUT)?;
    Ok(daemon)
}

fn ledger(daemon: &Daemon) -> Result<Ledger> {
    Ok(Ledger(daemon.json(&["ledger"])?))
}

async fn until(daemon: &Daemon, what: &str, wanted: impl Fn(&Ledger) -> bool) -> Result<Ledger> {
    let look = || async { ledger(daemon).is_ok_and(|ledger| wanted(&ledger)) };
    wait::until_async(what, TIMEOUT, look).await.with_context(|| daemon.log_tail())?;
    ledger(daemon)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_comes_twice_is_answered_twice_and_kept_once() -> Result<()> {
    let broker = Broker::start()?;
    let address = Address::local(broker.port());
    let mut daemon = appliance(&broker, BTreeMap::new()).await?;
    let person = &people(5, 1)[0];
    let template = person.sample(&mut fastrand::Rng::with_seed(6));
    daemon.enroll(&person.id, &person.name, std::slice::from_ref(&template))?;
    let answers = Listener::subscribe("door", &address, &["gatehouse/door/identification"], TIMEOUT).await?;
    let camera = Camera::connect("door", &address);
    let event = EventMessage::face("visit-1", template).payload();
    let send = async || camera.publish("gatehouse/door/event", event.clone(), false, TIMEOUT).await;
    send().await?;
    answers.until_count(1, TIMEOUT).await?;
    let first = answers.messages()[0].clone();
    ensure!(first.json()["actionable"] == true && first.json()["replayed"] == false, "{}", first.json());
    ensure!(first.expiry.is_some_and(|expiry| expiry <= 10) && !first.retain, "{first:?}");
    ensure!(first.correlation.is_some(), "no correlation id in the user properties: {first:?}");

    send().await?;
    answers.until_count(2, TIMEOUT).await?;
    until(&daemon, "the second to be counted", |l| l.number("events", "duplicate") == 1).await?;
    daemon.kill()?;
    daemon.start()?;
    daemon.wait_connected(TIMEOUT)?;
    send().await?;
    answers.until_count(3, TIMEOUT).await?;
    let after = until(&daemon, "the third to be counted", |l| l.number("events", "duplicate") == 2).await?;
    ensure!(after.number("events", "stored") == 1 && after.adds_up(), "{:#}", after.0);
    for again in &answers.messages()[1..] {
        let json = again.json();
        ensure!(json["replayed"] == true && json["actionable"] == false, "a door would open twice: {json}");
        ensure!(json["faces"][0]["person"]["id"] == person.id.as_str(), "{json}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_picture_waits_for_its_event_and_a_contradiction_is_refused() -> Result<()> {
    let broker = Broker::start()?;
    let daemon = appliance(&broker, BTreeMap::new()).await?;
    let address = Address::local(broker.port());
    let rejected = Listener::subscribe("door", &address, &["gatehouse/door/rejected"], TIMEOUT).await?;
    let camera = Camera::connect("door", &address);
    let picture = jpeg(1, 160, 120)?;
    let topic = "gatehouse/door/media/visit-1/a.jpg";
    camera.publish(topic, picture.clone(), false, TIMEOUT).await?;
    until(&daemon, "the picture to be stored", |l| l.number("files", "stored") == 1).await?;
    let listed = daemon.json(&["media", "list"])?;
    ensure!(listed[0]["state"] == "waiting", "a picture without an event: {listed}");

    let event = json!({ "id": "visit-1", "kind": "doorbell", "media": ["a.jpg"] }).to_string();
    camera.publish("gatehouse/door/event", event, false, TIMEOUT).await?;
    until(&daemon, "the event to be stored", |l| l.number("events", "stored") == 1).await?;
    let listed = daemon.json(&["media", "list", "--event", "door/visit-1"])?;
    ensure!(listed[0]["state"] == "pending" && listed[0]["size"] == picture.len(), "{listed}");

    camera.publish(topic, picture, false, TIMEOUT).await?;
    until(&daemon, "the double to be counted", |l| l.number("files", "duplicate") == 1).await?;
    camera.publish(topic, jpeg(2, 160, 120)?, false, TIMEOUT).await?;
    rejected.until_count(1, TIMEOUT).await?;
    let answer = rejected.messages()[0].json();
    ensure!(answer["reason"] == "media_conflict" && answer["event_id"] == "visit-1", "{answer}");
    let last = until(&daemon, "the refusal to be counted", |l| l.sum("files", "rejected") == 1).await?;
    ensure!(last.adds_up(), "{:#}", last.0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_camera_that_floods_is_held_back_and_the_others_are_not() -> Result<()> {
    let broker = Broker::start()?;
    let limit = "events_per_second = 1\nburst = 20\n".to_owned();
    let daemon = appliance(&broker, BTreeMap::from([("sources".to_owned(), limit)])).await?;
    let camera = Camera::connect("flood", &Address::local(broker.port()));
    let event = |number: u32| json!({ "id": format!("e-{number}"), "kind": "motion" }).to_string();
    for number in 0..200 {
        camera.publish("gatehouse/flood/event", event(number), false, TIMEOUT).await?;
    }
    camera.publish("gatehouse/calm/event", event(1), false, TIMEOUT).await?;
    let all = |l: &Ledger| l.number("events", "received") == 201;
    let ledger = until(&daemon, "all to be counted", all).await?;
    let refused = ledger.reasons("events", "rejected").get("rate_limited").copied().unwrap_or(0);
    ensure!((100..=180).contains(&refused) && ledger.adds_up(), "{:#}", ledger.0);
    let calm = daemon.json(&["event", "list", "--camera", "calm"])?;
    ensure!(calm.as_array().map(Vec::len) == Some(1), "the calm camera was harmed: {calm}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_with_tls_client_certificates_and_passwords_that_comes_late_is_found() -> Result<()> {
    let users = vec![("house".to_owned(), "a long secret".to_owned())];
    let options = BrokerOptions { users, tls: true, client_certificates: true, ..BrokerOptions::default() };
    let broker = Broker::start_with(&options)?;
    let files = broker.certificates().context("TLS")?;
    broker.stop()?;
    binary("gatehoused")?;
    let lines = format!(
        "username = \"house\"\npassword_file = \"{}\"\nca_file = \"{}\"\ncert_file = \"{}\"\nkey_file = \"{}\"\n",
        files.ca.with_file_name("password.txt").display(),
        files.ca.display(),
        files.client.display(),
        files.client_key.display()
    );
    std::fs::write(files.ca.with_file_name("password.txt"), "a long secret\n")?;
    let mut daemon = Daemon::new(DaemonOptions {
        device: "tls".into(),
        mqtt_url: broker.url(),
        settings: BTreeMap::from([("mqtt".to_owned(), lines)]),
        ..DaemonOptions::default()
    })?;
    daemon.start()?;
    let words = |status: &Value| status["broker"]["error"].as_str().map(str::to_owned);
    let status = daemon.json(&["status"])?;
    ensure!(status["broker"]["connected"] == false, "{status}");
    wait::until("words about the broker", TIMEOUT, || {
        daemon.json(&["status"]).is_ok_and(|status| words(&status).is_some())
    })?;
    broker.restart()?;
    daemon.wait_connected(TIMEOUT)?;
    ensure!(daemon.terminate()?.success(), "{}", daemon.log_tail());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_rots_on_the_disk_is_named_and_costs_nothing_else() -> Result<()> {
    let broker = Broker::start()?;
    let mut daemon = appliance(&broker, BTreeMap::new()).await?;
    let camera = Camera::connect("door", &Address::local(broker.port()));
    for n in 0..20 {
        let event = json!({ "id": format!("visit-{n}"), "kind": "doorbell" }).to_string();
        camera.publish("gatehouse/door/event", event, false, TIMEOUT).await?;
        let topic = format!("gatehouse/door/media/visit-{n}/a.jpg");
        camera.publish(&topic, jpeg(n, 160, 120)?, false, TIMEOUT).await?;
    }
    until(&daemon, "all to be stored", |l| l.number("events", "stored") + l.number("files", "stored") == 40)
        .await?;
    let whole = daemon.cli(&["store", "verify"])?;
    ensure!(whole.code == 0 && whole.stdout.contains("20 media files"), "{whole:?}");

    let journal = files_below(&daemon.state().join("journal"))?;
    let media = files_below(&daemon.state().join("media"))?;
    // Within the first record of the journal, behind the headers of segment and frame; within the picture.
    for (file, at) in [(&journal[0], 100), (&media[0], 300)] {
        let mut bytes = std::fs::read(file)?;
        bytes[at] ^= 0x10;
        std::fs::write(file, bytes)?;
    }
    let rotten = daemon.cli(&["store", "verify"])?;
    let lost = "lost: 1 journal record, 1 media file";
    ensure!(rotten.code == 1 && rotten.stdout.contains(lost), "{rotten:?}");
    ensure!(rotten.stdout.contains("a.jpg"), "which picture is it? {}", rotten.stdout);
    daemon.kill()?;
    daemon.start()?;
    ensure!(daemon.cli(&["store", "verify"])?.code == 1, "a restart does not undo damage");
    ensure!(ledger(&daemon)?.adds_up(), "{:#}", ledger(&daemon)?.0);
    Ok(())
}

/// All files below a folder, in order.
fn files_below(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files_below(&path)?);
        } else {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}
