//! Attributes of an event: its side fields as the text of one JSON object.

use std::collections::HashSet;

use serde_json::value::RawValue;

use crate::sources::faces::Fields;
use crate::sources::side_fields::{Cause, Member, Place, SideFields, object, quoted};

/// Most bytes of attributes of one event. They are stored in journal, views and rows as long as the event, so this bounds the
/// flash wear that a camera can cause.
pub(crate) const ATTRIBUTES_BYTES_MAX: usize = 8 * 1024;

/// Key of a camera time that is not valid or not plausible.
pub(crate) const CAMERA_TIME: &str = "camera_time";

/// Longest camera time that is kept, in bytes of JSON; RFC 3339 needs below 40.
const CAMERA_TIME_BYTES_MAX: usize = 130;

/// Collects attributes under a common bound. A duplicate name gets the prefix `field:`.
#[derive(Default)]
pub(crate) struct Attributes {
    members: Vec<Member>,
    names: HashSet<String>,
}

impl Attributes {
    /// Adds the field `attributes`: its members if it is an object, otherwise the value under that name.
    pub(crate) fn add_own(&mut self, raw: Option<&RawValue>, side: &mut SideFields) {
        let Some(raw) = raw else { return };
        let place = Place::event().field("attributes");
        match serde_json::from_str::<Fields<'_>>(raw.get()) {
            Ok(own) => self.extend(side.members(&place, own.rest())),
            Err(_) => self
                .extend(side.value(&place, raw).map(|json| Member { name: "attributes".to_owned(), json })),
        }
    }

    /// Adds a camera time that is not used, as a text.
    pub(crate) fn add_camera_time(&mut self, raw: &RawValue, side: &mut SideFields) {
        let json = side.value(&Place::event().field("time"), raw);
        let is_scalar = |json: &String| json.len() <= CAMERA_TIME_BYTES_MAX && !json.starts_with(['[', '{']);
        let text =
            json.filter(is_scalar).map(|json| if json.starts_with('"') { json } else { quoted(&json) });
        self.extend(text.map(|json| Member { name: CAMERA_TIME.to_owned(), json }));
    }

    /// Adds members.
    pub(crate) fn extend(&mut self, members: impl IntoIterator<Item = Member>) {
        for Member { mut name, json } in members {
            while !self.names.insert(name.clone()) {
                name = format!("field:{name}");
            }
            self.members.push(Member { name, json });
        }
    }

    /// The text. Members above the bound are dropped, the largest first, and of equal ones the first.
    pub(crate) fn finish(mut self, side: &mut SideFields) -> String {
        // Quotes, colon and comma; escapes in names are counted with the text.
        let bytes = |member: &Member| quoted(&member.name).len() + member.json.len() + 2;
        let mut total: usize = 1 + self.members.iter().map(bytes).sum::<usize>();
        let mut by_size: Vec<usize> = (0..self.members.len()).collect();
        by_size.sort_by_key(|at| std::cmp::Reverse(bytes(&self.members[*at])));
        let mut dropped = HashSet::new();
        for at in by_size {
            if total <= ATTRIBUTES_BYTES_MAX {
                break;
            }
            total -= bytes(&self.members[at]);
            dropped.insert(at);
            side.drop_field(&Place::event().field(&self.members[at].name), Cause::Large);
        }
        let mut at = 0..;
        self.members.retain(|_| at.next().is_some_and(|at| !dropped.contains(&at)));
        object(&self.members)
    }
}

#[cfg(test)]
mod tests {
    use gatehouse_model::Metric;
    use gatehouse_model::Model;
    use gatehouse_store::store::Models;

    use super::*;
    use crate::sources::notes::Notes;

    fn side() -> SideFields {
        let metric = Metric::Euclidean;
        let in_use = Model { name: "m".to_owned(), dimensions: 128, metric, normalised: false };
        SideFields::new(&Models { in_use, candidate: None })
    }

    #[test]
    fn the_largest_go_first_until_the_rest_fits() {
        let mut attributes = Attributes::default();
        let member = |name: &str, bytes: usize| Member {
            name: name.to_owned(),
            json: quoted(&"é".repeat(bytes / 2)),
        };
        attributes.extend([member("a", 3000), member("b", 5000), member("c", 5000), member("d", 10)]);
        let mut side = side();
        let text = attributes.finish(&mut side);
        let kept: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&text).unwrap();
        assert_eq!(kept.keys().collect::<Vec<_>>(), ["a", "c", "d"]);
        assert_eq!(side.dropped(), 1);
        let mut notes = Notes::default();
        side.note(&mut notes);
        let note = notes.finish().concat();
        assert!(note.contains(": b (") && note.contains(&ATTRIBUTES_BYTES_MAX.to_string()), "{note}");
    }

    #[test]
    fn the_text_is_never_larger_than_the_bound() {
        for (count, name) in [(1, "n"), (900, "name\u{1}\""), (20_000, "x")] {
            let mut attributes = Attributes::default();
            attributes
                .extend((0..count).map(|at| Member { name: format!("{name}.{at}."), json: "1".to_owned() }));
            let mut side = side();
            let text = attributes.finish(&mut side);
            assert!(text.len() <= ATTRIBUTES_BYTES_MAX, "{}", text.len());
            assert!(count == 1 || text.len() > ATTRIBUTES_BYTES_MAX - 40, "{}", text.len());
        }
    }
}
