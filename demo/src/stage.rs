//! Brings everything up: services, daemon, people.

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
/// People who live in the street.
const PEOPLE: usize = 20;
/// Encodings per person at their enrolment.
const SAMPLES: usize = 5;
/// The default of 0.42 is for galleries of hundreds; for so few people a stranger is hardly ever nearer than this,
/// and far fewer residents are missed.
const THRESHOLD: f32 = 0.47;
/// Seed of the people: the same ones in every run, so that runs can be compared.
const SEED: u64 = 20;
/// Everything here runs on this machine: what takes longer does not come.
const PATIENCE: Duration = Duration::from_secs(30);

/// Everything that runs; ends with it.
pub(crate) struct Stage {
    /// The daemon. Before the services, so that it ends before them.
    pub(crate) daemon: Daemon,
    /// Central S3.
    pub(crate) s3: S3Server,
    /// Central Postgres and its database, where there is one.
    pub(crate) rows: Option<(Postgres, Database)>,
    /// The broker, in this process.
    pub(crate) broker: EmbeddedBroker,
    /// What the appliance says.
    pub(crate) listener: Listener,
    /// Who is enrolled, with the name of the enrolment.
    pub(crate) people: Vec<(SyntheticPerson, String)>,
}

impl Stage {
    /// Starts services and daemon and enrols the people.
    pub(crate) async fn build(screen: &Screen, gatehoused: Option<PathBuf>) -> Result<Self> {
        let step = Steps { screen };
        let broker = step.take("MQTT broker, in this process", EmbeddedBroker::start)?;
        let s3 = step.take("S3 server, in this process", S3Server::start)?;
        let rows = match postgres::installation() {
            Ok(_) => {
                let server = step.take("Postgres with pgvector", Postgres::start)?;
                let database = server.create_exact(DATABASE).await?;
                Some((server, database))
            }
            Err(_) => {
                let words = format!("no Postgres with pgvector ({POSTGRES_VARIABLE}): going on without");
                screen.line(&screen.yellow(&format!("   {words}; events stay on the appliance")));
                None
            }
        };
        let mut daemon = Daemon::new(options(broker, &s3, rows.as_ref().map(|(_, database)| database)))?;
        if let Some(path) = gatehoused {
            daemon.use_programs(folder_of(&path)?);
        }
        step.take("gatehouse central init: schema, bucket, lifecycle rules", || daemon.central_init())?;
        step.take("gatehoused", || daemon.start())?;
        let address = Address::local(broker.port());
        let topics = ["gatehouse/+/identification", "gatehouse/+/rejected"];
        let listener = Listener::subscribe("demo", &address, &topics, PATIENCE).await?;
        let connected = || {
            let status = daemon.json(&["status"]);
            status.is_ok_and(|status| status["broker"]["connected"] == true)
        };
        block_in_place(|| wait::until("the daemon to be connected to the broker", PATIENCE, connected))
            .with_context(|| daemon.log_tail())?;
        let people = enrol(screen, &daemon)?;
        Ok(Self { daemon, s3, rows, broker, listener, people })
    }

    /// Takes the central side away, as a cut cable would.
    pub(crate) fn cut(&self) -> Result<()> {
        block_in_place(|| {
            self.s3.stop()?;
            self.rows.as_ref().map_or(Ok(()), |(server, _)| server.stop(Stop::Immediate))
        })
    }

    /// Gives the central side back.
    pub(crate) fn mend(&self) -> Result<()> {
        block_in_place(|| {
            self.s3.restart()?;
            self.rows.as_ref().map_or(Ok(()), |(server, _)| server.restart())
        })
    }
}

/// Tells each step and how long it took.
struct Steps<'a> {
    screen: &'a Screen,
}

impl Steps<'_> {
    fn take<T>(&self, what: &str, act: impl FnOnce() -> Result<T>) -> Result<T> {
        let begin = Instant::now();
        let done = block_in_place(act).with_context(|| what.to_owned())?;
        let took = self.screen.dim(&format!("{:.1} s", begin.elapsed().as_secs_f64()));
        self.screen.line(&format!("   {} {what} {took}", self.screen.green("up")));
        Ok(done)
    }
}

fn options(broker: EmbeddedBroker, s3: &S3Server, database: Option<&Database>) -> DaemonOptions {
    // Short waits between attempts: a run is too short to see the usual ones end.
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

/// Enrols everybody through the operator's tool.
fn enrol(screen: &Screen, daemon: &Daemon) -> Result<Vec<(SyntheticPerson, String)>> {
    let mut random = fastrand::Rng::with_seed(SEED);
    let bar = screen.progress("enrolling", PEOPLE as u64);
    let mut people = Vec::with_capacity(PEOPLE);
    for person in synthetic::people(SEED, PEOPLE) {
        let name = person.name.split(" of ").next().unwrap_or(&person.name).to_owned();
        let samples = person.samples(&mut random, SAMPLES);
        block_in_place(|| daemon.enrol(&person.id, &name, &samples))?;
        bar.inc(1);
        people.push((person, name));
    }
    bar.finish_and_clear();
    screen.line(&format!("   {} {PEOPLE} people enrolled, {SAMPLES} encodings each", screen.green("up")));
    Ok(people)
}

/// The folder of a given daemon, in which `gatehouse` must lie, too.
fn folder_of(gatehoused: &Path) -> Result<PathBuf> {
    let path = std::fs::canonicalize(gatehoused)
        .with_context(|| format!("there is no daemon at {}", gatehoused.display()))?;
    match path.parent() {
        Some(folder) if path.ends_with("gatehoused") && folder.join("gatehouse").is_file() => {
            Ok(folder.to_owned())
        }
        _ => bail!("{} must be named gatehoused, with gatehouse beside it", path.display()),
    }
}
