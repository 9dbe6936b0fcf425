//! Labels of strangers in the published answer.

use gatehouse_store::store::EventQuery;
use serde_json::{Value, json};

use super::setup::{Setup, TEST_TIMEOUT, idle, visit};

/// An event with a stranger.
fn stranger(id: &str, face: f32) -> Value {
    json!({"id": id, "kind": "face", "faces": [{"encoding": [face, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]}]})
}

async fn face(setup: &Setup, event: &Value) -> Value {
    setup.event(event).await;
    setup.answer("identification", event["id"].as_str().unwrap()).await.json()["faces"][0].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_who_comes_again_has_the_same_label_in_the_answer_and_nowhere_else() {
    let setup = Setup::new().await;
    let pipeline = setup.open().await;
    let unlabelled = face(&setup, &stranger("0", 3.0)).await;
    assert_eq!(unlabelled["outcome"], "stranger");
    assert_eq!(unlabelled.get("stranger_label"), None, "off by default");

    setup.store.galleries.label_strangers(true);
    let first = face(&setup, &stranger("1", 3.0)).await;
    let label = first["stranger_label"].as_str().unwrap().to_owned();
    assert!(label.starts_with("stranger-"), "{label}");
    assert_eq!(first["stranger_visits"], 1);
    let again = face(&setup, &stranger("2", 3.1)).await;
    assert_eq!(
        (&again["stranger_label"], &again["stranger_visits"]),
        (&json!(label), &json!(1)),
        "one visit"
    );
    let other = face(&setup, &stranger("3", 9.0)).await;
    assert_ne!(other["stranger_label"], label);
    let anna = face(&setup, &visit("4")).await;
    assert_eq!((&anna["outcome"], anna.get("stranger_label")), (&json!("match"), None));

    setup.stored(5).await;
    setup.store.events.ping().await.unwrap();
    let store = setup.store.clone();
    let events = tokio::task::spawn_blocking(move || {
        store.events.list(&EventQuery { limit: 10, ..EventQuery::default() })
    });
    let stored = serde_json::to_string(&events.await.unwrap().unwrap()).unwrap();
    assert!(stored.contains("\"4\"") && !stored.contains("stranger-"), "{stored}");

    setup.store.galleries.label_strangers(false);
    assert_eq!(face(&setup, &stranger("5", 3.0)).await.get("stranger_label"), None);
    setup.store.galleries.label_strangers(true);
    let later = face(&setup, &stranger("6", 3.0)).await;
    assert_ne!(later["stranger_label"], label, "labels are not stored, and each start has another key");
    idle(&pipeline).await;
    assert!(pipeline.drain(TEST_TIMEOUT).await);
}
