use super::*;
use crate::sources::attributes::CAMERA_TIME;
use bytes::Bytes;
use gatehouse_model::{Metric, Model};
use serde_json::{Value, json};

mod side;

const DIMENSIONS: usize = 4;

fn native() -> Native {
    Native { root: "gatehouse".to_owned(), max_faces: 3, max_payload_bytes: 1000 }
}

fn model(name: &str, dimensions: usize) -> Model {
    Model { name: name.to_owned(), dimensions, metric: Metric::Euclidean, normalised: false }
}

fn models() -> Models {
    Models { in_use: model("old", DIMENSIONS), candidate: None }
}

fn read_at(topic: &str, payload: &[u8], retained: bool) -> Result<Visit, Refusal> {
    let payload = Bytes::copy_from_slice(payload);
    let received_at = Timestamp::parse("2026-11-20T12:00:00Z").unwrap();
    native().event(&Message { topic, payload: &payload, retained, received_at }, &models()).unwrap()
}

fn read(payload: impl AsRef<[u8]>) -> Result<Visit, Refusal> {
    read_at("gatehouse/door/event", payload.as_ref(), false)
}

fn reason(payload: impl AsRef<[u8]>) -> Reason {
    read(payload).err().unwrap().reason
}

fn attributes(visit: &Visit) -> Value {
    serde_json::from_str(&visit.event.attributes).unwrap()
}

fn face() -> Value {
    json!({"encoding": [0.1, 0.2, 0.3, 0.4]})
}

fn with(key: &str, value: &Value) -> String {
    let mut event = json!({"id": "7", "faces": [face()]});
    event[key] = value.clone();
    event.to_string()
}

#[test]
fn a_full_event_is_read() {
    let event = json!({
        "id": "2026-11-20:7", "time": "2026-11-20T11:59:58.5+00:00", "kind": "doorbell",
        "faces": [{"encoding": [0.1, -0.2, 3e-1, 0.4], "box": [1, 2, 3, 4], "quality": 0.75}, face()],
        "media": ["snapshot.jpg", "clip.mp4"], "attributes": {"battery": 80}, "firmware": "1.2",
    });
    let visit = read(event.to_string()).ok().unwrap();
    assert_eq!(visit.event.key.id.as_str(), "2026-11-20:7");
    assert_eq!(visit.event.kind, "doorbell");
    assert_eq!(visit.event.occurred_at, Timestamp::parse("2026-11-20T11:59:58.5Z"));
    assert_eq!(visit.event.media.len(), 2);
    assert_eq!(visit.faces.len(), 2);
    assert_eq!(visit.faces[0].quality, Some(0.75));
    assert_eq!(visit.faces[0].encoding.as_slice(), [0.1, -0.2, 0.3, 0.4]);
    assert_eq!(
        attributes(&visit),
        json!({"battery": 80, "firmware": "1.2", "faces": [{"box": [1, 2, 3, 4]}, {}]})
    );
}

#[test]
fn everything_is_optional_and_null_is_none() {
    for payload in
        ["{}", r#"{"id":null,"time":null,"kind":null,"faces":null,"media":null,"attributes":null}"#]
    {
        let visit = read(payload).ok().unwrap();
        assert!(visit.faces.is_empty() && visit.event.media.is_empty());
        assert_eq!((visit.event.kind.as_str(), visit.event.attributes.as_str()), ("event", "{}"));
        assert!(visit.event.key.id.as_str().starts_with("content-"));
    }
}

#[test]
fn a_derived_id_follows_camera_and_content() {
    let id = |camera: &str, payload: &str| {
        let visit = read_at(&format!("gatehouse/{camera}/event"), payload.as_bytes(), false).ok().unwrap();
        visit.event.key.id
    };
    let (one, spaced) = (r#"{"time":"2026-11-20T12:00:00Z"}"#, r#"{"time": "2026-11-20T12:00:00Z"}"#);
    assert_eq!(id("a", one), id("a", one));
    assert_ne!(id("a", one), id("b", one));
    assert_ne!(id("a", one), id("a", spaced));
}

#[test]
fn a_ring_that_says_nothing_of_itself_is_a_visit_of_its_own() {
    let at = |micros: i64| {
        let message = Message {
            topic: "gatehouse/door/event",
            payload: &Bytes::from_static(br#"{"kind":"doorbell"}"#),
            retained: false,
            received_at: Timestamp(micros),
        };
        native().event(&message, &models()).unwrap().ok().unwrap()
    };
    let (first, second) = (at(1_763_640_000_000_000), at(1_763_640_000_000_001));
    assert_ne!(first.event.key.id, second.event.key.id);
    assert_eq!(first.bare, second.bare, "by which one that is delivered again is found");
    assert!(first.event.key.id.as_str().starts_with(first.bare.unwrap().as_str()));
    assert_eq!(read(r#"{"id":"7","kind":"doorbell"}"#).ok().unwrap().bare, None);
}

#[test]
fn a_time_that_does_not_count_is_kept_as_an_attribute_and_makes_no_answer_fresh() {
    let cases = ["1970-01-01T00:00:10Z", "2106-02-07T06:28:15Z", "2026-11-22T12:00:00Z", "yesterday"];
    for time in
        cases.map(Value::from).into_iter().chain([json!(17), json!(true), json!("2026-11-20T12:00:00")])
    {
        let visit = read(with("time", &time)).ok().unwrap();
        assert_eq!(visit.event.occurred_at, None, "{time}");
        let kept = time.as_str().map_or_else(|| time.to_string(), str::to_owned);
        assert_eq!(attributes(&visit)[CAMERA_TIME], kept);
        assert!(visit.is_freshness_unknown && visit.notes.len() == 1, "{time}");
        assert!(visit.notes[0].starts_with("time "), "{:?}", visit.notes);
    }
    let long = json!(vec!["word "; 50]);
    for time in [json!([1]), json!({"sec": 1_796_047_800}), json!("word ".repeat(50)), long] {
        let visit = read(with("time", &time)).ok().unwrap();
        assert!(visit.is_freshness_unknown && visit.event.attributes == "{}", "{time}");
    }
    // A number that had to be repaired must not look like no time at all.
    for time in ["1e400", "NaN", "-Infinity", &"9".repeat(1000)] {
        let visit = read(format!(r#"{{"id":"7","time":{time}}}"#)).ok().unwrap();
        assert!(visit.is_freshness_unknown && visit.event.occurred_at.is_none(), "{time}");
    }
}

#[test]
fn a_time_under_another_name_makes_no_answer_fresh() {
    for name in ["timestamp", "ts", "Time", "dateTime", "UtcTime"] {
        let visit = read(with(name, &json!("2025-11-20T12:00:00Z"))).ok().unwrap();
        assert!(visit.is_freshness_unknown && visit.event.occurred_at.is_none(), "{name}");
        assert!(
            visit.notes[0].starts_with(name) && visit.notes[0].contains("its place is time"),
            "{:?}",
            visit.notes
        );
        assert!(visit.event.attributes.contains(name), "kept as an attribute: {}", visit.event.attributes);
    }
    // A counter or a word under such a name is no time, and `time` at its place is enough.
    for (name, value) in [("ts", json!(17)), ("timestamp", json!("none"))] {
        let visit = read(with(name, &value)).ok().unwrap();
        assert!(!visit.is_freshness_unknown && visit.notes.is_empty(), "{name}: {:?}", visit.notes);
    }
    let both = json!({"id": "7", "time": "2025-11-20T12:00:00Z", "timestamp": "2025-11-20T12:00:00Z"});
    assert!(!read(both.to_string()).ok().unwrap().is_freshness_unknown);
}

#[test]
fn a_time_that_is_understood_or_absent_is_as_fresh_as_it_says() {
    for time in [json!(1_763_640_000), json!("1763640000123"), json!("2025-11-20 12:00:00 +0000")] {
        let visit = read(with("time", &time)).ok().unwrap();
        let day = visit.event.occurred_at.unwrap().to_string();
        assert!(day.starts_with("2025-11-20T12:00:00"), "{time}: {day}");
        assert!(!visit.is_freshness_unknown && visit.notes.is_empty(), "{time}");
    }
    let visit = read(with("time", &json!(null))).ok().unwrap();
    assert!(!visit.is_freshness_unknown && visit.notes.is_empty());
}

#[test]
fn rings_with_a_time_that_is_always_the_same_are_not_lost() {
    let ring = |micros: i64| {
        let payload = Bytes::from_static(br#"{"kind":"doorbell","time":"","id":""}"#);
        let received_at = Timestamp(micros);
        let message =
            Message { topic: "gatehouse/door/event", payload: &payload, retained: false, received_at };
        native().event(&message, &models()).unwrap().ok().unwrap().event.key.id
    };
    assert_ne!(ring(1_763_640_000_000_000), ring(1_763_640_000_000_001));
}

#[test]
fn each_fault_is_refused_with_its_reason() {
    let cases = [
        (String::new(), Reason::NotJson),
        ("hello".to_owned(), Reason::NotJson),
        ("[]".to_owned(), Reason::WrongType),
        ("7".to_owned(), Reason::WrongType),
        ("ON".to_owned(), Reason::NotJson),
        ("IDLE".to_owned(), Reason::NotJson),
        ("\0".to_owned(), Reason::NotJson),
        ("{} {}".to_owned(), Reason::NotJson),
        ("{\"id\":\"7\"".to_owned(), Reason::NotJson),
        (r#"{"id":"7","id":"8"}"#.to_owned(), Reason::NotJson),
        (r#"{"id":"7","faces":[{"encoding":[NaN,1,2,3]}]}"#.to_owned(), Reason::NotFinite),
        (r#"{"id":"7","faces":[{"encoding":[1e999,1,2,3]}]}"#.to_owned(), Reason::NotFinite),
        (r#"{"id":"7","faces":[{"quality":1}]}"#.to_owned(), Reason::WrongDimensions),
        (with("faces", &json!([{"encoding": [1, 2, 3]}])), Reason::WrongDimensions),
        (with("faces", &json!([{"encoding": [0, 0, 0, 0]}])), Reason::ZeroVector),
        (with("faces", &json!([{"encoding": "?"}])), Reason::BadBase64),
        (with("faces", &json!({})), Reason::WrongType),
        (with("faces", &json!([1])), Reason::WrongType),
        (with("faces", &json!([{"encoding": 7}])), Reason::WrongType),
        (with("faces", &json!([{"encoding": ["1", "2", "3", "4"]}])), Reason::WrongType),
        (with("faces", &json!([{"encodings": [1, 2, 3, 4]}])), Reason::WrongType),
        (with("faces", &json!([face(), face(), face(), face()])), Reason::TooManyFaces),
        (with("faces", &json!([{"encoding": [1, 2, 3, 4], "quality": 2}])), Reason::BadQuality),
        (with("faces", &json!([{"encoding": [1, 2, 3, 4], "quality": "good"}])), Reason::BadQuality),
        (with("kind", &json!("")), Reason::BadKind),
        (with("kind", &json!("a\nb")), Reason::BadKind),
        (with("kind", &json!(["face"])), Reason::BadKind),
        (with("media", &json!(["../../etc/passwd"])), Reason::BadMediaName),
        (with("media", &json!([7])), Reason::BadMediaName),
        (with("media", &json!("snapshot.jpg")), Reason::WrongType),
        (with("media", &json!(vec!["a"; 17])), Reason::TooManyMedia),
        (with("id", &json!("x".repeat(EVENT_BYTES_MAX))), Reason::TooLarge),
        ("[".repeat(100_000), Reason::TooDeep),
        (format!("{{\"attributes\":{}", "{\"a\":".repeat(50_000)), Reason::TooDeep),
    ];
    for (payload, expected) in cases {
        let start: String = payload.chars().take(80).collect();
        assert_eq!(reason(&payload), expected, "{start}");
    }
    assert_eq!(reason(b"{\xff\"id\":\"7\"}"), Reason::NotJson);
    for quality in ["NaN", "1e400", "-0.1", "\"0.9\"", "[1]", "true"] {
        let payload = format!(r#"{{"id":"7","faces":[{{"encoding":[1,2,3,4],"quality":{quality}}}]}}"#);
        assert_eq!(reason(payload), Reason::BadQuality, "{quality}");
    }
}

#[test]
fn a_refusal_contains_the_id_once_it_is_known_and_nothing_of_the_face() {
    let refusal = read(with("faces", &json!([{"encoding": [0.123_456, 1, 2]}]))).err().unwrap();
    assert_eq!(refusal.event_id.as_ref().unwrap().as_str(), "7");
    assert_eq!(refusal.camera.as_ref().unwrap().as_str(), "door");
    assert!(!format!("{refusal:?}").contains("123456"));
    let refusal = read_at("gatehouse/door/event", br#"{"id":"7"}"#, true).err().unwrap();
    assert_eq!((refusal.reason, refusal.event_id.unwrap().as_str()), (Reason::Retained, "7"));
    let refusal = read_at("gatehouse/front door/event", b"{}", false).err().unwrap();
    assert_eq!((refusal.reason, refusal.camera), (Reason::BadCamera, None));
}

#[test]
fn attributes_that_are_no_object_or_share_a_name_are_kept_as_well() {
    let attributes = |payload: &str| attributes(&read(payload).ok().unwrap());
    assert_eq!(attributes(r#"{"attributes":[1]}"#), json!({"attributes": [1]}));
    assert_eq!(attributes(r#"{"attributes":{"a":1},"a":2}"#), json!({"a": 1, "field:a": 2}));
}

#[test]
fn media_is_bounded_and_not_retained() {
    let read = |size: usize, retained: bool| {
        let payload = Bytes::from(vec![1; size]);
        let message = Message {
            topic: "gatehouse/door/media/7/a.jpg",
            payload: &payload,
            retained,
            received_at: Timestamp(0),
        };
        native().media(&message).unwrap().map_err(|refusal| refusal.reason)
    };
    assert!(read(1000, false).is_ok());
    assert_eq!(read(1001, false), Err(Reason::TooLarge));
    assert_eq!(read(0, false), Err(Reason::Empty));
    assert_eq!(read(10, true), Err(Reason::Retained));
}

#[test]
fn no_mutation_of_an_event_makes_it_panic() {
    let base64 = "zczMPc3MTD6amZk+zczMPg==";
    let seeds = [
        with("attributes", &json!({"a": [1, {"b": null}], "c": "\u{1F600}\"\\"})),
        with("faces", &json!([{"encoding": base64, "box": [0, 0, 1, 1], "quality": 0.5}])),
        json!({"id": "1", "time": "2026-11-20T11:59:58Z", "media": ["a.jpg"], "kind": "motion", "x": 1e10})
            .to_string(),
        json!({"id": "{1}", "time": "2026-11-30 14:10:00+0000[UTC]", "e0": vec![0.5; 15], "x": "0.1 ".repeat(15)})
            .to_string(),
    ];
    let mut random = fastrand::Rng::with_seed(2);
    let pieces: [&[u8]; 18] = [
        b"NaN",
        b"0.25,",
        b"\\ud800",
        b"QUJDRGVmZ2hp",
        b"{",
        b"}",
        b"[",
        b"]",
        b"\"",
        b"\\",
        b",",
        b":",
        b"null",
        b"1e999",
        b"\xff",
        b"\\u0000",
        b"-",
        b"\xf0\x9f",
    ];
    let mut taken = 0;
    for _ in 0..30_000 {
        let mut bytes = seeds[random.usize(..seeds.len())].clone().into_bytes();
        for _ in 0..random.usize(0..4) {
            let at = random.usize(..=bytes.len());
            match random.u8(..5) {
                0 => bytes.truncate(at),
                1 => drop(bytes.splice(at..at, pieces[random.usize(..pieces.len())].iter().copied())),
                2 if at < bytes.len() => bytes[at] = random.u8(..),
                3 if at < bytes.len() => drop(bytes.remove(at)),
                _ => {
                    let part = bytes[at..].to_vec();
                    bytes.extend(part);
                }
            }
        }
        let Ok(visit) = read(&bytes) else { continue };
        assert!(attributes(&visit).is_object() && visit.event.attributes.len() <= 8192);
        taken += 1;
    }
    assert!(taken > 1000, "{taken}");
}

/// Reads an event with this face while galleries of `old` and `new` are there.
fn read_both(faces: &Value) -> Result<Visit, Refusal> {
    let models = Models { candidate: Some(model("new", 2)), ..models() };
    let payload = Bytes::from(json!({"id": "7", "faces": faces}).to_string());
    let message = Message {
        topic: "gatehouse/door/event",
        payload: &payload,
        retained: false,
        received_at: Timestamp(1_763_640_000_000_000),
    };
    native().event(&message, &models).unwrap()
}

#[test]
fn a_face_is_read_for_each_gallery_and_nothing_of_it_is_kept() {
    let (old, new) = ([0.1, 0.2, 0.3, 0.4], [0.6, 0.8]);
    for faces in [
        json!([{"encodings": {"old": old, "new": new, "third": [1, 2, 3]}}]),
        json!([{"encoding": old, "encodings": {"new": new}}]),
        json!([{"encoding": new, "model": "new", "encodings": {"old": old}}]),
        json!([{"encoding": old, "model": "old"}, {"encoding": new, "model": "new"}]),
    ] {
        let visit = read_both(&faces).ok().unwrap();
        assert_eq!(visit.faces.len(), 1, "{faces}");
        assert_eq!(visit.faces[0].encoding.as_slice(), old, "{faces}");
        assert_eq!(visit.others.faces[0].encoding.as_slice(), new, "{faces}");
        assert!(!visit.others.unreadable && visit.event.attributes == "{}", "{faces}");
    }
    let one = read(json!({"id": "7", "faces": [{"encodings": {"old": old, "new": new}}]}).to_string());
    let one = one.ok().unwrap();
    assert!(one.others.faces.is_empty() && one.event.attributes == "{}", "there is no second gallery");
}

#[test]
fn what_the_second_model_sends_never_stops_the_first() {
    for bad in [json!([1]), json!("!"), json!([0, 0]), json!(null), json!({})] {
        let visit = read_both(&json!([{"encoding": [1, 2, 3, 4], "encodings": {"new": bad}}])).ok().unwrap();
        assert!(visit.faces.len() == 1 && visit.others.faces.is_empty(), "{bad}");
        assert_eq!(visit.others.unreadable, !bad.is_null(), "{bad}");
    }
}

#[test]
fn a_probe_of_another_model_is_refused_with_both_names() {
    for faces in [
        json!([{"encoding": [1, 2, 3, 4], "model": "third"}]),
        json!([{"encodings": {"third": [1, 2, 3, 4]}}]),
        json!([{"encodings": {"new": [1, 2]}}]),
        json!([{"encoding": [1, 2, 3, 4]}, {"encoding": [1, 2], "model": "third"}]),
    ] {
        let refusal = read_both(&faces).err().unwrap();
        assert_eq!(refusal.reason, Reason::WrongModel, "{faces}");
        assert!(refusal.detail.contains("old"), "{}", refusal.detail);
        assert!(refusal.detail.contains("third") || refusal.detail.contains("new"), "{}", refusal.detail);
    }
    assert_eq!(reason(with("faces", &json!([{"encoding": [1, 2, 3, 4], "model": 7}]))), Reason::WrongModel);
    assert_eq!(reason(with("faces", &json!([{"encodings": {}}]))), Reason::WrongDimensions);
    let named = read_both(&json!([{"encoding": [1, 2]}])).err().unwrap();
    assert!(named.reason == Reason::WrongDimensions && named.detail.ends_with("its model is old"));
}
