//! The mosquitto example of the package, as it is shipped but for its paths: a camera can speak for itself alone, and
//! the appliance works over mqtts with a certificate of its own.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use gatehouse_testkit::camera::{Address, Camera, Listener};
use gatehouse_testkit::certs::Certificates;
use gatehouse_testkit::daemon::{Daemon, DaemonOptions};
use gatehouse_testkit::folder::Folder;
use gatehouse_testkit::process::{Launch, Process, find_program};
use gatehouse_testkit::synthetic::EventMessage;
use gatehouse_testkit::{ports, wait};

const PATIENCE: Duration = Duration::from_secs(60);
/// The names in the certificates; the appliance's stands in the example's access list.
const NAMES: [&str; 3] = ["front-door", "back-door", "gatehouse-house-1"];

/// Starts mosquitto with exactly the example, its paths and port replaced.
fn broker(folder: &Path, port: u16) -> Result<Process> {
    let files = Certificates::make_with(folder, &NAMES)?;
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/mosquitto");
    let acl = folder.join("gatehouse.acl");
    std::fs::copy(example.join("gatehouse.acl"), &acl)?;
    let mut text = std::fs::read_to_string(example.join("gatehouse.conf"))?;
    let here = |path: &Path| path.display().to_string();
    for (shipped, replaced) in [
        ("listener 8883", format!("listener {port} 127.0.0.1")),
        ("/etc/mosquitto/certs/ca.pem", here(&files.ca)),
        ("/etc/mosquitto/certs/broker.pem", here(&files.server)),
        ("/etc/mosquitto/certs/broker.key", here(&files.server_key)),
        ("/etc/mosquitto/conf.d/gatehouse.acl", here(&acl)),
        ("/var/lib/mosquitto/", format!("{}/", here(folder))),
    ] {
        ensure!(text.contains(shipped), "the example does not say {shipped} any more");
        text = text.replace(shipped, &replaced);
    }
    // As root it would change to a user that cannot write its folder.
    text.push_str("user root\nlog_dest stdout\n");
    let config = folder.join("mosquitto.conf");
    std::fs::write(&config, text)?;
    let program = find_program("mosquitto").context("mosquitto is missing: `./run test` installs it")?;
    let process = Launch::new(program, folder.join("broker.log")).args(["-c", &here(&config)]).spawn()?;
    let listens = || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok();
    wait::until("mosquitto to listen", PATIENCE, listens).with_context(|| process.log_tail(4000))?;
    Ok(process)
}

fn appliance(folder: &Path, port: u16) -> Result<Daemon> {
    let path = |name: &str| folder.join(name).display().to_string();
    let mqtt = format!(
        "username = \"gatehouse-house-1\"\nca_file = \"{}\"\ncert_file = \"{}\"\nkey_file = \"{}\"\n",
        path("ca.pem"),
        path("gatehouse-house-1.pem"),
        path("gatehouse-house-1.key")
    );
    let mut daemon = Daemon::new(DaemonOptions {
        device: "house-1".into(),
        mqtt_url: format!("mqtts://localhost:{port}"),
        settings: [("mqtt".to_owned(), mqtt)].into(),
        ..DaemonOptions::default()
    })?;
    daemon.start()?;
    Ok(daemon)
}

fn self_test_leaves_nothing(daemon: &Daemon) -> Result<()> {
    let ledger = daemon.json(&["ledger"])?;
    let findings = daemon.json(&["self-test"])?;
    let grades: Vec<_> = findings.as_array().into_iter().flatten().map(|finding| &finding["grade"]).collect();
    ensure!(grades.len() == 5 && grades.iter().all(|grade| *grade == "ok"), "{findings}");
    ensure!(daemon.json(&["ledger"])? == ledger, "the self-test was counted");
    let status = daemon.json(&["status"])?;
    ensure!(status["head_seq"] == 0 && status["templates"] == 0, "the self-test was kept: {status}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_shipped_example_a_camera_speaks_for_itself_alone() -> Result<()> {
    let folder = Folder::new("example")?;
    let port = ports::free_port()?;
    let broker = broker(folder.path(), port)?;
    let daemon = appliance(folder.path(), port)?;
    let connected = || daemon.json(&["status"]).is_ok_and(|status| status["broker"]["connected"] == true);
    wait::until("the appliance to be connected", PATIENCE, connected)
        .with_context(|| format!("{}\n{}", daemon.log_tail(), broker.log_tail(4000)))?;
    self_test_leaves_nothing(&daemon)?;

    let address = Address::secure(port, folder.path(), "front-door")?;
    // It asks for everything and is given what is its own.
    let ears = Listener::subscribe("front-door", &address, &["gatehouse/+/identification"], PATIENCE).await?;
    let camera = Camera::connect("front-door", &address);
    let event = |id: &str| EventMessage::face(id, vec![0.1; 128]).payload();
    camera.publish("gatehouse/front-door/event", event("own"), false, PATIENCE).await?;
    for foreign in ["gatehouse/back-door/event", "gatehouse/front-door/identification", "gatehouse/status"] {
        let refused = camera.publish(foreign, event("foreign"), false, PATIENCE).await;
        let words = refused.err().map(|error| error.to_string()).unwrap_or_default();
        ensure!(words.contains("NotAuthorized"), "{foreign} was not refused: {words}");
    }
    // Another camera's answer does not reach it: its own second one comes after that.
    let other = Camera::connect("back-door", &Address::secure(port, folder.path(), "back-door")?);
    other.publish("gatehouse/back-door/event", event("other"), false, PATIENCE).await?;
    let stored = || daemon.json(&["ledger"]).is_ok_and(|ledger| ledger["events"]["stored"] == 2);
    wait::until("both cameras' events to be stored", PATIENCE, stored)?;
    camera.publish("gatehouse/front-door/event", event("own-2"), false, PATIENCE).await?;
    ears.until_count(2, PATIENCE).await?;
    let heard: Vec<_> = ears.messages().iter().map(|message| message.json()["event_id"].clone()).collect();
    ensure!(heard == ["own", "own-2"], "heard: {heard:?}");
    Ok(())
}
