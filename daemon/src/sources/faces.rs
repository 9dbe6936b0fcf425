//! JSON objects field by field, and the faces of an event.

use std::collections::HashSet;
use std::fmt;

use gatehouse_store::record::Model;
use gatehouse_store::store::{Models, Others, ProbeFace};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::sources::encoding::encoding;
use crate::sources::refusal::{Fault, Reason};

/// The fields of one JSON object, none of them read yet.
pub(crate) struct Fields<'a>(Vec<(String, &'a RawValue)>);

impl<'a> Fields<'a> {
    /// Takes a JSON object apart. A key that is there twice is a fault: readers differ in which one counts.
    pub(crate) fn of(text: &'a str, what: &str) -> Result<Self, Fault> {
        let fields: Self = serde_json::from_str(text).map_err(|error| not_json(what, &error))?;
        let mut seen = HashSet::with_capacity(fields.0.len());
        if fields.0.iter().all(|(key, _)| seen.insert(key)) {
            Ok(fields)
        } else {
            Err(Fault::new(Reason::NotJson, format!("{what} has a key twice")))
        }
    }

    /// Takes a field out; `null` is as good as none.
    pub(crate) fn take(&mut self, key: &str) -> Option<&'a RawValue> {
        let at = self.0.iter().position(|(name, _)| name == key)?;
        Some(self.0.swap_remove(at).1).filter(|raw| raw.get() != "null")
    }

    /// What was not taken.
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

/// The words of the parser about a place, never about a content.
pub(crate) fn not_json(what: &str, error: &serde_json::Error) -> Fault {
    let place = format!("line {} column {}", error.line(), error.column());
    let words = match error.classify() {
        serde_json::error::Category::Eof => format!("{what} ends too early, at {place}"),
        serde_json::error::Category::Data => format!("{what} is of the wrong type, at {place}"),
        _ => format!("{what} is not JSON, at {place}"),
    };
    Fault::new(Reason::NotJson, words)
}

/// The elements of a JSON array.
pub(crate) fn elements<'a>(raw: &'a RawValue, what: &str) -> Result<Vec<&'a RawValue>, Fault> {
    serde_json::from_str(raw.get()).map_err(|error| not_json(what, &error))
}

/// The faces of an event, and beside each what is to be kept of it as an attribute (its box, unknown fields).
#[derive(Default)]
pub(crate) struct Faces {
    pub(crate) probes: Vec<ProbeFace>,
    /// The same for the second gallery.
    pub(crate) others: Others,
    pub(crate) details: Vec<Value>,
}

/// Longest name of a model that is repeated in an answer, in characters.
const MODEL_CHARS_MAX: usize = 64;

/// Reads the `faces` of an event for galleries of these models.
pub(crate) fn faces(raw: Option<&RawValue>, models: &Models, most: usize) -> Result<Faces, Fault> {
    let mut faces = Faces::default();
    let Some(raw) = raw else { return Ok(faces) };
    let found = elements(raw, "faces")?;
    if found.len() > most {
        return Err(Fault::new(
            Reason::TooManyFaces,
            format!("{} faces, at most {most} are taken", found.len()),
        ));
    }
    let mut unanswered = None;
    for raw in found {
        unanswered = faces.take(raw, models)?.or(unanswered);
    }
    match unanswered {
        // What is only for the second gallery is no visit that could be answered.
        Some(fault) if faces.probes.is_empty() => Err(fault),
        _ => Ok(faces),
    }
}

impl Faces {
    /// Takes one face: the encoding of the gallery in use is to be answered, that of the second one to be compared. Gives
    /// back what to say where there is only the second.
    fn take(&mut self, raw: &RawValue, models: &Models) -> Result<Option<Fault>, Fault> {
        let (in_use, beside) = (&models.in_use, models.beside.as_ref());
        let mut fields = Fields::of(raw.get(), "a face")?;
        let model = fields.take("model").map(model_name).transpose()?;
        let mut told = Vec::new();
        told.extend(fields.take("encoding").map(|raw| (model, raw)));
        if let Some(raw) = fields.take("encodings") {
            let by_model = Fields::of(raw.get(), "encodings")?.rest().into_iter();
            told.extend(
                by_model.filter(|(_, raw)| raw.get() != "null").map(|(model, raw)| (Some(model), raw)),
            );
        }
        let of = |model: &Model| {
            let named =
                |(name, _): &&(Option<String>, _)| name.as_ref().is_some_and(|name| *name == model.name);
            told.iter().find(named).map(|(_, raw)| *raw)
        };
        let unnamed = || told.iter().find(|(name, _)| name.is_none()).map(|(_, raw)| *raw);
        let own = of(in_use).or_else(unnamed);
        let other = beside.and_then(|model| Some((model, of(model)?)));
        if own.is_none() && other.is_none() {
            return Err(told
                .first()
                .map_or_else(|| no_encoding(in_use), |(name, _)| wrong_model(name, in_use)));
        }
        let quality = fields.take("quality").map(quality).transpose()?;
        if let Some((model, raw)) = other {
            // It is on trial: whatever it sends, the door goes on.
            match encoding(raw, model.dimensions) {
                Ok(encoding) => self.others.faces.push(ProbeFace { encoding, quality }),
                Err(_) => self.others.unreadable = true,
            }
        }
        let Some(raw) = own else {
            return Ok(told.first().map(|(name, _)| wrong_model(name, in_use)));
        };
        let encoding = encoding(raw, in_use.dimensions).map_err(|fault| named(fault, in_use))?;
        self.probes.push(ProbeFace { encoding, quality });
        let details: Result<Map<_, _>, Fault> = fields.rest().into_iter().map(value).collect();
        self.details.push(Value::Object(details?));
        Ok(None)
    }
}

fn model_name(raw: &RawValue) -> Result<String, Fault> {
    let name = serde_json::from_str(raw.get());
    name.map_err(|_| Fault::new(Reason::WrongModel, "the model of a face is not a text"))
}

fn no_encoding(model: &Model) -> Fault {
    let Model { name, dimensions, .. } = model;
    Fault::new(
        Reason::WrongDimensions,
        format!("a face has no encoding of {dimensions}, as model {name} gives"),
    )
}

fn wrong_model(told: &Option<String>, model: &Model) -> Fault {
    let told: String = told.iter().flat_map(|name| name.chars()).take(MODEL_CHARS_MAX).collect();
    Fault::new(Reason::WrongModel, format!("a face is of model {told}, the gallery is of {}", model.name))
}

/// The same fault with the model whose encodings are needed.
fn named(Fault { reason, detail }: Fault, model: &Model) -> Fault {
    match reason {
        Reason::WrongDimensions => Fault::new(reason, format!("{detail}; its model is {}", model.name)),
        _ => Fault { reason, detail },
    }
}

/// Builds a field that is kept as it is.
pub(crate) fn value((key, raw): (String, &RawValue)) -> Result<(String, Value), Fault> {
    let value = serde_json::from_str(raw.get()).map_err(|error| not_json("a field", &error))?;
    Ok((key, value))
}

fn quality(raw: &RawValue) -> Result<f32, Fault> {
    let quality = raw.get().parse::<f32>().ok().filter(|quality| (0.0..=1.0).contains(quality));
    quality.ok_or_else(|| Fault::new(Reason::BadQuality, "a quality is not a number from 0 to 1"))
}
