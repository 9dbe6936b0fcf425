//! The pipeline against a real mosquitto.

mod house;
mod safety;
mod secure;
mod strangers;
mod surplus;

use std::time::Duration;

use gatehouse_testkit::wait;
use house::{House, PATIENCE, anna, connected, idle, visit};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn a_visitor_is_identified_within_the_session() {
    let house = House::new().await;
    let pipeline = house.open().await;
    house.event(&visit("1")).await;
    let answer = house.answer("identification", "1").await;
    let body = answer.json();
    assert_eq!(answer.topic, "gatehouse/door/identification");
    assert_eq!(body["faces"][0]["outcome"], "match");
    assert_eq!(body["faces"][0]["person"], json!({"id": "p-1", "name": "Anna"}));
    assert_eq!((&body["replayed"], &body["actionable"]), (&json!(false), &json!(true)));
    assert_eq!(
        (&body["gallery_size"], &body["model"], &body["camera"]),
        (&json!(1), &json!("test"), &json!("door"))
    );
    assert_eq!(answer.expiry, Some(10));
    assert!(!answer.retain);
    assert_eq!(answer.correlation.as_deref(), body["correlation_id"].as_str());

    house.event(&json!({"id": "2", "kind": "doorbell"})).await;
    let body = house.answer("identification", "2").await.json();
    assert_eq!((&body["faces"], &body["actionable"]), (&json!([]), &json!(false)));
    house.stored(2).await;
    pipeline.probe().await.unwrap();
    idle(&pipeline).await;
    assert!(pipeline.drain(PATIENCE).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_is_told_counted_and_does_not_come_back() {
    let house = House::new().await;
    let pipeline = house.open().await;
    let twice = json!([{"encoding": anna()}, {"encoding": [0.0]}]);
    house.event(&json!({"id": "bad", "faces": twice})).await;
    assert_eq!(house.answer("rejected", "bad").await.json()["reason"], "wrong_dimensions");
    house.publish("gatehouse/door/event", b"[".repeat(100_000)).await;
    house.publish("gatehouse/front door/event", b"{}".to_vec()).await;
    house.publish("gatehouse/door/event", vec![b'1'; 300_000]).await;
    house.publish("gatehouse/door/media/7/../x", b"x".to_vec()).await;
    house.camera.publish("gatehouse/door/event", visit("old").to_string(), true, PATIENCE).await.unwrap();
    assert_eq!(house.answer("rejected", "old").await.json()["reason"], "retained");

    let counted = || async {
        house.store.events.ledger().events.received() == 5
            && house.store.events.ledger().files.received() == 1
    };
    wait::until_async("the refusals to be counted", PATIENCE, counted).await.unwrap();
    let ledger = house.store.events.ledger();
    for reason in ["wrong_dimensions", "too_deep", "bad_camera", "too_large", "retained"] {
        assert_eq!(ledger.events.rejected[reason], 1, "{reason}");
    }
    assert_eq!(ledger.files.rejected["bad_media_name"], 1);
    idle(&pipeline).await;
    assert!(pipeline.drain(PATIENCE).await);

    let pipeline = house.open().await;
    house.event(&visit("good")).await;
    house.answer("identification", "good").await;
    house.stored(1).await;
    assert_eq!(house.store.events.ledger().events.received(), 6);
    drop(pipeline);
}

#[tokio::test(flavor = "multi_thread")]
async fn media_comes_before_or_after_its_event_and_only_once() {
    let house = House::new().await;
    let pipeline = house.open().await;
    house.publish("gatehouse/door/media/1/a.jpg", vec![1; 1000]).await;
    house.event(&visit("1")).await;
    house.publish("gatehouse/door/media/1/b.jpg", vec![2; 1000]).await;
    house.publish("gatehouse/door/media/1/b.jpg", vec![2; 1000]).await;
    house.publish("gatehouse/door/media/1/b.jpg", vec![3; 1000]).await;
    assert_eq!(house.answer("rejected", "1").await.json()["reason"], "media_conflict");
    idle(&pipeline).await;
    let files = house.store.events.ledger().files;
    assert_eq!((files.stored, files.duplicate, files.rejected["media_conflict"]), (2, 1, 1));
    assert!(pipeline.drain(PATIENCE).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_packet_above_the_announced_maximum_does_not_stop_the_others() {
    let house = House::new().await;
    let pipeline = house.open().await;
    // A little too large is refused in words; far too large is thrown away by the broker.
    house.publish("gatehouse/door/media/1/a.mp4", vec![1; 300 * 1024]).await;
    assert_eq!(house.answer("rejected", "1").await.json()["reason"], "too_large");
    house.publish("gatehouse/door/media/2/a.mp4", vec![1; 2 << 20]).await;
    house.publish("gatehouse/door/event", vec![b'1'; 2 << 20]).await;
    house.publish("gatehouse/door/media/3/a.mp4", vec![1; 1000]).await;
    house.event(&visit("4")).await;
    house.answer("identification", "4").await;
    let stored = || async { house.store.events.ledger().files.stored == 1 };
    wait::until_async("the small file to be stored", PATIENCE, stored).await.unwrap();
    let links = pipeline.stats().links;
    assert_eq!((links.events.connections, links.media.connections), (1, 1), "{links:?}");
    idle(&pipeline).await;
    assert!(pipeline.drain(PATIENCE).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_retained_status_follows_the_appliance() {
    let house = House::new().await;
    let pipeline = house.open().await;
    let is =
        |status: &'static str| move |m: &gatehouse_testkit::camera::Received| m.json()["status"] == status;
    let online = house.listener.wait_for("online", PATIENCE, is("online")).await.unwrap().json();
    assert_eq!(
        (&online["gallery_size"], &online["pending"], &online["device"]),
        (&json!(1), &json!(0), &json!("edge-1"))
    );
    let before = house.listener.count();
    assert!(pipeline.drain(PATIENCE).await);
    let offline = || async { house.listener.messages()[before..].iter().any(is("offline")) };
    wait::until_async("offline after a clean stop", PATIENCE, offline).await.unwrap();

    let pipeline = house.open().await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let before = house.listener.count();
    drop(pipeline);
    let offline = || async { house.listener.messages()[before..].iter().any(is("offline")) };
    wait::until_async("the last will", PATIENCE, offline).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn it_starts_without_a_broker_and_comes_when_there_is_one() {
    let house = House::new().await;
    house.broker.stop().unwrap();
    let pipeline = house.start();
    let told = || async { pipeline.stats().error.is_some_and(|words| words.contains("cannot be reached")) };
    wait::until_async("the words", PATIENCE, told).await.unwrap();
    pipeline.probe().await.unwrap();
    house.broker.restart().unwrap();
    connected(&pipeline).await;
    house.event(&visit("1")).await;
    house.answer("identification", "1").await;
    assert!(pipeline.drain(PATIENCE).await);
}
