//! The whole way: a real store, the loop, a real Postgres.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use gatehouse_config::Config;
use gatehouse_gallery::{EXACT_LIMIT_DEFAULT, Encoding, GallerySettings};
use gatehouse_model::{Event, Metric, SinkState, Timestamp};
use gatehouse_store::Store;
use gatehouse_store::record::Item;
use gatehouse_store::store::{OrderedBy, ProbeFace, StoreSettings};
use gatehouse_sync::{SinkStatus, Sync};
use gatehouse_testkit::proxy::{Faults, Proxy};
use gatehouse_testkit::wait;
use gatehouse_vault::keys::RootKey;

use crate::support::{Bed, key};

pub(crate) const WAIT_TIMEOUT: Duration = Duration::from_secs(30);

pub(crate) fn gallery_settings() -> GallerySettings {
    GallerySettings {
        model: "dlib-128".into(),
        dimensions: 128,
        metric: Metric::Euclidean,
        normalised: false,
        threshold: 0.42,
        camera_thresholds: HashMap::new(),
        minimum_quality: 0.2,
        exact_limit: EXACT_LIMIT_DEFAULT,
    }
}

pub(crate) fn open(directory: &Path) -> Store {
    let settings = StoreSettings {
        directory: directory.to_owned(),
        gallery: gallery_settings(),
        media_quota_bytes: 1 << 20,
        reserve_free_bytes: 0,
        orphan_media: Duration::from_secs(3600),
        central_rows: true,
    };
    Store::open(settings, &RootKey::from_bytes([7; 32])).unwrap().0
}

pub(crate) fn encoding(of: usize) -> Encoding {
    let mut values = vec![0.0; 128];
    values[of] = 1.4;
    Encoding::new(values, 128).unwrap()
}

/// Records visits with these numbers, each of the person whose encoding is given.
pub(crate) async fn visits(store: &Store, range: std::ops::RangeInclusive<usize>, of: usize) {
    let mut pending = Vec::new();
    for n in range {
        let event = Event {
            key: key(&format!("e{n}")),
            kind: "face".into(),
            occurred_at: None,
            received_at: Timestamp::now(),
            media: Vec::new(),
            attributes: "{}".into(),
        };
        let answer = store
            .galleries
            .identify(&event.key.camera, &[ProbeFace { encoding: encoding(of), quality: None }]);
        pending.push(store.events.record(event, answer).await.unwrap());
    }
    for one in pending {
        one.await.unwrap();
    }
}

pub(crate) async fn rows_of(sync: &Sync) -> SinkStatus {
    sync.status().await.unwrap().sinks.into_iter().next().unwrap()
}

pub(crate) async fn settled(sync: &Sync) {
    // A push that began after all that is meant is durable: news may not have woken the loop yet.
    sync.now(WAIT_TIMEOUT).await;
    wait::until_async("all rows to be delivered", WAIT_TIMEOUT, || async {
        let status = rows_of(sync).await;
        status.state == SinkState::Idle && status.pending == 0 && status.error.is_none()
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn visits_arrive_through_an_outage_and_an_erasure_follows_them() {
    let bed = Bed::new("delivery").await;
    let proxy = Proxy::start(bed.database.port).unwrap();
    let config = bed.config_at(proxy.port(), "dev");
    let state = tempfile::tempdir().unwrap();
    let store = open(state.path());
    store.people.enroll("anna", "Anna", vec![encoding(0)]).await.unwrap();
    visits(&store, 1..=30, 0).await;

    let sync = Sync::start(&config, &store);
    settled(&sync).await;
    bed.assert_whole("edge-1", 30).await;
    let named =
        "select count(*) from gatehouse.events where identification #>> '{faces,0,person,id}' = 'anna'";
    assert_eq!(bed.count(named).await, 30);
    assert!(!sync.status().await.unwrap().sinks[1].configured);

    proxy.set(Faults { refuse: true, ..Faults::default() });
    visits(&store, 31..=5000, 0).await;
    store.events.record_refused(Item::Event, "not_json", 3).await.unwrap().await.unwrap();
    wait::until_async("the outage to be seen", WAIT_TIMEOUT, || async {
        rows_of(&sync).await.error.is_some()
    })
    .await
    .unwrap();
    wait::until_async("what waits to be counted", WAIT_TIMEOUT, || async {
        rows_of(&sync).await.pending == 4970
    })
    .await
    .unwrap();
    assert!(rows_of(&sync).await.oldest_pending.is_some());
    proxy.heal();
    tokio::time::sleep(Duration::from_millis(50)).await;
    sync.now(WAIT_TIMEOUT).await;
    settled(&sync).await;
    bed.assert_whole("edge-1", 5000).await;
    assert_eq!(bed.count(named).await, 5000);

    store.people.erase("anna", OrderedBy::User(0)).await.unwrap();
    wait::until_async("the erasure to arrive", WAIT_TIMEOUT, || async { bed.count(named).await == 0 })
        .await
        .unwrap();
    settled(&sync).await;
    assert_eq!(bed.count("select events_scrubbed from gatehouse.erasures").await, 5000);
    sync.stop(Duration::from_secs(5)).await;
    assert_eq!(rows_of(&sync).await.state, SinkState::Stopped);
    tokio::task::spawn_blocking(move || store.close()).await.unwrap();
    bed.assert_whole("edge-1", 5000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_erasure_does_not_wait_behind_a_backlog() {
    let bed = Bed::new("erase_first").await;
    let proxy = Proxy::start(bed.database.port).unwrap();
    let config = bed.config_at(proxy.port(), "dev");
    let state = tempfile::tempdir().unwrap();
    let store = open(state.path());
    store.people.enroll("anna", "Anna", vec![encoding(0)]).await.unwrap();
    visits(&store, 1..=600, 0).await;
    let sync = Sync::start(&config, &store);
    settled(&sync).await;
    proxy.set(Faults { refuse: true, ..Faults::default() });
    visits(&store, 601..=4000, 0).await;
    store.people.erase("anna", OrderedBy::User(0)).await.unwrap();
    proxy.heal();
    sync.now(WAIT_TIMEOUT).await;
    settled(&sync).await;
    bed.assert_whole("edge-1", 4000).await;
    let named = "select count(*) from gatehouse.events where identification::text like '%anna%'";
    assert_eq!(bed.count(named).await, 0);
    assert_eq!(bed.count("select events_scrubbed from gatehouse.erasures").await, 600);
    // Transactions are numbered as they begin.
    let later = "select count(*) from gatehouse.events where seq > 600 and xmin::text::bigint < \
                 (select xmin::text::bigint from gatehouse.erasures)";
    assert_eq!(bed.count(later).await, 0, "events that arrived before the erasure");
    sync.stop(Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_appliance_leaves_database_and_disk_alone() {
    let bed = Bed::new("quiet").await;
    let state = tempfile::tempdir().unwrap();
    let store = open(state.path());
    let sync = Sync::start(&bed.config("dev"), &store);
    visits(&store, 1..=3, 0).await;
    settled(&sync).await;
    // Its own records of what was delivered must not keep it awake.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let before = store.upkeep.status().head;
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert_eq!(store.upkeep.status().head, before);
    sync.stop(Duration::from_secs(5)).await;
    tokio::task::spawn_blocking(move || store.close()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_copy_of_the_state_directory_is_stopped_in_words() {
    let bed = Bed::new("ahead").await;
    let config: Config = bed.config("dev");
    let state = tempfile::tempdir().unwrap();
    let old = tempfile::tempdir().unwrap();
    let store = open(state.path());
    visits(&store, 1..=5, 0).await;
    tokio::task::spawn_blocking(move || store.close()).await.unwrap();
    let copied =
        std::process::Command::new("cp").arg("-a").arg(state.path()).arg(old.path().join("s")).status();
    assert!(copied.unwrap().success());

    let store = open(state.path());
    visits(&store, 6..=20, 0).await;
    let sync = Sync::start(&config, &store);
    settled(&sync).await;
    sync.stop(Duration::from_secs(5)).await;
    tokio::task::spawn_blocking(move || store.close()).await.unwrap();

    // At first it is behind; then it has gone on by itself, past the central cursor.
    for (range, word) in [(100..=101, "ends at"), (102..=140, "event 20 ")] {
        let store = open(&old.path().join("s"));
        visits(&store, range, 0).await;
        let sync = Sync::start(&config, &store);
        wait::until_async("the stop", WAIT_TIMEOUT, || async {
            rows_of(&sync).await.state == SinkState::Stopped
        })
        .await
        .unwrap();
        let message = rows_of(&sync).await.error.unwrap();
        assert!(message.contains("old copy") && message.contains(word), "{message}");
        sync.stop(Duration::from_secs(5)).await;
        tokio::task::spawn_blocking(move || store.close()).await.unwrap();
    }
    bed.assert_whole("edge-1", 20).await;
}
