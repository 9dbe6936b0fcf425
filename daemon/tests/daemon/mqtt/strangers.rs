//! Labels of strangers in the published answer.

use gatehouse_store::store::EventQuery;
use serde_json::{Value, json};

use super::house::{House, PATIENCE, idle, visit};

/// An event in which somebody comes who is not enrolled.
fn stranger(id: &str, face: f32) -> Value {
    json!({"id": id, "kind": "face", "faces": [{"encoding": [face, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]}]})
}

async fn face(house: &House, event: &Value) -> Value {
    house.event(event).await;
    house.answer("identification", event["id"].as_str().unwrap()).await.json()["faces"][0].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_who_comes_again_has_the_same_label_in_the_answer_and_nowhere_else() {
    let house = House::new().await;
    let pipeline = house.open().await;
    let unlabelled = face(&house, &stranger("0", 3.0)).await;
    assert_eq!(unlabelled["outcome"], "stranger");
    assert_eq!(unlabelled.get("stranger_label"), None, "off by default");

    house.store.galleries.label_strangers(true);
    let first = face(&house, &stranger("1", 3.0)).await;
    let label = first["stranger_label"].as_str().unwrap().to_owned();
    assert!(label.starts_with("stranger-"), "{label}");
    assert_eq!(first["stranger_visits"], 1);
    let again = face(&house, &stranger("2", 3.1)).await;
    assert_eq!(
        (&again["stranger_label"], &again["stranger_visits"]),
        (&json!(label), &json!(1)),
        "one visit"
    );
    let other = face(&house, &stranger("3", 9.0)).await;
    assert_ne!(other["stranger_label"], label);
    let anna = face(&house, &visit("4")).await;
    assert_eq!((&anna["outcome"], anna.get("stranger_label")), (&json!("match"), None));

    house.stored(5).await;
    house.store.events.ping().await.unwrap();
    let store = house.store.clone();
    let events = tokio::task::spawn_blocking(move || {
        store.events.list(&EventQuery { limit: 10, ..EventQuery::default() })
    });
    let stored = serde_json::to_string(&events.await.unwrap().unwrap()).unwrap();
    assert!(stored.contains("\"4\"") && !stored.contains("stranger-"), "{stored}");

    house.store.galleries.label_strangers(false);
    assert_eq!(face(&house, &stranger("5", 3.0)).await.get("stranger_label"), None);
    house.store.galleries.label_strangers(true);
    let anew = face(&house, &stranger("6", 3.0)).await;
    assert_ne!(anew["stranger_label"], label, "switched off it forgot, and the key is another one");
    idle(&pipeline).await;
    assert!(pipeline.drain(PATIENCE).await);
}
