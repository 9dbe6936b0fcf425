//! Messages that an appliance must refuse: every way of section 6 of the contract that one message can show.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use fastrand::Rng;
use serde_json::json;

use crate::synthetic::{DIMENSIONS, EventMessage, encoding_bytes, stranger};

/// More than an appliance accepts in one event.
const TOO_MANY_FACES: usize = 200;
/// Above the 256 KiB of an event.
const TOO_LARGE: usize = 300 * 1024;
/// Nesting depth that a hostile sender might use.
const BRACKETS: usize = 100_000;

/// A reason to refuse a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Fault {
    /// Half of a JSON object.
    NotJson,
    /// Bytes that are not UTF-8.
    BrokenUtf8,
    /// JSON, but not an object.
    NotAnObject,
    /// 100,000 open brackets.
    TooDeep,
    /// More than 256 KiB.
    TooLarge,
    /// An encoding of 64 numbers.
    WrongDimensions,
    /// Not a number, in base64: JSON cannot express it.
    NotANumber,
    /// Infinite, in base64.
    Infinite,
    /// 1e999: a number beyond the range of a float.
    Overflow,
    /// All components zero.
    ZeroVector,
    /// Base64 with invalid characters.
    BadBase64,
    /// Base64 of seven bytes: not even whole floats.
    OddBase64,
    /// Too many faces.
    TooManyFaces,
    /// A picture for an invalid event id.
    BadEventId,
    /// An event that names a picture outside of its folder.
    EscapingMediaName,
    /// A picture sent under the name `..`.
    EscapingMediaTopic,
    /// An invalid camera name.
    BadCamera,
    /// A message from the past.
    Retained,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 18] = [
        Self::NotJson,
        Self::BrokenUtf8,
        Self::NotAnObject,
        Self::TooDeep,
        Self::TooLarge,
        Self::WrongDimensions,
        Self::NotANumber,
        Self::Infinite,
        Self::Overflow,
        Self::ZeroVector,
        Self::BadBase64,
        Self::OddBase64,
        Self::TooManyFaces,
        Self::BadEventId,
        Self::EscapingMediaName,
        Self::EscapingMediaTopic,
        Self::BadCamera,
        Self::Retained,
    ];

    /// Whether the message is a media file (and not an event).
    pub fn is_media(self) -> bool {
        matches!(self, Self::EscapingMediaTopic | Self::BadEventId)
    }
}

/// A message to be refused.
#[derive(Debug, Clone)]
pub struct Malformed {
    /// What is wrong with it.
    pub fault: Fault,
    /// Topic below the root, e.g. `front/event`.
    pub topic: String,
    /// Payload.
    pub payload: Vec<u8>,
    /// Whether it is published as retained.
    pub retain: bool,
}

/// A message of `camera` with this fault, with the id `id` if it can contain one.
pub fn malformed(fault: Fault, camera: &str, id: &str, rng: &mut Rng) -> Malformed {
    let good = stranger(rng).sample(rng);
    let event = |encoding: Vec<f32>| EventMessage::face(id, encoding);
    let with_encoding = |encoding: serde_json::Value| {
        json!({ "id": id, "kind": "face", "faces": [{ "encoding": encoding }] }).to_string().into_bytes()
    };
    let with_number = |number: f32| {
        let mut encoding = good.clone();
        encoding[DIMENSIONS / 2] = number;
        with_encoding(STANDARD.encode(encoding_bytes(&encoding)).into())
    };
    let payload = match fault {
        Fault::NotJson => {
            let mut whole = event(good).payload();
            whole.truncate(whole.len() / 2);
            whole
        }
        Fault::BrokenUtf8 => {
            // Outside of a string: inside one it would be repaired.
            let mut whole = event(good).payload();
            whole.splice(1..1, [0xff, 0xfe]);
            whole
        }
        Fault::NotAnObject => format!("[\"{id}\"]").into_bytes(),
        Fault::TooDeep => "[".repeat(BRACKETS).into_bytes(),
        Fault::TooLarge => json!({ "id": id, "note": "9".repeat(TOO_LARGE) }).to_string().into_bytes(),
        Fault::WrongDimensions => event(good[..64].to_vec()).payload(),
        Fault::NotANumber => with_number(f32::NAN),
        Fault::Infinite => with_number(f32::INFINITY),
        Fault::Overflow => {
            let mut numbers: Vec<String> = good.iter().map(ToString::to_string).collect();
            numbers[3] = "1e999".into();
            let list = numbers.join(",");
            format!("{{\"id\":\"{id}\",\"kind\":\"face\",\"faces\":[{{\"encoding\":[{list}]}}]}}")
                .into_bytes()
        }
        Fault::ZeroVector => event(vec![0.0; DIMENSIONS]).payload(),
        Fault::BadBase64 => with_encoding("*this is not base64*".into()),
        Fault::OddBase64 => with_encoding(STANDARD.encode([1, 2, 3, 4, 5, 6, 7]).into()),
        Fault::TooManyFaces => {
            // Without encodings: the size stays below the limit, so the number of faces is the only fault.
            json!({ "id": id, "kind": "face", "faces": vec![json!({ "quality": 0.5 }); TOO_MANY_FACES] })
                .to_string()
                .into_bytes()
        }
        Fault::EscapingMediaName => event(good).payload_with("media", json!(["../../../etc/passwd"])),
        Fault::EscapingMediaTopic | Fault::BadEventId => vec![0xff, 0xd8, 0xff, 0xd9],
        Fault::BadCamera | Fault::Retained => event(good).payload(),
    };
    let topic = match fault {
        Fault::EscapingMediaTopic => format!("{camera}/media/{id}/.."),
        Fault::BadEventId => format!("{camera}/media/{{{id}}}/a.jpg"),
        Fault::BadCamera => "front.door number 1/event".into(),
        _ => format!("{camera}/event"),
    };
    Malformed { fault, topic, payload, retain: fault == Fault::Retained }
}

impl EventMessage {
    /// The payload with one field replaced.
    fn payload_with(&self, key: &str, value: serde_json::Value) -> Vec<u8> {
        let mut json = self.to_json();
        json[key] = value;
        json.to_string().into_bytes()
    }
}
