use gatehouse_gallery::Encoding;
use gatehouse_model::{Event, EventKey, KeyId, MediaName, OrderId};
use tempfile::TempDir;

use super::*;
use crate::store::testing::{open, visit};
use crate::store::{EventView, MediaOutcome, ProbeFace, Store};

const CANARY: &str = r#"{"sub_label":"canary of the attributes"}"#;

fn encoding(of: usize) -> Encoding {
    let mut values = vec![0.0; 4];
    values[of] = 1.0;
    Encoding::new(values, 4).unwrap()
}

/// Anna, Bert, and a visit of each, of both, and of a stranger, with a picture each.
async fn visited(folder: &TempDir) -> Store {
    let (store, _) = open(folder.path(), "test", 4);
    store.people.enroll("anna", "Anna", vec![encoding(0)]).await.unwrap();
    store.people.enroll("bert", "Bert", vec![encoding(1)]).await.unwrap();
    for (id, faces) in [("anna", vec![0]), ("bert", vec![1]), ("both", vec![0, 1]), ("stranger", vec![2])] {
        let event = Event { attributes: CANARY.into(), ..visit(id) };
        let faces: Vec<_> =
            faces.into_iter().map(|of| ProbeFace { encoding: encoding(of), quality: None }).collect();
        let answer = store.galleries.identify(&event.key.camera, &faces);
        let key = event.key.clone();
        store.events.record(event, answer).await.unwrap().await.unwrap();
        let stored = store.media.put(key, name(), id.as_bytes().to_vec()).await.unwrap();
        assert!(matches!(stored, MediaOutcome::Stored(_)));
    }
    store
}

fn name() -> MediaName {
    "picture.jpg".try_into().unwrap()
}

fn event(store: &Store, id: &str) -> EventView {
    let key = EventKey { camera: "front".try_into().unwrap(), id: id.try_into().unwrap() };
    store.events.get(&key).unwrap().unwrap()
}

fn people_in(store: &Store, id: &str) -> Vec<String> {
    let faces = event(store, id).identification.faces;
    faces.into_iter().filter_map(|face| face.person).map(|person| person.id).collect()
}

fn files(store: &Store) -> Vec<KeyId> {
    store.core.files.ids().unwrap()
}

fn assert_erased(store: &Store, what: &str) {
    assert!(store.people.get("anna").is_none(), "{what}");
    assert_eq!(people_in(store, "anna"), Vec::<String>::new(), "{what}");
    assert_eq!(people_in(store, "both"), ["bert"], "{what}");
    assert_eq!(people_in(store, "bert"), ["bert"], "{what}");
    for (id, attributes) in [("anna", "{}"), ("both", "{}"), ("bert", CANARY), ("stranger", CANARY)] {
        assert_eq!(event(store, id).event.attributes, attributes, "{what}: {id}");
    }
    assert_eq!(files(store).len(), 2, "{what}: the pictures of Bert alone and of the stranger are left");
    let ledger = &store.core.numbers.borrow().totals.ledger;
    assert_eq!(ledger.files.dropped.get(ERASURE), Some(&2), "{what}");
    assert!(ledger.holds(), "{what}");
    assert_eq!(store.core.views.scan(vec![entries::ERASURE_UNDER_WAY], false).count(), 0, "{what}");
}

#[tokio::test]
async fn an_erasure_takes_the_pictures_and_attributes_of_all_visits_along() {
    let folder = tempfile::tempdir().unwrap();
    let store = visited(&folder).await;
    assert_eq!(people_in(&store, "both"), ["anna", "bert"]);
    assert_eq!(event(&store, "both").event.attributes, CANARY);
    let erased = store.people.erase("anna").await.unwrap();
    assert_eq!((erased.samples, erased.visits, erased.files), (1, 2, 2));
    assert_erased(&store, "at once");
    store.close();
    drop(store);
    let (store, report) = open(folder.path(), "test", 4);
    assert_eq!((report.damaged, report.cleared), (Vec::new(), 0));
    assert_erased(&store, "after a restart");
    assert_eq!(store.people.finish_erasures().await.unwrap(), 0);
    store.close();
}

/// The records of an erasure, of which a crash lets the first ones become durable.
async fn interrupted_after(store: &Store, records: usize) {
    let person = store.core.people().key_of("anna").unwrap();
    let erasure =
        Erasure { order: OrderId::random(), person, at: store.core.stamp(), reference: None, notice: None };
    let mut all = vec![Record::ErasureOrdered(erasure.clone())];
    for id in store.people.visits_of(&person).unwrap().files {
        let file: FileEntry = store.core.views.get(&Key::File(id)).unwrap().unwrap();
        all.extend(removal(&file));
    }
    all.push(Record::Erased(erasure));
    all.truncate(records);
    store.core.change_all(all).await.unwrap();
}

#[tokio::test]
async fn an_erasure_that_was_interrupted_anywhere_is_completed() {
    // The order, two records for each of two files, and the end.
    for records in 1..=6 {
        let folder = tempfile::tempdir().unwrap();
        let store = visited(&folder).await;
        interrupted_after(&store, records).await;
        store.close();
        drop(store);
        let what = format!("after {records} records");
        let (store, _) = open(folder.path(), "test", 4);
        assert!(store.people.get("anna").is_none(), "{what}: no answer names her from the order on");
        assert_eq!(store.people.finish_erasures().await.unwrap(), usize::from(records < 6), "{what}");
        assert_erased(&store, &what);
        store.close();
    }
}

#[tokio::test]
async fn the_verification_finds_what_an_erasure_left() {
    let folder = tempfile::tempdir().unwrap();
    let store = visited(&folder).await;
    let person = store.core.people().key_of("anna").unwrap();
    assert!(matches!(store.people.verify_erased(&person), Err(StoreError::Erasure)));
    store.people.erase("anna").await.unwrap();
    store.people.verify_erased(&person).unwrap();
    store.close();
}
