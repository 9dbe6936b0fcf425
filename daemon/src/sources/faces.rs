//! Reads JSON objects field by field, and the faces of an event.

use std::collections::HashSet;
use std::fmt;

use gatehouse_model::Model;
use gatehouse_store::store::{Models, Others, ProbeFace};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::error::Category;
use serde_json::value::RawValue;

use crate::sources::encoding::encoding;
use crate::sources::refusal::{Fault, Reason};
use crate::sources::side_fields::{Cause, Member, Place, SideFields};

/// The unread fields of one JSON object.
pub(crate) struct Fields<'a>(Vec<(String, &'a RawValue)>);

/// A part of an event that must be of one type.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Part {
    Event,
    Faces,
    Face,
    Encodings,
    Media,
}

impl Part {
    fn name(self) -> &'static str {
        match self {
            Self::Event => "the event",
            Self::Faces => "faces",
            Self::Face => "a face",
            Self::Encodings => "encodings",
            Self::Media => "media",
        }
    }

    fn form(self) -> &'static str {
        match self {
            Self::Event => "an object: {\"id\": \"17\", \"kind\": \"doorbell\"}",
            Self::Faces => "a list of objects: [{\"encoding\": [...]}]",
            Self::Face => "an object: {\"encoding\": [...]}",
            Self::Encodings => "an object with an encoding for each model: {\"dlib-128\": [...]}",
            Self::Media => "a list of names: [\"a.jpg\"]",
        }
    }

    /// The error of the parser with a position, never with content.
    fn fault(self, error: &serde_json::Error) -> Fault {
        let (name, form) = (self.name(), self.form());
        let place = format!("line {} column {}", error.line(), error.column());
        match error.classify() {
            Category::Data => Fault::new(Reason::WrongType, format!("{name} must be {form}")),
            Category::Eof => Fault::new(Reason::NotJson, format!("{name} ends too early, at {place}")),
            _ => Fault::new(Reason::NotJson, format!("{name} is not JSON, at {place}")),
        }
    }
}

impl<'a> Fields<'a> {
    /// Splits a JSON object into fields. A known key must not occur twice, because readers differ in which one they use.
    pub(crate) fn of(text: &'a str, part: Part, counts: impl Fn(&str) -> bool) -> Result<Self, Fault> {
        let fields: Self = serde_json::from_str(text).map_err(|error| part.fault(&error))?;
        let mut seen = HashSet::new();
        if fields.0.iter().filter(|(key, _)| counts(key)).all(|(key, _)| seen.insert(key)) {
            Ok(fields)
        } else {
            Err(Fault::new(Reason::NotJson, format!("{} has a key twice", part.name())))
        }
    }

    /// Removes a field; `null` counts as absent.
    pub(crate) fn take(&mut self, key: &str) -> Option<&'a RawValue> {
        let at = self.0.iter().position(|(name, _)| name == key)?;
        Some(self.0.remove(at).1).filter(|raw| raw.get() != "null")
    }

    /// The fields that were not removed yet.
    pub(crate) fn left(&self) -> &[(String, &'a RawValue)] {
        &self.0
    }

    /// The fields that were not removed.
    pub(crate) fn rest(self) -> Vec<(String, &'a RawValue)> {
        self.0
    }
}

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Fields<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Vec::new();
                while let Some(entry) = map.next_entry::<String, &'de RawValue>()? {
                    fields.push(entry);
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

/// The elements of a JSON array.
pub(crate) fn elements(raw: &RawValue, part: Part) -> Result<Vec<&RawValue>, Fault> {
    serde_json::from_str(raw.get()).map_err(|error| part.fault(&error))
}

/// The faces of an event, and the attributes of each face (its box, unknown fields).
#[derive(Default)]
pub(crate) struct Faces {
    pub(crate) probes: Vec<ProbeFace>,
    /// The same for the second gallery.
    pub(crate) others: Others,
    pub(crate) details: Vec<Vec<Member>>,
}

/// Fields of a face that have a meaning.
const FACE_FIELDS: [&str; 5] = ["model", "encoding", "encodings", "quality", "box"];

/// Longest name of a model that is repeated in an answer, in bytes.
const MODEL_BYTES_MAX: usize = 64;

/// Reads the `faces` of an event for galleries of these models.
pub(crate) fn faces(
    raw: Option<&RawValue>,
    models: &Models,
    most: usize,
    side: &mut SideFields,
) -> Result<Faces, Fault> {
    let mut faces = Faces::default();
    let Some(raw) = raw else { return Ok(faces) };
    let found = elements(raw, Part::Faces)?;
    if found.len() > most {
        return Err(Fault::new(
            Reason::TooManyFaces,
            format!("{} faces, at most {most} are taken", found.len()),
        ));
    }
    let mut unanswered = None;
    for (at, raw) in found.into_iter().enumerate() {
        let place = Place::event().field("faces").element(at);
        unanswered = faces.take(raw, models, &place, side)?.or(unanswered);
    }
    match unanswered {
        // Faces only for the second gallery cannot be answered.
        Some(fault) if faces.probes.is_empty() => Err(fault),
        _ => Ok(faces),
    }
}

impl Faces {
    /// Reads one face: the encoding for the gallery in use is answered, the one for the second gallery is compared. Returns
    /// a fault if there is only the second.
    fn take(
        &mut self,
        raw: &RawValue,
        models: &Models,
        place: &Place,
        side: &mut SideFields,
    ) -> Result<Option<Fault>, Fault> {
        let (in_use, candidate) = (&models.in_use, models.candidate.as_ref());
        let mut fields = Fields::of(raw.get(), Part::Face, |key| FACE_FIELDS.contains(&key))?;
        let model = fields.take("model").map(model_name).transpose()?;
        let mut encodings = Vec::new();
        encodings.extend(fields.take("encoding").map(|raw| (model, raw)));
        if let Some(raw) = fields.take("encodings") {
            let by_model = Fields::of(raw.get(), Part::Encodings, |_| true)?.rest().into_iter();
            encodings.extend(
                by_model.filter(|(_, raw)| raw.get() != "null").map(|(model, raw)| (Some(model), raw)),
            );
        }
        let of = |model: &Model| {
            let named =
                |(name, _): &&(Option<String>, _)| name.as_ref().is_some_and(|name| *name == model.name);
            encodings.iter().find(named).map(|(_, raw)| *raw)
        };
        let unnamed = || encodings.iter().find(|(name, _)| name.is_none()).map(|(_, raw)| *raw);
        let own = of(in_use).or_else(unnamed);
        let other = candidate.and_then(|model| Some((model, of(model)?)));
        if own.is_none() && other.is_none() {
            let of_others = encodings.first().map(|(name, _)| wrong_model(name, in_use));
            return Err(of_others.unwrap_or_else(|| no_encoding(in_use, place, fields, side)));
        }
        let quality = fields.take("quality").map(quality).transpose()?;
        if let Some((model, raw)) = other {
            // The second gallery must not affect the answer.
            match encoding(raw, model.dimensions) {
                Ok(encoding) => self.others.faces.push(ProbeFace { encoding, quality }),
                Err(_) => self.others.unreadable = true,
            }
        }
        let Some(raw) = own else {
            return Ok(encodings.first().map(|(name, _)| wrong_model(name, in_use)));
        };
        let encoding = encoding(raw, in_use.dimensions).map_err(|fault| named(fault, in_use))?;
        self.probes.push(ProbeFace { encoding, quality });
        self.details.push(details(place, fields, side));
        Ok(None)
    }
}

fn model_name(raw: &RawValue) -> Result<String, Fault> {
    let name = serde_json::from_str(raw.get());
    name.map_err(|_| Fault::new(Reason::WrongModel, "the model of a face is not a text"))
}

/// The fault of a face without an encoding. It names an encoding in another field.
fn no_encoding(model: &Model, place: &Place, fields: Fields<'_>, side: &mut SideFields) -> Fault {
    side.members(place, fields.rest());
    let Model { name, dimensions, .. } = model;
    side.misplaced_fault().unwrap_or_else(|| {
        let detail = format!("a face has no encoding of {dimensions}, as model {name} gives");
        Fault::new(Reason::WrongDimensions, detail)
    })
}

/// The attributes of a face.
fn details(place: &Place, mut fields: Fields<'_>, side: &mut SideFields) -> Vec<Member> {
    let mut kept = Vec::new();
    if let Some(raw) = fields.take("box") {
        if is_box(raw) {
            kept.push(Member { name: "box".to_owned(), json: raw.get().to_owned() });
        } else {
            side.drop_field(&place.field("box"), Cause::Box);
        }
    }
    kept.extend(side.members(place, fields.rest()));
    kept
}

fn is_box(raw: &RawValue) -> bool {
    serde_json::from_str::<[f64; 4]>(raw.get()).is_ok()
}

fn wrong_model(sent: &Option<String>, model: &Model) -> Fault {
    // A longer text may be an encoding.
    let is_shown = |name: &&String| name.len() <= MODEL_BYTES_MAX && !name.chars().any(char::is_control);
    let sent = sent.as_ref().filter(is_shown).map_or("another name", String::as_str);
    Fault::new(Reason::WrongModel, format!("a face is of model {sent}, the gallery is of {}", model.name))
}

/// The same fault with the model whose encodings are needed.
fn named(Fault { reason, detail }: Fault, model: &Model) -> Fault {
    match reason {
        Reason::WrongDimensions => Fault::new(reason, format!("{detail}; its model is {}", model.name)),
        _ => Fault { reason, detail },
    }
}

fn quality(raw: &RawValue) -> Result<f32, Fault> {
    let quality = raw.get().parse::<f32>().ok().filter(|quality| (0.0..=1.0).contains(quality));
    quality.ok_or_else(|| Fault::new(Reason::BadQuality, "a quality is not a number from 0 to 1"))
}
