//! Side fields: misplaced encodings, the bound of attributes, and defects that cost no visit.

use super::*;
use crate::sources::attributes::ATTRIBUTES_BYTES_MAX;
use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use gatehouse_testkit::malformed::{Fault, malformed};

/// Length of the encodings in these tests, as dlib gives them.
const LENGTH: usize = 128;

/// Digits that are in every number of [`encoding`], and in nothing else.
const MARK: &str = "73";

fn encoding() -> Vec<f32> {
    (0_u8..128).map(|at| if at % 2 == 0 { 0.0731 } else { -0.1734 } + f32::from(at) * 1e-5).collect()
}

fn numbers() -> Vec<f64> {
    (0..LENGTH).map(|at| 0.73 + at as f64 * 1e-7).collect()
}

fn base64() -> String {
    BASE64_STANDARD.encode(encoding().iter().flat_map(|n| n.to_le_bytes()).collect::<Vec<_>>())
}

fn read_long(event: &Value) -> Result<Visit, Refusal> {
    let payload = Bytes::from(event.to_string());
    let received_at = Timestamp::parse("2026-11-20T12:00:00Z").unwrap();
    let models = Models { in_use: model("dlib-128", LENGTH), candidate: None };
    let message = Message { topic: "gatehouse/door/event", payload: &payload, retained: false, received_at };
    native().event(&message, &models).unwrap()
}

/// Forms of an encoding that a camera may put somewhere, and a part of its text that would betray it.
fn forms() -> Vec<(Value, String)> {
    let (numbers, text) = (numbers(), base64());
    let bytes: Vec<u8> = encoding().iter().flat_map(|n| n.to_le_bytes()).collect();
    let doubles: Vec<u8> = numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
    let part = |text: &str| text[24..48].to_owned();
    let double = BASE64_STANDARD.encode(&doubles);
    let url = BASE64_URL_SAFE_NO_PAD.encode(&bytes);
    let hex = hex::encode(&bytes);
    let series: serde_json::Map<String, Value> =
        numbers.iter().enumerate().map(|(at, n)| (at.to_string(), json!(n))).collect();
    let rows: Vec<_> = numbers.chunks(4).map(|row| json!({"v": row})).collect();
    let texts: Vec<_> = numbers.iter().map(f64::to_string).collect();
    vec![
        (json!(numbers), MARK.to_owned()),
        (json!([[numbers]]), MARK.to_owned()),
        (json!(rows), MARK.to_owned()),
        (json!(series), MARK.to_owned()),
        (json!(texts), MARK.to_owned()),
        (json!(texts.join(" ")), MARK.to_owned()),
        (json!(json!({"e": numbers}).to_string()), MARK.to_owned()),
        (json!(json!(json!(numbers).to_string()).to_string()), MARK.to_owned()),
        (json!(text), part(&text)),
        (json!(url), part(&url)),
        (json!(hex), part(&hex)),
        (json!(double), part(&double)),
        (json!(format!("data:application/octet-stream;base64,{text}")), part(&text)),
        (json!({"a": [{"b": text}]}), part(&text)),
        (json!({ text.clone(): 1 }), part(&text)),
    ]
}

/// Events with a form at a wrong place.
fn misplaced(form: &Value) -> Vec<Value> {
    let mut events = Vec::new();
    for key in ["encoding", "embedding", "descriptor", "face", "x"] {
        events.push(json!({"id": "7", key: form}));
        events.push(json!({"id": "7", "face": {key: form}}));
        events.push(json!({"id": "7", "attributes": {"a": {"b": {key: form}}}}));
    }
    events
}

#[test]
fn a_misplaced_encoding_is_refused_with_its_path_where_the_event_has_none() {
    for (form, part) in forms() {
        for event in misplaced(&form) {
            let refusal = read_long(&event).err().unwrap_or_else(|| panic!("taken: {event}"));
            assert_eq!(refusal.reason, Reason::MisplacedEncoding, "{event}");
            assert_eq!(refusal.event_id.unwrap().as_str(), "7");
            assert!(refusal.detail.contains("faces[].encoding"), "{}", refusal.detail);
            assert!(!refusal.detail.contains(&part), "{}", refusal.detail);
        }
    }
    let detail = |event: &Value| read_long(event).err().unwrap().detail;
    assert!(detail(&json!({"face": {"encoding": numbers()}})).starts_with("face.encoding looks like"));
    let face = json!({"id": "7", "faces": [{"embedding": numbers(), "quality": 1}]});
    assert!(detail(&face).starts_with("faces[0].embedding looks like"), "{}", detail(&face));
    let time = json!({"id": "7", "time": numbers()});
    assert!(detail(&time).starts_with("time looks like"), "{}", detail(&time));
}

#[test]
fn a_misplaced_encoding_is_dropped_and_noted_where_one_is_at_its_place() {
    for (form, part) in forms() {
        for mut event in misplaced(&form) {
            event["faces"] = json!([{"encoding": encoding(), "descriptor": form, "box": [1, 2, 3, 4]}]);
            let visit = read_long(&event).ok().unwrap();
            assert_eq!(visit.faces.len(), 1);
            let kept = &visit.event.attributes;
            assert!(!kept.contains(&part) && kept.len() < 200, "{kept}");
            assert!(kept.contains(r#""box":[1,2,3,4]"#), "{kept}");
            let notes = visit.notes.concat();
            assert!(notes.contains("faces[0].descriptor") && !notes.contains(&part), "{notes}");
            assert!(visit.fields_dropped >= 2 && !visit.is_freshness_unknown);
        }
    }
}

#[test]
fn numbers_of_other_lengths_are_dropped_and_cost_no_visit() {
    let path: Vec<Vec<f64>> = (0..9).map(|at| vec![0.5, f64::from(at)]).collect();
    let picture = format!("/9j/{}", "Ab3d".repeat(500));
    let event = json!({"id": "7", "kind": "motion", "path_data": path, "face": picture, "blob": "Xb3z".repeat(30),
        "zone": "porch", "box": [0.1, 0.2, 0.3, 0.4]});
    let visit = read_long(&event).ok().unwrap();
    assert_eq!(attributes(&visit), json!({"zone": "porch", "box": [0.1, 0.2, 0.3, 0.4]}));
    assert_eq!(visit.fields_dropped, 3);
    let notes = visit.notes.join("\n");
    for name in ["path_data", "face", "blob", "media topic"] {
        assert!(notes.contains(name), "{notes}");
    }
}

#[test]
fn attributes_above_their_bound_are_dropped_one_by_one() {
    let text = "a word and another ".repeat(300);
    let event = json!({"id": "7", "faces": [{"encoding": encoding()}], "log": text, "zone": "porch",
        "attributes": {"trace": text, "battery": 80}});
    let visit = read_long(&event).ok().unwrap();
    assert!(visit.event.attributes.len() <= ATTRIBUTES_BYTES_MAX);
    assert_eq!(attributes(&visit), json!({"log": text, "zone": "porch", "battery": 80}));
    assert!(visit.notes.concat().contains("not kept: trace (attributes have at most 8192 bytes in all)"));
    let many: serde_json::Map<String, Value> =
        (0..9000).map(|at| (format!("key{at}x"), json!("word"))).collect();
    let visit = read_long(&json!({"id": "7", "attributes": many, "k".repeat(70_000): 1})).ok().unwrap();
    assert!(visit.event.attributes.len() <= ATTRIBUTES_BYTES_MAX && visit.fields_dropped > 8000);
    assert!(visit.notes.iter().all(|note| note.len() < 300), "{:?}", visit.notes);
}

#[test]
fn a_defect_of_a_side_field_costs_no_visit() {
    for (payload, kept, notes) in [
        (br#"{"id":"7","x":"\ud800"}"#.to_vec(), json!({"x": "\u{fffd}"}), 1),
        (br#"{"id":"7","x":[1e400,NaN]}"#.to_vec(), json!({"x": ["1e400", "NaN"]}), 1),
        (br#"{"id":"7","x":1,"x":{"a":1,"a":2}}"#.to_vec(), json!({"x": {"a": 2}}), 0),
        (b"{\"id\":\"7\",\"x\":\"T\xfcr\"}".to_vec(), json!({"x": "T\u{fffd}r"}), 1),
        (b"\xef\xbb\xbf{\"id\":\"7\",\"x\":1}\0\0\0".to_vec(), json!({"x": 1}), 0),
        (with("faces", &json!([{"encoding": [1, 2, 3, 4], "box": [1, 2, 3]}])).into_bytes(), json!({}), 1),
        (with("faces", &json!([{"encoding": [1, 2, 3, 4], "box": "no"}])).into_bytes(), json!({}), 1),
    ] {
        let visit = read(&payload).ok().unwrap_or_else(|| panic!("{}", String::from_utf8_lossy(&payload)));
        assert_eq!(visit.event.key.id.as_str(), "7");
        assert_eq!(attributes(&visit), kept, "{}", String::from_utf8_lossy(&payload));
        assert_eq!(visit.notes.len(), notes, "{:?}", visit.notes);
    }
}

#[test]
fn what_is_nested_too_deep_is_cut() {
    for (open, close, kept) in [("[", "]", "[null]"), ("{\"a\":", "}", "{}")] {
        let payload = format!(r#"{{"id":"7","x":{}1{}}}"#, open.repeat(100), close.repeat(100));
        let visit = read(payload).ok().unwrap();
        assert!(visit.event.attributes.contains(kept), "{}", visit.event.attributes);
        assert!(visit.notes.concat().contains("nested too deep"), "{:?}", visit.notes);
    }
}

#[test]
fn numbers_keep_every_digit() {
    let payload =
        r#"{"id":"7","serial":89490200001234567891,"attributes":{"iccid":89490200001234567891,"v":0.10}}"#;
    let text = read(payload).ok().unwrap().event.attributes;
    assert_eq!(text, r#"{"iccid":89490200001234567891,"v":0.10,"serial":89490200001234567891}"#);
}

#[test]
fn an_id_that_cannot_be_used_is_replaced_and_noted() {
    let visit = |id: &Value| read(with("id", id)).ok().unwrap();
    assert_eq!(visit(&json!(17)).event.key.id.as_str(), "17");
    assert!(visit(&json!(17)).notes.is_empty());
    for id in
        [json!("{6f9619ff-8b86-d011-b42d-00cf4fc964ff}"), json!("a b"), json!("../.."), json!("x".repeat(65))]
    {
        let one = visit(&id);
        assert!(one.event.key.id.as_str().starts_with("id-") && one.notes.len() == 1, "{id}");
        assert!(!one.is_freshness_unknown, "the same id is known again");
        let again = read(json!({"id": id, "kind": "face", "try": 2}).to_string()).ok().unwrap();
        assert_eq!(again.event.key, one.event.key, "{id}");
    }
    for id in [json!(true), json!({}), json!([1]), json!("")] {
        let visit = visit(&id);
        assert!(visit.event.key.id.as_str().starts_with("content-"), "{id}");
        assert!(visit.is_freshness_unknown && visit.notes.len() == 1, "{id}");
    }
}

#[test]
fn a_wrong_type_is_named_with_the_right_one() {
    for (event, words) in [
        (json!({"media": "a.jpg"}), r#"media must be a list of names: ["a.jpg"]"#),
        (json!({"faces": {"encoding": [1]}}), r#"faces must be a list of objects: [{"encoding": [...]}]"#),
        (json!({"faces": [[1]]}), r#"a face must be an object: {"encoding": [...]}"#),
        (json!([]), r#"the event must be an object: {"id": "17", "kind": "doorbell"}"#),
    ] {
        let refusal = read(event.to_string()).err().unwrap();
        assert_eq!((refusal.reason, refusal.detail.as_str()), (Reason::WrongType, words));
    }
}

#[test]
fn every_malformed_message_of_the_scenario_is_refused() {
    let models = Models { in_use: model("dlib-128", LENGTH), candidate: None };
    for fault in Fault::ALL {
        let malformed = malformed(fault, "door", "7", &mut fastrand::Rng::with_seed(3));
        let (topic, payload) = (format!("gatehouse/{}", malformed.topic), Bytes::from(malformed.payload));
        let (retained, received_at) = (malformed.retain, Timestamp(0));
        let message = Message { topic: &topic, payload: &payload, retained, received_at };
        let event = native().event(&message, &models).map(|read| read.err());
        let media = native().media(&message).map(|read| read.err());
        let refusal = if fault.is_media() { media } else { event };
        let reason = refusal.flatten().map(|refusal| refusal.reason);
        match fault {
            Fault::BrokenUtf8 => assert_eq!(reason, Some(Reason::NotJson)),
            Fault::NotAnObject => assert_eq!(reason, Some(Reason::WrongType)),
            Fault::BadEventId => assert_eq!(reason, Some(Reason::BadEventId)),
            Fault::Overflow => assert_eq!(reason, Some(Reason::NotFinite)),
            _ => assert!(reason.is_some(), "{fault:?}"),
        }
    }
}
