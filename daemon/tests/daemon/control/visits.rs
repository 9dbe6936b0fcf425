//! A visit with a picture, from the camera's message to the operator's screen.

use std::time::{Duration, Instant};

use gatehouse_testkit::broker::Broker;
use gatehouse_testkit::camera::{Address, Camera};
use serde_json::json;

use super::harness::{Home, encoding, encodings};

const TEST_TIMEOUT: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn a_visit_with_a_picture_is_listed_shown_and_fetched() {
    let broker = Broker::start().unwrap();
    let camera = Camera::connect("door", &Address::local(broker.port()));
    let home = Home::new("");
    let daemon = home.start_with(&[("GATEHOUSE__MQTT__URL", &broker.url())]);
    let file = home.file("a.json", &encodings(1, 3));
    home.says(&["person", "enroll", "--id", "a", "--name", "Anna", "--encodings", &file]);
    until("a connection", || home.json(&["status"])["broker"]["connected"] == true);

    let picture: Vec<u8> = (0..200_000_u32).map(|at| (at.wrapping_mul(at) >> 7) as u8).collect();
    let event = json!({"id": "e:1", "kind": "face", "faces": [{"encoding": encoding(1, 77)}],
        "media": ["snapshot.jpg"], "attributes": {"zone": "porch\u{1b}[2J", "iccid": "NUMBER"}});
    let event = event.to_string().replace("\"NUMBER\"", "89490200001234567891");
    camera
        .publish("gatehouse/door/media/e:1/snapshot.jpg", picture.clone(), false, TEST_TIMEOUT)
        .await
        .unwrap();
    camera.publish("gatehouse/door/event", event, false, TEST_TIMEOUT).await.unwrap();
    camera.publish("gatehouse/door/event", "not json", false, TEST_TIMEOUT).await.unwrap();
    until("the messages", || home.json(&["ledger"])["events"]["received"] == 2);
    until("the picture", || home.json(&["ledger"])["files"]["stored"] == 1);

    let list = home.json(&["event", "list", "--person", "a"]);
    assert_eq!(list[0]["event_id"], "e:1");
    assert_eq!(list[0]["faces"][0]["person"]["name"], "Anna");
    assert_eq!(home.json(&["event", "list", "--camera", "garden"]), json!([]));
    assert_eq!(home.json(&["event", "list", "--since", "2100-01-01"]), json!([]));
    assert_eq!(home.json(&["event", "show", "1"]), home.json(&["event", "show", "door/e:1"]));
    let shown = home.says(&["event", "show", "1"]);
    assert!(shown.contains("Anna") && shown.contains("snapshot.jpg") && shown.contains("zone"), "{shown}");
    assert!(shown.contains("89490200001234567891"), "{shown}");
    assert!(home.says(&["--json", "event", "show", "1"]).contains("\"iccid\":89490200001234567891"));
    assert!(!shown.contains('\u{1b}'), "a camera cannot steer the terminal");

    let files = home.json(&["media", "list", "--event", "door/e:1"]);
    assert_eq!(files[0]["state"], "pending");
    assert_eq!(home.gives(&["media", "get", "door/e:1/snapshot.jpg"]), picture);
    assert_eq!(home.gives(&["media", "get", files[0]["id"].as_str().unwrap()]), picture);
    let target = home.path("got.jpg");
    let header = home.json(&["media", "get", "door/e:1/snapshot.jpg", "--output", target.to_str().unwrap()]);
    assert_eq!(header["media"]["size"], 200_000);
    assert_eq!(std::fs::read(target).unwrap(), picture);
    assert_eq!(home.fails(&["media", "get", "door/e:1/other.jpg"]).0, 1);

    let ledger = home.json(&["ledger"]);
    assert_eq!(ledger["events"]["rejected"], json!({"not_json": 1}));
    assert_eq!(ledger["holds"], true);
    assert!(home.says(&["ledger"]).contains("not_json"));
    home.says(&["person", "erase", "a"]);
    assert_eq!(
        home.json(&["event", "show", "1"])["faces"][0]["person"],
        json!(null),
        "forgotten in the past as well"
    );
    daemon.stop();
    let daemon = home.start_with(&[("GATEHOUSE__MQTT__URL", &broker.url())]);
    assert_eq!(home.json(&["status"])["head_seq"], 1);
    daemon.stop();
}

pub(crate) fn until(what: &str, mut there: impl FnMut() -> bool) {
    let end = Instant::now() + TEST_TIMEOUT;
    while !there() {
        assert!(Instant::now() < end, "waited for {what} in vain");
        std::thread::sleep(Duration::from_millis(50));
    }
}
