//! Two doors of one deployment, from outside: who is enrolled at one is known at the other within seconds, who is enrolled
//! centrally at both, and an erasure reaches also the one that was away.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use fastrand::Rng;
use gatehouse_testkit::broker::Broker;
use gatehouse_testkit::camera::{Address, Camera, Listener};
use gatehouse_testkit::daemon::{Answer, Daemon, DaemonOptions, binary};
use gatehouse_testkit::folder::Folder;
use gatehouse_testkit::note::ReferenceNotes;
use gatehouse_testkit::postgres::{Database, Postgres};
use gatehouse_testkit::require::Need;
use gatehouse_testkit::synthetic::{self, EventMessage, SyntheticPerson};
use gatehouse_testkit::wait;
use serde_json::Value;

const TIMEOUT: Duration = Duration::from_secs(60);
const THRESHOLD: &str = "threshold = 0.42\n";

struct Door {
    daemon: Daemon,
    broker: Broker,
}

impl Door {
    fn build(device: &str, database: &Database, key: &str) -> Result<Self> {
        let broker = Broker::start()?;
        let settings = BTreeMap::from([
            ("gallery".to_owned(), THRESHOLD.to_owned()),
            ("central.people".to_owned(), format!("key_file = \"{key}\"\n")),
        ]);
        let daemon = Daemon::new(DaemonOptions {
            device: device.into(),
            mqtt_url: broker.url(),
            rows_url: Some(database.url()),
            settings,
            ..DaemonOptions::default()
        })?;
        Ok(Self { daemon, broker })
    }

    /// Waits until the tool lists exactly these names.
    fn until_people(&self, what: &str, names: &[&str]) -> Result<()> {
        let listed = || -> Result<Vec<String>> {
            let people = self.daemon.json(&["person", "list"])?;
            let name = |person: &Value| person["name"].as_str().unwrap_or_default().to_owned();
            Ok(people.as_array().context("a list")?.iter().map(name).collect())
        };
        wait::until(what, TIMEOUT, || listed().is_ok_and(|listed| listed == names)).with_context(|| {
            let sinks = self.daemon.json(&["sync", "status"]).unwrap_or_default();
            format!("{:?} instead of {names:?}\n{sinks:#}\n{}", listed(), self.daemon.log_tail())
        })
    }

    /// The person in the answer to a camera.
    async fn sees(&self, event: &str, encoding: Vec<f32>) -> Result<Option<String>> {
        let address = Address::local(self.broker.port());
        let ear = Listener::subscribe(event, &address, &["gatehouse/front/identification"], TIMEOUT).await?;
        let camera = Camera::connect("front", &address);
        let payload = EventMessage::face(event, encoding).payload();
        camera.publish("gatehouse/front/event", payload, false, TIMEOUT).await?;
        ear.until_count(1, TIMEOUT).await?;
        let answer = ear.messages()[0].json();
        Ok(answer["faces"][0]["person"]["id"].as_str().map(str::to_owned))
    }
}

/// The privacy officer's files: signing key, verifier keys, receipt.
struct Receipts<'a> {
    door: &'a Door,
    signing_key: String,
    deployment_key: String,
    keys: PathBuf,
    receipt: PathBuf,
}

impl<'a> Receipts<'a> {
    fn new(door: &'a Door, folder: &Folder, deployment_key: &str) -> Result<Self> {
        let path = |name: &str| folder.path().join(name);
        let signing_key = path("signing.key").to_string_lossy().into_owned();
        let made = door.daemon.cli(&["central", "receipt", "make-key", &signing_key])?;
        ensure!(made.code == 0, "{made:?}");
        let (keys, receipt) = (path("receipt.keys"), path("anna.receipt"));
        Ok(Self { door, signing_key, deployment_key: deployment_key.to_owned(), keys, receipt })
    }

    /// Issues the receipt for Anna until this number of places is pending.
    fn until_pending(&self, what: &str, pending: u64) -> Result<()> {
        let file = self.receipt.to_string_lossy();
        let issue = ["receipt", "issue", "--id", "anna", "--signing-key", &self.signing_key, "--to", &file];
        let issued = || central(self.door, &issue);
        wait::until(what, TIMEOUT, || issued().is_ok_and(|issued| issued["pending"] == pending))
            .with_context(|| format!("{:?}", issued()))
    }

    fn verifier_keys(&self) -> Result<Vec<String>> {
        let keys = central(self.door, &["receipt", "keys", "--signing-key", &self.signing_key])?;
        Ok(serde_json::from_value(keys)?)
    }

    fn verify(&self, id: &str) -> Result<Answer> {
        let keys = self.verifier_keys()?;
        let own = self.door.daemon.json(&["key", "status"])?["verifier_key"].clone();
        ensure!(keys.iter().any(|key| own == key.as_str()), "{own} is not in {keys:?}");
        std::fs::write(&self.keys, keys.join("\n"))?;
        let (receipt, keys) = (self.receipt.to_string_lossy(), self.keys.to_string_lossy());
        let key = ["--id", id, "--deployment-key", &self.deployment_key];
        self.door.daemon.cli(&[&["receipt", "verify", &*receipt, "--keys", &*keys], key.as_slice()].concat())
    }

    /// Another program reads each note of the receipt.
    fn opened_by_the_reference(&self) -> Result<()> {
        let reference = ReferenceNotes::find();
        if Need::Note.is_missing(reference.is_some()) {
            return Ok(());
        }
        let (reference, keys) = (reference.context("the reference")?, self.verifier_keys()?);
        let text = std::fs::read_to_string(&self.receipt)?;
        let mut notes = 0;
        // A note begins with the line of its format.
        for note in text.split("gatehouse-").skip(1) {
            reference.open(&keys, &format!("gatehouse-{note}"))?;
            notes += 1;
        }
        ensure!(notes == 4, "two doors, the database and the cover, not {notes}");
        Ok(())
    }
}

/// The tool without a daemon, as the central side runs it; what it says as JSON.
fn central(door: &Door, arguments: &[&str]) -> Result<Value> {
    let config = door.daemon.config_file().to_string_lossy().into_owned();
    door.daemon.json(&[&["central"], arguments, &["--config", &config]].concat())
}

fn file(folder: &Folder, name: &str, encodings: &[Vec<f32>]) -> Result<String> {
    let path = folder.path().join(name);
    std::fs::write(&path, serde_json::to_vec(encodings)?)?;
    Ok(path.to_string_lossy().into_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn people_of_one_door_are_people_of_all() -> Result<()> {
    binary("gatehoused")?;
    let postgres = Postgres::start()?;
    let database = postgres.create_exact("gatehouse_dev").await?;
    let folder = Folder::new("deployment")?;
    let key = folder.path().join("deployment.key").to_string_lossy().into_owned();
    let mut one = Door::build("house-1", &database, &key)?;
    let mut two = Door::build("house-2", &database, &key)?;
    let made = one.daemon.cli(&["central", "make-key", &key])?;
    ensure!(made.code == 0, "{made:?}");
    ensure!(one.daemon.cli(&["central", "make-key", &key])?.code == 1, "a key is never overwritten");
    one.daemon.central_init()?;
    one.daemon.start()?;
    two.daemon.start()?;
    one.daemon.wait_connected(TIMEOUT)?;
    two.daemon.wait_connected(TIMEOUT)?;

    let mut random = Rng::with_seed(6);
    let people = synthetic::people(6, 3);
    let samples = |person: &SyntheticPerson, random: &mut Rng| person.samples(random, 3);
    one.daemon.enroll("anna", "Anna", &samples(&people[0], &mut random))?;
    two.until_people("who is enrolled at the first door", &["Anna"])?;
    ensure!(two.sees("e1", people[0].sample(&mut random)).await?.as_deref() == Some("anna"));

    let bert = file(&folder, "bert.json", &samples(&people[1], &mut random))?;
    central(&two, &["person", "enroll", "--id", "bert", "--name", "Bert", "--encodings", &bert])?;
    one.until_people("who is enrolled centrally", &["Anna", "Bert"])?;
    two.until_people("who is enrolled centrally", &["Anna", "Bert"])?;
    // The central search and the door are of one mind.
    for (nth, person) in people.iter().enumerate() {
        let probe = person.sample(&mut random);
        let answer =
            central(&one, &["identify", &file(&folder, "probe.json", std::slice::from_ref(&probe))?])?;
        let seen = one.sees(&format!("p{nth}"), probe).await?;
        ensure!(answer[0]["person"]["id"].as_str() == seen.as_deref(), "{answer} and {seen:?}");
    }

    // While delivery is paused, an appliance sends nothing and receives no people.
    let paused = two.daemon.json(&["sync", "pause", "--for", "1h"])?;
    ensure!(paused[0]["configured"] == true, "{paused}");
    let is_paused = || two.daemon.json(&["sync", "status"]).is_ok_and(|sinks| sinks[0]["state"] == "paused");
    wait::until("the pause", TIMEOUT, is_paused)?;
    one.daemon.json(&["person", "rename", "bert", "--name", "Bert at one"])?;
    one.daemon.json(&["sync", "now"])?;
    ensure!(two.daemon.json(&["person", "show", "bert"])?["name"] == "Bert");
    two.daemon.json(&["sync", "resume"])?;
    two.until_people("the name after the pause", &["Anna", "Bert at one"])?;
    ensure!(two.daemon.cli(&["sync", "pause", "--for", "8d"])?.code == 2, "longer than a week is a mistake");

    // One is offline, so a command there comes too late.
    two.daemon.terminate()?;
    one.daemon.json(&["person", "erase", "anna"])?;
    one.until_people("the erasure", &["Bert at one"])?;
    let receipts = Receipts::new(&one, &folder, &key)?;
    receipts.until_pending("the statement of the first door", 1)?;
    let verdict = receipts.verify("anna")?;
    ensure!(verdict.code == 1 && verdict.stdout.contains("house-2"), "{verdict:?}");
    ensure!(receipts.verify("bert")?.code == 2, "a receipt of another person");
    two.daemon.reconfigure(|options| options.rows_url = None)?;
    two.daemon.start()?;
    two.daemon.json(&["person", "rename", "anna", "--name", "Anna at two"])?;
    two.daemon.terminate()?;
    two.daemon.reconfigure(|options| options.rows_url = Some(database.url()))?;
    two.daemon.start()?;
    two.until_people("the erasure", &["Bert at one"])?;
    ensure!(two.sees("e2", people[0].sample(&mut random)).await?.is_none());
    receipts.until_pending("the statement of the second door", 0)?;
    let verdict = receipts.verify("anna")?;
    ensure!(verdict.code == 0, "{verdict:?}");
    receipts.opened_by_the_reference()?;
    let conflicts = one.daemon.json(&["sync", "conflicts"])?;
    ensure!(conflicts[0]["field"] == "erased" && conflicts[0]["lost_by"] == "house-2", "{conflicts}");
    let listed = central(&one, &["person", "list"])?;
    ensure!(
        listed.as_array().is_some_and(|listed| listed.len() == 1 && listed[0]["id"] == "bert"),
        "{listed}"
    );
    Ok(())
}
