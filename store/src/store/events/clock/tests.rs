use std::path::Path;

use gatehouse_journal::Position;

use super::*;
use crate::clock::{ClockSource, uptime};
use crate::store::{Change, EventQuery, Store, testing};

const SECOND: i64 = 1_000_000;
const YEAR: i64 = 365 * 86_400 * SECOND;

fn open(directory: &Path) -> Store {
    testing::open(directory, "test", 4).0
}

fn reopen(store: Store, directory: &Path) -> Store {
    store.close();
    drop(store);
    open(directory)
}

/// Records an event that was received while the clock was off by `wrong_by`. Returns its true time.
async fn event(store: &Store, id: &str, wrong_by: i64) -> Timestamp {
    let now = Reading::now();
    let mut event = testing::visit(id);
    event.received_at = Timestamp(now.wall.0 + wrong_by);
    let reading = Reading { wall: event.received_at, ..now };
    let answer = store.galleries.identify(&event.key.camera, &[]);
    let position = store.events.record_arrival(event, answer, reading).await.unwrap().await.unwrap();
    // A durable event is listed once the views have it.
    store.core.wait_applied(position).await.unwrap();
    now.wall
}

/// The true time, as a database server returns it.
fn reference_time() -> ReferenceTime {
    let from = uptime();
    ReferenceTime::asked(ClockSource::Rows, Timestamp::now(), from, uptime()).unwrap()
}

fn times(store: &Store) -> Vec<(String, Known)> {
    let found = store.events.list(&EventQuery { limit: usize::MAX, ..EventQuery::default() }).unwrap();
    found.into_iter().rev().map(|view| (view.event.key.id.to_string(), view.time)).collect()
}

fn assert_right(store: &Store, expected: &[(&str, Timestamp)]) {
    let times = times(store);
    assert_eq!(times.len(), expected.len());
    for ((id, known), (name, time)) in times.iter().zip(expected) {
        let off = known.uncertainty_ms.unwrap_or_else(|| panic!("{id} is not known: {known:?}"));
        assert_eq!(id, name, "order is by number");
        assert!(
            known.at.0.abs_diff(time.0) <= off * 1000 && off < 60_000,
            "{id}: {known:?}, expected {time}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn jumps_of_fifty_years_are_undone_once_the_time_is_known_and_stay_undone() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(folder.path());
    let mut expected = Vec::new();
    for (id, years) in [("a", -50), ("b", 50), ("c", 0), ("d", -50)] {
        expected.push((id, event(&store, id, years * YEAR).await));
        store = reopen(store, folder.path());
    }
    assert!(times(&store).iter().all(|(_, known)| known.uncertainty_ms.is_none()));
    assert!(store.events.learn_time(reference_time()).await.unwrap());
    assert!(!store.events.learn_time(reference_time()).await.unwrap(), "it does not reduce the uncertainty");
    expected.push(("e", event(&store, "e", 50 * YEAR).await));
    assert_right(&store, &expected);
    let delivered = store.feed.changes(Position::default(), 100).unwrap();
    let delivered = delivered.into_iter().filter_map(|change| match change {
        Change::Event { event, time, .. } => Some((event.key.id.to_string(), time)),
        _ => None,
    });
    assert_eq!(delivered.collect::<Vec<_>>(), times(&store));
    let since = Some(Timestamp(expected[2].1.0 - 60 * SECOND));
    let query = EventQuery { since, limit: usize::MAX, ..EventQuery::default() };
    assert_eq!(store.events.list(&query).unwrap().len(), 5, "`since` uses the true time");

    // The same result from the journal alone, and from a snapshot alone.
    let before = times(&store);
    store.upkeep.snapshot().await.unwrap();
    let store = reopen(store, folder.path());
    assert_eq!(times(&store), before);
    store.close();
    drop(store);
    std::fs::remove_dir_all(folder.path().join("views")).unwrap();
    let store = open(folder.path());
    assert_eq!(times(&store), before);
    assert!(
        store
            .events
            .clock()
            .unwrap()
            .reference
            .is_some_and(|reference| reference.source == ClockSource::Rows)
    );
    store.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_reading_is_recorded_once_until_the_clock_is_set() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let head = |store: &Store| store.upkeep.status().head.lsn;
    let now = Reading::now();
    store.events.note_clock(now).await.unwrap();
    store.events.ping().await.unwrap();
    let noted = head(&store);
    for _ in 0..3 {
        store.events.note_clock(Reading::now()).await.unwrap();
    }
    let store = reopen(store, folder.path());
    store.events.note_clock(Reading::now()).await.unwrap();
    store.events.ping().await.unwrap();
    assert_eq!(head(&store), noted, "neither a reading nor a start is a step");
    store.events.note_clock(Reading { wall: Timestamp(now.wall.0 - 50 * YEAR), ..now }).await.unwrap();
    store.events.ping().await.unwrap();
    assert_eq!(head(&store), noted + 1);
    store.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_time_server_is_trusted_while_the_clock_is_not_set_otherwise() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let now = Reading::now();
    // A reading was recorded long before this machine was started.
    let noted = |uptime: i64, wrong: i64| Reading { uptime, wall: Timestamp(now.wall.0 + wrong), ..now };
    store.events.note_clock(noted(now.uptime - 7200 * SECOND, -7200 * SECOND)).await.unwrap();
    let ago = |seconds: i64| Timestamp(now.wall.0 - seconds * SECOND);
    assert!(!store.events.clock_synchronized(now, ago(86_400)).await.unwrap(), "too long ago");
    assert!(!store.events.clock_synchronized(now, ago(-60)).await.unwrap(), "in the future");
    assert!(store.events.clock_synchronized(now, ago(600)).await.unwrap());
    let off = store.events.clock().unwrap().now.uncertainty_ms.unwrap();
    assert!((500..5_000).contains(&off), "{off}");
    // An operator sets it an hour ahead by hand, after the time server set it.
    let wrong = Reading { wall: Timestamp(now.wall.0 + 3600 * SECOND), ..now };
    store.events.note_clock(wrong).await.unwrap();
    assert!(!store.events.clock_synchronized(wrong, Timestamp(wrong.wall.0 - 4000 * SECOND)).await.unwrap());
    store.close();
}
