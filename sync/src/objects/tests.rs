//! Delivery of media files against the server in this process and, where its binary is, against MinIO.

use gatehouse_central::error::SyncError;
use gatehouse_central::throttle::Throttle;
use gatehouse_model::{Event, EventKey, Identification, Timestamp};
use gatehouse_store::Store;
use gatehouse_store::store::{MediaQuery, MediaState};
use gatehouse_testkit::objects::Objects as Looker;
use gatehouse_testkit::s3::S3Server;
use gatehouse_vault::keys::RootKey;

use super::*;
use crate::sink::{Progress, SinkDriver};
use crate::support::{BUCKET, Device, content, servers, settings};

mod parts;
mod preview;

/// An appliance with events and pictures, and its way out.
pub(super) struct House {
    pub(super) device: Device,
    pub(super) store: Store,
    pub(super) sink: ObjectSink,
}

impl House {
    pub(super) async fn new(looker: &Looker, limits: Limits) -> Self {
        Self::with_thumbnails(looker, limits, &[]).await
    }

    pub(super) async fn with_thumbnails(looker: &Looker, limits: Limits, edges: &[u16]) -> Self {
        Self::of(Device::new(), looker, limits, edges).await
    }

    /// What a device finds when it starts.
    pub(super) async fn of(device: Device, looker: &Looker, limits: Limits, edges: &[u16]) -> Self {
        let settings = settings(&device);
        let open = move || Store::open(settings, &RootKey::from_bytes([9; 32])).unwrap().0;
        let store = tokio::task::spawn_blocking(open).await.unwrap();
        let mut config = device.config(looker, "dev", "");
        config.media.thumbnails = edges.to_vec();
        let sink = ObjectSink::with_limits(&config, &store, limits);
        Self { device, store, sink }
    }

    /// One visit with one picture.
    pub(super) async fn visit(&self, id: &str, picture: Vec<u8>) {
        visit_of(&self.store, id, picture).await;
    }

    /// One visit with one file.
    pub(super) async fn visit_with(&self, id: &str, name: &str, file: Vec<u8>) {
        visit_with(&self.store, id, name, file).await;
    }

    pub(super) async fn push(&mut self) -> Result<Progress, SyncError> {
        let outcome = self.sink.push().await;
        if outcome.is_err() {
            self.sink.reset();
        }
        outcome
    }

    /// Ids of the files that still wait.
    pub(super) fn waiting(&self) -> Vec<gatehouse_store::store::MediaTask> {
        self.store.media.next_tasks(&HashSet::new(), 1000, true).unwrap()
    }
}

/// One visit with one picture.
pub(super) async fn visit_of(store: &Store, id: &str, picture: Vec<u8>) {
    visit_with(store, id, "snapshot.jpg", picture).await;
}

async fn visit_with(store: &Store, id: &str, name: &str, file: Vec<u8>) {
    let key = EventKey { camera: "door".try_into().unwrap(), id: id.try_into().unwrap() };
    let event = Event {
        key: key.clone(),
        kind: "doorbell".into(),
        occurred_at: None,
        received_at: Timestamp::parse("2026-11-20T12:00:00Z").unwrap(),
        media: Vec::new(),
        attributes: "{}".into(),
    };
    let answer = Identification { gallery_size: 0, model: "test".into(), faces: Vec::new(), effort: None };
    store.events.record(event, answer).await.unwrap().await.unwrap();
    store.media.put(key, name.try_into().unwrap(), file).await.unwrap();
}

pub(super) fn key(id: &str) -> String {
    format!("devices/gate-7/events/2026/11/20/door/{id}/snapshot.jpg")
}

#[tokio::test(flavor = "multi_thread")]
async fn pictures_wait_out_an_outage_and_arrive_once() {
    for server in servers() {
        let looker = server.looker();
        let mut house = House::new(&looker, Limits::default()).await;
        house.device.prepared(&looker).await;
        for nth in 0..40_usize {
            house.visit(&format!("v{nth}"), content(1000 + nth)).await;
        }
        server.stop();
        let error = house.push().await.unwrap_err();
        assert!(matches!(error, SyncError::Unreachable { .. }), "{error}");
        assert_eq!(house.waiting().len(), 40);
        server.restart();

        let mut delivered = 0;
        loop {
            let progress = house.push().await.unwrap();
            assert!(progress.set_aside.is_empty(), "{progress:?}");
            delivered += progress.delivered;
            if !progress.more {
                break;
            }
        }
        assert_eq!((delivered, house.waiting().len()), (40, 0));
        assert_eq!(looker.list(BUCKET, "devices/").await.unwrap().len(), 40);
        for nth in [0, 17, 39] {
            assert_eq!(looker.get(BUCKET, &key(&format!("v{nth}"))).await.unwrap(), content(1000 + nth));
        }
        let views = house.store.media.list(&MediaQuery { event: None, limit: 100 }).unwrap();
        assert!(views.iter().all(|view| matches!(view.state, MediaState::Delivered(_))), "{views:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_server_never_takes_is_set_aside_and_the_others_go_on() {
    let server = S3Server::start().unwrap();
    let mut house = House::new(&server.objects(), Limits::default()).await;
    house.device.prepared(&server.objects()).await;
    server.objects().put(BUCKET, &key("v0"), b"another object".to_vec()).await.unwrap();
    for nth in 0..5 {
        house.visit(&format!("v{nth}"), content(100 + nth)).await;
    }
    let progress = house.push().await.unwrap();
    assert_eq!((progress.delivered, progress.set_aside.len(), progress.more), (4, 1, false));
    assert!(progress.set_aside[0].contains("door/v0/snapshot.jpg"), "{progress:?}");
    assert!(progress.again_in.is_some());
    assert_eq!(house.waiting().len(), 1);

    let before = server.requests();
    let progress = house.push().await.unwrap();
    assert_eq!((progress.delivered, progress.set_aside.len()), (0, 0));
    assert_eq!(server.requests(), before, "no hot loop");

    std::fs::remove_file(server.files().join(BUCKET).join(key("v0"))).unwrap();
    house.sink.let_time_pass();
    assert_eq!(house.push().await.unwrap().delivered, 1);
    assert!(house.waiting().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_cannot_be_read_any_more_is_given_up_and_counted() {
    let server = S3Server::start().unwrap();
    let mut house = House::new(&server.objects(), Limits::default()).await;
    house.device.prepared(&server.objects()).await;
    house.visit("v0", content(500)).await;
    house.visit("v1", content(501)).await;
    let id = house.waiting()[0].media.id.to_string();
    let path = house.device.folder.path().join("state/media").join(&id[..2]).join(format!("{id}.gm"));
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[40] ^= 1;
    std::fs::write(&path, bytes).unwrap();

    let progress = house.push().await.unwrap();
    assert_eq!((progress.delivered, progress.set_aside.len()), (1, 0), "the first bad read may pass");
    house.sink.let_time_pass();
    let progress = house.push().await.unwrap();
    assert_eq!((progress.delivered, progress.set_aside.len()), (0, 1), "{progress:?}");
    assert!(house.waiting().is_empty());
    let ledger = house.store.events.ledger();
    assert!(ledger.holds());
    assert_eq!((ledger.files.delivered, ledger.files.dropped["damage"]), (1, 1), "{ledger:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_leaves_for_a_bucket_of_another_environment() {
    let server = S3Server::start().unwrap();
    let mut house = House::new(&server.objects(), Limits::default()).await;
    let objects = house.device.objects(&server.objects());
    objects.make_bucket().await.unwrap();
    server.objects().put(BUCKET, "environment.json", b"{\"environment\":\"prod\"}".to_vec()).await.unwrap();
    house.visit("v0", content(500)).await;
    let error = house.push().await.unwrap_err();
    assert!(error.stops_sink(), "{error}");
    assert_eq!(server.objects().list(BUCKET, "").await.unwrap(), ["environment.json"]);

    server.objects().put(BUCKET, "environment.json", b"{\"environment\":\"dev\"}".to_vec()).await.unwrap();
    assert_eq!(house.push().await.unwrap().delivered, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_fails_alone_does_not_hold_up_the_others() {
    let server = S3Server::start().unwrap();
    let mut house = House::new(&server.objects(), Limits::default()).await;
    house.device.prepared(&server.objects()).await;
    // The server fails at this one: there is a folder in place of its file.
    let blocked = server.files().join(BUCKET).join(key("v0"));
    std::fs::create_dir_all(blocked.join("x")).unwrap();
    house.visit("v0", content(500)).await;
    let error = house.push().await.unwrap_err();
    assert!(!error.is_permanent() && !error.stops_sink(), "alone, it may be the server: {error}");

    for nth in 1..8 {
        house.visit(&format!("v{nth}"), content(500 + nth)).await;
    }
    let progress = house.push().await.unwrap();
    assert_eq!((progress.delivered, progress.set_aside.len()), (7, 0), "{progress:?}");
    // While others succeed it fails again, and is reported in the end.
    let mut reported = Vec::new();
    for nth in 8..10 {
        house.visit(&format!("v{nth}"), content(500 + nth)).await;
        house.sink.let_time_pass();
        reported = house.push().await.unwrap().set_aside;
    }
    assert!(reported[0].contains("door/v0/snapshot.jpg"), "{reported:?}");

    std::fs::remove_dir_all(blocked).unwrap();
    house.sink.let_time_pass();
    house.push().await.unwrap();
    assert!(house.waiting().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn pictures_keep_to_the_bytes_per_second_that_all_sinks_share() {
    const RATE: u64 = 100_000;
    let server = servers().remove(0);
    let looker = server.looker();
    let limits = Limits::sharing(Arc::new(Throttle::new(Some(RATE))));
    let mut house = House::new(&looker, limits).await;
    house.device.prepared(&looker).await;
    for nth in 0..6_usize {
        house.visit(&format!("v{nth}"), content(50_000 + nth)).await;
    }
    let begin = std::time::Instant::now();
    assert_eq!(house.push().await.unwrap().delivered, 6);
    // The first leaves at once, the last when five are paid for.
    assert!(begin.elapsed() >= Duration::from_millis(2500), "{:?}", begin.elapsed());
}
