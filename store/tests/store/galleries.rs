//! Two galleries in one store: enrollment, comparison, switch and removal. All of it must survive a restart
//! and a rebuild of the views.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::statistics::statistics;
use gatehouse_gallery::{Encoding, GallerySettings};
use gatehouse_model::{CameraName, EventKey, Identification, Metric, Model, Outcome, Person, Verdict};
use gatehouse_store::Store;
use gatehouse_store::store::{
    Arrival, Enrollment, OrderedBy, Others, ProbeFace, Refusal, RequestError, StoreSettings, Verified,
    VerifyAt,
};
use gatehouse_vault::keys::RootKey;

const OLD: usize = 8;
const NEW: usize = 16;

fn settings(directory: &Path, model: &str, dimensions: usize) -> StoreSettings {
    StoreSettings {
        directory: directory.to_owned(),
        gallery: GallerySettings {
            model: model.to_owned(),
            dimensions,
            metric: Metric::Euclidean,
            normalised: false,
            threshold: 0.4,
            camera_thresholds: HashMap::new(),
            minimum_quality: 0.2,
            exact_limit: 1000,
        },
        media_quota_bytes: 10_000,
        reserve_free_bytes: 0,
        orphan_media: Duration::from_secs(3600),
        central_rows: false,
    }
}

fn open(directory: &Path) -> Store {
    open_with(settings(directory, "old", OLD))
}

fn open_with(settings: StoreSettings) -> Store {
    let (store, report) = Store::open(settings, &RootKey::from_bytes([7; 32])).unwrap();
    assert_eq!(report.damaged, Vec::<String>::new());
    store
}

fn new_model() -> Model {
    Model { name: "new".into(), dimensions: NEW, metric: Metric::Cosine, normalised: true }
}

/// A face of a person by a model with this many components, of length 1.
fn face(person: usize, dimensions: usize) -> Encoding {
    let mut numbers = vec![0.0; dimensions];
    numbers[person] = 1.0;
    Encoding::new(numbers, dimensions).unwrap()
}

fn probe(person: usize, dimensions: usize) -> ProbeFace {
    ProbeFace { encoding: face(person, dimensions), quality: None }
}

fn door() -> CameraName {
    "door".try_into().unwrap()
}

fn key(id: &str) -> EventKey {
    EventKey { camera: door(), id: id.try_into().unwrap() }
}

fn who(answer: &Identification<Person>) -> Option<&str> {
    answer.faces[0].person.as_ref().map(|person| person.id.as_str())
}

async fn enrol(store: &Store, id: &str, person: usize, gallery: &str) {
    let dimensions = if gallery == "old" { OLD } else { NEW };
    store
        .people
        .enroll_reviewed(Enrollment {
            id,
            name: id,
            encodings: vec![face(person, dimensions)],
            gallery: Some(gallery),
            force: false,
            consent: gatehouse_store::terms::Consent::default(),
        })
        .await
        .unwrap();
}

/// Two galleries: Ada in both, Bob in the old one only.
async fn two(directory: &Path) -> Store {
    let store = open(directory);
    enrol(&store, "ada", 0, "old").await;
    enrol(&store, "bob", 1, "old").await;
    store.galleries.add(new_model()).await.unwrap();
    let statistics = statistics("new", NEW, Metric::Cosine);
    store.galleries.calibrate(Some("new"), Some(statistics)).await.unwrap();
    enrol(&store, "ada", 2, "new").await;
    store
}

/// Checks that everything on disk is intact.
fn whole(store: &Store) {
    let mut at = VerifyAt::Keys;
    loop {
        let Verified { damaged, next, .. } = store.upkeep.verify(at).unwrap();
        assert_eq!(damaged, Vec::<String>::new());
        let Some(next) = next else { return };
        at = next;
    }
}

fn in_use(store: &Store) -> String {
    store.galleries.current().models().in_use.name.clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_gallery_is_filled_switched_to_and_there_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let store = two(directory.path()).await;
    assert_eq!(who(&store.galleries.identify(&door(), &[probe(0, OLD)])), Some("ada"));
    let galleries = store.galleries.current();
    let in_new = store.galleries.identify_named(&galleries, Some("new"), &door(), &[probe(2, NEW)]).unwrap();
    assert_eq!((who(&in_new), in_new.gallery_size, in_new.model.as_str()), (Some("ada"), 1, "new"));
    let ada = store.people.get("ada").unwrap();
    assert_eq!((ada.samples, ada.galleries["old"], ada.galleries["new"]), (1, 1, 1));

    let refused = store.galleries.switch("new", false).await.unwrap_err();
    assert!(
        matches!(&refused, RequestError::Refused(Refusal::Missing { people: 1, named, .. }) if named == "bob"),
        "{refused}"
    );
    assert_eq!(in_use(&store), "old");
    assert_eq!(store.galleries.switch("new", true).await.unwrap().missing, 1);
    let answer = store.galleries.identify(&door(), &[probe(2, NEW)]);
    assert_eq!((who(&answer), answer.model.as_str()), (Some("ada"), "new"));
    assert_eq!(store.upkeep.status().people, 1);
    // A reader that took the galleries before the switch still uses the old one.
    assert_eq!(who(&store.galleries.identify_in(&galleries, &door(), &[probe(1, OLD)])), Some("bob"));

    for rebuilt in [false, true] {
        store.close();
        if rebuilt {
            fs::remove_dir_all(directory.path().join("views")).unwrap();
        }
        let store = open(directory.path());
        assert_eq!(in_use(&store), "new", "the state has precedence over the settings");
        assert_eq!(who(&store.galleries.identify(&door(), &[probe(2, NEW)])), Some("ada"));
        store.galleries.switch("old", false).await.unwrap();
        assert_eq!(who(&store.galleries.identify(&door(), &[probe(1, OLD)])), Some("bob"));
        store.galleries.switch("new", true).await.unwrap();
        store.close();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_erased_is_gone_from_both_and_a_removed_gallery_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let store = two(directory.path()).await;
    assert_eq!(store.people.erase("ada", OrderedBy::User(0)).await.unwrap().samples, 2);
    let gone = |store: &Store| {
        let galleries = store.galleries.current();
        let old = store.galleries.identify(&door(), &[probe(0, OLD)]);
        let new = store.galleries.identify_named(&galleries, Some("new"), &door(), &[probe(2, NEW)]).unwrap();
        assert_eq!((who(&old), who(&new), store.galleries.list()[1].people), (None, None, 0));
    };
    gone(&store);
    store.close();
    let store = open(directory.path());
    gone(&store);

    enrol(&store, "cem", 3, "new").await;
    assert!(matches!(
        store.galleries.remove("old").await,
        Err(RequestError::Refused(Refusal::GalleryInUse(_)))
    ));
    assert!(matches!(
        store.galleries.switch("old", true).await,
        Err(RequestError::Refused(Refusal::GalleryInUse(_)))
    ));
    assert!(matches!(
        store.galleries.add(new_model()).await,
        Err(RequestError::Refused(Refusal::GalleryExists(_)))
    ));
    let third = Model { name: "third".into(), ..new_model() };
    assert!(matches!(
        store.galleries.add(third.clone()).await,
        Err(RequestError::Refused(Refusal::GalleriesFull))
    ));
    store.galleries.remove("new").await.unwrap();
    assert!(matches!(
        store.galleries.switch("new", true).await,
        Err(RequestError::Refused(Refusal::UnknownGallery(_)))
    ));
    // Its number is reused by a gallery of another model without known error rates.
    store.galleries.add(Model { dimensions: 4, ..third }).await.unwrap();
    assert_eq!(store.galleries.list()[1].calibration, None);
    let refused = store.galleries.switch("third", false).await;
    assert!(matches!(refused, Err(RequestError::Refused(Refusal::NoThreshold { .. }))), "{refused:?}");
    assert_eq!(store.people.get("cem").unwrap().galleries.values().sum::<usize>(), 0);
    store.close();
    let store = open(directory.path());
    assert_eq!(store.galleries.list()[1].templates, 0);
    assert_eq!(who(&store.galleries.identify(&door(), &[probe(1, OLD)])), Some("bob"));
}

#[tokio::test(flavor = "multi_thread")]
async fn answer_is_invalid_after_its_person_is_erased_or_renamed() {
    let directory = tempfile::tempdir().unwrap();
    let store = two(directory.path()).await;
    let [ada, bob, stranger] = [0, 1, 5].map(|seed| store.galleries.identify(&door(), &[probe(seed, OLD)]));
    assert_eq!((who(&ada), who(&bob), who(&stranger)), (Some("ada"), Some("bob"), None));
    assert!([&ada, &bob, &stranger].into_iter().all(|answer| store.galleries.still_valid(answer)));
    store.people.erase("ada", OrderedBy::User(0)).await.unwrap();
    store.people.rename("bob", "Robert").await.unwrap();
    assert!(
        !store.galleries.still_valid(&ada)
            && !store.galleries.still_valid(&bob)
            && store.galleries.still_valid(&stranger)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_galleries_differ_is_counted_and_survives() {
    let directory = tempfile::tempdir().unwrap();
    let store = two(directory.path()).await;
    let seen = |old: usize, new: &[usize], unreadable| {
        let galleries = store.galleries.current();
        let answer = store.galleries.identify_in(&galleries, &door(), &[probe(old, OLD)]);
        let faces = new.iter().map(|person| probe(*person, NEW)).collect();
        (galleries, answer, Others { faces, unreadable })
    };
    let mut verdicts = Vec::new();
    let cases = [
        (0, vec![2], false),
        (1, vec![9], false),
        (5, vec![2], false),
        (1, vec![2], false),
        (0, vec![], true),
    ];
    for (at, (old, new, unreadable)) in cases.into_iter().enumerate() {
        let (galleries, answer, others) = seen(old, &new, unreadable);
        let compared = store.galleries.compare(&galleries, &key(&at.to_string()), &answer, &others).unwrap();
        verdicts.push(compared.verdict);
        store.events.record_comparison(compared).await.unwrap();
    }
    use Verdict as V;
    assert_eq!(verdicts, [V::Same, V::OnlyInUse, V::OnlyOther, V::Different, V::Incomplete]);
    let (galleries, answer, others) = seen(0, &[], false);
    assert_eq!(
        store.galleries.compare(&galleries, &key("x"), &answer, &others),
        None,
        "a camera with one model"
    );
    store.close();

    let store = open(directory.path());
    let report = store.galleries.comparison().unwrap();
    assert_eq!((report.same, report.only_in_use, report.only_other, report.different), (1, 1, 1, 1));
    assert_eq!((report.incomplete, report.missing, report.missing_people), (1, vec!["bob".to_owned()], 1));
    let differing: Vec<_> = report.differing.iter().map(|line| line.event.as_str()).collect();
    assert_eq!(differing, ["door/3", "door/2", "door/1"]);
    store.galleries.switch("new", true).await.unwrap();
    let report = store.galleries.comparison().unwrap();
    assert_eq!((report.same, report.differing.len(), report.in_use.as_str()), (0, 0, "new"), "restarted");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_sees_one_gallery_or_the_other_while_it_is_switched() {
    let directory = tempfile::tempdir().unwrap();
    let store = two(directory.path()).await;
    let stop = Arc::new(AtomicBool::new(false));
    let prober = {
        let (store, stop) = (store.clone(), Arc::clone(&stop));
        std::thread::spawn(move || {
            let mut seen = HashMap::new();
            while !stop.load(Ordering::Relaxed) {
                let galleries = store.galleries.current();
                let model = galleries.models().in_use.name.clone();
                let face = if model == "old" { probe(0, OLD) } else { probe(2, NEW) };
                let answer = store.galleries.identify_in(&galleries, &door(), &[face]);
                assert_eq!((answer.model.as_str(), who(&answer)), (model.as_str(), Some("ada")));
                *seen.entry(model).or_insert(0_usize) += 1;
            }
            seen
        })
    };
    for at in 0..20 {
        store.galleries.switch(if at % 2 == 0 { "new" } else { "old" }, true).await.unwrap();
    }
    stop.store(true, Ordering::Relaxed);
    assert_eq!(prober.join().unwrap().len(), 2, "it was asked before and after");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_of_templates_takes_both_galleries_along() {
    let directory = tempfile::tempdir().unwrap();
    let store = two(directory.path()).await;
    whole(&store);
    let rotated = store.people.rotate_templates().await.unwrap();
    assert_eq!((rotated.people, rotated.templates, rotated.unreadable), (2, 3, 0));
    let all_are_recognized = |store: &Store| {
        let new = store
            .galleries
            .identify_named(&store.galleries.current(), Some("new"), &door(), &[probe(2, NEW)])
            .unwrap();
        assert_eq!(who(&new), Some("ada"));
        assert_eq!(who(&store.galleries.identify(&door(), &[probe(1, OLD)])), Some("bob"));
    };
    all_are_recognized(&store);
    whole(&store);
    store.close();
    all_are_recognized(&open(directory.path()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_correction_is_of_the_gallery_that_was_wrong() {
    let directory = tempfile::tempdir().unwrap();
    let store = two(directory.path()).await;
    let answer = store.galleries.identify(&door(), &[probe(0, OLD)]);
    store.galleries.take_faces(&key("1"), vec![probe(0, OLD)], &answer, Arrival::Fresh);
    store.galleries.switch("new", true).await.unwrap();
    store.people.correct(&key("1"), None).await.unwrap();
    assert_eq!(
        who(&store.galleries.identify(&door(), &[probe(2, NEW)])),
        Some("ada"),
        "the new one was not wrong"
    );
    store.close();
    let store = open(directory.path());
    let galleries = store.galleries.current();
    let old = store.galleries.identify_named(&galleries, Some("old"), &door(), &[probe(0, OLD)]).unwrap();
    assert_eq!(old.faces[0].outcome, Outcome::Stranger);
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_describe_the_gallery_until_the_first_enrollment() {
    let directory = tempfile::tempdir().unwrap();
    open(directory.path()).close();
    let store = open_with(settings(directory.path(), "other", 4));
    assert_eq!(store.galleries.current().models().in_use.dimensions, 4);
    store.people.enroll("ada", "Ada", vec![face(0, 4)]).await.unwrap();
    store.close();
    let store = open(directory.path());
    let answer = store.galleries.identify(&door(), &[probe(0, 4)]);
    assert_eq!((in_use(&store).as_str(), answer.faces[0].distance), ("other", Some(0.0)));
    assert_eq!(who(&answer), None, "the threshold of the settings is of another model");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_normalised_model_takes_no_encoding_of_another_length() {
    let directory = tempfile::tempdir().unwrap();
    let store = two(directory.path()).await;
    let long = || Encoding::new(vec![2.0; NEW], NEW).unwrap();
    let refused = store
        .people
        .enroll_reviewed(Enrollment {
            id: "eve",
            name: "Eve",
            encodings: vec![long()],
            gallery: Some("new"),
            force: false,
            consent: gatehouse_store::terms::Consent::default(),
        })
        .await
        .unwrap_err();
    assert!(matches!(refused, RequestError::Refused(Refusal::NotNormalised { nth: 1 })), "{refused}");
    assert!(store.people.get("eve").is_none());
    let galleries = store.galleries.current();
    let faces = [ProbeFace { encoding: long(), quality: None }];
    let answer = store.galleries.identify_named(&galleries, Some("new"), &door(), &faces).unwrap();
    assert_eq!(answer.faces[0].outcome, Outcome::Unusable);
}
