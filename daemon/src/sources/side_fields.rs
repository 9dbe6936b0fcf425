//! Side fields: the fields of an event that Gatehouse does not need and stores as attributes.
//!
//! They are stored in plaintext and remain after the erasure of a person. So they must not contain a possible face encoding
//! under any key, depth or form. Notes name a dropped field, never its value.
//!
//! Numbers keep their text, so that no digit is lost.

use std::collections::{BTreeMap, HashMap};

use gatehouse_store::store::Models;
use serde_json::Value;
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use crate::sources::faces::Fields;
use crate::sources::notes::Notes;
use crate::sources::patterns::{NUMBERS_MAX, Pattern, count_numbers, is_encoding_name, is_numbered, pattern};
use crate::sources::refusal::{Fault, Reason};

/// Deepest nesting of a side field that is kept.
pub(crate) const SIDE_DEPTH_MAX: usize = 16;

/// Longest name of a side field that is kept, in bytes.
pub(crate) const SIDE_NAME_BYTES_MAX: usize = 128;

/// Longest path that is shown in a note or refusal, in characters.
const PATH_CHARS_MAX: usize = 48;

/// Names shown in one note.
const NAMES_SHOWN: usize = 3;

/// Widths of the numbers of an encoding, in bytes: 16-, 32- and 64-bit floats.
const WIDTHS: [usize; 3] = [2, 4, 8];

/// Why a side field was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Cause {
    /// A face encoding: of the length of a gallery, or under such a name.
    Encoding,
    /// Many numbers.
    Numbers,
    /// Binary data as text.
    Binary,
    /// A picture as text.
    Picture,
    /// Nested too deep.
    Deep,
    /// Too long a name.
    Name,
    /// Above the bound of all attributes.
    Large,
    /// An invalid box of a face.
    Box,
}

impl Cause {
    fn message(self) -> &'static str {
        match self {
            Self::Encoding => {
                "looks like a face encoding; its place is faces[].encoding or faces[].encodings.<model>"
            }
            Self::Numbers => "more than 16 numbers, which could be a face encoding",
            Self::Binary => "binary data as text, which could be a face encoding",
            Self::Picture => "a picture as text; publish it on the media topic",
            Self::Deep => "nested too deep",
            Self::Name => "too long a name",
            Self::Large => "attributes have at most 8192 bytes in all",
            Self::Box => "a box is four numbers [x,y,w,h]",
        }
    }
}

/// A stored side field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) name: String,
    /// JSON text of the value.
    pub(crate) json: String,
}

/// The path of a value within the event.
pub(crate) struct Place {
    path: String,
    depth: usize,
    /// Whether a name on the path says that it is an encoding.
    is_named: bool,
}

impl Place {
    /// The event itself.
    pub(crate) fn event() -> Self {
        Self { path: String::new(), depth: 0, is_named: false }
    }

    /// A field of a value here.
    pub(crate) fn field(&self, name: &str) -> Self {
        let is_shown = name.len() <= PATH_CHARS_MAX && !name.chars().any(char::is_control);
        let shown = if is_shown { name } else { "(long name)" };
        let path = if self.path.is_empty() { shown.to_owned() } else { format!("{}.{shown}", self.path) };
        Self { path, depth: self.depth + 1, is_named: self.is_named || is_encoding_name(name) }
    }

    /// An element of an array here.
    pub(crate) fn element(&self, at: usize) -> Self {
        Self { path: format!("{}[{at}]", self.path), depth: self.depth + 1, is_named: self.is_named }
    }
}

/// Names of dropped fields, as far as they are shown.
#[derive(Debug, Default)]
struct Names {
    shown: Vec<String>,
    count: u64,
}

/// Decides which side fields are stored, and records the dropped ones.
pub(crate) struct SideFields {
    /// Lengths of an encoding of a gallery.
    dimensions: Vec<usize>,
    dropped: BTreeMap<Cause, Names>,
}

impl SideFields {
    /// For galleries of these models.
    pub(crate) fn new(models: &Models) -> Self {
        let all = std::iter::once(&models.in_use).chain(&models.candidate);
        Self { dimensions: all.map(|model| model.dimensions).collect(), dropped: BTreeMap::new() }
    }

    /// The fault of an event with a face encoding in a wrong field.
    pub(crate) fn misplaced_fault(&self) -> Option<Fault> {
        let path = self.dropped.get(&Cause::Encoding)?.shown.first()?;
        Some(Fault::new(Reason::MisplacedEncoding, format!("{path} {}", Cause::Encoding.message())))
    }

    /// Fields that were dropped.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.values().map(|names| names.count).sum()
    }

    /// Records a dropped field.
    pub(crate) fn drop_field(&mut self, place: &Place, cause: Cause) {
        let names = self.dropped.entry(cause).or_default();
        names.count += 1;
        if names.shown.len() < NAMES_SHOWN {
            names.shown.push(place.path.chars().take(PATH_CHARS_MAX).collect());
        }
    }

    /// One note for each cause.
    pub(crate) fn note(&self, notes: &mut Notes) {
        for (cause, Names { shown, count }) in &self.dropped {
            let more = count.saturating_sub(shown.len() as u64);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            notes.add(&format!("not kept: {}{more} ({})", shown.join(", "), cause.message()));
        }
    }

    /// The stored fields of an object. Of a duplicate name the last one counts, as in Postgres.
    pub(crate) fn members(&mut self, place: &Place, fields: Vec<(String, &RawValue)>) -> Vec<Member> {
        let fields = self.without_numbered(place, fields);
        let mut kept: Vec<Member> = Vec::new();
        let mut places = HashMap::new();
        for (name, raw) in fields {
            let Some(json) = self.member(&place.field(&name), &name, raw) else { continue };
            match places.get(&name) {
                Some(&at) => {
                    let earlier: &mut Member = &mut kept[at];
                    earlier.json = json;
                }
                None => {
                    places.insert(name.clone(), kept.len());
                    kept.push(Member { name, json });
                }
            }
        }
        kept
    }

    fn member(&mut self, place: &Place, name: &str, raw: &RawValue) -> Option<String> {
        if let Some(pattern) = pattern(name) {
            self.drop_pattern(place, pattern);
            return None;
        }
        if name.len() > SIDE_NAME_BYTES_MAX {
            self.drop_field(place, Cause::Name);
            return None;
        }
        self.value(place, raw)
    }

    /// The stored part of a value, as JSON text.
    pub(crate) fn value(&mut self, place: &Place, raw: &RawValue) -> Option<String> {
        let json = raw.get();
        match json.as_bytes().first() {
            Some(b'{') => {
                let fields: Fields<'_> = serde_json::from_str(json).ok()?;
                self.nested(place).then(|| object(&self.members(place, fields.rest())))
            }
            Some(b'[') => self.array(place, json),
            Some(b'"') => {
                let text = Zeroizing::new(serde_json::from_str::<String>(json).ok()?);
                let found = pattern(&text).or_else(|| self.short(place, &text));
                match found {
                    Some(pattern) => {
                        self.drop_pattern(place, pattern);
                        None
                    }
                    None => Some(json.to_owned()),
                }
            }
            _ => Some(json.to_owned()),
        }
    }

    fn array(&mut self, place: &Place, json: &str) -> Option<String> {
        let numbers = count_numbers(json);
        let is_short_encoding = place.is_named && self.dimensions.contains(&numbers);
        if numbers > NUMBERS_MAX || is_short_encoding {
            self.drop_pattern(place, Pattern::Numbers(numbers));
            return None;
        }
        if !self.nested(place) {
            return None;
        }
        let elements: Vec<&RawValue> = serde_json::from_str(json).ok()?;
        let kept = elements.into_iter().enumerate().map(|(at, raw)| {
            // An element keeps its index.
            self.value(&place.element(at), raw).unwrap_or_else(|| "null".to_owned())
        });
        Some(format!("[{}]", kept.collect::<Vec<_>>().join(",")))
    }

    /// Numbers that are fields of their own: `{"0": 0.1, "1": 0.2}`, `{"e0": 0.1, "e1": 0.2}`.
    fn without_numbered<'a>(
        &mut self,
        place: &Place,
        fields: Vec<(String, &'a RawValue)>,
    ) -> Vec<(String, &'a RawValue)> {
        let numbers =
            |name: &str, raw: &RawValue| if is_numbered(name) { count_numbers(raw.get()) } else { 0 };
        let count = fields.iter().map(|(name, raw)| numbers(name, raw)).sum();
        if count <= NUMBERS_MAX {
            return fields;
        }
        let is_part = |(name, raw): &(String, &RawValue)| numbers(name, raw) > 0;
        let (parts, others): (Vec<_>, Vec<_>) = fields.into_iter().partition(is_part);
        if let Some((first, _)) = parts.first() {
            self.drop_pattern(&place.field(first), Pattern::Numbers(count));
        }
        others
    }

    /// A short encoding under such a name.
    fn short(&self, place: &Place, text: &str) -> Option<Pattern> {
        let found = place.is_named.then(|| Pattern::of_base64(text)).flatten()?;
        self.is_encoding(found).then_some(found)
    }

    fn is_encoding(&self, pattern: Pattern) -> bool {
        match pattern {
            Pattern::Numbers(count) => self.dimensions.contains(&count),
            Pattern::Bytes(count) => {
                self.dimensions.iter().any(|length| WIDTHS.iter().any(|width| length * width == count))
            }
            Pattern::Picture => false,
        }
    }

    fn drop_pattern(&mut self, place: &Place, pattern: Pattern) {
        let cause = match pattern {
            Pattern::Picture => Cause::Picture,
            _ if place.is_named || self.is_encoding(pattern) => Cause::Encoding,
            Pattern::Numbers(_) => Cause::Numbers,
            Pattern::Bytes(_) => Cause::Binary,
        };
        self.drop_field(place, cause);
    }

    /// Whether a value here may be nested deeper.
    fn nested(&mut self, place: &Place) -> bool {
        let is_kept = place.depth < SIDE_DEPTH_MAX;
        if !is_kept {
            self.drop_field(place, Cause::Deep);
        }
        is_kept
    }
}

/// The JSON text of an object.
pub(crate) fn object(members: &[Member]) -> String {
    let members = members.iter().map(|Member { name, json }| format!("{}:{json}", quoted(name)));
    format!("{{{}}}", members.collect::<Vec<_>>().join(","))
}

/// The JSON text of a string.
pub(crate) fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}
