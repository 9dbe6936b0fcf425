//! JSON objects field by field, and the faces of an event.

use std::collections::HashSet;
use std::fmt;

use gatehouse_store::store::ProbeFace;
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
pub(crate) struct Faces {
    pub(crate) probes: Vec<ProbeFace>,
    pub(crate) details: Vec<Value>,
}

/// Reads the `faces` of an event.
pub(crate) fn faces(raw: Option<&RawValue>, dimensions: usize, most: usize) -> Result<Faces, Fault> {
    let mut faces = Faces { probes: Vec::new(), details: Vec::new() };
    let Some(raw) = raw else { return Ok(faces) };
    let found = elements(raw, "faces")?;
    if found.len() > most {
        return Err(Fault::new(
            Reason::TooManyFaces,
            format!("{} faces, at most {most} are taken", found.len()),
        ));
    }
    for raw in found {
        let mut fields = Fields::of(raw.get(), "a face")?;
        let Some(probe) = fields.take("encoding") else {
            return Err(Fault::new(
                Reason::WrongDimensions,
                format!("a face has no encoding of {dimensions}"),
            ));
        };
        let quality = fields.take("quality").map(quality).transpose()?;
        faces.probes.push(ProbeFace { encoding: encoding(probe, dimensions)?, quality });
        let details: Result<Map<_, _>, Fault> = fields.rest().into_iter().map(value).collect();
        faces.details.push(Value::Object(details?));
    }
    Ok(faces)
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
