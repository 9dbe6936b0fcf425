//! From one model to another, as an operator goes: a second gallery, a dual run, the switch, a crash, an erasure.

use std::time::{Duration, Instant};

use gatehouse_testkit::broker::Broker;
use gatehouse_testkit::camera::{Address, Camera, Listener};
use rustix::process::Signal;
use serde_json::{Value, json};

use super::harness::{Daemon, Home, encoding, encodings};

const TEST_TIMEOUT: Duration = Duration::from_secs(30);
/// Components of the new model's encodings.
const NEW: usize = 32;

/// A face of a person of the new model, of length 1.
fn in_new(person: usize) -> Vec<f32> {
    (0..NEW).map(|at| if at == person { 1.0 } else { 0.0 }).collect()
}

struct Setup {
    broker: Broker,
    camera: Camera,
    listener: Listener,
    home: Home,
}

impl Setup {
    async fn new() -> Self {
        let broker = Broker::start().unwrap();
        let address = Address::local(broker.port());
        let camera = Camera::connect("door", &address);
        let filters = ["gatehouse/+/identification", "gatehouse/+/rejected"];
        let listener = Listener::subscribe("ear", &address, &filters, TEST_TIMEOUT).await.unwrap();
        Self { broker, camera, listener, home: Home::new("[gallery]\nthreshold = 0.6\n") }
    }

    fn start(&self) -> Daemon<'_> {
        let daemon = self.home.start_with(&[("GATEHOUSE__MQTT__URL", &self.broker.url())]);
        self.until(|| self.home.json(&["status"])["broker"]["connected"] == true);
        daemon
    }

    fn until(&self, is: impl Fn() -> bool) {
        let end = Instant::now() + TEST_TIMEOUT;
        while !is() {
            assert!(Instant::now() < end, "it did not come: {}", self.home.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn until_stored(&self, events: u64) {
        self.until(|| self.home.json(&["ledger"])["events"]["stored"] == events);
    }

    fn enroll(&self, id: &str, encodings: &str, gallery: &str) {
        let file = self.home.file("e.json", encodings);
        let order =
            ["person", "enroll", "--id", id, "--name", id, "--encodings", &file, "--gallery", gallery];
        self.home.says(&order);
    }

    /// Sends an event with one face; what comes back, whether answered or refused.
    async fn event(&self, id: &str, face: Value) -> Value {
        let event = json!({"id": id, "faces": [face]}).to_string();
        self.camera.publish("gatehouse/door/event", event, false, TEST_TIMEOUT).await.unwrap();
        self.listener.wait_for(id, TEST_TIMEOUT, |m| m.json()["event_id"] == id).await.unwrap().json()
    }

    fn outcome(&self, gallery: &str, probe: &str) -> Value {
        let file = self.home.file("probe.json", probe);
        self.home.json(&["identify", "--gallery", gallery, &file])["faces"][0]["outcome"].clone()
    }
}

fn both(old: &[f32], new: &[f32]) -> Value {
    json!({"encodings": {"dlib-128": old, "arc": new}})
}

/// Impostor statistics of the new model: its people lie at right angles to each other.
fn statistics() -> Value {
    json!({
        "format": 1, "model": "arc", "dimensions": 32, "metric": "cosine", "source": "made up",
        "people": 10_000, "encodings": 10_000, "norm": {"mean": 1.0, "deviation": 0.1},
        "impostor_distance": 1.0, "gallery_deviation": 0.1,
        "impostor": [{"share": 0.001, "distance": 0.57}, {"share": 0.5, "distance": 1.0}],
        "samples": [{"samples": 1, "factor": 1.0}],
        "bounds": [{"people": 1, "target": 0.001, "factor": 0.9}],
        "genuine": [],
    })
}

/// Adds a candidate gallery `arc` with one person and the error rates of its model.
fn add_candidate(setup: &Setup) {
    let home = &setup.home;
    let list = home.says(&[
        "gallery",
        "add",
        "--model",
        "arc",
        "--dimensions",
        "32",
        "--metric",
        "cosine",
        "--normalised",
    ]);
    assert!(list.contains("arc") && list.contains("second"), "{list}");
    setup.enroll("ada", &json!([in_new(0)]).to_string(), "arc");
    // Without error rates of the model a switch would shut the door.
    let (code, said) = home.fails(&["gallery", "switch", "arc"]);
    assert!(code == 1 && said.contains("would recognize no face") && said.contains("calibrate"), "{said}");
    let file = home.path("arc.json");
    std::fs::write(&file, statistics().to_string()).unwrap();
    let list = home.json(&["gallery", "calibrate", "--gallery", "arc", &file.to_string_lossy()]);
    assert_eq!((&list[1]["basis"], &list[1]["calibration"]), (&json!("model"), &json!("made up")), "{list}");
}

/// Sends events to both galleries and compares the verdicts.
async fn compare(setup: &Setup) {
    let home = &setup.home;
    let answer = setup.event("both", both(&encoding(1, 9), &in_new(0))).await;
    assert_eq!((&answer["model"], &answer["faces"][0]["person"]["id"]), (&json!("dlib-128"), &json!("ada")));
    assert_eq!(answer["gallery_size"], 2);
    let answer = setup.event("differ", both(&encoding(1, 8), &in_new(7))).await;
    assert_eq!(answer["actionable"], true, "the gallery in use answers");
    let refused = setup.event("alone", json!({"encoding": in_new(0), "model": "arc"})).await;
    assert_eq!(refused["reason"], "wrong_model");
    let detail = refused["detail"].as_str().unwrap();
    assert!(detail.contains("arc") && detail.contains("dlib-128"), "{detail}");
    setup.until_stored(2);
    let compared = home.json(&["gallery", "compare"]);
    assert_eq!((&compared["same"], &compared["only_in_use"]), (&json!(1), &json!(1)), "{compared}");
    assert_eq!(compared["differing"][0], json!({"event": "door/differ", "verdict": "only_in_use"}));
    let said = home.says(&["gallery", "compare"]);
    assert!(said.contains("door/differ") && said.contains("1 person missing in arc: bob"), "{said}");
}

/// The candidate is in use: it answers, and encodings of the former model need its name.
async fn assert_new_model_answers(setup: &Setup) {
    let home = &setup.home;
    let answer = setup.event("after", both(&encoding(1, 7), &in_new(0))).await;
    assert_eq!((&answer["model"], &answer["faces"][0]["outcome"]), (&json!("arc"), &json!("match")));
    let refused = setup.event("late", json!({"encoding": encoding(1, 6), "model": "dlib-128"})).await;
    assert_eq!(refused["reason"], "wrong_model");
    let refused = setup.event("unnamed", json!({"encoding": encoding(1, 6)})).await;
    assert_eq!(refused["reason"], "wrong_dimensions");
    setup.until_stored(3);
    setup.until(|| home.json(&["ledger"])["events"]["received"] == 6);
    let ledger = home.json(&["ledger"]);
    assert_eq!((&ledger["events"]["rejected"]["wrong_model"], &ledger["holds"]), (&json!(2), &json!(true)));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_appliance_changes_its_model_without_a_gap() {
    let setup = Setup::new().await;
    let home = &setup.home;
    let daemon = setup.start();
    setup.enroll("ada", &encodings(1, 3), "dlib-128");
    setup.enroll("bob", &encodings(2, 3), "dlib-128");
    add_candidate(&setup);
    compare(&setup).await;

    // The switch, and a crash right behind it.
    let (code, said) = home.fails(&["gallery", "switch", "arc"]);
    assert!(code == 1 && said.contains("bob") && said.contains("--force"), "{said}");
    home.says(&["gallery", "switch", "arc", "--force"]);
    daemon.signal(Signal::KILL);
    daemon.ended();
    let daemon = setup.start();
    assert_eq!(home.json(&["status"])["model"], "arc");
    assert!(home.says(&["status"]).contains("differs from the settings"));
    let doctor = home.says(&["doctor"]);
    let words = "arc is in use, second gallery dlib-128; the settings describe dlib-128";
    assert!(doctor.contains(words), "{doctor}");
    assert_new_model_answers(&setup).await;

    // Gone is gone, in both.
    let (old, new) = (json!(encoding(1, 5)).to_string(), json!(in_new(0)).to_string());
    assert_eq!(
        (setup.outcome("dlib-128", &old), setup.outcome("arc", &new)),
        (json!("match"), json!("match"))
    );
    assert_eq!(home.json(&["person", "erase", "ada"])["samples"], 4);
    let gone = || (setup.outcome("dlib-128", &old), setup.outcome("arc", &new));
    assert_eq!(gone(), (json!("stranger"), json!("stranger")));
    daemon.stop();
    let daemon = setup.start();
    assert_eq!(gone(), (json!("stranger"), json!("stranger")));
    assert!(home.says(&["gallery", "remove", "dlib-128"]).contains("arc is in use"));
    assert_eq!(home.json(&["gallery", "list"]).as_array().unwrap().len(), 1);
    assert!(!home.log().contains("ada"), "{}", home.log());
    daemon.stop();
}
