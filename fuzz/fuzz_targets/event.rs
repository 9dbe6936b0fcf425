//! What cameras send. Whatever comes, it becomes a checked visit or a refusal; the visit fits into the journal, and
//! what was written reads back as the same.
#![no_main]

use std::sync::LazyLock;

use bytes::Bytes;
use gatehouse_config::Config;
use gatehouse_daemon::sources::{Message, Sources};
use gatehouse_model::{Metric, Model, Timestamp};
use gatehouse_store::store::Models;
use libfuzzer_sys::fuzz_target;

static SOURCES: LazyLock<Sources> = LazyLock::new(|| {
    let text = "[device]\nid = \"door\"\nenvironment = \"dev\"\n[mqtt]\nurl = \"mqtt://localhost\"\n";
    Sources::new(&Config::from_text(text).expect("these settings are good"))
});

static MODELS: LazyLock<Models> = LazyLock::new(|| {
    let model = |name: &str, dimensions| {
        Model { name: name.to_owned(), dimensions, metric: Metric::Euclidean, normalised: false }
    };
    Models { in_use: model("m", 4), candidate: Some(model("n", 2)) }
});

/// The first line is the topic, the rest the payload, so that a case can be written by hand; a first byte `!` makes it
/// a retained message.
fn split(input: &[u8]) -> Option<(bool, &str, &[u8])> {
    let retained = input.first() == Some(&b'!');
    let input = &input[usize::from(retained)..];
    let end = input.iter().position(|b| *b == b'\n')?;
    Some((retained, std::str::from_utf8(&input[..end]).ok()?, &input[end + 1..]))
}

/// Most numbers of one array. Boxes of faces, which have four each, count one by one.
fn longest_array(value: &serde_json::Value) -> usize {
    match value {
        serde_json::Value::Array(elements) => {
            let own = elements.iter().filter(|element| element.is_number()).count();
            elements.iter().map(longest_array).fold(own, usize::max)
        }
        serde_json::Value::Object(members) => members.values().map(longest_array).max().unwrap_or(0),
        _ => 0,
    }
}

fuzz_target!(|input: &[u8]| {
    let Some((retained, topic, payload)) = split(input) else { return };
    let payload = Bytes::copy_from_slice(payload);
    let message = Message { topic, payload: &payload, retained, received_at: Timestamp::now() };
    if let Ok(visit) = SOURCES.event(&message, &MODELS) {
        let attributes: serde_json::Value =
            serde_json::from_str(&visit.event.attributes).expect("attributes are JSON");
        assert!(attributes.is_object(), "attributes are one object");
        assert!(visit.event.attributes.len() <= 8192, "attributes have a bound");
        assert!(longest_array(&attributes) <= 16, "many numbers are an encoding");
        assert!(visit.notes.len() <= 8 && visit.notes.iter().all(|note| note.chars().count() <= 300));
        assert!(!retained, "a retained message is old by nature");
    }
    if let Ok(upload) = SOURCES.media(&message) {
        let name = upload.name.to_string();
        assert!(!name.contains('/') && name != ".." && !name.is_empty(), "a name that leaves its folder");
    }
});
