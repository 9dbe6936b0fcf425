//! What an event keeps beside its known fields, as the text of one JSON object.

use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::sources::faces::value;
use crate::sources::refusal::{Fault, Reason};

/// Most bytes of attributes of one event: they are kept in every journal record, view and row for as long as
/// the event, so this is what a camera may add to the wear of the flash.
pub(crate) const ATTRIBUTES_BYTES_MAX: usize = 8 * 1024;

/// Key of a camera time that is no time or not plausible.
pub(crate) const CAMERA_TIME: &str = "camera_time";

/// Collects attributes under a common bound. A name that is taken already gets `field:` before it.
#[derive(Default)]
pub(crate) struct Attributes {
    map: Map<String, Value>,
    bytes: usize,
}

impl Attributes {
    /// Adds the camera's own `attributes`: its members where it is an object, else the value under that name.
    pub(crate) fn add_own(&mut self, raw: Option<&RawValue>) -> Result<(), Fault> {
        let Some(raw) = raw else { return Ok(()) };
        self.room(raw.get().len())?;
        match value(("attributes".to_owned(), raw))? {
            (_, Value::Object(own)) => self.map.extend(own),
            (key, other) => self.insert(key, other),
        }
        Ok(())
    }

    /// Adds a field that nobody knows.
    pub(crate) fn add_field(&mut self, field: (String, &RawValue)) -> Result<(), Fault> {
        self.room(field.0.len() + field.1.get().len())?;
        let (key, value) = value(field)?;
        self.insert(key, value);
        Ok(())
    }

    /// Adds what the appliance itself has to say.
    pub(crate) fn add(&mut self, key: &str, value: Value) {
        self.insert(key.to_owned(), value);
    }

    /// The text.
    pub(crate) fn finish(self) -> Result<String, Fault> {
        let text = Value::Object(self.map).to_string();
        if text.len() > ATTRIBUTES_BYTES_MAX { Err(too_large()) } else { Ok(text) }
    }

    fn insert(&mut self, key: String, value: Value) {
        let key = if self.map.contains_key(&key) { format!("field:{key}") } else { key };
        self.map.insert(key, value);
    }

    /// Checked before a value is built.
    fn room(&mut self, bytes: usize) -> Result<(), Fault> {
        self.bytes += bytes;
        if self.bytes > ATTRIBUTES_BYTES_MAX { Err(too_large()) } else { Ok(()) }
    }
}

fn too_large() -> Fault {
    let detail = format!("attributes and unknown fields of more than {ATTRIBUTES_BYTES_MAX} bytes");
    Fault::new(Reason::TooLarge, detail)
}
