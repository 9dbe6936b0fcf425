//! The native format: JSON events and raw media files, as in section 2 of the contract.
//!
//! Order for an event: size, a scan of the bytes ([`crate::sources::scan`]), the needed fields of the object, the event. The id
//! is read first, so that a refusal can contain it.
//!
//! A defect in a field that no answer needs drops that field and not the visit, and a note in the answer names it. A defect in
//! a field that safety depends on is a refusal, or makes the answer not actionable.

use gatehouse_config::Config;
use gatehouse_model::{CameraName, Event, EventId, EventKey, MediaName, Timestamp};
use gatehouse_store::record::Item;
use gatehouse_store::store::Models;
use serde_json::value::RawValue;

use crate::sources::attributes::Attributes;
use crate::sources::camera_time::{self, TimeFault};
use crate::sources::faces::{Faces, Fields, Part, elements, faces};
use crate::sources::identity::{GivenId, content_id, ring_id};
use crate::sources::notes::Notes;
use crate::sources::refusal::{Fault, Reason, Refusal};
use crate::sources::scan::{Text, scan, without_padding};
use crate::sources::side_fields::{Member, Place, SideFields, object};
use crate::sources::{Message, Source, Upload, Visit, topic};

/// Longest event payload, in bytes (contract, section 2).
pub const EVENT_BYTES_MAX: usize = 256 * 1024;

/// Most media names of one event: snapshot, clip and a few crops.
const MEDIA_NAMES_MAX: usize = 16;

/// Longest kind, in bytes.
const KIND_BYTES_MAX: usize = 64;

/// Fields of an event that have a meaning.
const EVENT_FIELDS: [&str; 6] = ["id", "time", "kind", "faces", "media", "attributes"];

/// Names under which cameras send the time of an event by mistake, in any case of letters.
const TIME_NAMES: [&str; 10] = [
    "time",
    "timestamp",
    "ts",
    "datetime",
    "date_time",
    "event_time",
    "eventTime",
    "occurred_at",
    "utctime",
    "utc_time",
];

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
        // Read in any case, for the id in the answer.
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
        let mut notes = Notes::default();
        let payload = without_padding(message.payload);
        let text = checked(payload, &mut notes)?;
        let mut fields = Fields::of(&text, Part::Event, |key| EVENT_FIELDS.contains(&key))?;
        let given = GivenId::read(fields.take("id"), camera)?;
        let mut id = match &given {
            GivenId::Usable(id) | GivenId::Derived(id) => id.clone(),
            GivenId::Absent | GivenId::Unusable => content_id(camera, payload)?,
        };
        *known = Some(id.clone());
        let time = Time::read(fields.take("time"), message.received_at);
        let misnamed = time.raw.is_none().then(|| misnamed_time(&fields, message.received_at)).flatten();
        let mut side = SideFields::new(models);
        let Faces { probes, others, details } =
            faces(fields.take("faces"), models, self.max_faces, &mut side)?;
        let kind = kind(fields.take("kind"), !probes.is_empty())?;
        let media = media_names(fields.take("media"))?;
        let mut bare = None;
        let has_id = matches!(given, GivenId::Usable(_) | GivenId::Derived(_));
        if !has_id && time.occurred_at.is_none() && misnamed.is_none() && probes.is_empty() {
            let prefix = format!("{id}-");
            id = ring_id(&prefix, message.received_at)?;
            bare = Some(prefix);
        }
        let attributes = attributes(fields, &time, &details, &mut side);
        if probes.is_empty()
            && let Some(fault) = side.misplaced_fault()
        {
            return Err(fault);
        }
        notes.extend(time.fault.map(TimeFault::note));
        notes.extend(misnamed.as_deref());
        notes.extend(given.note());
        side.note(&mut notes);
        let key = EventKey { camera: camera.clone(), id };
        let (occurred_at, received_at) = (time.occurred_at, message.received_at);
        Ok(Visit {
            event: Event { key, kind, occurred_at, received_at, media, attributes },
            faces: probes,
            others,
            bare,
            is_freshness_unknown: time.fault.is_some() || misnamed.is_some() || given == GivenId::Unusable,
            fields_dropped: side.dropped(),
            notes: notes.finish(),
        })
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
        // All levels, so that a name with a folder is received and refused.
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

fn checked<'a>(payload: &'a [u8], notes: &mut Notes) -> Result<Text<'a>, Fault> {
    if payload.len() > EVENT_BYTES_MAX {
        let detail = format!("{} bytes, an event has at most {EVENT_BYTES_MAX}", payload.len());
        return Err(Fault::new(Reason::TooLarge, detail));
    }
    scan(payload, notes)
}

fn retained() -> Fault {
    Fault::new(
        Reason::Retained,
        "the message is marked as retained and therefore old: publish without retain",
    )
}

/// A note if an event without `time` has a time under another name. The appliance does not know its age then, so it must not
/// count as fresh.
fn misnamed_time(fields: &Fields<'_>, now: Timestamp) -> Option<String> {
    let is_meant = |name: &str| TIME_NAMES.iter().any(|meant| meant.eq_ignore_ascii_case(name));
    let is_time = |raw: &RawValue| camera_time::read(raw, now).is_ok();
    let (name, _) = fields.left().iter().find(|(name, raw)| is_meant(name) && is_time(raw))?;
    Some(format!(
        "{name} looks like the time of the event: its place is time; without it the age is unknown and the answer is not \
         actionable"
    ))
}

/// The `time` of an event.
struct Time<'a> {
    occurred_at: Option<Timestamp>,
    /// Why the time of the camera is not used.
    fault: Option<TimeFault>,
    raw: Option<&'a RawValue>,
}

impl<'a> Time<'a> {
    fn read(raw: Option<&'a RawValue>, now: Timestamp) -> Self {
        match raw.map(|raw| camera_time::read(raw, now)) {
            None => Self { occurred_at: None, fault: None, raw },
            Some(Ok(time)) => Self { occurred_at: Some(time), fault: None, raw },
            Some(Err(fault)) => Self { occurred_at: None, fault: Some(fault), raw },
        }
    }
}

/// The JSON text of the kept side fields.
fn attributes(
    mut fields: Fields<'_>,
    time: &Time<'_>,
    details: &[Vec<Member>],
    side: &mut SideFields,
) -> String {
    let mut attributes = Attributes::default();
    attributes.add_own(fields.take("attributes"), side);
    attributes.extend(side.members(&Place::event(), fields.rest()));
    if let (Some(raw), Some(_)) = (time.raw, time.fault) {
        attributes.add_camera_time(raw, side);
    }
    if details.iter().any(|face| !face.is_empty()) {
        let faces: Vec<String> = details.iter().map(|face| object(face)).collect();
        let json = format!("[{}]", faces.join(","));
        attributes.extend([Member { name: "faces".to_owned(), json }]);
    }
    attributes.finish(side)
}

/// The kind. Without one it depends on the faces.
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
    let found = elements(raw, Part::Media)?;
    if found.len() > MEDIA_NAMES_MAX {
        let detail = format!("{} media names, at most {MEDIA_NAMES_MAX} are taken", found.len());
        return Err(Fault::new(Reason::TooManyMedia, detail));
    }
    let name = |raw: &RawValue| text(raw).and_then(|text| MediaName::try_from(text).ok());
    let names: Option<Vec<_>> = found.into_iter().map(name).collect();
    names.ok_or_else(|| Fault::new(Reason::BadMediaName, "a media name is not 1 to 64 of A-Z a-z 0-9 . _ -"))
}

fn text(raw: &RawValue) -> Option<String> {
    serde_json::from_str(raw.get()).ok()
}

#[cfg(test)]
mod tests;
