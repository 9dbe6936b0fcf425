//! A broker, a store, a camera and a client that listens.

use std::time::Duration;

use gatehouse_config::Config;
use gatehouse_daemon::pipeline::{self, PipelineHandle};
use gatehouse_gallery::{Encoding, GallerySettings};
use gatehouse_model::Metric;
use gatehouse_store::Store;
use gatehouse_store::store::StoreSettings;
use gatehouse_testkit::broker::{Broker, BrokerOptions};
use gatehouse_testkit::camera::{Address, Camera, Listener, Received};
use gatehouse_testkit::wait;
use gatehouse_vault::keys::RootKey;
use serde_json::{Value, json};

/// Long enough for a loaded machine; nothing here takes it when it works.
pub(crate) const TEST_TIMEOUT: Duration = Duration::from_secs(30);

pub(crate) struct Setup {
    pub(crate) broker: Broker,
    pub(crate) store: Store,
    pub(crate) config: Config,
    pub(crate) camera: Camera,
    pub(crate) listener: Listener,
    _folder: tempfile::TempDir,
}

impl Setup {
    pub(crate) async fn new() -> Self {
        let broker = Broker::start().unwrap();
        let (camera, listener) = ends(&broker).await;
        let settings = format!("url = \"{}\"\nmax_payload_bytes = 262144", broker.url());
        Self::build(broker, &settings, camera, listener).await
    }

    /// With a broker that the test's camera does not reach: for connections that are to be refused.
    pub(crate) async fn with_broker(options: &BrokerOptions, mqtt: impl FnOnce(&Broker) -> String) -> Self {
        let plain = Broker::start().unwrap();
        let (camera, listener) = ends(&plain).await;
        let broker = Broker::start_with(options).unwrap();
        let settings = format!("url = \"{}\"\n{}", broker.url(), mqtt(&broker));
        Self::build(broker, &settings, camera, listener).await
    }

    async fn build(broker: Broker, mqtt: &str, camera: Camera, listener: Listener) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let text = format!(
            "[device]\nid = \"edge-1\"\nsite = \"test\"\nenvironment = \"dev\"\n\
             [state]\ndirectory = \"{}\"\n[mqtt]\n{mqtt}\n\
             [gallery]\nmodel = \"test\"\ndimensions = 8\nthreshold = 0.4\n",
            folder.path().join("state").display(),
        );
        let config = Config::from_text(&text).unwrap();
        let settings = store_settings(&config);
        let key = RootKey::create(&folder.path().join("root.key")).unwrap();
        let opened = tokio::task::spawn_blocking(move || Store::open(settings, &key)).await.unwrap();
        let store = opened.unwrap().0;
        let sample = Encoding::new(anna(), 8).unwrap();
        store.people.enroll("p-1", "Anna", vec![sample]).await.unwrap();
        Self { broker, store, config, camera, listener, _folder: folder }
    }

    pub(crate) fn start(&self) -> PipelineHandle {
        pipeline::start(&self.config, &self.store).unwrap()
    }

    /// Starts, and waits until events are taken.
    pub(crate) async fn open(&self) -> PipelineHandle {
        let handle = self.start();
        connected(&handle).await;
        handle
    }

    /// Publishes an event; the broker has it on return.
    pub(crate) async fn event(&self, event: &Value) {
        self.publish("gatehouse/door/event", event.to_string().into_bytes()).await;
    }

    pub(crate) async fn publish(&self, topic: &str, payload: Vec<u8>) {
        self.camera.publish(topic, payload, false, TEST_TIMEOUT).await.unwrap();
    }

    /// The first message of a topic's last level (`identification`, `rejected`) about an event.
    pub(crate) async fn answer(&self, level: &str, event: &str) -> Received {
        let wanted = |m: &Received| m.topic.ends_with(level) && m.json()["event_id"] == event;
        let what = format!("{level} of {event}");
        self.listener.wait_for(&what, TEST_TIMEOUT, wanted).await.unwrap()
    }

    /// All identifications of an event so far.
    pub(crate) fn identifications(&self, event: &str) -> Vec<Value> {
        let all = self.listener.messages();
        let of = |m: &&Received| m.topic.ends_with("identification");
        all.iter().filter(of).map(Received::json).filter(|body| body["event_id"] == event).collect()
    }

    /// Waits until the store has this many events.
    pub(crate) async fn stored(&self, events: u64) {
        let enough = || async { self.store.events.ledger().events.stored >= events };
        wait::until_async("the events to be stored", TEST_TIMEOUT, enough).await.unwrap();
    }
}

pub(crate) async fn connected(handle: &PipelineHandle) {
    let connected = || async { handle.stats().connected };
    let found = wait::until_async("the pipeline to connect", TEST_TIMEOUT, connected).await;
    assert!(found.is_ok(), "{:?}", handle.stats());
}

/// Waits until nothing is under way.
pub(crate) async fn idle(handle: &PipelineHandle) {
    let idle = || async { handle.stats().in_flight_messages == 0 };
    wait::until_async("everything to be acknowledged", TEST_TIMEOUT, idle).await.unwrap();
}

async fn ends(broker: &Broker) -> (Camera, Listener) {
    let address = Address::local(broker.port());
    let filters = ["gatehouse/+/identification", "gatehouse/+/rejected", "gatehouse/status"];
    let listener = Listener::subscribe("test", &address, &filters, TEST_TIMEOUT).await.unwrap();
    (Camera::connect("test", &address), listener)
}

fn store_settings(config: &Config) -> StoreSettings {
    StoreSettings {
        directory: config.state.directory.clone(),
        gallery: GallerySettings {
            model: config.gallery.model.clone(),
            dimensions: config.gallery.dimensions,
            metric: Metric::Euclidean,
            normalised: false,
            threshold: config.gallery.threshold.unwrap(),
            camera_thresholds: std::collections::HashMap::new(),
            minimum_quality: config.gallery.minimum_quality,
            exact_limit: 1000,
        },
        media_quota_bytes: 1 << 30,
        reserve_free_bytes: 1 << 20,
        orphan_media: Duration::from_secs(3600),
        central_rows: false,
    }
}

/// The enrolled one.
pub(crate) fn anna() -> Vec<f32> {
    vec![0.5, 0.1, -0.3, 0.2, 0.4, -0.1, 0.3, 0.6]
}

/// An event in which she comes.
pub(crate) fn visit(id: &str) -> Value {
    json!({"id": id, "kind": "face", "faces": [{"encoding": anna(), "quality": 0.9}]})
}
