//! Retention removes the beginning of the journal with its keys, and nothing that is still needed.

use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

use crate::opening::{self, key};
use gatehouse_gallery::Encoding;
use gatehouse_journal::Position;
use gatehouse_model::{Event, Outcome, Timestamp};
use gatehouse_store::record::ObjectPlace;
use gatehouse_store::store::{
    EventQuery, MediaOutcome, MediaQuery, OpenReport, OrderedBy, ProbeFace, RetentionPolicy, Store, VerifyAt,
};

/// Large enough that slightly more than 64 events fill a segment.
const ATTRIBUTE_BYTES: usize = 250_000;
/// Events of a segment of 16 MiB.
const A_SEGMENT: u64 = 68;
/// 2024-06-01.
const LONG_AGO: i64 = 1_717_200_000_000_000;
const DAY: Duration = Duration::from_secs(86_400);
const AT_ONCE: RetentionPolicy =
    RetentionPolicy { delivered: DAY, media: DAY, undelivered: None, people: None, clock_is_set: true };

fn open(directory: &Path) -> (Store, OpenReport) {
    opening::open(directory, true)
}

fn again(store: Store, directory: &Path) -> (Store, OpenReport) {
    store.close();
    drop(store);
    open(directory)
}

fn encoding(of: usize) -> Encoding {
    let mut values = vec![0.0; 4];
    values[of] = 1.0;
    Encoding::new(values, 4).unwrap()
}

/// Records the events with these ids and returns the last position.
async fn fill(store: &Store, ids: std::ops::Range<u64>, received_at: i64) -> Position {
    let mut last = Position::default();
    for id in ids {
        let event = Event {
            key: key(id),
            kind: "face".into(),
            occurred_at: None,
            received_at: Timestamp(received_at),
            media: Vec::new(),
            attributes: format!("{{\"note\":\"{}\"}}", "x".repeat(ATTRIBUTE_BYTES)),
        };
        let answer = store
            .galleries
            .identify(&event.key.camera, &[ProbeFace { encoding: encoding(0), quality: None }]);
        last = store.events.record(event, answer).await.unwrap().await.unwrap();
    }
    last
}

async fn picture(store: &Store, event: u64, name: &str) -> gatehouse_model::KeyId {
    let stored =
        store.media.put(key(event), name.try_into().unwrap(), name.as_bytes().to_vec()).await.unwrap();
    assert!(matches!(stored, MediaOutcome::Stored(_)));
    let files = store.media.list(&MediaQuery { event: Some(key(event)), limit: 9 }).unwrap();
    files.iter().find(|file| file.media.name.as_str() == name).unwrap().media.id
}

fn segments(directory: &Path) -> usize {
    std::fs::read_dir(directory.join("journal")).unwrap().count()
}

fn is_known(store: &Store, of: usize) -> bool {
    let faces = [ProbeFace { encoding: encoding(of), quality: None }];
    store.galleries.identify(&"front".try_into().unwrap(), &faces).faces[0].outcome == Outcome::Match
}

fn assert_whole(store: &Store) {
    let mut at = Some(VerifyAt::default());
    while let Some(step) = at {
        let verified = store.upkeep.verify(step).unwrap();
        assert_eq!(verified.damaged, Vec::<String>::new());
        at = verified.next;
    }
    assert!(store.events.ledger().holds());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_delivered_goes_and_people_pictures_and_numbers_outlive_it_and_the_views() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = open(folder.path());
    store.people.enroll("anna", "Anna", vec![encoding(0)]).await.unwrap();
    store.people.enroll("gone", "Gone", vec![encoding(1)]).await.unwrap();
    fill(&store, 0..1, LONG_AGO).await;
    let delivered = picture(&store, 0, "a.jpg").await;
    picture(&store, 0, "b.jpg").await;
    let place = ObjectPlace { bucket: "b".into(), key: "k".into() };
    store.media.delivered(delivered, place).await.unwrap();
    let cursor = fill(&store, 1..5 * A_SEGMENT, LONG_AGO).await;
    fill(&store, 5 * A_SEGMENT..6 * A_SEGMENT, Timestamp::now().0).await;
    assert_eq!(store.upkeep.retain(&AT_ONCE).await.unwrap().segments, 0, "nothing is delivered");
    store.people.erase("gone", OrderedBy::User(0)).await.unwrap();
    store.feed.rows_delivered(cursor).await.unwrap();
    let before = segments(folder.path());
    let retained = store.upkeep.retain(&AT_ONCE).await.unwrap();
    assert!(
        retained.segments >= 4 && segments(folder.path()) <= before - retained.segments + 1,
        "{retained:?}"
    );
    assert_eq!((retained.events_dropped, retained.files_evicted, retained.files_dropped), (0, 0, 0));
    assert_whole(&store);

    let ledger = store.events.ledger();
    let query = EventQuery { limit: usize::MAX, ..EventQuery::default() };
    let events = store.events.list(&query).unwrap();
    assert!(events.len() as u64 >= A_SEGMENT && (events.len() as u64) < 3 * A_SEGMENT, "{}", events.len());
    assert!(store.events.get(&key(1)).unwrap().is_none());
    let (store, report) = again(store, folder.path());
    assert_eq!((report.views_rebuilt, report.damaged.len()), (None, 0));
    store.close();
    drop(store);
    for round in 0..2 {
        std::fs::remove_dir_all(folder.path().join("views")).unwrap();
        std::fs::remove_dir_all(folder.path().join("index")).unwrap();
        let (store, report) = open(folder.path());
        assert!(report.views_rebuilt.is_some() && report.damaged.is_empty(), "{report:?}");
        assert_eq!(
            (store.events.ledger(), store.events.list(&query).unwrap().len()),
            (ledger.clone(), events.len())
        );
        assert_eq!((is_known(&store, 0), is_known(&store, 1)), (true, false));
        let pending = store.media.next_tasks(&HashSet::new(), 9, true).unwrap();
        assert_eq!(pending.iter().map(|task| task.media.name.as_str()).collect::<Vec<_>>(), ["b.jpg"]);
        assert_eq!(store.media.list(&MediaQuery { event: None, limit: 9 }).unwrap().len(), 2);
        assert!(store.feed.changes(cursor, 9).unwrap().len() == 9, "delivery continues at its cursor");
        assert!(round == 1 || store.people.enroll("late", "Late", vec![encoding(2)]).await.is_ok());
        assert!(is_known(&store, 2));
        assert_whole(&store);
        store.close();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_delivered_goes_only_by_the_policy_with_a_clock_and_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = opening::open(folder.path(), false);
    fill(&store, 0..5 * A_SEGMENT, LONG_AGO).await;
    fill(&store, 5 * A_SEGMENT..6 * A_SEGMENT, Timestamp::now().0).await;
    let policy = RetentionPolicy { undelivered: Some(DAY), ..AT_ONCE };
    for kept in [AT_ONCE, RetentionPolicy { clock_is_set: false, ..policy }] {
        assert_eq!(store.upkeep.retain(&kept).await.unwrap(), Default::default());
    }
    let retained = store.upkeep.retain(&policy).await.unwrap();
    let events = store.events.ledger().events;
    assert!(retained.segments >= 4 && retained.events_dropped >= 4 * (A_SEGMENT - 8), "{retained:?}");
    assert_eq!(events.dropped["retention"], retained.events_dropped);
    assert_eq!(events.pending(), events.stored - retained.events_dropped);
    assert_eq!(store.upkeep.retain(&policy).await.unwrap(), Default::default(), "once");
    assert_whole(&store);
    store.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn undelivered_erasure_keeps_its_segment() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = open(folder.path());
    store.people.enroll("anna", "Anna", vec![encoding(0)]).await.unwrap();
    store.people.erase("anna", OrderedBy::User(0)).await.unwrap();
    fill(&store, 0..6 * A_SEGMENT, LONG_AGO).await;
    let policy = RetentionPolicy { undelivered: Some(DAY), ..AT_ONCE };
    assert_eq!(store.upkeep.retain(&policy).await.unwrap(), Default::default());
    store.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_whole_snapshot_it_is_said_and_no_key_is_destroyed() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = open(folder.path());
    store.people.enroll("anna", "Anna", vec![encoding(0)]).await.unwrap();
    let last = fill(&store, 0..2 * A_SEGMENT, LONG_AGO).await;
    store.close();
    drop(store);
    let mut files: Vec<_> = std::fs::read_dir(folder.path().join("journal"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    std::fs::remove_file(&files[0]).unwrap();
    std::fs::remove_dir_all(folder.path().join("views")).unwrap();
    let (store, report) = open(folder.path());
    assert!(report.damaged.iter().any(|message| message.contains("no snapshot")), "{:?}", report.damaged);
    let kinds = store.upkeep.key_status("dev", "house-1").kinds;
    assert!(kinds.iter().any(|kind| kind.kind == "person" && kind.keys == 1), "{kinds:?}");
    assert!(
        store.events.ledger().events.dropped["damage"] > 0 && store.feed.watch().borrow().seq == last.seq
    );
    assert!(!is_known(&store, 0));
    store.close();
}
