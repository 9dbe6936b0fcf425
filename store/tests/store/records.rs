//! The store through its public interface: acknowledged data is there after a restart, and erased data is
//! gone.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::time::Duration;

use crate::statistics::statistics;
use gatehouse_gallery::calibration::Calibration;
use gatehouse_gallery::{Basis, Encoding, GallerySettings};
use gatehouse_model::{Event, EventKey, Identification, Metric, Outcome, Person, Timestamp};
use gatehouse_store::Store;
use gatehouse_store::record::{Item, ObjectPlace};
use gatehouse_store::store::{
    Change, EventQuery, MediaOutcome, MediaQuery, OpenReport, OrderedBy, ProbeFace, Refusal, RequestError,
    RetentionPolicy, StoreSettings,
};
use gatehouse_vault::keys::RootKey;

const DIMENSIONS: usize = 16;

fn settings(directory: &Path) -> StoreSettings {
    StoreSettings {
        directory: directory.to_owned(),
        gallery: GallerySettings {
            model: "test-16".into(),
            dimensions: DIMENSIONS,
            metric: Metric::Euclidean,
            normalised: false,
            threshold: 0.5,
            camera_thresholds: HashMap::new(),
            minimum_quality: 0.2,
            exact_limit: 10_000,
        },
        media_quota_bytes: 10_000,
        reserve_free_bytes: 0,
        orphan_media: Duration::from_secs(3600),
        central_rows: true,
    }
}

fn root() -> RootKey {
    RootKey::from_bytes([7; 32])
}

fn open(directory: &Path) -> (Store, OpenReport) {
    Store::open(settings(directory), &root()).unwrap()
}

fn encoding(seed: usize) -> Encoding {
    let mut components = vec![0.01; DIMENSIONS];
    components[seed % DIMENSIONS] = 1.0;
    Encoding::new(components, DIMENSIONS).unwrap()
}

fn key(id: &str) -> EventKey {
    EventKey { camera: "front".try_into().unwrap(), id: id.try_into().unwrap() }
}

fn event(id: &str) -> Event {
    Event {
        key: key(id),
        kind: "face".into(),
        occurred_at: None,
        received_at: Timestamp::now(),
        media: Vec::new(),
        attributes: "{}".into(),
    }
}

fn answer(store: &Store, seed: usize) -> Identification<Person> {
    let face = ProbeFace { encoding: encoding(seed), quality: Some(0.9) };
    store.galleries.identify(&key("x").camera, &[face])
}

async fn visit(store: &Store, id: &str, seed: usize) {
    let answer = answer(store, seed);
    store.events.record(event(id), answer).await.unwrap().await.unwrap();
}

/// Waits until the views have applied everything that is durable.
async fn settle(store: &Store) {
    store.feed.caught_up().await.unwrap();
}

fn all(store: &Store) -> EventQuery {
    let _ = store;
    EventQuery { limit: 100, ..EventQuery::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_visit_is_known_again_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let (store, _) = open(directory.path());
    store.people.enroll("p1", "Ada", vec![encoding(1)]).await.unwrap();
    visit(&store, "e1", 1).await;
    store.close();
    drop(store);
    let (store, report) = open(directory.path());
    assert_eq!(report.views_rebuilt, None);
    assert!(store.events.seen(&key("e1")).await.unwrap());
    assert!(!store.events.seen(&key("e2")).await.unwrap());
    let found = store.events.list(&all(&store)).unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].seq, 1);
    assert_eq!(found[0].identification.faces[0].person.as_ref().unwrap().name, "Ada");
    assert_eq!(answer(&store, 1).faces[0].outcome, Outcome::Match);
    assert_eq!(answer(&store, 2).faces[0].outcome, Outcome::Stranger);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erased_person_is_gone_from_answers_events_and_a_rebuilt_view() {
    let directory = tempfile::tempdir().unwrap();
    let (store, _) = open(directory.path());
    store.people.enroll("p1", "Ada", vec![encoding(1)]).await.unwrap();
    store.people.enroll("p2", "Bob", vec![encoding(2)]).await.unwrap();
    visit(&store, "e1", 1).await;
    settle(&store).await;
    let erased = store.people.erase("p1", OrderedBy::User(0)).await.unwrap();
    assert_eq!(erased.samples, 1);
    assert!(matches!(
        store.people.erase("p1", OrderedBy::User(0)).await,
        Err(RequestError::Refused(Refusal::UnknownPerson(_)))
    ));
    let gone = |store: &Store| {
        assert_eq!(answer(store, 1).faces[0].person, None);
        assert_eq!(store.events.list(&all(store)).unwrap()[0].identification.faces[0].person, None);
        assert_eq!(store.people.list().len(), 1);
    };
    gone(&store);
    store.close();
    drop(store);
    std::fs::remove_dir_all(directory.path().join("views")).unwrap();
    let (store, report) = open(directory.path());
    assert!(report.views_rebuilt.is_some());
    gone(&store);
    assert_eq!(store.people.get("p2").unwrap().name, "Bob");
}

#[tokio::test(flavor = "multi_thread")]
async fn erasure_is_delivered_to_the_central_services_once() {
    let directory = tempfile::tempdir().unwrap();
    let (store, _) = open(directory.path());
    store.people.enroll("p1", "Ada", vec![encoding(1)]).await.unwrap();
    visit(&store, "e1", 1).await;
    store.people.erase("p1", OrderedBy::User(0)).await.unwrap();
    let changes = store.feed.changes(store.feed.rows_cursor(), 100).unwrap();
    let erased: Vec<_> = changes
        .iter()
        .filter_map(|change| match change {
            Change::Erasure { person_id, .. } => Some(person_id.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(erased, ["p1"]);
    let Change::Event { identification, .. } = &changes[0] else { panic!("{changes:?}") };
    assert_eq!(identification.faces[0].person, None, "an erased person is not delivered any more");
    store.feed.rows_delivered(changes.last().unwrap().position()).await.unwrap();
    assert_eq!(store.events.ledger().events.delivered, 1);
    let again = store.feed.changes(gatehouse_journal::Position::default(), 100).unwrap();
    assert!(!again.iter().any(|change| matches!(change, Change::Erasure { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_go_on_where_they_stopped() {
    let directory = tempfile::tempdir().unwrap();
    let (store, _) = open(directory.path());
    for n in 0..25 {
        visit(&store, &format!("e{n}"), 3).await;
        store.events.record_duplicate(Item::Event, 10).await.unwrap().await.unwrap();
    }
    settle(&store).await;
    let (mut at, mut seqs) = (store.feed.rows_cursor(), Vec::new());
    loop {
        let changes = store.feed.changes(at, 7).unwrap();
        let Some(last) = changes.last() else { break };
        at = last.position();
        seqs.extend(changes.iter().filter_map(|change| match change {
            Change::Event { position, .. } => Some(position.seq),
            _ => None,
        }));
    }
    assert_eq!(seqs, (1..=25).collect::<Vec<u64>>());
    assert_eq!(at.lsn, store.upkeep.status().head.lsn);
}

#[tokio::test(flavor = "multi_thread")]
async fn media_finds_its_event_in_either_order() {
    let directory = tempfile::tempdir().unwrap();
    let (store, _) = open(directory.path());
    let name = |n: &str| n.try_into().unwrap();
    let outcome = store.media.put(key("early"), name("a.jpg"), vec![1; 500]).await.unwrap();
    assert!(matches!(outcome, MediaOutcome::Stored(_)));
    assert!(store.media.next_tasks(&HashSet::new(), 9, true).unwrap().is_empty(), "it waits for its event");
    visit(&store, "early", 1).await;
    visit(&store, "late", 1).await;
    store.media.put(key("late"), name("b.jpg"), vec![2; 600]).await.unwrap();
    settle(&store).await;
    let tasks = store.media.next_tasks(&HashSet::new(), 9, true).unwrap();
    assert_eq!(tasks.iter().map(|t| t.media.name.as_str()).collect::<Vec<_>>(), ["a.jpg", "b.jpg"]);
    let again = store.media.put(key("late"), name("b.jpg"), vec![2; 600]).await.unwrap();
    assert!(matches!(again, MediaOutcome::Duplicate(_)));
    let other = store.media.put(key("late"), name("b.jpg"), vec![3; 600]).await.unwrap();
    assert!(matches!(other, MediaOutcome::Refused("media_conflict", _)));
    let place = ObjectPlace { bucket: "b".into(), key: "k".into() };
    store.media.delivered(tasks[0].media.id, place.clone()).await.unwrap();
    store.media.delivered(tasks[0].media.id, place).await.unwrap();
    let ledger = store.events.ledger();
    assert_eq!((ledger.files.stored, ledger.files.delivered, ledger.files.pending()), (2, 1, 1));
    assert_eq!((ledger.bytes.received(), ledger.bytes.delivered), (500 + 600 * 3, 500));
    assert!(ledger.holds());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_quota_gives_up_what_is_delivered_first_and_counts_the_rest() {
    let directory = tempfile::tempdir().unwrap();
    let (store, _) = open(directory.path());
    visit(&store, "e", 1).await;
    for n in 0..4 {
        let name = format!("{n}.jpg").as_str().try_into().unwrap();
        store.media.put(key("e"), name, vec![n; 2500]).await.unwrap();
    }
    let second = store.media.next_tasks(&HashSet::new(), 2, true).unwrap()[1].media.id;
    store.media.delivered(second, ObjectPlace { bucket: "b".into(), key: "k".into() }).await.unwrap();
    store.media.put(key("e"), "new.jpg".try_into().unwrap(), vec![9; 2500]).await.unwrap();
    assert!(matches!(store.media.open(&second), Err(RequestError::Refused(Refusal::UnknownMedia))));
    assert!(store.events.ledger().files.dropped.is_empty(), "what was delivered is no loss");
    store.media.put(key("e"), "newer.jpg".try_into().unwrap(), vec![9; 2500]).await.unwrap();
    assert_eq!(store.events.ledger().files.dropped["quota"], 1);
    let too_large = store.media.put(key("e"), "huge.jpg".try_into().unwrap(), vec![9; 20_000]).await.unwrap();
    assert!(matches!(too_large, MediaOutcome::Refused("disk_full", _)));
    assert!(store.upkeep.status().media_bytes <= 10_000);
    assert!(store.events.ledger().holds());
    let on_disk = store.media.list(&MediaQuery { event: Some(key("e")), limit: 99 }).unwrap();
    assert_eq!(on_disk.iter().filter(|file| file.on_disk).count(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_worth_least_is_given_up_first() {
    let directory = tempfile::tempdir().unwrap();
    let (store, _) = open(directory.path());
    store.people.enroll("p1", "Ada", vec![encoding(1)]).await.unwrap();
    visit(&store, "friend", 1).await;
    visit(&store, "stranger", 2).await;
    let put = async |event: &str, name: &str| {
        store.media.put(key(event), name.try_into().unwrap(), vec![1; 2500]).await.unwrap()
    };
    put("friend", "a.jpg").await;
    put("stranger", "b.jpg").await;
    put("friend", "c.mp4").await;
    put("later", "d.jpg").await;
    let there = || -> Vec<String> {
        let files = store.media.list(&MediaQuery { event: None, limit: 99 }).unwrap();
        let mut names: Vec<_> =
            files.iter().filter(|f| f.on_disk).map(|f| f.media.name.as_str().to_owned()).collect();
        names.sort();
        names
    };
    put("friend", "e.jpg").await;
    assert_eq!(there(), ["a.jpg", "b.jpg", "c.mp4", "e.jpg"], "its event never came");
    put("friend", "f.jpg").await;
    assert_eq!(there(), ["a.jpg", "b.jpg", "e.jpg", "f.jpg"], "a clip is large and adds little information");
    put("friend", "g.jpg").await;
    assert_eq!(there(), ["a.jpg", "e.jpg", "f.jpg", "g.jpg"], "a picture of a stranger");
    put("friend", "h.jpg").await;
    assert_eq!(there(), ["e.jpg", "f.jpg", "g.jpg", "h.jpg"], "the oldest");
    assert_eq!(store.events.ledger().files.dropped["quota"], 4);
    assert!(store.events.ledger().holds());
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_personal_is_readable_in_the_state_directory() {
    let directory = tempfile::tempdir().unwrap();
    let (store, _) = open(directory.path());
    store.people.enroll("person-4711", "Ada Lovelace", vec![encoding(1)]).await.unwrap();
    visit(&store, "e1", 1).await;
    let picture = b"JFIF picture of Ada".repeat(20);
    store.media.put(key("e1"), "a.jpg".try_into().unwrap(), picture).await.unwrap();
    settle(&store).await;
    store.close();
    let needles =
        [b"person-4711".to_vec(), b"Ada".to_vec(), b"JFIF".to_vec(), encoding(1).to_bytes()[..16].to_vec()];
    let mut files = 0;
    for file in walk(directory.path()) {
        let bytes = std::fs::read(&file).unwrap();
        files += 1;
        for needle in &needles {
            let found = bytes.windows(needle.len()).any(|window| window == needle.as_slice());
            assert!(!found, "{} shows {needle:?}", file.display());
        }
    }
    assert!(files >= 5, "journal, keys, format, views and media were looked at");
}

fn walk(directory: &Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap().flatten() {
        match entry.file_type().unwrap().is_dir() {
            true => files.extend(walk(&entry.path())),
            false => files.push(entry.path()),
        }
    }
    files
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_view_is_rebuilt_and_says_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let (store, _) = open(directory.path());
    store.people.enroll("p1", "Ada", vec![encoding(1)]).await.unwrap();
    for n in 0..50 {
        visit(&store, &format!("e{n}"), n % 3).await;
    }
    settle(&store).await;
    let (before, ledger) = (store.events.list(&all(&store)).unwrap(), store.events.ledger());
    store.close();
    drop(store);
    let db = directory.path().join("views/db");
    let mut bytes = std::fs::read(&db).unwrap();
    let middle = bytes.len().min(4096) / 2;
    bytes[middle] ^= 0x40;
    let cut = bytes.len() / 2;
    std::fs::write(&db, &bytes[..cut]).unwrap();
    let (store, _) = open(directory.path());
    assert_eq!(store.events.list(&all(&store)).unwrap(), before);
    assert_eq!(store.events.ledger(), ledger);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_record_hides_no_other_event() {
    let directory = tempfile::tempdir().unwrap();
    let (store, _) = open(directory.path());
    for n in 0..30 {
        visit(&store, &format!("e{n}"), n % 3).await;
    }
    settle(&store).await;
    store.close();
    drop(store);
    let journal = walk(&directory.path().join("journal"));
    let segment = journal.iter().max_by_key(|path| std::fs::metadata(path).unwrap().len()).unwrap();
    let mut bytes = std::fs::read(segment).unwrap();
    let middle = bytes.len() / 2;
    // Longer than a mark, so that an event is certainly hit.
    bytes[middle..middle + 100].fill(0);
    std::fs::write(segment, bytes).unwrap();
    let (store, report) = open(directory.path());
    assert!(!report.damaged.is_empty());
    let listed = store.events.list(&all(&store)).unwrap().len();
    assert!((20..30).contains(&listed), "{listed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_whose_event_never_comes_is_dropped_in_time_and_counted() {
    let directory = tempfile::tempdir().unwrap();
    let settings = StoreSettings { orphan_media: Duration::ZERO, ..settings(directory.path()) };
    let (store, _) = Store::open(settings, &root()).unwrap();
    visit(&store, "known", 1).await;
    for event in ["known", "unknown"] {
        store.media.put(key(event), "a.jpg".try_into().unwrap(), vec![1; 500]).await.unwrap();
    }
    assert_eq!(store.media.drop_orphans().await.unwrap(), 1);
    assert_eq!(store.media.drop_orphans().await.unwrap(), 0);
    let ledger = store.events.ledger();
    assert_eq!((ledger.files.stored, ledger.files.dropped["no_event"], ledger.files.pending()), (2, 1, 1));
    let gone = store.media.list(&MediaQuery { event: Some(key("unknown")), limit: 9 }).unwrap();
    assert!(!gone[0].on_disk);
    assert!(matches!(store.media.open(&gone[0].media.id), Err(RequestError::Refused(Refusal::UnknownMedia))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_calibration_and_strangers_outlive_a_restart_and_the_views() {
    let directory = tempfile::tempdir().unwrap();
    let (store, _) = open(directory.path());
    store.people.enroll("p1", "Ada", vec![encoding(1)]).await.unwrap();
    store.galleries.set_target_fpir(Some(0.001), 0.001);
    store.galleries.renew_thresholds().unwrap();
    assert_eq!(
        (store.galleries.current().threshold(None).basis, answer(&store, 1).faces[0].outcome),
        (Basis::Unknown, Outcome::Stranger)
    );
    let other =
        Calibration { model: "another".into(), ..statistics("test-16", DIMENSIONS, Metric::Euclidean) };
    let refused = store.galleries.calibrate(None, Some(other)).await;
    assert!(matches!(refused, Err(RequestError::Refused(Refusal::Calibration(_)))), "{refused:?}");
    let lines = store
        .galleries
        .calibrate(None, Some(statistics("test-16", DIMENSIONS, Metric::Euclidean)))
        .await
        .unwrap();
    assert_eq!((lines[0].basis, lines[0].calibration.as_deref()), (Basis::Model, Some("made up")));
    assert_eq!(answer(&store, 1).faces[0].outcome, Outcome::Match);
    for number in 0..200 {
        let id = format!("e{number}");
        let at = Timestamp(Timestamp::now().0 + number * 3_600_000_000);
        let event = Event { received_at: at, ..event(&id) };
        let answer = answer(&store, 2);
        store.events.record(event, answer).await.unwrap().await.unwrap();
    }
    // On a slow machine the next fit is delayed.
    let end = std::time::Instant::now() + Duration::from_secs(10);
    while store.galleries.current().threshold(None).visits == 0.0 && std::time::Instant::now() < end {
        store.galleries.renew_thresholds().unwrap();
    }
    let derived = store.galleries.current().threshold(None);
    assert_eq!((derived.visits, derived.basis), (200.0, Basis::Model));
    assert_eq!(
        answer(&store, 2).faces[0].threshold,
        store.galleries.current().threshold(Some("front")).threshold
    );
    store.close();
    drop(store);

    std::fs::remove_dir_all(directory.path().join("views")).unwrap();
    let (store, _) = open(directory.path());
    store.galleries.set_target_fpir(Some(0.001), 0.001);
    store.galleries.renew_thresholds().unwrap();
    assert_eq!(store.galleries.current().threshold(None), derived);
    let lines = store.galleries.calibrate(None, None).await.unwrap();
    assert_eq!((lines[0].basis, &lines[0].calibration), (Basis::Unknown, &None));
    store.galleries.set_target_fpir(None, 0.001);
    assert_eq!(answer(&store, 2).faces[0].threshold, 0.5);
    store.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn more_files_than_one_batch_are_evicted_dropped_and_expired() {
    let directory = tempfile::tempdir().unwrap();
    let (store, _) = open(directory.path());
    visit(&store, "e", 1).await;
    let put = async |name: String, bytes: usize| {
        store.media.put(key("e"), name.as_str().try_into().unwrap(), vec![1; bytes]).await.unwrap()
    };
    for n in 0..40 {
        put(format!("{n}.jpg"), 200).await;
    }
    assert!(matches!(put("large.jpg".into(), 9_900).await, MediaOutcome::Stored(_)));
    assert_eq!(store.events.ledger().files.dropped["quota"], 40);

    put("large-again.jpg".into(), 2_000).await;
    for n in 40..80 {
        put(format!("{n}.jpg"), 190).await;
    }
    let expire_all = RetentionPolicy {
        delivered: Duration::MAX,
        media: Duration::ZERO,
        undelivered: Some(Duration::ZERO),
        people: None,
        clock_is_set: true,
    };
    for view in store.media.list(&MediaQuery { event: Some(key("e")), limit: 99 }).unwrap() {
        if view.on_disk && view.media.size == 190 && view.media.name.as_str() < "60" {
            let place = ObjectPlace { bucket: "b".into(), key: view.media.name.as_str().to_owned() };
            store.media.delivered(view.media.id, place).await.unwrap();
        }
    }
    let retained = store.upkeep.retain(&expire_all).await.unwrap();
    assert_eq!((retained.files_evicted, retained.files_dropped), (20, 21));
    assert_eq!(store.upkeep.status().media_bytes, 0);
    assert!(store.events.ledger().holds());
}
