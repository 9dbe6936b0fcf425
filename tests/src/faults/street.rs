//! A daemon under load: a camera that never stops, a broker that removes only acknowledged messages, and the count at
//! the end.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use gatehouse_gallery::GallerySettings;
use gatehouse_model::Metric;
use gatehouse_store::Store;
use gatehouse_store::store::{EventQuery, OpenReport, StoreSettings};
use gatehouse_testkit::broker::Broker;
use gatehouse_testkit::camera::{Address, Camera};
use gatehouse_testkit::daemon::{Daemon, DaemonOptions, binary};
use gatehouse_testkit::proxy::{Faults, Proxy};
use gatehouse_testkit::synthetic::{DIMENSIONS, EventMessage, people};
use gatehouse_testkit::wait;
use gatehouse_vault::keys::RootKey;
use tokio::task::JoinHandle;

use super::Outcome;
use crate::setup::Ledger;

/// Between two events of the camera.
const PAUSE: Duration = Duration::from_millis(3);
/// Maximum number of events that the broker has not acknowledged.
const WAITING: usize = 200;
/// After this delay a stalled proxy has forwarded the bytes that it held.
const HAND_OVER_DELAY: Duration = Duration::from_millis(5);
/// How long the broker may take to deliver the rest.
const TIMEOUT: Duration = Duration::from_secs(180);

/// Broker, camera and daemon.
pub(super) struct Street {
    pub(super) daemon: Daemon,
    broker: Broker,
    network: Proxy,
    sent: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    camera: Option<JoinHandle<()>>,
}

impl Street {
    pub(super) fn build(environment: Vec<(String, String)>) -> Result<Self> {
        binary("gatehoused")?;
        let broker = Broker::start()?;
        let network = Proxy::start(broker.port())?;
        let rate = "events_per_second = 10000\nburst = 10000\n".to_owned();
        let daemon = Daemon::new(DaemonOptions {
            device: "street".into(),
            mqtt_url: format!("mqtt://127.0.0.1:{}", network.port()),
            settings: BTreeMap::from([("sources".to_owned(), rate)]),
            environment,
            ..DaemonOptions::default()
        })?;
        let (sent, stop) = (Arc::default(), Arc::default());
        Ok(Self { daemon, broker, network, sent, stop, camera: None })
    }

    /// The daemon starts for the first time, and the camera with it.
    pub(super) async fn open(&mut self) -> Result<()> {
        self.daemon.start()?;
        self.daemon.wait_connected(TIMEOUT)?;
        let (sent, stop) = (Arc::clone(&self.sent), Arc::clone(&self.stop));
        let camera = Camera::connect("street", &Address::local(self.broker.port()));
        self.camera = Some(tokio::spawn(async move {
            let person = &people(5, 1)[0];
            let face = person.sample(&mut fastrand::Rng::with_seed(1));
            while !stop.load(Ordering::Relaxed) || camera.waiting() > 0 {
                if camera.waiting() < WAITING && !stop.load(Ordering::Relaxed) {
                    let number = sent.fetch_add(1, Ordering::Relaxed);
                    let event = EventMessage::face(&number.to_string(), face.clone());
                    drop(camera.send("gatehouse/street/event", event.payload(), false));
                }
                tokio::time::sleep(PAUSE).await;
            }
        }));
        Ok(())
    }

    /// From now on the broker receives nothing from the daemon.
    pub(super) async fn cut_off(&self) {
        self.network.set(Faults { stall: true, ..Faults::default() });
        // The proxy may be about to hand over what it has read already.
        tokio::time::sleep(HAND_OVER_DELAY).await;
    }

    /// The broker can be reached again, over new connections.
    pub(super) fn reconnect(&self) {
        self.network.reset_connections();
        self.network.heal();
    }

    /// The daemon once more; whether it came up.
    pub(super) fn start_again(&mut self, outcome: &mut Outcome) {
        if let Err(error) = self.daemon.start() {
            outcome.refused += 1;
            outcome.notes.push(format!("{error:#}"));
        }
    }

    /// Waits until so many events were sent.
    pub(super) async fn until(&self, events: u64) -> Result<()> {
        let enough = || async { self.sent.load(Ordering::Relaxed) >= events };
        wait::until_async("enough events", TIMEOUT, enough).await
    }

    /// Ends the load, waits until all has arrived, stops the daemon and counts.
    pub(super) async fn close(&mut self, outcome: &mut Outcome) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(camera) = self.camera.take() {
            camera.await.context("the camera")?;
        }
        let sent = self.sent.load(Ordering::Relaxed);
        let ledger = || self.daemon.json(&["ledger"]).map(Ledger);
        let arrived = || async { ledger().is_ok_and(|ledger| ledger.number("events", "stored") >= sent) };
        // What does not come is counted below.
        let _ = wait::until_async("all events", TIMEOUT, arrived).await;
        if !ledger()?.adds_up() {
            outcome.lost += 1;
            outcome.notes.push("the ledger does not add up".to_owned());
        }
        self.daemon.terminate()?;
        let log = std::fs::read_to_string(self.daemon.log_file())?;
        outcome.panics += log.matches("panicked at").count() as u64;
        let root = RootKey::read(&self.root_key())?;
        let (store, _) = open(&self.daemon.state(), &root)?;
        let mut seen: HashMap<String, u64> = HashMap::new();
        for event in store.events.list(&EventQuery { limit: usize::MAX, ..EventQuery::default() })? {
            *seen.entry(event.event.key.id.to_string()).or_default() += 1;
        }
        outcome.acknowledged += sent;
        let lost: Vec<u64> = (0..sent).filter(|number| !seen.contains_key(&number.to_string())).collect();
        if !lost.is_empty() {
            outcome.notes.push(format!("lost: {lost:?}"));
        }
        outcome.lost += lost.len() as u64;
        outcome.doubles += seen.values().filter(|count| **count > 1).count() as u64;
        Ok(())
    }

    pub(super) fn root_key(&self) -> std::path::PathBuf {
        self.daemon.config_file().with_file_name("root.key")
    }
}

/// Opens a state directory as the daemon does.
pub(super) fn open(state: &Path, root: &RootKey) -> Result<(Store, OpenReport)> {
    let settings = StoreSettings {
        directory: state.to_owned(),
        gallery: GallerySettings {
            model: "dlib-128".to_owned(),
            dimensions: DIMENSIONS,
            normalised: false,
            metric: Metric::Euclidean,
            threshold: 0.42,
            camera_thresholds: HashMap::new(),
            minimum_quality: 0.0,
            exact_limit: usize::MAX,
        },
        media_quota_bytes: 1 << 30,
        reserve_free_bytes: 0,
        orphan_media: Duration::from_secs(3600),
        central_rows: false,
    };
    Ok(Store::open(settings, root)?)
}
