//! The native format: JSON events and raw media files, as the contract says in section 2.
//!
//! Order of an event: size, then a scan of the bytes ([`crate::sources::scan`]), then the object field by
//! field with nothing built but what is wanted, then the event. A refusal carries the event id once that was
//! read, so the id is read first.

use bytes::Bytes;
use gatehouse_config::Config;
use gatehouse_store::names::{CameraName, EventId, EventKey, MediaName};
use gatehouse_store::record::{Event, Item};
use gatehouse_store::sha256;
use gatehouse_store::store::Models;
use gatehouse_store::time::Timestamp;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::sources::attributes::{Attributes, CAMERA_TIME};
use crate::sources::faces::{Faces, Fields, elements, faces};
use crate::sources::refusal::{Fault, Reason, Refusal};
use crate::sources::scan::scan;
use crate::sources::{Message, Source, Upload, Visit, topic};

/// Longest event payload, in bytes (contract, section 2).
pub const EVENT_BYTES_MAX: usize = 256 * 1024;

/// Most media names of one event: snapshot, clip and a few crops.
const MEDIA_NAMES_MAX: usize = 16;

/// Longest kind, in bytes.
const KIND_BYTES_MAX: usize = 64;

/// Longest camera time that is kept as text, in characters; RFC 3339 needs below 40.
const TIME_TEXT_CHARS_MAX: usize = 128;

/// No camera tells a time before this and means it: 2020-01-01.
const PLAUSIBLE_FROM: Timestamp = Timestamp(1_577_836_800_000_000);

/// No camera tells a time after this and means it: 2100-01-01.
const PLAUSIBLE_UNTIL: Timestamp = Timestamp(4_102_444_800_000_000);

/// How far a camera's clock may run ahead, in microseconds: one day.
const AHEAD_MAX: i64 = 86_400_000_000;

/// The native source.
pub struct Native {
    root: String,
    max_faces: usize,
    max_payload_bytes: u64,
}

impl Native {
    /// The source of a configuration.
    pub fn new(config: &Config) -> Self {
        Self {
            root: config.mqtt.topic_root.clone(),
            max_faces: config.sources.max_faces,
            max_payload_bytes: config.mqtt.max_payload_bytes,
        }
    }

    fn read_event(
        &self,
        camera: &CameraName,
        message: &Message<'_>,
        models: &Models,
    ) -> Result<Visit, Refusal> {
        let mut id = None;
        let visit = self.visit(camera, message, models, &mut id);
        // Read first all the same, for the id in the answer.
        let visit = if message.retained { Err(retained()) } else { visit };
        visit.map_err(|fault| Refusal::of(Item::Event, camera, id, fault))
    }

    fn visit(
        &self,
        camera: &CameraName,
        message: &Message<'_>,
        models: &Models,
        known: &mut Option<EventId>,
    ) -> Result<Visit, Fault> {
        let mut fields = Fields::of(checked(message.payload)?, "the event")?;
        let given = fields.take("id");
        let mut id = match given {
            Some(raw) => event_id(raw)?,
            None => content_id(camera, message.payload)?,
        };
        *known = Some(id.clone());
        let Faces { probes, others, details } = faces(fields.take("faces"), models, self.max_faces)?;
        let kind = kind(fields.take("kind"), !probes.is_empty())?;
        let media = media_names(fields.take("media"))?;
        let time = fields.take("time");
        let occurred_at = time.and_then(|raw| plausible(raw, message.received_at));
        let mut bare = None;
        if given.is_none() && time.is_none() && probes.is_empty() {
            let prefix = format!("{id}-");
            id = ring_id(&prefix, message.received_at)?;
            bare = Some(prefix);
        }
        let mut attributes = Attributes::default();
        attributes.add_own(fields.take("attributes"))?;
        for field in fields.rest() {
            attributes.add_field(field)?;
        }
        if let (Some(raw), None) = (time, occurred_at) {
            attributes.add(CAMERA_TIME, time_text(raw));
        }
        if details.iter().any(|face| face.as_object().is_some_and(|fields| !fields.is_empty())) {
            attributes.add("faces", Value::Array(details));
        }
        let event = Event {
            key: EventKey { camera: camera.clone(), id },
            kind,
            occurred_at,
            received_at: message.received_at,
            media,
            attributes: attributes.finish()?,
        };
        Ok(Visit { event, faces: probes, others, bare })
    }

    fn check_media(&self, upload: Upload, message: &Message<'_>) -> Result<Upload, Refusal> {
        let size = message.payload.len() as u64;
        let fault = if message.retained {
            retained()
        } else if size > self.max_payload_bytes {
            Fault::new(
                Reason::TooLarge,
                format!("{size} bytes, at most {} are taken", self.max_payload_bytes),
            )
        } else if size == 0 {
            Fault::new(Reason::Empty, "a media file without a byte")
        } else {
            return Ok(upload);
        };
        Err(Refusal::of(Item::Media, &upload.event.camera, Some(upload.event.id), fault))
    }
}

impl Source for Native {
    fn event_filters(&self) -> Vec<String> {
        vec![format!("{}/+/event", self.root)]
    }

    fn media_filters(&self) -> Vec<String> {
        // All levels, so that a name with a folder in it is seen and refused.
        vec![format!("{}/+/media/#", self.root)]
    }

    fn event(&self, message: &Message<'_>, models: &Models) -> Option<Result<Visit, Refusal>> {
        let camera = topic::event(&self.root, message.topic)?;
        Some(camera.and_then(|camera| self.read_event(&camera, message, models)))
    }

    fn media(&self, message: &Message<'_>) -> Option<Result<Upload, Refusal>> {
        let upload = topic::media(&self.root, message.topic)?;
        Some(upload.and_then(|upload| self.check_media(upload, message)))
    }
}

fn checked(payload: &Bytes) -> Result<&str, Fault> {
    if payload.len() > EVENT_BYTES_MAX {
        let detail = format!("{} bytes, an event has at most {EVENT_BYTES_MAX}", payload.len());
        return Err(Fault::new(Reason::TooLarge, detail));
    }
    scan(payload)
}

fn retained() -> Fault {
    Fault::new(
        Reason::Retained,
        "the message is marked as retained and therefore old: publish without retain",
    )
}

fn event_id(raw: &RawValue) -> Result<EventId, Fault> {
    let id = text(raw).and_then(|text| EventId::try_from(text).ok());
    id.ok_or_else(|| Fault::new(Reason::BadEventId, "the id is not a text of 1 to 64 of A-Z a-z 0-9 . _ : -"))
}

/// The id of an event that has none: the same content of the same camera is the same event.
fn content_id(camera: &CameraName, payload: &[u8]) -> Result<EventId, Fault> {
    let content = [camera.as_str().as_bytes(), b"/", &sha256(payload)].concat();
    let id = format!("content-{}", hex::encode(&sha256(&content)[..16]));
    EventId::try_from(id).map_err(|_| Fault::new(Reason::BadEventId, "no id could be derived"))
}

/// The id of an event that is like every other of its camera, as a ring of a simple button: the time of arrival
/// tells them apart. A visitor must not be lost for ringing as the last one did.
fn ring_id(prefix: &str, received_at: Timestamp) -> Result<EventId, Fault> {
    let id = format!("{prefix}{:x}", received_at.0);
    EventId::try_from(id).map_err(|_| Fault::new(Reason::BadEventId, "no id could be derived"))
}

/// The kind; a camera that tells none is taken by what it sends.
fn kind(raw: Option<&RawValue>, has_faces: bool) -> Result<String, Fault> {
    let Some(raw) = raw else { return Ok(if has_faces { "face" } else { "event" }.to_owned()) };
    let fits =
        |kind: &String| (1..=KIND_BYTES_MAX).contains(&kind.len()) && !kind.chars().any(char::is_control);
    let kind = text(raw).filter(fits);
    kind.ok_or_else(|| {
        Fault::new(Reason::BadKind, format!("the kind is not a text of 1 to {KIND_BYTES_MAX} bytes"))
    })
}

fn media_names(raw: Option<&RawValue>) -> Result<Vec<MediaName>, Fault> {
    let Some(raw) = raw else { return Ok(Vec::new()) };
    let found = elements(raw, "media")?;
    if found.len() > MEDIA_NAMES_MAX {
        let detail = format!("{} media names, at most {MEDIA_NAMES_MAX} are taken", found.len());
        return Err(Fault::new(Reason::TooManyMedia, detail));
    }
    let name = |raw: &RawValue| text(raw).and_then(|text| MediaName::try_from(text).ok());
    let names: Option<Vec<_>> = found.into_iter().map(name).collect();
    names.ok_or_else(|| Fault::new(Reason::BadMediaName, "a media name is not 1 to 64 of A-Z a-z 0-9 . _ -"))
}

/// The camera's time where it is one and may be right. The upper bound follows the appliance's own clock only
/// where that one is plausible itself: a board without a clock starts in 1970.
fn plausible(raw: &RawValue, now: Timestamp) -> Option<Timestamp> {
    let time = Timestamp::parse(&text(raw)?)?;
    let ahead = now >= PLAUSIBLE_FROM && time.0 > now.0.saturating_add(AHEAD_MAX);
    (time >= PLAUSIBLE_FROM && time < PLAUSIBLE_UNTIL && !ahead).then_some(time)
}

fn time_text(raw: &RawValue) -> Value {
    let kept = text(raw).unwrap_or_else(|| raw.get().to_owned());
    Value::String(kept.chars().take(TIME_TEXT_CHARS_MAX).collect())
}

fn text(raw: &RawValue) -> Option<String> {
    serde_json::from_str(raw.get()).ok()
}

#[cfg(test)]
mod tests;
