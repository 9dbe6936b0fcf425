//! The services of a scenario: broker, central Postgres, central S3 behind a fault proxy, and the shipped daemon.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};
use gatehouse_testkit::broker::Broker;
use gatehouse_testkit::camera::Address;
use gatehouse_testkit::daemon::{Daemon, DaemonOptions, binary};
use gatehouse_testkit::postgres::{Database, Postgres};
use gatehouse_testkit::proxy::Proxy;
use gatehouse_testkit::s3::S3Server;
use gatehouse_testkit::wait;
use serde_json::Value;

use crate::oracle::THRESHOLD;

/// Device id of every scenario.
pub const DEVICE: &str = "house-1";
/// The database of environment dev, as the contract names it.
pub const DATABASE: &str = "gatehouse_dev";
/// The bucket of environment dev.
pub const BUCKET: &str = "gatehouse-dev";
/// Connecting and subscribing takes milliseconds; after an outage, up to the back-off.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(60);

/// All services of one test; stopped on drop.
#[derive(Debug)]
pub struct Setup {
    /// The broker.
    pub broker: Broker,
    /// Central Postgres.
    pub postgres: Postgres,
    /// Its database.
    pub database: Database,
    /// Central S3.
    pub s3: S3Server,
    /// The proxy between the daemon and S3.
    pub s3_proxy: Proxy,
    /// The daemon; not started by [`Setup::build`].
    pub daemon: Daemon,
}

impl Setup {
    /// Starts the services, prepares the central services and configures the daemon.
    ///
    /// # Errors
    /// If a service is missing or does not start; the message says how to install it.
    pub async fn build(mut settings: BTreeMap<String, String>) -> Result<Self> {
        // The oracle needs a fixed threshold.
        settings.entry("gallery".to_owned()).or_insert_with(|| format!("threshold = {THRESHOLD}\n"));
        // First, since cargo may have to build it.
        binary("gatehoused")?;
        let broker = Broker::start()?;
        let postgres = Postgres::start()?;
        let database = postgres.create_exact(DATABASE).await?;
        let s3 = S3Server::start()?;
        let s3_proxy = Proxy::start(s3.port())?;
        let daemon = Daemon::new(DaemonOptions {
            device: DEVICE.into(),
            mqtt_url: broker.url(),
            rows_url: Some(database.url()),
            objects: Some(s3.objects().at(s3_proxy.port())),
            settings,
            ..DaemonOptions::default()
        })?;
        daemon.central_init()?;
        Ok(Self { broker, postgres, database, s3, s3_proxy, daemon })
    }

    /// Starts the daemon and waits until it is connected to the broker.
    ///
    /// # Errors
    /// If it does not come up; with the end of its log.
    pub fn start(&mut self) -> Result<()> {
        self.daemon.start()?;
        self.until_connected()
    }

    /// Waits until the daemon is connected to the broker.
    ///
    /// # Errors
    /// If it is not within a minute; with the end of its log.
    pub fn until_connected(&self) -> Result<()> {
        self.daemon
            .wait_connected(CONNECT_TIMEOUT)
            .with_context(|| format!("the broker says: {}", self.broker.log_tail()))
    }

    /// Where the cameras find the broker.
    pub fn address(&self) -> Address {
        Address::local(self.broker.port())
    }

    /// `gatehouse status`.
    ///
    /// # Errors
    /// If the daemon does not answer.
    pub fn status(&self) -> Result<Value> {
        self.daemon.json(&["status"])
    }

    /// `gatehouse ledger`.
    ///
    /// # Errors
    /// If the daemon does not answer.
    pub fn ledger(&self) -> Result<Ledger> {
        Ok(Ledger(self.daemon.json(&["ledger"])?))
    }

    /// Waits until the ledger is as `wanted` says.
    ///
    /// # Errors
    /// Once `timeout` has passed; with the ledger, the state of the sinks and the end of the log.
    pub fn until_ledger(
        &self,
        what: &str,
        timeout: Duration,
        wanted: impl Fn(&Ledger) -> bool,
    ) -> Result<Ledger> {
        let look = || self.ledger().ok().filter(&wanted);
        wait::until(what, timeout, || look().is_some()).with_context(|| {
            let ledger = self.ledger().map(|ledger| ledger.0).unwrap_or_default();
            let sinks = self.daemon.json(&["sync", "status"]).unwrap_or_default();
            format!("ledger: {ledger:#}\nsinks: {sinks:#}\n{}", self.daemon.log_tail())
        })?;
        self.ledger()
    }
}

/// The ledger as the operator's tool prints it.
#[derive(Debug, Clone)]
pub struct Ledger(pub Value);

impl Ledger {
    /// A number of a column: `events`, `files` or `bytes`.
    pub fn number(&self, column: &str, key: &str) -> u64 {
        self.0[column][key].as_u64().unwrap_or(u64::MAX)
    }

    /// The sum of `rejected` or `dropped`.
    pub fn sum(&self, column: &str, key: &str) -> u64 {
        self.reasons(column, key).values().sum()
    }

    /// `rejected` or `dropped` by reason.
    pub fn reasons(&self, column: &str, key: &str) -> BTreeMap<String, u64> {
        let object = self.0[column][key].as_object();
        let pairs = object.into_iter().flatten();
        pairs.map(|(reason, count)| (reason.clone(), count.as_u64().unwrap_or(u64::MAX))).collect()
    }

    /// Whether the law of section 7 of the contract holds, calculated here and not taken from the daemon.
    pub fn adds_up(&self) -> bool {
        ["events", "files", "bytes"].iter().all(|column| {
            let number = |key| self.number(column, key);
            let received = number("stored") + number("duplicate") + self.sum(column, "rejected");
            let stored = number("delivered") + number("pending") + self.sum(column, "dropped");
            number("received") == received && number("stored") == stored
        })
    }
}
