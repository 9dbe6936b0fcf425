use std::path::Path;

use super::*;
use crate::store::Store;
use crate::store::testing;

const DIMENSIONS: usize = 8;

fn open(directory: &Path, key: &Arc<DeploymentKey>) -> Store {
    let store = testing::open(directory, "test", DIMENSIONS).0;
    store.people.share(Arc::clone(key));
    store
}

fn key() -> Arc<DeploymentKey> {
    Arc::new(DeploymentKey::new(DeploymentKey::generate().as_bytes()).unwrap())
}

fn sample(of: usize) -> Encoding {
    let mut components = vec![0.1; DIMENSIONS];
    components[of] = 1.0;
    Encoding::new(components, DIMENSIONS).unwrap()
}

fn shared(store: &Store, id: &str) -> Shared {
    let key_id = store.core.people().key_of(id).unwrap();
    store.people.shared(&key_id).unwrap()
}

fn now() -> Timestamp {
    Timestamp::now()
}

#[tokio::test]
async fn a_person_is_merged_into_another_appliance_once() {
    let (folder, other, key) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), key());
    let (one, two) = (open(folder.path(), &key), open(other.path(), &key));
    one.people.enroll("anna", "Anna", vec![sample(0), sample(1)]).await.unwrap();
    let anna = shared(&one, "anna");
    assert!(two.people.merge(&anna, now()).await.unwrap());
    assert!(!two.people.merge(&anna, now()).await.unwrap(), "merged already");
    assert!(!one.people.merge(&shared(&two, "anna"), now()).await.unwrap(), "nothing new comes back");
    assert_eq!(two.people.get("anna").unwrap().samples, 2);

    // Each appliance has its own template space. In the deployment's space the templates are equal.
    let (a, b) = (shared(&one, "anna").samples, shared(&two, "anna").samples);
    let near = |(a, b): (&SharedSample, &SharedSample)| {
        a.template.as_slice().iter().zip(b.template.as_slice()).all(|(a, b)| (a - b).abs() < 1e-5)
    };
    assert!(a.iter().zip(&b).all(near));

    // Both change the person. Both have all changes, also after a restart.
    one.people.enroll("anna", "Anna", vec![sample(2)]).await.unwrap();
    two.people.rename("anna", "Anna B.").await.unwrap();
    two.close();
    let two = open(other.path(), &key);
    assert!(two.people.merge(&shared(&one, "anna"), now()).await.unwrap());
    assert!(one.people.merge(&shared(&two, "anna"), now()).await.unwrap());
    for store in [&one, &two] {
        let anna = store.people.get("anna").unwrap();
        assert_eq!((anna.name.as_str(), anna.samples), ("Anna B.", 3));
    }
    two.close();
    one.close();
}

#[tokio::test]
async fn the_later_name_wins_unless_its_clock_is_wrong() {
    let (folder, key) = (tempfile::tempdir().unwrap(), key());
    let store = open(folder.path(), &key);
    store.people.enroll("anna", "Anna", vec![sample(0)]).await.unwrap();
    let ours = shared(&store, "anna");
    let renamed = |name: &str, named_at: i64| Shared {
        person: Person { name: name.into(), ..ours.person.clone() },
        named_at: Timestamp(named_at),
        ..ours.clone()
    };
    let at = ours.named_at.0;
    assert!(!store.people.merge(&renamed("Earlier", at - 1), now()).await.unwrap());
    assert!(store.people.merge(&renamed("Later", at + 1), now()).await.unwrap());
    assert_eq!(store.people.get("anna").unwrap().name, "Later");
    // Central time is an hour behind the local clock: the local clock is wrong, and the central name wins.
    let central = Timestamp(at - 3_600_000_000);
    assert!(store.people.merge(&renamed("Central", central.0), central).await.unwrap());
    assert_eq!(store.people.get("anna").unwrap().name, "Central");
    // A later local change has a later stamp than all received ones.
    store.people.rename("anna", "Here").await.unwrap();
    assert!(shared(&store, "anna").named_at > central);
    store.close();
}

#[tokio::test]
async fn an_erasure_applies_to_earlier_enrollments() {
    let (folder, key) = (tempfile::tempdir().unwrap(), key());
    let store = open(folder.path(), &key);
    store.people.enroll("anna", "Anna", vec![sample(0)]).await.unwrap();
    let born = shared(&store, "anna").born;
    assert!(
        !store.people.merge_erasure("anna", OrderId::random(), Timestamp(born.0 - 1), now()).await.unwrap()
    );
    assert!(!store.people.merge_erasure("bert", OrderId::random(), born, now()).await.unwrap());
    assert!(store.people.merge_erasure("anna", OrderId::random(), born, now()).await.unwrap());
    assert_eq!(store.people.list(), []);
    store.close();
}

#[tokio::test]
async fn the_cursor_survives_a_restart_and_a_new_gallery_resets_it() {
    let (folder, key) = (tempfile::tempdir().unwrap(), key());
    let store = open(folder.path(), &key);
    let none = store.people.cursor().unwrap();
    assert_eq!(none.upto, 0);
    let some = PeopleCursor { upto: 7, change: [7; 16], newest: Timestamp(i64::from(u32::MAX) * 1_000_000) };
    store.people.advance_cursor(none, some).await.unwrap();
    store.people.advance_cursor(none, PeopleCursor { upto: 9, ..some }).await.unwrap();
    store.close();
    let store = open(folder.path(), &key);
    assert_eq!(store.people.cursor().unwrap(), some, "the cursor advances only from its current value");
    assert!(store.core.stamp() > some.newest, "a stamp is never behind received ones");
    let model =
        gatehouse_model::Model { name: "second".into(), ..store.galleries.current().models().in_use.clone() };
    store.galleries.add(model).await.unwrap();
    assert_eq!(store.people.cursor().unwrap(), some.reset());
    store.people.advance_cursor(some, PeopleCursor { upto: 8, ..some }).await.unwrap();
    assert_eq!(store.people.cursor().unwrap().upto, 0, "what was requested before does not count");
    store.close();
}
