//! Several appliances of one deployment with one Postgres. People are enrolled, renamed and erased at any of them while
//! connections fail and return. In the end all must agree with the central services. Each receives the same visits and
//! delivers its own.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};
use fastrand::Rng;
use gatehouse_testkit::broker::Broker;
use gatehouse_testkit::camera::{Address, Camera, all_taken};
use gatehouse_testkit::daemon::{Daemon, DaemonOptions, binary};
use gatehouse_testkit::folder::Folder;
use gatehouse_testkit::postgres::{Database, Postgres};
use gatehouse_testkit::proxy::{Faults, Proxy};
use gatehouse_testkit::synthetic::{EventMessage, SyntheticPerson, people};
use gatehouse_testkit::wait;
use serde_json::Value;

use super::Outcome;

/// How long all may take to agree.
const TIMEOUT: Duration = Duration::from_secs(180);
/// Number of people that are changed at random.
const PEOPLE: usize = 6;
/// Steps for each appliance.
const STEPS: u64 = 12;
/// Id of a person that is erased while one appliance is offline.
const LEAVES: &str = "zoe";
/// Id of a person without visits.
const ABSENT: &str = "stays-away";
/// Back-off in milliseconds instead of minutes.
const SYNC: &str = "retry_min = \"100ms\"\nretry_max = \"1s\"\n";

struct Appliance {
    daemon: Daemon,
    line: Proxy,
    online: bool,
}

/// The enrolled people: id and name, sorted.
type Listed = Vec<(String, String)>;

fn listed(list: &Value) -> Listed {
    let text = |person: &Value, key: &str| person[key].as_str().unwrap_or_default().to_owned();
    let mut all: Listed = list
        .as_array()
        .into_iter()
        .flatten()
        .map(|person| (text(person, "id"), text(person, "name")))
        .collect();
    all.sort();
    all
}

impl Appliance {
    fn build(number: u64, broker: &Broker, database: &Database, key: &str) -> Result<Self> {
        let line = Proxy::start(database.port)?;
        let daemon = Daemon::new(DaemonOptions {
            device: format!("door-{number}"),
            mqtt_url: broker.url(),
            rows_url: Some(database.url_at(line.port())),
            settings: BTreeMap::from([
                ("sync".to_owned(), SYNC.to_owned()),
                ("central.people".to_owned(), format!("key_file = \"{key}\"\n")),
            ]),
            ..DaemonOptions::default()
        })?;
        Ok(Self { daemon, line, online: true })
    }

    fn switch(&mut self, online: bool) {
        self.online = online;
        if online {
            return self.line.heal();
        }
        self.line.set(Faults { refuse: true, ..Faults::default() });
        self.line.reset_connections();
    }

    fn people(&self) -> Result<Listed> {
        Ok(listed(&self.daemon.json(&["person", "list"])?))
    }
}

struct Deployment {
    broker: Broker,
    database: Database,
    appliances: Vec<Appliance>,
    known: Vec<SyntheticPerson>,
    random: Rng,
    visits: u64,
    /// Last, so that it is dropped after its users.
    _postgres: Postgres,
    _folder: Folder,
}

impl Deployment {
    async fn build(devices: u64, seed: u64) -> Result<Self> {
        binary("gatehoused")?;
        let (broker, postgres, folder) = (Broker::start()?, Postgres::start()?, Folder::new("deployment")?);
        let database = postgres.create_exact("gatehouse_dev").await?;
        let key = folder.path().join("deployment.key").to_string_lossy().into_owned();
        let appliances = (0..devices).map(|number| Appliance::build(number, &broker, &database, &key));
        let mut appliances = appliances.collect::<Result<Vec<_>>>()?;
        let first = &appliances.first().context("a appliance")?.daemon;
        anyhow::ensure!(first.cli(&["central", "make-key", &key])?.code == 0, "no deployment key");
        first.central_init()?;
        appliances.iter_mut().try_for_each(|appliance| appliance.daemon.start())?;
        let (random, known) = (Rng::with_seed(seed), people(seed, PEOPLE));
        let all = Self {
            broker,
            database,
            appliances,
            known,
            random,
            visits: 0,
            _postgres: postgres,
            _folder: folder,
        };
        all.appliances.iter().try_for_each(|appliance| appliance.daemon.wait_connected(TIMEOUT))?;
        Ok(all)
    }

    async fn step(&mut self, camera: &Camera) -> Result<()> {
        let at = self.random.usize(0..self.appliances.len());
        let person = self.known[self.random.usize(0..PEOPLE)].clone();
        match self.random.u8(0..10) {
            // A command can be refused, for example if the person is not enrolled.
            0..=2 => drop(self.appliances[at].daemon.enroll(
                &person.id,
                &person.name,
                &[person.sample(&mut self.random)],
            )),
            3 => {
                let name = format!("{} of {at}", person.name);
                drop(self.appliances[at].daemon.cli(&["person", "rename", &person.id, "--name", &name])?);
            }
            4 => drop(self.appliances[at].daemon.cli(&["person", "erase", &person.id])?),
            5 | 6 => {
                let online = !self.appliances[at].online;
                self.appliances[at].switch(online);
            }
            _ => {
                let event =
                    EventMessage::face(&format!("visit-{}", self.visits), person.sample(&mut self.random));
                self.visits += 1;
                all_taken(vec![camera.send("gatehouse/front/event", event.payload(), false)], TIMEOUT)
                    .await?;
            }
        }
        Ok(())
    }

    /// Reconnects all; true if all agree with the central services in time.
    async fn agree(&mut self) -> bool {
        for appliance in &mut self.appliances {
            appliance.switch(true);
            let _ = appliance.daemon.cli(&["sync", "now"]);
        }
        let first = &self.appliances[0].daemon;
        let config = first.config_file().to_string_lossy().into_owned();
        let central = ["central", "person", "list", "--config", &config];
        wait::until_async("all to agree", TIMEOUT, || async {
            let Ok(list) = first.json(&central) else { return false };
            let list = listed(&list);
            self.appliances.iter().all(|appliance| appliance.people().is_ok_and(|people| people == list))
        })
        .await
        .is_ok()
    }

    /// A person is erased at one appliance while another one is offline and renames the person.
    async fn erase_while_one_is_away(&mut self, outcome: &mut Outcome) -> Result<()> {
        let samples = people(0, PEOPLE + 1)[PEOPLE].samples(&mut self.random, 2);
        self.appliances[0].daemon.enroll(LEAVES, "Zoe", &samples)?;
        if !self.agree().await {
            outcome.lost(1, "an enrollment has not reached all");
        }
        let (one, away) = (1 % self.appliances.len(), self.appliances.len() - 1);
        self.appliances[away].switch(false);
        self.appliances[one].daemon.json(&["person", "erase", LEAVES])?;
        self.appliances[away].daemon.json(&[
            "person",
            "rename",
            LEAVES,
            "--name",
            "Zoe at the other appliance",
        ])?;
        if !self.agree().await {
            outcome.lost(1, "an erasure has not reached all");
        }
        self.check_erased(LEAVES, outcome);
        Ok(())
    }

    /// A person without visits for a long time is erased at all appliances.
    async fn forget_the_absent(&mut self, outcome: &mut Outcome) -> Result<()> {
        let samples = people(0, PEOPLE + 2)[PEOPLE + 1].samples(&mut self.random, 2);
        self.appliances[0].daemon.enroll(ABSENT, "Yves", &samples)?;
        if !self.agree().await {
            outcome.lost(1, "an enrollment has not reached all");
        }
        let aged = "update gatehouse.persons set updated_at = now() - interval '60 days'";
        self.database.ready().await?.batch_execute(aged).await?;
        let first = &self.appliances[0].daemon;
        let config = first.config_file().to_string_lossy().into_owned();
        let order = ["central", "person", "absent", "--days", "30", "--erase", "--yes", "--config", &config];
        let answer = first.json(&order)?;
        let named = answer["people"].as_array().is_some_and(|all| all.iter().any(|one| one["id"] == ABSENT));
        anyhow::ensure!(named && answer["erased"] == true, "the absent person is not named: {answer}");
        if !self.agree().await {
            outcome.lost(1, "the erasure of who was absent has not reached all");
        }
        self.check_erased(ABSENT, outcome);
        Ok(())
    }

    fn check_erased(&self, person: &str, outcome: &mut Outcome) {
        let knows = |appliance: &&Appliance| {
            appliance.people().is_ok_and(|people| people.iter().any(|(id, _)| id == person))
        };
        outcome
            .lost(self.appliances.iter().filter(knows).count() as u64, "an erased person is enrolled again");
    }

    async fn count(&self, outcome: &mut Outcome) -> Result<()> {
        let client = self.database.ready().await?;
        let query = "select count(*), count(distinct (device_id, event_id)), count(distinct (device_id, seq)) \
                     from gatehouse.events";
        let wanted = self.visits * self.appliances.len() as u64;
        let number = |row: &tokio_postgres::Row, at: usize| row.get::<_, i64>(at).unsigned_abs();
        let arrived =
            || async { client.query_one(query, &[]).await.is_ok_and(|row| number(&row, 1) >= wanted) };
        let _ = wait::until_async("all rows", TIMEOUT, arrived).await;
        let row = client.query_one(query, &[]).await?;
        outcome.acknowledged += wanted;
        outcome.lost(wanted.saturating_sub(number(&row, 1)), "visits are missing in the database");
        outcome.doubles += number(&row, 0) - number(&row, 1).min(number(&row, 2));
        for appliance in &self.appliances {
            let log = std::fs::read_to_string(appliance.daemon.log_file())?;
            outcome.panics += log.matches("panicked at").count() as u64;
        }
        Ok(())
    }
}

/// Runs this many appliances that share people.
///
/// # Errors
/// If a service or a daemon does not work at all.
pub async fn run(devices: u64, seed: u64) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let mut all = Deployment::build(devices, seed).await?;
    let camera = Camera::connect("front", &Address::local(all.broker.port()));
    for _ in 0..devices * STEPS {
        all.step(&camera).await?;
        outcome.rounds += 1;
    }
    if !all.agree().await {
        let people: Vec<_> = all.appliances.iter().map(Appliance::people).collect();
        outcome.lost(1, &format!("they do not agree: {people:?}"));
    }
    all.erase_while_one_is_away(&mut outcome).await?;
    all.forget_the_absent(&mut outcome).await?;
    all.count(&mut outcome).await?;
    Ok(outcome)
}
