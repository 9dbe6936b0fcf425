//! The id of an event: the camera's own, one derived from it, or one derived from the content.
//!
//! The id identifies a repeated delivery, so that no door opens twice for one visit.

use gatehouse_model::{CameraName, EventId, Timestamp, sha256};
use serde_json::value::RawValue;

use crate::sources::refusal::{Fault, Reason};

/// The `id` field of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum GivenId {
    /// None.
    Absent,
    /// A text of the allowed characters, or a number.
    Usable(EventId),
    /// Text or number with other characters: an id derived from it, so that equal ids are equal events.
    Derived(EventId),
    /// A value that cannot distinguish events: neither text nor number, an empty text, or a damaged one.
    Unusable,
}

impl GivenId {
    /// Reads the field.
    pub(crate) fn read(raw: Option<&RawValue>, camera: &CameraName) -> Result<Self, Fault> {
        let Some(raw) = raw else { return Ok(Self::Absent) };
        let text = match raw.get().as_bytes().first() {
            Some(b'"') => serde_json::from_str::<String>(raw.get()).unwrap_or_default(),
            Some(b'-' | b'0'..=b'9') => raw.get().to_owned(),
            _ => return Ok(Self::Unusable),
        };
        if text.trim().is_empty() || text.contains(char::REPLACEMENT_CHARACTER) {
            return Ok(Self::Unusable);
        }
        match EventId::try_from(text.as_str()) {
            Ok(id) => Ok(Self::Usable(id)),
            Err(_) => Ok(Self::Derived(digest_id("id", camera, text.as_bytes())?)),
        }
    }

    /// The note in the answer, if the event is not stored under the id of the camera.
    pub(crate) fn note(&self) -> Option<&'static str> {
        match self {
            Self::Absent | Self::Usable(_) => None,
            Self::Derived(_) => Some(
                "id is not 1 to 64 of A-Z a-z 0-9 . _ : -: the event is kept under event_id, which its media \
                 topics need too",
            ),
            Self::Unusable => Some(
                "id is not a text or number that can distinguish events: the event is kept under event_id, and \
                 the answer is not actionable",
            ),
        }
    }
}

/// The id of an event without one: equal content of one camera is the same event.
pub(crate) fn content_id(camera: &CameraName, payload: &[u8]) -> Result<EventId, Fault> {
    digest_id("content", camera, payload)
}

/// The id of an event that equals every other one of its camera, such as the ring of a simple button. The time of arrival
/// distinguishes them, so that no visit is lost.
pub(crate) fn ring_id(prefix: &str, received_at: Timestamp) -> Result<EventId, Fault> {
    made(format!("{prefix}{:x}", received_at.0))
}

fn digest_id(kind: &str, camera: &CameraName, bytes: &[u8]) -> Result<EventId, Fault> {
    let content = [camera.as_str().as_bytes(), b"/", &sha256(bytes)].concat();
    made(format!("{kind}-{}", hex::encode(&sha256(&content)[..16])))
}

fn made(id: String) -> Result<EventId, Fault> {
    EventId::try_from(id).map_err(|_| Fault::new(Reason::BadEventId, "no id could be derived"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> GivenId {
        let raw: &RawValue = serde_json::from_str(json).unwrap();
        GivenId::read(Some(raw), &"door".try_into().unwrap()).unwrap()
    }

    #[test]
    fn texts_and_numbers_are_ids() {
        for (json, id) in
            [("\"a:1\"", "a:1"), ("17", "17"), ("1700000000123", "1700000000123"), ("-1.5", "-1.5")]
        {
            assert_eq!(read(json), GivenId::Usable(id.try_into().unwrap()), "{json}");
        }
    }

    #[test]
    fn an_id_of_other_characters_stays_the_same_id() {
        for json in
            ["\"a b\"", "\"{6f9619ff-8b86-d011-b42d-00cf4fc964ff}\"", "\"../../x\"", "\"a\\u0000\"", "1e+5"]
        {
            let id = read(json);
            assert!(matches!(&id, GivenId::Derived(id) if id.as_str().starts_with("id-")), "{json}");
            assert_eq!(id, read(json));
        }
        assert_ne!(read("\"a b\""), read("\"a c\""));
    }

    #[test]
    fn what_distinguishes_no_events_is_no_id() {
        for json in ["true", "[]", "{}", "\"\"", "\" \"", "\"a\u{fffd}\""] {
            assert_eq!(read(json), GivenId::Unusable, "{json}");
        }
    }
}
