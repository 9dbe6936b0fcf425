//! The mosquitto example of the package as it is shipped: the certificates of its recipe, its settings together with Debian's own
//! mosquitto.conf, and its access list. A camera can publish for itself alone, and the appliance works over mqtts with a
//! certificate of its own.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use gatehouse_testkit::camera::{Address, Camera, Listener};
use gatehouse_testkit::daemon::{Daemon, DaemonOptions};
use gatehouse_testkit::folder::Folder;
use gatehouse_testkit::process::{Launch, Process, find_program};
use gatehouse_testkit::synthetic::EventMessage;
use gatehouse_testkit::{ports, wait};
use gatehouse_tests::shipped;
use serde_json::Value;

const TIMEOUT: Duration = Duration::from_secs(60);
const EXAMPLE: &str = "packaging/mosquitto/gatehouse.conf";
/// The main settings of the Debian package, which include those of conf.d.
const DEBIAN: &str = "/etc/mosquitto/mosquitto.conf";
/// The name of the appliance in the example.
const APPLIANCE: &str = "gatehouse-house-1";

/// The commands in the example's comments, as they stand.
fn recipe() -> Result<String> {
    let lines = shipped::text(EXAMPLE)?;
    let commands: Vec<_> = lines.lines().filter_map(|line| line.strip_prefix("#   ")).collect();
    ensure!(commands.len() > 10, "{EXAMPLE} has no recipe any more");
    Ok(commands.join("\n"))
}

fn shell(folder: &Path, script: &str) -> Result<()> {
    let script = format!("set -e -o pipefail\n{script}");
    let output = Command::new("bash").args(["-c", &script]).current_dir(folder).output()?;
    ensure!(output.status.success(), "{script}\n{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// Runs the recipe, its host replaced, and once more for a second camera.
fn certificates(folder: &Path) -> Result<()> {
    let recipe = recipe()?.replace("broker.example.org", "localhost");
    shell(folder, &recipe)?;
    let camera = recipe.find("/CN=front-door").and_then(|at| recipe[..at].rfind("openssl req"));
    let camera = recipe[camera.context("a command for a camera")?..].split("openssl req").nth(1);
    let camera = camera.context("a command for a camera")?.replace("front-door", "back-door");
    shell(folder, &format!("openssl req{camera}"))
}

fn replaced(mut text: String, changes: &[(&str, String)]) -> Result<String> {
    for (written, ours) in changes {
        ensure!(text.contains(written), "the settings do not say {written} any more");
        text = text.replace(written, ours);
    }
    Ok(text)
}

/// Starts mosquitto with Debian's settings and the example in its conf.d, their paths and the port replaced.
fn broker(folder: &Path, port: u16) -> Result<Process> {
    let conf_d = folder.join("conf.d");
    std::fs::create_dir(&conf_d)?;
    std::fs::copy(shipped::place("packaging/mosquitto/gatehouse.acl"), conf_d.join("gatehouse.acl"))?;
    let here = folder.display();
    let example = [
        ("listener 8883", format!("listener {port} 127.0.0.1")),
        ("/etc/mosquitto/certs", here.to_string()),
        ("/etc/mosquitto/conf.d/", format!("{here}/conf.d/")),
    ];
    std::fs::write(conf_d.join("gatehouse.conf"), replaced(shipped::text(EXAMPLE)?, &example)?)?;
    let debian = std::fs::read_to_string(DEBIAN).context("the mosquitto of Debian is not installed")?;
    let changes = [
        ("/run/mosquitto/", format!("{here}/")),
        ("/var/lib/mosquitto/", format!("{here}/")),
        ("/var/log/mosquitto/", format!("{here}/")),
        ("/etc/mosquitto/conf.d", format!("{here}/conf.d")),
    ];
    // As root it would change to a user that cannot write its folder.
    let debian = format!("user root\n{}", replaced(debian, &changes)?);
    let config = folder.join("mosquitto.conf");
    std::fs::write(&config, debian)?;
    let program = find_program("mosquitto").context("mosquitto is missing: `./run test` installs it")?;
    let arguments = ["-c".to_owned(), config.display().to_string()];
    let process = Launch::new(program, folder.join("broker.log")).args(arguments).spawn()?;
    let listens = || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok();
    wait::until("mosquitto to listen", TIMEOUT, listens).with_context(|| process.log_tail(4000))?;
    Ok(process)
}

fn appliance(folder: &Path, port: u16) -> Result<Daemon> {
    let path = |name: &str| folder.join(name).display().to_string();
    let mqtt = format!(
        "ca_file = \"{}\"\ncert_file = \"{}\"\nkey_file = \"{}\"\n",
        path("ca.pem"),
        path(&format!("{APPLIANCE}.pem")),
        path(&format!("{APPLIANCE}.key"))
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

fn until_connected(daemon: &Daemon, broker: &Process) -> Result<()> {
    daemon.wait_connected(TIMEOUT).with_context(|| broker.log_tail(4000))
}

/// What `gatehouse doctor` says of this, whether or not anything is wrong.
fn doctor(daemon: &Daemon, what: &str) -> Result<Vec<Value>> {
    let config = daemon.config_file().display().to_string();
    let answer = daemon.cli(&["--json", "doctor", "--config", &config])?;
    let findings: Vec<Value> = serde_json::from_str(&answer.stdout).with_context(|| format!("{answer:?}"))?;
    Ok(findings.into_iter().filter(|finding| finding["what"] == what).collect())
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
    certificates(folder.path())?;
    let broker = broker(folder.path(), port)?;
    let daemon = appliance(folder.path(), port)?;
    until_connected(&daemon, &broker)?;
    let trip = doctor(&daemon, "round trip")?;
    ensure!(trip.len() == 1 && trip[0]["grade"] == "ok", "{trip:?}");
    let files = doctor(&daemon, "certificate")?;
    ensure!(files.len() == 2 && files.iter().all(|file| file["grade"] == "ok"), "{files:?}");
    self_test_leaves_nothing(&daemon)?;

    let address = Address::secure(port, folder.path(), "front-door")?;
    // It asks for everything and is given what is its own.
    let collector =
        Listener::subscribe("front-door", &address, &["gatehouse/+/identification"], TIMEOUT).await?;
    let camera = Camera::connect("front-door", &address);
    let event = |id: &str| EventMessage::face(id, vec![0.1; 128]).payload();
    camera.publish("gatehouse/front-door/event", event("own"), false, TIMEOUT).await?;
    for foreign in ["gatehouse/back-door/event", "gatehouse/front-door/identification", "gatehouse/status"] {
        let refused = camera.publish(foreign, event("foreign"), false, TIMEOUT).await;
        let words = refused.err().map(|error| error.to_string()).unwrap_or_default();
        ensure!(words.contains("NotAuthorized"), "{foreign} was not refused: {words}");
    }
    // Another camera's answer does not reach it: its own second one comes after that.
    let other = Camera::connect("back-door", &Address::secure(port, folder.path(), "back-door")?);
    other.publish("gatehouse/back-door/event", event("other"), false, TIMEOUT).await?;
    let stored = || daemon.json(&["ledger"]).is_ok_and(|ledger| ledger["events"]["stored"] == 2);
    wait::until("both cameras' events to be stored", TIMEOUT, stored)?;
    camera.publish("gatehouse/front-door/event", event("own-2"), false, TIMEOUT).await?;
    collector.until_count(2, TIMEOUT).await?;
    let received: Vec<_> =
        collector.messages().iter().map(|message| message.json()["event_id"].clone()).collect();
    ensure!(received == ["own", "own-2"], "received: {received:?}");
    Ok(())
}

/// The commands of the recipe without extensions, as openssl then makes certificates of version 1.
fn version_one(folder: &Path, name: &str) -> Result<()> {
    let script = format!(
        "openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN={name} -keyout {name}.key | \
         openssl x509 -req -days 825 -CA ca.pem -CAkey ca.key -CAcreateserial -out {name}.pem"
    );
    shell(folder, &script)
}

fn broker_error(daemon: &Daemon, part: &str) -> Result<String> {
    let words = || daemon.json(&["status"]).ok()?["broker"]["error"].as_str().map(str::to_owned);
    let found = wait::until(part, TIMEOUT, || words().is_some_and(|words| words.contains(part)));
    let words = words().unwrap_or_default();
    found.with_context(|| words.clone())?;
    ensure!(!words.contains("Other("), "{words}");
    Ok(words)
}

#[test]
fn a_certificate_of_version_1_is_named_with_its_owner() -> Result<()> {
    let folder = Folder::new("version-one")?;
    let port = ports::free_port()?;
    certificates(folder.path())?;
    let _broker = broker(folder.path(), port)?;
    version_one(folder.path(), APPLIANCE)?;
    let own = appliance(folder.path(), port)?;
    let words = broker_error(&own, "X.509 version 1")?;
    ensure!(words.contains("own certificate, mqtt.cert_file"), "{words}");
    let files = doctor(&own, "certificate")?;
    let wrong: Vec<_> = files.iter().filter(|file| file["grade"] == "wrong").collect();
    ensure!(wrong.len() == 1, "{files:?}");
    ensure!(
        wrong[0]["words"].as_str().is_some_and(|words| words.contains("is X.509 version 1")),
        "{wrong:?}"
    );
    ensure!(
        wrong[0]["advice"].as_str().is_some_and(|advice| advice.contains("with an extension")),
        "{wrong:?}"
    );
    Ok(())
}

#[test]
fn a_broker_with_a_certificate_of_version_1_is_named_as_the_broker() -> Result<()> {
    let folder = Folder::new("version-one-broker")?;
    let port = ports::free_port()?;
    certificates(folder.path())?;
    version_one(folder.path(), "localhost")?;
    for end in ["pem", "key"] {
        let name = |name: &str| folder.path().join(format!("{name}.{end}"));
        std::fs::rename(name("localhost"), name("broker"))?;
    }
    let _broker = broker(folder.path(), port)?;
    let daemon = appliance(folder.path(), port)?;
    let words = broker_error(&daemon, "X.509 version 1")?;
    ensure!(words.contains("the broker's certificate"), "{words}");
    Ok(())
}
