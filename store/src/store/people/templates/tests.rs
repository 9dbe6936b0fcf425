use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use gatehouse_gallery::Encoding;
use gatehouse_model::{CameraName, Outcome};

use super::*;
use crate::store::{OpenReport, ProbeFace, Store, testing};
use gatehouse_receipt::By;

const DIMENSIONS: usize = 128;
const PEOPLE: usize = 12;
const SAMPLES: usize = 3;
/// Binding of a sample in the first gallery.
const FIRST_SAMPLE: Binding = Binding { role: SAMPLE, gallery: 0 };

fn open(directory: &Path) -> (Store, OpenReport) {
    testing::open(directory, "test", DIMENSIONS)
}

/// A sample of a person, pseudo-random but reproducible; samples of one person are close together.
fn sample(person: usize, nth: usize) -> Encoding {
    let mut of_person = fastrand::Rng::with_seed(person as u64);
    let mut of_sample = fastrand::Rng::with_seed((person * 1000 + nth) as u64);
    let mut component = || (of_person.f32() - 0.5) * 0.4 + (of_sample.f32() - 0.5) * 0.04;
    Encoding::new((0..DIMENSIONS).map(|_| component()).collect(), DIMENSIONS).unwrap()
}

async fn enroll_all(store: &Store) {
    for person in 0..PEOPLE {
        let samples = (0..SAMPLES).map(|nth| sample(person, nth)).collect();
        store.people.enroll(&format!("p{person}"), "Name", samples).await.unwrap();
    }
}

fn identify(store: &Store, encoding: Encoding) -> (Outcome, Option<String>) {
    let camera = CameraName::try_from("front").unwrap();
    let answer = store.galleries.identify(&camera, &[ProbeFace { encoding, quality: None }]);
    (answer.faces[0].outcome, answer.faces[0].person.as_ref().map(|person| person.id.clone()))
}

fn assert_all_are_recognised(store: &Store, what: &str) {
    for person in 0..PEOPLE {
        let found = identify(store, sample(person, 99));
        assert_eq!(found, (Outcome::Match, Some(format!("p{person}"))), "{what}");
    }
    assert_eq!(identify(store, sample(500, 0)).0, Outcome::Stranger, "{what}");
    assert_eq!(store.upkeep.status().templates, PEOPLE * SAMPLES, "{what}");
}

fn stored(store: &Store) -> Vec<(KeyId, Vec<u8>)> {
    let of = |person| store.core.views.scan(templates_of(&person), false).map(move |t| (person, t));
    let people = store.core.people().keys();
    people.iter().flat_map(|(person, _)| of(*person)).map(|(p, t)| (p, t.unwrap().1.to_vec())).collect()
}

fn template_keys(store: &Store) -> Vec<KeyId> {
    store.core.keys.ids(KeyKind::Template)
}

fn first_gallery() -> Numbers {
    Numbers { dimensions: [(0, DIMENSIONS)].into(), ..Numbers::default() }
}

fn close(store: Store) {
    store.close();
    drop(store);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stored_template_cannot_be_opened_with_one_of_its_keys() {
    let directory = tempfile::tempdir().unwrap();
    let (store, _) = open(directory.path());
    store.people.enroll("p0", "Name", vec![sample(0, 0)]).await.unwrap();
    let (person, bytes) = stored(&store).remove(0);
    let key = store.core.keys.key(&person).unwrap();
    let (id, sealed) = bytes.split_first_chunk::<ID_BYTES>().unwrap();
    assert!(key.open(&FIRST_SAMPLE.bytes(id), sealed).is_err(), "the person's key alone opens it");
    assert!(
        store.core.templates().data.open(&FIRST_SAMPLE.bytes(id), sealed).is_err(),
        "the template key alone opens it"
    );
    // With both keys it is a template of this deployment, not an encoding of the model.
    let both = key.joined(&store.core.templates().data).unwrap();
    let template =
        Protected::from_bytes(&both.open(&FIRST_SAMPLE.bytes(id), sealed).unwrap(), DIMENSIONS).unwrap();
    let distance = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| (x - y).powi(2)).sum::<f32>().sqrt();
    let plain = sample(0, 0);
    assert!(distance(plain.as_slice(), template.as_slice()) > distance(plain.as_slice(), &[0.0; DIMENSIONS]));
    // The gallery compares with the same template.
    assert_eq!(store.core.templates().transform(DIMENSIONS).protect(&plain).unwrap(), template);
}

#[tokio::test(flavor = "multi_thread")]
async fn all_are_recognised_after_a_restart_a_renewal_and_a_rebuild_of_the_views() {
    let directory = tempfile::tempdir().unwrap();
    let (store, _) = open(directory.path());
    assert_eq!(template_keys(&store).len(), 1, "a new state has a template key");
    enroll_all(&store).await;
    close(store);
    let (store, report) = open(directory.path());
    assert_eq!(report.damaged, Vec::<String>::new());
    assert_all_are_recognised(&store, "after a restart");
    let before = (template_keys(&store), stored(&store));
    let rotated = store.people.rotate_templates().await.unwrap();
    let want = TemplatesRotated { generation: 2, people: PEOPLE, templates: PEOPLE * SAMPLES, unreadable: 0 };
    assert_eq!(rotated, want);
    assert_all_are_recognised(&store, "after a renewal");
    let after = template_keys(&store);
    assert!(after.len() == 1 && after != before.0, "the old key is destroyed");
    for (person, bytes) in &before.1 {
        let mut keys = TemplateKeys::open(&store.core.views, &store.core.keys, first_gallery()).unwrap();
        let named = KeyId::from_bytes(*bytes.first_chunk().unwrap());
        assert!(matches!(keys.of(named), Err(StoreError::Key(KeyError::Destroyed(_)))), "{person}");
    }
    store.people.enroll("p0", "Name", vec![sample(0, 7)]).await.unwrap();
    assert_eq!(store.upkeep.key_status("dev", "house-1").template_generation, 2);
    store.people.rotate_templates().await.unwrap();
    close(store);
    std::fs::remove_dir_all(directory.path().join("views")).unwrap();
    let (store, report) = open(directory.path());
    assert!(report.views_rebuilt.is_some());
    assert_eq!(report.damaged, Vec::<String>::new());
    assert_eq!(store.upkeep.key_status("dev", "house-1").template_generation, 3);
    assert_eq!(store.people.get("p0").unwrap().samples, SAMPLES + 1);
    store.people.erase("p0", By::User(0)).await.unwrap();
    assert_eq!(identify(&store, sample(0, 7)).0, Outcome::Stranger);
    assert_eq!(identify(&store, sample(1, 7)).0, Outcome::Match);
}

#[tokio::test(flavor = "multi_thread")]
async fn probes_are_answered_while_templates_are_renewed() {
    let directory = tempfile::tempdir().unwrap();
    let (store, _) = open(directory.path());
    enroll_all(&store).await;
    let done = Arc::new(AtomicBool::new(false));
    let probing = std::thread::spawn({
        let (store, done) = (store.clone(), Arc::clone(&done));
        move || {
            let mut passes = 0;
            while !done.load(Ordering::Relaxed) || passes == 0 {
                assert_all_are_recognised(&store, "during a renewal");
                passes += 1;
            }
        }
    });
    for _ in 0..10 {
        store.people.rotate_templates().await.unwrap();
    }
    done.store(true, Ordering::Relaxed);
    probing.join().unwrap();
    assert_eq!(template_keys(&store).len(), 1);
}

/// Fails a renewal after `at` appends. Returns whether it failed.
async fn rotate_until(store: &Store, at: usize) -> bool {
    let (store, handle) = (store.clone(), Handle::current());
    let rotation = tokio::task::spawn_blocking(move || {
        let mut appended = 0;
        let mut real = append_to(&store.core.journal);
        store.people.rotate_with(&handle, &mut |record| {
            appended += 1;
            if appended > at { Err(StoreError::Stopping) } else { real(record) }
        })
    });
    rotation.await.unwrap().is_err()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_interrupted_at_any_step_leaves_one_generation_and_all_recognised() {
    // The key record, one per person, and the retirement of the old key.
    for at in 0..PEOPLE + 3 {
        let directory = tempfile::tempdir().unwrap();
        let (store, _) = open(directory.path());
        enroll_all(&store).await;
        let cut_off = rotate_until(&store, at).await;
        assert_eq!(cut_off, at < PEOPLE + 2, "{at}");
        // A daemon that keeps running works. New enrollments are under either key.
        assert_all_are_recognised(&store, "right after");
        store.people.enroll("late", "Late", vec![sample(77, 0)]).await.unwrap();
        store.people.erase("late", By::User(0)).await.unwrap();
        close(store);
        if at % 2 == 1 {
            std::fs::remove_dir_all(directory.path().join("views")).unwrap();
        }
        let (store, report) = open(directory.path());
        assert_eq!(report.damaged, Vec::<String>::new(), "{at}");
        assert_all_are_recognised(&store, &format!("cut off after {at} appends"));
        store.core.wait_applied(store.core.journal.head()).await.unwrap();
        let keys = template_keys(&store);
        assert_eq!(keys, [store.core.templates().mark.key], "{at}: one key is left");
        assert!(stored(&store).iter().all(|(_, bytes)| bytes.starts_with(keys[0].as_bytes())), "{at}");
        let generation = if at == 0 { 1 } else { 2 };
        assert_eq!(store.upkeep.key_status("dev", "house-1").template_generation, generation, "{at}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_old_key_is_kept_while_a_person_cannot_be_read() {
    let directory = tempfile::tempdir().unwrap();
    let (store, _) = open(directory.path());
    enroll_all(&store).await;
    let person = store.core.keys.create(KeyKind::Person).unwrap();
    store.core.change(&Record::Profile { person, sealed: vec![1; 40] }).await.unwrap();
    close(store);
    let (store, report) = open(directory.path());
    assert_eq!(report.damaged.len(), 1);
    assert_eq!(store.people.rotate_templates().await.unwrap().unreadable, 1);
    assert_eq!(template_keys(&store).len(), 2);
    assert_all_are_recognised(&store, "with an unreadable person");
    close(store);
    let (store, _) = open(directory.path());
    assert_eq!(template_keys(&store).len(), 2);
    assert_all_are_recognised(&store, "with an unreadable person, later");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_template_key_the_store_opens_and_recognises_no_person() {
    let directory = tempfile::tempdir().unwrap();
    let (store, _) = open(directory.path());
    enroll_all(&store).await;
    store.core.keys.destroy(&template_keys(&store)[0]).unwrap();
    close(store);
    let (store, report) = open(directory.path());
    assert_eq!(report.damaged.len(), PEOPLE);
    assert_eq!(identify(&store, sample(0, 0)).0, Outcome::Stranger);
    store.people.enroll("new", "Name", vec![sample(0, 0)]).await.unwrap();
    assert_eq!(identify(&store, sample(0, 0)).0, Outcome::Match);
}

#[tokio::test(flavor = "multi_thread")]
async fn templates_of_a_gallery_of_which_nothing_else_is_known_are_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let (store, _) = open(directory.path());
    store.people.enroll("p0", "Name", vec![sample(0, 0)]).await.unwrap();
    let (person, key) = store.core.people().keys().remove(0);
    let read = |galleries: Numbers| {
        let mut keys = TemplateKeys::open(&store.core.views, &store.core.keys, galleries).unwrap();
        let known = keys.read(&store.core.views, person, &key).unwrap();
        let records = known.records(&keys.now).unwrap().len();
        (known.templates(), known.is_behind, known.lost.len(), records)
    };
    assert_eq!(read(first_gallery()), (1, false, 0, 1));
    assert_eq!(read(Numbers::default()), (0, false, 1, 0), "no record empties it");
    let gone = Numbers { gone: [0].into(), ..Numbers::default() };
    assert_eq!(read(gone), (0, true, 0, 1), "what was removed is emptied");
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_of_a_stored_template_is_detected() {
    let directory = tempfile::tempdir().unwrap();
    let (store, _) = open(directory.path());
    store.people.enroll("p0", "Name", vec![sample(0, 0)]).await.unwrap();
    let (person, mut bytes) = stored(&store).remove(0);
    let key = store.core.keys.key(&person).unwrap();
    let now = store.core.templates();
    assert!(now.can_open(&key, 0, &bytes) && !now.can_open(&key, 1, &bytes));
    bytes[ID_BYTES + 20] ^= 1;
    assert!(!now.can_open(&key, 0, &bytes) && !now.can_open(&key, 0, &bytes[..4]));
}
