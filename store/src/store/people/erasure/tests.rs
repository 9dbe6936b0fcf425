use gatehouse_gallery::Encoding;
use gatehouse_model::{Event, EventKey, KeyId, MediaName, OrderId};
use tempfile::TempDir;

use super::*;
use crate::deployment::DeploymentKey;
use crate::receipt_subject::receipt_subject;
use crate::store::testing::{open, visit};
use crate::store::{ErasureStatement, EventView, MediaOutcome, ProbeFace, Store};

const CANARY: &str = r#"{"sub_label":"canary of the attributes"}"#;

fn encoding(of: usize) -> Encoding {
    let mut values = vec![0.0; 4];
    values[of] = 1.0;
    Encoding::new(values, 4).unwrap()
}

/// Anna, Bert, and a visit of each, of both, and of a stranger, with a picture each.
async fn visited(folder: &TempDir) -> Store {
    let (store, _) = open(folder.path(), "test", 4);
    share(&store);
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

fn share(store: &Store) {
    store.people.share(std::sync::Arc::new(DeploymentKey::new("5b".repeat(32).as_bytes()).unwrap()));
}

/// The appliance states the erasure of Anna once, with all that was found.
fn assert_stated(store: &Store, what: &str) {
    let statements = store.feed.statements().unwrap();
    let [ErasureStatement { subject, account, .. }] = statements.as_slice() else {
        panic!("{what}: {statements:?}");
    };
    assert_eq!(*subject, receipt_subject("5b".repeat(32).as_bytes(), "anna").unwrap(), "{what}");
    let ErasureFound { templates, references, attributes, files, bytes } = account.found;
    assert_eq!(attributes, 2, "{what}");
    assert_eq!((templates, references, files, bytes), (1, 2, 2, 8), "{what}");
    assert_eq!((account.checks.free_slots, account.checks.profiles), (2, 1), "{what}");
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
    let erased = store.people.erase("anna", By::User(0)).await.unwrap();
    assert_eq!((erased.samples, erased.visits, erased.files), (1, 2, 2));
    assert_erased(&store, "at once");
    assert_stated(&store, "at once");
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
    let deployment = store.core.deployment().unwrap();
    let erasure = Erasure {
        order: OrderId::random(),
        person,
        at: store.core.stamp(),
        by: By::User(0),
        found: None,
        reference: Some(deployment.reference("anna")),
        notice: None,
    };
    let mut all = vec![Record::ErasureOrdered(erasure.clone())];
    let mut found = ErasureFound { templates: 1, references: 2, attributes: 2, ..ErasureFound::default() };
    for id in store.people.visits_of(&person).unwrap().files {
        let file: FileEntry = store.core.views.get(&Key::File(id)).unwrap().unwrap();
        all.extend(removal(&file));
        found = ErasureFound { files: found.files + 1, bytes: found.bytes + file.media.size, ..found };
    }
    all.push(Record::Erased(Erasure { found: Some(found), ..erasure }));
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
        share(&store);
        assert_eq!(store.people.finish_erasures().await.unwrap(), 1, "{what}");
        assert_erased(&store, &what);
        assert_stated(&store, &what);
        store.close();
    }
}

#[tokio::test]
async fn the_verification_finds_what_an_erasure_left() {
    let folder = tempfile::tempdir().unwrap();
    let store = visited(&folder).await;
    let person = store.core.people().key_of("anna").unwrap();
    let template = store.people.template_of(&person).unwrap();
    let witness = || Witness { template: Some(template.clone()), files: Vec::new() };
    let verify = |witness| store.people.verify_erased(&person, &ErasureFound::default(), &witness);
    assert!(matches!(verify(witness()), Err(StoreError::Erasure)));
    store.people.erase("anna", By::User(0)).await.unwrap();
    assert_eq!(verify(witness()).unwrap().searches, 1);
    // A template or a file that is left is found.
    let left = vec![files(&store).remove(0)];
    assert!(matches!(verify(Witness { files: left, ..witness() }), Err(StoreError::Erasure)));
    let gallery = &store.core.galleries().in_use;
    gallery.gallery.add(person, std::slice::from_ref(&template));
    assert!(matches!(verify(witness()), Err(StoreError::Erasure)));
    store.close();
}
