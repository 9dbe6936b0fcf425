//! A wrong match, from the camera's message to the operator's correction.

use std::time::{Duration, Instant};

use gatehouse_testkit::broker::Broker;
use gatehouse_testkit::camera::{Address, Camera};
use serde_json::json;

use super::harness::{Home, encoding, encodings};

const TEST_TIMEOUT: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_match_is_corrected_counted_and_not_made_again() {
    let broker = Broker::start().unwrap();
    let camera = Camera::connect("door", &Address::local(broker.port()));
    let home = Home::new("[gallery]\nthreshold = 0.6\n");
    let daemon = home.start_with(&[("GATEHOUSE__MQTT__URL", &broker.url())]);
    let file = home.file("a.json", &encodings(1, 3));
    home.says(&["person", "enroll", "--id", "a1", "--name", "Alice", "--encodings", &file]);
    until("a connection", || home.json(&["status"])["broker"]["connected"] == true);

    // Another person who is similar to her.
    let mut alike = encoding(1, 50);
    alike[0] += 0.5;
    for (id, face) in [("wrong", Some(alike.clone())), ("none", None)] {
        let faces: Vec<_> = face.iter().map(|face| json!({"encoding": face})).collect();
        let event = json!({"id": id, "kind": "face", "faces": faces});
        camera.publish("gatehouse/door/event", event.to_string(), false, TEST_TIMEOUT).await.unwrap();
    }
    until("the events", || home.json(&["ledger"])["events"]["stored"] == 2);
    let probe = home.file("probe.json", &serde_json::to_string(&alike).unwrap());
    assert_eq!(home.json(&["identify", &probe])["faces"][0]["outcome"], "match");

    assert_eq!(home.fails(&["event", "correct", "door/wrong"]).0, 2, "it must say what is wrong");
    let said = home.says(&["event", "correct", "door/wrong", "--not-person"]);
    assert!(said.contains("no longer matched with Alice") && said.contains("1 correction"), "{said}");
    assert_eq!(home.json(&["identify", &probe])["faces"][0]["outcome"], "stranger");
    assert_eq!(home.json(&["person", "show", "a1"])["corrections"], 1);

    for (event, words) in [
        ("door/wrong", "corrected already"),
        ("2", "no person was recognized"),
        ("door/other", "there is no event"),
    ] {
        let (code, said) = home.fails(&["event", "correct", event, "--not-person"]);
        assert!(code == 1 && said.contains(words), "{event}: {said}");
    }
    daemon.stop();
    let daemon = home.start_with(&[("GATEHOUSE__MQTT__URL", &broker.url())]);
    assert_eq!(home.json(&["identify", &probe])["faces"][0]["outcome"], "stranger");
    let (_, said) = home.fails(&["event", "correct", "door/wrong", "--not-person"]);
    assert!(said.contains("in memory only"), "{said}");
    assert!(!home.log().contains("Alice"), "{}", home.log());
    daemon.stop();
}

fn until(what: &str, mut is: impl FnMut() -> bool) {
    let end = Instant::now() + TEST_TIMEOUT;
    while !is() {
        assert!(Instant::now() < end, "{what} did not come");
        std::thread::sleep(Duration::from_millis(50));
    }
}
