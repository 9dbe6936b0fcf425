//! What an event holds too much of: it costs no visit, is never stored, and the camera learns of it.

use std::path::Path;

use gatehouse_model::Timestamp;
use gatehouse_store::store::EventQuery;
use gatehouse_testkit::wait;
use serde_json::{Value, json};

use super::setup::{Setup, TEST_TIMEOUT, anna, idle, visit};

/// 128 numbers with these digits in every one, and a part of their base64.
const MARK: &str = "0.7315";
const BASE64_PART: &str = "c3VyCgdAc3Vy";

fn numbers() -> Vec<f64> {
    (0..128).map(|at| 0.7315 + f64::from(at) * 1e-7).collect()
}

/// Everything that the store has of events, in the clear.
fn stored(setup: &Setup) -> String {
    let all = setup.store.events.list(&EventQuery { limit: 1000, ..EventQuery::default() }).unwrap();
    all.iter().map(|view| format!("{:?} {:?}\n", view.event, view.identification)).collect()
}

/// All bytes of the files below a folder.
fn bytes_below(folder: &Path) -> Vec<u8> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        found.extend(if path.is_dir() {
            bytes_below(&path)
        } else {
            std::fs::read(&path).unwrap_or_default()
        });
    }
    found
}

fn holds(bytes: &[u8], part: &str) -> bool {
    bytes.windows(part.len()).any(|window| window == part.as_bytes())
}

/// Misplaced encodings, each in one event.
fn misplaced() -> Vec<Value> {
    let text = "c3VyCgdA".repeat(64);
    let series: serde_json::Map<String, Value> =
        numbers().iter().enumerate().map(|(at, n)| (format!("e{at}"), json!(n))).collect();
    vec![
        json!({"encoding": numbers()}),
        json!({"face": {"encoding": numbers()}}),
        json!({"attributes": {"a": {"embedding": [numbers()]}}}),
        json!({"descriptor": json!(numbers()).to_string()}),
        json!({"face_template": text}),
        json!({"face": {"data": format!("data:;base64,{text}")}}),
        json!({"descriptors": series}),
        json!({"vector": numbers().iter().map(f64::to_string).collect::<Vec<_>>()}),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_misplaced_encoding_is_never_stored() {
    let setup = Setup::new().await;
    let pipeline = setup.open().await;
    let events = misplaced();
    let count = events.len() as u64;
    for (nth, mut event) in events.into_iter().enumerate() {
        event["id"] = json!(format!("without-{nth}"));
        setup.event(&event).await;
        let refused = setup.answer("rejected", &format!("without-{nth}")).await.json();
        assert_eq!(refused["reason"], "misplaced_encoding", "{refused}");
        assert!(refused["detail"].as_str().unwrap().contains("faces[].encoding"), "{refused}");
        event["id"] = json!(format!("with-{nth}"));
        event["faces"] = visit("")["faces"].clone();
        event["zone"] = json!("porch");
        setup.event(&event).await;
        let answer = setup.answer("identification", &format!("with-{nth}")).await.json();
        assert_eq!((&answer["faces"][0]["outcome"], &answer["actionable"]), (&json!("match"), &json!(true)));
        assert!(answer["notes"][0].as_str().unwrap().contains("looks like a face encoding"), "{answer}");
    }
    setup.stored(count).await;
    idle(&pipeline).await;
    assert_eq!(setup.store.events.ledger().events.rejected["misplaced_encoding"], count);
    assert!(pipeline.stats().fields_dropped >= count);
    let kept = stored(&setup);
    assert_eq!(kept.matches("zone").count() as u64, count);
    let answers: String = setup.listener.messages().iter().map(|m| m.json().to_string()).collect();
    assert!(pipeline.drain(TEST_TIMEOUT).await);
    let disk = bytes_below(&setup.config.state.directory);
    assert!(!disk.is_empty());
    for part in [MARK, BASE64_PART] {
        assert!(!kept.contains(part), "{part} in {kept}");
        assert!(!answers.contains(part), "{part} in {answers}");
        assert!(!holds(&disk, part), "{part} on the disk");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_whose_time_is_not_understood_is_answered_and_opens_no_door() {
    let setup = Setup::new().await;
    let pipeline = setup.open().await;
    let now = Timestamp::now();
    let (seconds, text) = (now.0 / 1_000_000, now.to_string());
    let plain = text.trim_end_matches('Z').to_owned();
    let cases = [
        (json!(null), true),
        (json!(seconds), true),
        (json!(seconds.to_string()), true),
        (json!(seconds * 1000), true),
        (json!(text), true),
        (json!(format!("{plain}+0000")), true),
        (json!(plain), false),
        (json!("10000-01-01T00:00:00Z"), false),
        (json!(0), false),
        (json!(true), false),
        (json!([text]), false),
        (json!(seconds - 3600), false),
    ];
    for (nth, (time, actionable)) in cases.iter().enumerate() {
        let id = nth.to_string();
        let mut event = visit(&id);
        event["time"] = time.clone();
        setup.event(&event).await;
        let answer = setup.answer("identification", &id).await.json();
        assert_eq!(answer["faces"][0]["outcome"], "match", "{time}");
        assert_eq!(answer["actionable"], *actionable, "{time}: {answer}");
        let is_old = *time == json!(seconds - 3600);
        assert_eq!(answer.get("notes").is_some(), !actionable && !is_old, "{time}: {answer}");
        assert_eq!(answer["replayed"], is_old, "{answer}");
    }
    setup.stored(cases.len() as u64).await;
    assert!(pipeline.drain(TEST_TIMEOUT).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn padding_numbers_as_ids_and_large_side_fields_cost_no_visit() {
    let setup = Setup::new().await;
    let pipeline = setup.open().await;
    let mut event = visit("padded").to_string().into_bytes();
    event.extend([0; 7]);
    setup.publish("gatehouse/door/event", [&b"\xef\xbb\xbf"[..], &event].concat()).await;
    assert_eq!(setup.answer("identification", "padded").await.json()["actionable"], true);
    setup.event(&json!({"id": 17, "faces": [{"encoding": anna()}]})).await;
    assert_eq!(setup.answer("identification", "17").await.json()["actionable"], true);
    let path: Vec<Value> = (0..400).map(|at| json!([[0.5, 0.6], at])).collect();
    let event = json!({"id": "path", "faces": [{"encoding": anna()}], "path_data": path, "label": "person"});
    setup.event(&event).await;
    let answer = setup.answer("identification", "path").await.json();
    assert_eq!(answer["actionable"], true);
    assert!(answer["notes"][0].as_str().unwrap().contains("path_data"), "{answer}");
    setup.stored(3).await;
    let kept = stored(&setup);
    assert!(kept.contains("label") && !kept.contains("path_data"), "{kept}");
    setup.publish("gatehouse/door/event", b"ON".to_vec()).await;
    let counted = || async { setup.store.events.ledger().events.rejected.get("not_json") == Some(&1) };
    wait::until_async("the refusal to be counted", TEST_TIMEOUT, counted).await.unwrap();
    assert!(pipeline.drain(TEST_TIMEOUT).await);
}
