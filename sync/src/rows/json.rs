//! The JSON that goes to Postgres: the identification, and text that `jsonb` accepts.

use std::borrow::Cow;

use gatehouse_model::{Effort, EventKey, Face, Identification, Outcome, Person};
use serde::Serialize;

/// Replacement for a character that Postgres cannot store.
const REPLACEMENT: &str = "\\ufffd";

#[derive(Serialize)]
struct Answer<'a> {
    correlation_id: String,
    gallery_size: u32,
    model: &'a str,
    /// Engine and time, if they are known.
    #[serde(flatten)]
    effort: Option<Effort>,
    faces: Vec<Seen<'a>>,
}

#[derive(Serialize)]
struct Seen<'a> {
    outcome: Outcome,
    person: Option<&'a Person>,
    distance: Option<f32>,
    threshold: f32,
    margin: Option<f32>,
    quality: Option<f32>,
}

/// Column `identification` of an event.
pub(crate) fn identification(key: &EventKey, answer: &Identification<Person>) -> String {
    let faces = answer.faces.iter().map(seen).collect();
    let answer = Answer {
        correlation_id: key.correlation(),
        gallery_size: answer.gallery_size,
        model: &answer.model,
        effort: answer.effort,
        faces,
    };
    // Only strings and numbers, so this cannot fail. If it did, the event would be more important than its
    // identification.
    let text = serde_json::to_string(&answer).unwrap_or_else(|_| bare_identification(key, "encode"));
    match storable(&text) {
        Cow::Borrowed(_) => text,
        Cow::Owned(changed) => changed,
    }
}

/// Replacement for an identification that Postgres refuses.
pub(crate) fn bare_identification(key: &EventKey, code: &str) -> String {
    serde_json::json!({ "correlation_id": key.correlation(), "set_aside": code }).to_string()
}

/// Replacement for attributes that Postgres refuses.
pub(crate) fn bare_attributes(code: &str) -> String {
    serde_json::json!({ "set_aside": code }).to_string()
}

fn seen(face: &Face<Person>) -> Seen<'_> {
    Seen {
        outcome: face.outcome,
        person: face.person.as_ref(),
        distance: face.distance,
        threshold: face.threshold,
        margin: face.margin,
        quality: face.quality,
    }
}

/// The same JSON with U+FFFD for U+0000 and for lone surrogates, which `jsonb` cannot store.
pub(crate) fn storable(json: &str) -> Cow<'_, str> {
    if !json.contains("\\u") {
        return Cow::Borrowed(json);
    }
    let mut out = String::with_capacity(json.len());
    let mut rest = json;
    let mut changed = false;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let (length, replaced) = escape(rest);
        out.push_str(if replaced { REPLACEMENT } else { &rest[..length] });
        changed |= replaced;
        rest = &rest[length..];
    }
    if !changed {
        return Cow::Borrowed(json);
    }
    out.push_str(rest);
    Cow::Owned(out)
}

/// Length of the escape (or pair of escapes) at the start of `text`, and whether it must be replaced.
fn escape(text: &str) -> (usize, bool) {
    match unit(text) {
        Some(0) => (6, true),
        Some(0xd800..=0xdbff) => match text.get(6..).and_then(unit) {
            Some(0xdc00..=0xdfff) => (12, false),
            _ => (6, true),
        },
        Some(0xdc00..=0xdfff) => (6, true),
        Some(_) => (6, false),
        // A backslash and the character after it. Invalid JSON is not changed, because Postgres refuses it.
        None => (1 + text.chars().nth(1).map_or(0, char::len_utf8), false),
    }
}

/// The code unit of a `\uXXXX` at the start of `text`.
fn unit(text: &str) -> Option<u16> {
    let digits = text.strip_prefix("\\u")?.get(..4)?;
    if digits.starts_with('+') { None } else { u16::from_str_radix(digits, 16).ok() }
}

#[cfg(test)]
mod tests {
    use gatehouse_model::Engine;

    use super::*;

    #[test]
    fn only_what_jsonb_cannot_keep_is_replaced() {
        for (given, kept) in [
            (r#"{"a":"x"}"#, r#"{"a":"x"}"#),
            (r#""\u0000""#, r#""\ufffd""#),
            (r#""\\u0000""#, r#""\\u0000""#),
            (r#""\\\u0000\u0001""#, r#""\\\ufffd\u0001""#),
            (r#""\ud83d\ude00""#, r#""\ud83d\ude00""#),
            (r#""\ud83d!""#, r#""\ufffd!""#),
            (r#""\ud83d\ud83d\ude00""#, r#""\ufffd\ud83d\ude00""#),
            (r#""\uDE00""#, r#""\ufffd""#),
            (r#""\u00""#, r#""\u00""#),
            ("\"\\u0041\\ä\"", "\"\\u0041\\ä\""),
            ("\\u\\", "\\u\\"),
        ] {
            assert_eq!(storable(given), kept, "{given}");
        }
    }

    #[test]
    fn an_identification_names_its_correlation_and_its_people() {
        let key = EventKey { camera: "door".try_into().unwrap(), id: "1".try_into().unwrap() };
        let face = Face {
            outcome: Outcome::Match,
            person: Some(Person { id: "anna".into(), name: "A\0na".into() }),
            distance: Some(0.31),
            threshold: 0.42,
            margin: None,
            quality: Some(f32::NAN),
        };
        let effort = Some(Effort { engine: Engine::Exact, micros: 21 });
        let answer = Identification { gallery_size: 2, model: "dlib-128".into(), faces: vec![face], effort };
        let value: serde_json::Value = serde_json::from_str(&identification(&key, &answer)).unwrap();
        assert_eq!(value["correlation_id"], key.correlation());
        assert_eq!(value["faces"][0]["person"]["name"], "A\u{fffd}na");
        assert_eq!(value["faces"][0]["outcome"], "match");
        assert!(value["faces"][0]["quality"].is_null());
        assert_eq!((&value["engine"], &value["micros"]), (&"exact".into(), &21.into()));
    }
}
