//! The pipeline against a real mosquitto.

mod safety;
mod secure;
mod setup;
mod strangers;
mod surplus;

use std::time::Duration;

use gatehouse_testkit::wait;
use serde_json::json;
use setup::{Setup, TEST_TIMEOUT, anna, connected, idle, visit};

#[tokio::test(flavor = "multi_thread")]
async fn a_visitor_is_identified_within_the_session() {
    let setup = Setup::new().await;
    let pipeline = setup.open().await;
    setup.event(&visit("1")).await;
    let answer = setup.answer("identification", "1").await;
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

    setup.event(&json!({"id": "2", "kind": "doorbell"})).await;
    let body = setup.answer("identification", "2").await.json();
    assert_eq!((&body["faces"], &body["actionable"]), (&json!([]), &json!(false)));
    setup.stored(2).await;
    pipeline.probe().await.unwrap();
    idle(&pipeline).await;
    assert!(pipeline.drain(TEST_TIMEOUT).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_is_answered_counted_and_not_delivered_again() {
    let setup = Setup::new().await;
    let pipeline = setup.open().await;
    let twice = json!([{"encoding": anna()}, {"encoding": [0.0]}]);
    setup.event(&json!({"id": "bad", "faces": twice})).await;
    assert_eq!(setup.answer("rejected", "bad").await.json()["reason"], "wrong_dimensions");
    setup.publish("gatehouse/door/event", b"[".repeat(100_000)).await;
    setup.publish("gatehouse/front door/event", b"{}".to_vec()).await;
    setup.publish("gatehouse/door/event", vec![b'1'; 300_000]).await;
    setup.publish("gatehouse/door/media/7/../x", b"x".to_vec()).await;
    setup.camera.publish("gatehouse/door/event", visit("old").to_string(), true, TEST_TIMEOUT).await.unwrap();
    assert_eq!(setup.answer("rejected", "old").await.json()["reason"], "retained");

    let counted = || async {
        setup.store.events.ledger().events.received() == 5
            && setup.store.events.ledger().files.received() == 1
    };
    wait::until_async("the refusals to be counted", TEST_TIMEOUT, counted).await.unwrap();
    let ledger = setup.store.events.ledger();
    for reason in ["wrong_dimensions", "too_deep", "bad_camera", "too_large", "retained"] {
        assert_eq!(ledger.events.rejected[reason], 1, "{reason}");
    }
    assert_eq!(ledger.files.rejected["bad_media_name"], 1);
    idle(&pipeline).await;
    assert!(pipeline.drain(TEST_TIMEOUT).await);

    let pipeline = setup.open().await;
    setup.event(&visit("good")).await;
    setup.answer("identification", "good").await;
    setup.stored(1).await;
    assert_eq!(setup.store.events.ledger().events.received(), 6);
    drop(pipeline);
}

#[tokio::test(flavor = "multi_thread")]
async fn media_comes_before_or_after_its_event_and_only_once() {
    let setup = Setup::new().await;
    let pipeline = setup.open().await;
    setup.publish("gatehouse/door/media/1/a.jpg", vec![1; 1000]).await;
    setup.event(&visit("1")).await;
    setup.publish("gatehouse/door/media/1/b.jpg", vec![2; 1000]).await;
    setup.publish("gatehouse/door/media/1/b.jpg", vec![2; 1000]).await;
    setup.publish("gatehouse/door/media/1/b.jpg", vec![3; 1000]).await;
    assert_eq!(setup.answer("rejected", "1").await.json()["reason"], "media_conflict");
    idle(&pipeline).await;
    let files = setup.store.events.ledger().files;
    assert_eq!((files.stored, files.duplicate, files.rejected["media_conflict"]), (2, 1, 1));
    assert!(pipeline.drain(TEST_TIMEOUT).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_packet_above_the_announced_maximum_does_not_stop_the_others() {
    let setup = Setup::new().await;
    let pipeline = setup.open().await;
    // A little too large is refused in words; far too large is thrown away by the broker.
    setup.publish("gatehouse/door/media/1/a.mp4", vec![1; 300 * 1024]).await;
    assert_eq!(setup.answer("rejected", "1").await.json()["reason"], "too_large");
    setup.publish("gatehouse/door/media/2/a.mp4", vec![1; 2 << 20]).await;
    setup.publish("gatehouse/door/event", vec![b'1'; 2 << 20]).await;
    setup.publish("gatehouse/door/media/3/a.mp4", vec![1; 1000]).await;
    setup.event(&visit("4")).await;
    setup.answer("identification", "4").await;
    let stored = || async { setup.store.events.ledger().files.stored == 1 };
    wait::until_async("the small file to be stored", TEST_TIMEOUT, stored).await.unwrap();
    let links = pipeline.stats().links;
    assert_eq!((links.events.connections, links.media.connections), (1, 1), "{links:?}");
    idle(&pipeline).await;
    assert!(pipeline.drain(TEST_TIMEOUT).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_retained_status_follows_the_appliance() {
    let setup = Setup::new().await;
    let pipeline = setup.open().await;
    let is =
        |status: &'static str| move |m: &gatehouse_testkit::camera::Received| m.json()["status"] == status;
    let online = setup.listener.wait_for("online", TEST_TIMEOUT, is("online")).await.unwrap().json();
    assert_eq!(
        (&online["gallery_size"], &online["pending"], &online["device"]),
        (&json!(1), &json!(0), &json!("edge-1"))
    );
    let before = setup.listener.count();
    assert!(pipeline.drain(TEST_TIMEOUT).await);
    let offline = || async { setup.listener.messages()[before..].iter().any(is("offline")) };
    wait::until_async("offline after a clean stop", TEST_TIMEOUT, offline).await.unwrap();

    let pipeline = setup.open().await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let before = setup.listener.count();
    drop(pipeline);
    let offline = || async { setup.listener.messages()[before..].iter().any(is("offline")) };
    wait::until_async("the last will", TEST_TIMEOUT, offline).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn it_starts_without_a_broker_and_comes_when_there_is_one() {
    let setup = Setup::new().await;
    setup.broker.stop().unwrap();
    let pipeline = setup.start();
    let is_reported =
        || async { pipeline.stats().error.is_some_and(|words| words.contains("cannot be reached")) };
    wait::until_async("the error", TEST_TIMEOUT, is_reported).await.unwrap();
    pipeline.probe().await.unwrap();
    setup.broker.restart().unwrap();
    connected(&pipeline).await;
    setup.event(&visit("1")).await;
    setup.answer("identification", "1").await;
    assert!(pipeline.drain(TEST_TIMEOUT).await);
}
