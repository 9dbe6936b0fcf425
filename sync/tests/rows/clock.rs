//! What an appliance without a clock recorded is delivered with its true time.

use std::time::Duration;

use gatehouse_model::{Event, Timestamp};
use gatehouse_store::Store;
use gatehouse_store::clock::{ClockSource, Reading};
use gatehouse_store::store::Change;
use gatehouse_sync::Sync;

use crate::delivery::{open, rows_of, settled};
use crate::support::{Bed, key};

const YEAR: i64 = 365 * 86_400_000_000;

/// Records a visit under a clock that is wrong by so much; its true time.
async fn visit(store: &Store, id: &str, wrong_by: i64) -> Timestamp {
    let now = Reading::now();
    let reading = Reading { wall: Timestamp(now.wall.0 + wrong_by), ..now };
    let event = Event {
        key: key(id),
        kind: "button".into(),
        occurred_at: None,
        received_at: reading.wall,
        media: Vec::new(),
        attributes: "{}".into(),
    };
    let answer = store.galleries.identify(&event.key.camera, &[]);
    store.events.record_arrival(event, answer, reading).await.unwrap().await.unwrap();
    now.wall
}

/// Visits whose row does not say their true time within what it claims, or claims too little to be of use.
async fn wrong(bed: &Bed, expected: &[(&str, Timestamp)]) -> Vec<String> {
    let client = bed.database.connect().await.unwrap();
    let query = "select event_id, (extract(epoch from received_at) * 1000000)::bigint, clock_uncertainty_ms \
                 from gatehouse.events order by seq";
    let rows = client.query(query, &[]).await.unwrap();
    assert_eq!(rows.len(), expected.len());
    let mut wrong = Vec::new();
    for (row, (id, time)) in rows.iter().zip(expected) {
        let (reported, at, off): (String, i64, Option<i64>) = (row.get(0), row.get(1), row.get(2));
        assert_eq!(reported, *id, "order is by number");
        let apart = i64::try_from(at.abs_diff(time.0)).unwrap();
        if off.is_none_or(|off| apart > off * 1000 || off > 60_000) {
            wrong.push(format!("{id}: {apart} microseconds apart, {off:?} ms claimed"));
        }
    }
    wrong
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backlog_of_1970_and_2076_arrives_with_its_true_time_in_its_order() {
    let bed = Bed::new("clock").await;
    let config = bed.config("dev");
    let state = tempfile::tempdir().unwrap();
    let mut store = open(state.path());
    let since_1970 = -Timestamp::now().0;
    let mut expected = Vec::new();
    for (id, wrong_by) in
        [("a", since_1970), ("b", since_1970), ("c", 50 * YEAR), ("d", 0), ("e", -50 * YEAR)]
    {
        expected.push((id, visit(&store, id, wrong_by).await));
        store.close();
        drop(store);
        store = open(state.path());
    }
    let sync = Sync::start(&config, &store);
    settled(&sync).await;
    assert_eq!(wrong(&bed, &expected).await, Vec::<String>::new());
    let reference = store.events.clock().unwrap().reference.unwrap();
    assert_eq!(reference.source, ClockSource::Rows);

    // A session later the last event is still known to be the same, and what follows is right at once.
    sync.stop(Duration::from_secs(5)).await;
    expected.push(("f", visit(&store, "f", 50 * YEAR).await));
    let sync = Sync::start(&config, &store);
    settled(&sync).await;
    assert_eq!(rows_of(&sync).await.error, None);
    assert_eq!(wrong(&bed, &expected).await, Vec::<String>::new());
    let strays = "select count(*) from gatehouse.events_default";
    assert_eq!(bed.count(strays).await, 0, "all lie in the partition of their true month");
    sync.stop(Duration::from_secs(5)).await;
    tokio::task::spawn_blocking(move || store.close()).await.unwrap();
    bed.assert_whole("edge-1", 6).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_state_directory_is_known_again_when_the_time_was_learnt_after_its_last_event_was_delivered() {
    let bed = Bed::new("clock_late").await;
    let state = tempfile::tempdir().unwrap();
    let store = open(state.path());
    // As an earlier appliance delivered it: by the wrong clock.
    let mut writer = bed.writer_of(&store).await;
    visit(&store, "a", -50 * YEAR).await;
    // Only what the views have is delivered, and durable comes first.
    store.feed.caught_up().await.unwrap();
    let changes = store.feed.changes(writer.cursor(), 10).unwrap();
    assert!(changes.iter().any(|change| matches!(change, Change::Event { .. })), "{changes:?}");
    writer.deliver(&changes).await.unwrap();
    drop(writer);
    let time = visit(&store, "b", -50 * YEAR).await;
    let sync = Sync::start(&bed.config("dev"), &store);
    settled(&sync).await;
    assert_eq!(rows_of(&sync).await.error, None);
    let found = wrong(&bed, &[("a", time), ("b", time)]).await;
    assert!(found.len() == 1 && found[0].starts_with("a:"), "{found:?}");
    sync.stop(Duration::from_secs(5)).await;
    tokio::task::spawn_blocking(move || store.close()).await.unwrap();
}
