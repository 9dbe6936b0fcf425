//! Starts the services and the daemon, and enrolls people.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use gatehouse_testkit::camera::{Address, Listener};
use gatehouse_testkit::daemon::{Daemon, DaemonOptions};
use gatehouse_testkit::embedded::EmbeddedBroker;
use gatehouse_testkit::postgres::{self, Database, POSTGRES_VARIABLE, Postgres, Stop};
use gatehouse_testkit::s3::S3Server;
use gatehouse_testkit::synthetic::{self, SyntheticPerson};
use gatehouse_testkit::wait;
use tokio::task::block_in_place;

use crate::screen::Screen;

/// Device id of the demo.
pub(crate) const DEVICE: &str = "demo-house";
/// Bucket of environment dev, as the contract names it.
pub(crate) const BUCKET: &str = "gatehouse-dev";
/// Database of environment dev.
const DATABASE: &str = "gatehouse_dev";
/// Number of enrolled people.
const PEOPLE: usize = 20;
/// Encodings per person at enrollment.
const SAMPLES: usize = 5;
/// The default of 0.42 is for galleries of hundreds of people. With so few, strangers are almost never nearer than
/// this, and far fewer residents are missed.
const THRESHOLD: f32 = 0.47;
/// Seed of the people. Every run has the same ones, so that runs can be compared.
const SEED: u64 = 20;
/// How long the start of a connection may take; everything runs on this machine.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// Everything that runs; stopped on drop.
pub(crate) struct Environment {
    /// The daemon. The field comes before the services, so that it is dropped before them.
    pub(crate) daemon: Daemon,
    /// Central S3.
    pub(crate) s3: S3Server,
    /// Central Postgres, if it is installed.
    pub(crate) rows: Option<Rows>,
    /// The broker, in this process.
    pub(crate) broker: EmbeddedBroker,
    /// Receives what the appliance publishes.
    pub(crate) listener: Listener,
    /// The enrolled people.
    pub(crate) residents: Vec<SyntheticPerson>,
}

/// Central Postgres and its database.
pub(crate) struct Rows {
    server: Postgres,
    /// The database of the environment.
    pub(crate) database: Database,
}

impl Environment {
    /// Starts services and daemon, and enrolls the people.
    pub(crate) async fn start(screen: &Screen, gatehoused: Option<PathBuf>) -> Result<Self> {
        let step = Steps { screen };
        let broker = step.take("MQTT broker, in this process", EmbeddedBroker::start)?;
        let s3 = step.take("S3 server, in this process", S3Server::start)?;
        let rows = match postgres::installation() {
            Ok(_) => {
                let server = step.take("Postgres with pgvector", Postgres::start)?;
                let database = server.create_exact(DATABASE).await?;
                Some(Rows { server, database })
            }
            Err(_) => {
                let note = format!("no Postgres with pgvector ({POSTGRES_VARIABLE}): events stay local");
                screen.line(&screen.yellow(&format!("   {note}")));
                None
            }
        };
        let mut daemon = Daemon::new(options(broker, &s3, rows.as_ref().map(|rows| &rows.database)))?;
        if let Some(path) = gatehoused {
            daemon.use_programs(folder_of(&path)?);
        }
        step.take("gatehouse central init: schema, bucket, lifecycle rules", || daemon.central_init())?;
        step.take("gatehoused", || daemon.start())?;
        let address = Address::local(broker.port());
        let topics = ["gatehouse/+/identification", "gatehouse/+/rejected"];
        let listener = Listener::subscribe("demo", &address, &topics, CONNECT_TIMEOUT).await?;
        let connected = || {
            let status = daemon.json(&["status"]);
            status.is_ok_and(|status| status["broker"]["connected"] == true)
        };
        block_in_place(|| {
            wait::until("the daemon to be connected to the broker", CONNECT_TIMEOUT, connected)
        })
        .with_context(|| daemon.log_tail())?;
        let residents = enroll(screen, &daemon)?;
        Ok(Self { daemon, s3, rows, broker, listener, residents })
    }

    /// Stops the central services at once.
    pub(crate) fn interrupt(&self) -> Result<()> {
        block_in_place(|| {
            self.s3.stop()?;
            self.rows.as_ref().map_or(Ok(()), |rows| rows.server.stop(Stop::Immediate))
        })
    }

    /// Starts the central services again.
    pub(crate) fn restore(&self) -> Result<()> {
        block_in_place(|| {
            self.s3.restart()?;
            self.rows.as_ref().map_or(Ok(()), |rows| rows.server.restart())
        })
    }
}

/// Prints each step and its duration.
struct Steps<'a> {
    screen: &'a Screen,
}

impl Steps<'_> {
    fn take<T>(&self, what: &str, act: impl FnOnce() -> Result<T>) -> Result<T> {
        let begin = Instant::now();
        let done = block_in_place(act).with_context(|| what.to_owned())?;
        let took = self.screen.dim(&format!("{:.1} s", begin.elapsed().as_secs_f64()));
        self.screen.line(&format!("   {} {what} {took}", self.screen.green("ok")));
        Ok(done)
    }
}

fn options(broker: EmbeddedBroker, s3: &S3Server, database: Option<&Database>) -> DaemonOptions {
    // Shorter retry intervals than the defaults, because a run takes seconds.
    let sync = "retry_min = \"200ms\"\nretry_max = \"1s\"\n".to_owned();
    let gallery = format!("threshold = {THRESHOLD}\n");
    DaemonOptions {
        device: DEVICE.into(),
        mqtt_url: broker.url(),
        rows_url: database.map(Database::url),
        objects: Some(s3.objects()),
        bucket: Some(BUCKET.into()),
        settings: BTreeMap::from([("sync".to_owned(), sync), ("gallery".to_owned(), gallery)]),
        ..DaemonOptions::default()
    }
}

/// Enrolls all people with the operator's tool.
fn enroll(screen: &Screen, daemon: &Daemon) -> Result<Vec<SyntheticPerson>> {
    let mut random = fastrand::Rng::with_seed(SEED);
    let bar = screen.progress("enrolling", PEOPLE as u64);
    let mut residents = Vec::with_capacity(PEOPLE);
    for person in synthetic::people(SEED, PEOPLE) {
        let name = person.name.split(" of ").next().unwrap_or(&person.name).to_owned();
        let samples = person.samples(&mut random, SAMPLES);
        block_in_place(|| daemon.enroll(&person.id, &name, &samples))?;
        bar.inc(1);
        residents.push(person);
    }
    bar.finish_and_clear();
    screen.line(&format!("   {} {PEOPLE} people enrolled, {SAMPLES} encodings each", screen.green("ok")));
    Ok(residents)
}

/// The folder of a given daemon, which must contain `gatehouse`, too.
fn folder_of(gatehoused: &Path) -> Result<PathBuf> {
    let path = std::fs::canonicalize(gatehoused)
        .with_context(|| format!("there is no daemon at {}", gatehoused.display()))?;
    match path.parent() {
        Some(folder) if path.ends_with("gatehoused") && folder.join("gatehouse").is_file() => {
            Ok(folder.to_owned())
        }
        _ => bail!("{} must be named gatehoused, with gatehouse in the same folder", path.display()),
    }
}
