//! Corrections ("not this person") through the public interface of the store.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use gatehouse_gallery::{Encoding, GallerySettings};
use gatehouse_model::{Event, EventKey, Metric, Outcome, Timestamp};
use gatehouse_store::Store;
use gatehouse_store::store::{
    Arrival, CorrectionFault, OrderedBy, ProbeFace, Refusal, RequestError, StoreSettings,
};
use gatehouse_vault::keys::RootKey;

const DIMENSIONS: usize = 4;

fn open(directory: &Path) -> Store {
    let settings = StoreSettings {
        directory: directory.to_owned(),
        gallery: GallerySettings {
            model: "test-4".into(),
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
        central_rows: false,
    };
    Store::open(settings, &RootKey::from_bytes([7; 32])).unwrap().0
}

/// A face `x` away from Ada's.
fn face(x: f32) -> Encoding {
    Encoding::new(vec![1.0, x, 0.0, 0.0], DIMENSIONS).unwrap()
}

fn key(id: &str) -> EventKey {
    EventKey { camera: "front".try_into().unwrap(), id: id.try_into().unwrap() }
}

fn outcome(store: &Store, x: f32) -> Outcome {
    let probe = ProbeFace { encoding: face(x), quality: None };
    store.galleries.identify(&key("x").camera, &[probe]).faces[0].outcome
}

/// Records an event with these faces in all steps of the daemon.
async fn visit(store: &Store, id: &str, faces: &[f32]) {
    let probes = || faces.iter().map(|x| ProbeFace { encoding: face(*x), quality: None }).collect::<Vec<_>>();
    let answer = store.galleries.identify(&key(id).camera, &probes());
    store.galleries.take_faces(&key(id), probes(), &answer, Arrival::Fresh);
    let event = Event {
        key: key(id),
        kind: "face".into(),
        occurred_at: None,
        received_at: Timestamp::now(),
        media: Vec::new(),
        attributes: "{}".into(),
    };
    store.events.record(event, answer).await.unwrap().await.unwrap();
}

async fn fault(store: &Store, id: &str, face: Option<usize>) -> CorrectionFault {
    match store.people.correct(&key(id), face).await {
        Err(RequestError::Refused(Refusal::Correction(fault))) => fault,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_corrected_match_stays_corrected_across_restart_renewal_and_a_rebuilt_view() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    store.people.enroll("p1", "Ada", vec![face(0.0)]).await.unwrap();
    visit(&store, "e1", &[0.45]).await;
    let corrected = store.people.correct(&key("e1"), None).await.unwrap();
    assert_eq!((corrected.person.id.as_str(), corrected.corrections), ("p1", 1));
    let check = |store: &Store| {
        assert_eq!(outcome(store, 0.45), Outcome::Stranger);
        assert_eq!(outcome(store, 0.0), Outcome::Match);
        let person = store.people.get("p1").unwrap();
        assert_eq!((person.samples, person.corrections), (1, 1));
    };
    check(&store);
    assert_eq!(fault(&store, "e1", None).await, CorrectionFault::Corrected);
    store.people.rotate_templates().await.unwrap();
    check(&store);
    store.close();
    drop(store);

    let store = open(directory.path());
    check(&store);
    assert_eq!(fault(&store, "e1", None).await, CorrectionFault::TooOld, "no face outlives the daemon");
    store.people.enroll("p1", "Ada", vec![face(-0.1)]).await.unwrap();
    assert_eq!(store.people.list()[0].corrections, 1);
    store.close();
    drop(store);

    std::fs::remove_dir_all(directory.path().join("views")).unwrap();
    let store = open(directory.path());
    assert_eq!(outcome(&store, 0.45), Outcome::Stranger);
    assert_eq!((store.people.list()[0].samples, store.people.list()[0].corrections), (2, 1));
    store.people.erase("p1", OrderedBy::User(0)).await.unwrap();
    store.people.enroll("p1", "Ada", vec![face(0.0)]).await.unwrap();
    assert_eq!(store.people.list()[0].corrections, 0, "erased with the person");
    assert_eq!(outcome(&store, 0.45), Outcome::Match);
    store.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn each_reason_against_a_correction_has_its_own_fault() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    store.people.enroll("p1", "Ada", vec![face(0.0)]).await.unwrap();
    store.people.enroll("p2", "Bob", vec![face(3.0)]).await.unwrap();
    visit(&store, "both", &[0.4, 9.0, 3.1]).await;
    assert_eq!(fault(&store, "both", None).await, CorrectionFault::Several(2));
    assert_eq!(fault(&store, "both", Some(2)).await, CorrectionFault::NoMatch);
    assert_eq!(fault(&store, "never", None).await, CorrectionFault::TooOld);
    assert_eq!(store.people.correct(&key("both"), Some(3)).await.unwrap().person.name, "Bob");
    assert_eq!(outcome(&store, 0.4), Outcome::Match, "other people are not affected");
    store.people.erase("p1", OrderedBy::User(0)).await.unwrap();
    store.people.enroll("p1", "Another", vec![face(0.0)]).await.unwrap();
    assert_eq!(
        fault(&store, "both", Some(1)).await,
        CorrectionFault::NoMatch,
        "an erasure removes faces as well"
    );
    store.close();
}
