use std::path::Path;

use gatehouse_gallery::Encoding;
use gatehouse_model::{CameraName, Metric};

use super::*;
use crate::store::{Enrollment, Store, testing};

const DIMENSIONS: usize = 8;

fn open(directory: &Path) -> Store {
    let (store, report) = testing::open(directory, "old", DIMENSIONS);
    assert_eq!(report.damaged, Vec::<String>::new());
    store
}

fn face(nth: usize) -> Encoding {
    let mut numbers = vec![0.0; DIMENSIONS];
    numbers[nth] = 1.0;
    Encoding::new(numbers, DIMENSIONS).unwrap()
}

fn who(store: &Store, nth: usize) -> Option<String> {
    let camera = CameraName::try_from("door").unwrap();
    let answer = store.galleries.identify(&camera, &[ProbeFace { encoding: face(nth), quality: None }]);
    answer.faces[0].person.as_ref().map(|person| person.id.clone())
}

fn stored(store: &Store) -> Vec<u8> {
    let names = store.core.views.scan(vec![entries::TEMPLATE], false);
    names.map(|entry| entries::gallery_in(&entry.unwrap().0)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removal_that_a_crash_interrupted_is_completed_at_the_next_start() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    store.people.enroll("ada", "Ada", vec![face(0)]).await.unwrap();
    let metric = Metric::Euclidean;
    let model = Model { name: "new".into(), dimensions: DIMENSIONS, metric, normalised: false };
    store.galleries.add(model).await.unwrap();
    store
        .people
        .enroll_reviewed(Enrollment {
            id: "ada",
            name: "Ada",
            encodings: vec![face(1)],
            gallery: Some("new"),
            force: false,
            consent: crate::terms::Consent::default(),
        })
        .await
        .unwrap();
    assert_eq!(stored(&store), [0, 1]);
    store.core.change(&Record::GalleryRemoved { gallery: 1 }).await.unwrap();
    store.close();
    let store = open(directory.path());
    assert_eq!(
        (store.galleries.list().len(), who(&store, 0).as_deref(), who(&store, 1)),
        (1, Some("ada"), None)
    );
    let head = store.core.journal.head();
    store.core.wait_applied(head).await.unwrap();
    assert_eq!(stored(&store), [0]);
}
