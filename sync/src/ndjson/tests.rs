//! Against the server in this process and, where its binary is, against MinIO; the store is a real one.

use std::time::Duration;

use gatehouse_model::{Event, EventKey, Face, Identification, Outcome, Person, Timestamp};
use gatehouse_store::Store;
use gatehouse_testkit::objects::Objects as Looker;
use gatehouse_vault::keys::RootKey;
use serde_json::Value;

use super::*;
use crate::support::{BUCKET, Device, servers, settings};

const EVENTS: usize = 250;

struct House {
    device: Device,
    store: Store,
    sink: NdjsonSink,
}

impl House {
    async fn new(looker: &Looker) -> Self {
        let device = Device::new();
        device.prepared(looker).await;
        let settings = settings(&device);
        let open = move || Store::open(settings, &RootKey::from_bytes([9; 32])).unwrap().0;
        let store = tokio::task::spawn_blocking(open).await.unwrap();
        let config = device.config(looker, "dev", "lines = true\n[sync]\nbatch_events = 100\n");
        assert!(config.central.lines());
        let sink = NdjsonSink::new(&config, store.feed.clone(), Arc::new(Throttle::new(None)));
        Self { device, store, sink }
    }

    async fn visits(&self, count: usize) {
        let mut pending = Vec::new();
        for number in 0..count {
            let key = EventKey { camera: "door".try_into().unwrap(), id: fresh() };
            let event = Event {
                key,
                kind: "face".into(),
                occurred_at: None,
                received_at: Timestamp::now(),
                media: Vec::new(),
                attributes: "{\"zone\":\"porch\",\"iccid\":89490200001234567891}".into(),
            };
            let is_stranger = number % 2 == 1;
            let person = (!is_stranger).then(|| Person { id: "anna".into(), name: "Anna".into() });
            let outcome = if is_stranger { Outcome::Stranger } else { Outcome::Match };
            let (distance, margin, quality) = (Some(0.3), None, None);
            let face = Face { outcome, person, distance, threshold: 0.4, margin, quality };
            let (model, faces) = ("test".to_owned(), vec![face]);
            let answer = Identification { gallery_size: 1, model, faces, effort: None };
            pending.push(self.store.events.record(event, answer).await.unwrap());
        }
        for one in pending {
            one.await.unwrap();
        }
        self.store.feed.caught_up().await.unwrap();
    }

    /// Pushes until nothing is left; what was delivered.
    async fn push_all(&mut self) -> Result<u64, SyncError> {
        let mut delivered = 0;
        loop {
            let progress = self.sink.push().await.inspect_err(|_| self.sink.reset())?;
            delivered += progress.delivered;
            if !progress.more {
                return Ok(delivered);
            }
        }
    }

    /// All lines, in the order of the files' names.
    async fn lines(&self, looker: &Looker) -> Vec<Value> {
        let mut keys = looker.list(BUCKET, "devices/gate-7/lines/").await.unwrap();
        keys.sort();
        let mut lines = Vec::new();
        for key in keys {
            let compressed = looker.get(BUCKET, &key).await.unwrap();
            let text = String::from_utf8(zstd::decode_all(compressed.as_slice()).unwrap()).unwrap();
            assert!(compressed.len() < text.len(), "{} of {} bytes", compressed.len(), text.len());
            assert!(text.ends_with('\n') && !text.contains("nna"), "no person is named");
            let exact = text.matches("\"iccid\":89490200001234567891}").count();
            let erasable = text.matches("\"attributes\":{}").count();
            assert_eq!(exact + erasable, text.matches("\"type\":\"event\"").count(), "a number lost digits");
            let matches = text.matches("\"outcome\":\"match\"").count();
            assert_eq!(erasable, matches, "only visits without a match have attributes");
            lines.extend(text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()));
        }
        lines
    }
}

fn fresh() -> gatehouse_model::EventId {
    format!("e{}", fastrand::u64(..)).as_str().try_into().unwrap()
}

fn numbers(lines: &[Value]) -> Vec<u64> {
    lines.iter().map(|line| line["seq"].as_u64().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_event_is_one_line_through_outages_and_whatever_was_not_noted() {
    for server in servers() {
        let looker = server.looker();
        let mut house = House::new(&looker).await;
        house.visits(EVENTS).await;
        server.stop();
        assert!(house.push_all().await.is_err());
        server.restart();
        assert_eq!(house.push_all().await.unwrap(), EVENTS as u64);
        let lines = house.lines(&looker).await;
        assert_eq!(numbers(&lines), (1..=EVENTS as u64).collect::<Vec<_>>());
        assert_eq!(lines[0]["attributes"]["zone"], Value::Null, "an erasure could not reach it");
        assert_eq!(lines[0]["identification"]["faces"][0]["outcome"], "match");
        assert_eq!(house.store.feed.rows_cursor().seq, EVENTS as u64);

        // A file was written and the cursor was not moved: another store with the same journal goes on after it.
        house.visits(50).await;
        let mut session = house.sink.open().await.unwrap();
        let changes = house.store.feed.changes(session.cursor, 100).unwrap();
        let end = changes.last().unwrap().position();
        let text = compressed(&format::lines("gate-7", session.cursor, &changes)).unwrap();
        let (lsn, seq) = (end.lsn.to_string(), end.seq.to_string());
        let metadata = [(UPTO_LSN, lsn.as_str()), (UPTO_SEQ, seq.as_str())];
        let key = house.sink.key(session.cursor);
        let put = session.objects.put_new(&key, CONTENT_TYPE, text.clone(), &metadata).await.unwrap();
        assert_eq!(put, Put::Written);
        // An earlier request that arrives late changes nothing, if the server supports the condition.
        let late = session.objects.put_new(&key, CONTENT_TYPE, b"{}\n".to_vec(), &metadata).await.unwrap();
        assert_eq!(late, Put::Taken);
        let error = house.sink.push_with(&mut session).await.unwrap_err();
        assert!(matches!(error, SyncError::Busy { .. }), "{error}");
        house.visits(1).await;
        house.sink.reset();
        assert_eq!(house.push_all().await.unwrap(), 1);
        let all = EVENTS as u64 + 51;
        assert_eq!(numbers(&house.lines(&looker).await), (1..=all).collect::<Vec<_>>());
        assert_eq!(house.store.feed.rows_cursor().seq, all);
        drop(house.device);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_follow_in_a_running_appliance_and_a_foreign_file_stops_them_in_words() {
    let server = servers().remove(0);
    let looker = server.looker();
    let house = House::new(&looker).await;
    let sync = crate::Sync::start(&house.sink.config, &house.store);
    house.visits(3).await;
    sync.now(Duration::from_secs(30)).await;
    let arrived = || async { house.lines(&looker).await.len() == 3 };
    gatehouse_testkit::wait::until_async("the lines", Duration::from_secs(30), arrived).await.unwrap();
    sync.stop(Duration::from_secs(10)).await;

    let key = house.sink.key(house.store.feed.rows_cursor());
    let session = house.sink.open().await.unwrap();
    session.objects.put_new(&key, "text/plain", b"x".to_vec(), &[]).await.unwrap();
    let error = house.sink.open().await.err().unwrap();
    assert!(error.to_string().contains("another program wrote it"), "{error}");
}
