//! Records of version 1: an event's answer did not say how it was found. All others were as they are now.

use serde::Deserialize;

use super::{Event, Face, Identification, Record, VisitRef};

/// The version byte.
pub(super) const VERSION: u8 = 1;

/// Number of [`Record::Event`] among the variants.
const EVENT: u8 = 0;

#[derive(Deserialize)]
struct Answered {
    event: Event,
    gallery_size: u32,
    model: String,
    faces: Vec<Face<VisitRef>>,
}

/// The record of a payload without its version byte.
pub(super) fn decode(payload: &[u8]) -> Result<Record, postcard::Error> {
    match payload.split_first() {
        Some((&EVENT, rest)) => {
            let Answered { event, gallery_size, model, faces } = postcard::from_bytes(rest)?;
            let identification = Identification { gallery_size, model, faces, effort: None };
            Ok(Record::Event { event, identification })
        }
        _ => postcard::from_bytes(payload),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Outcome;

    #[test]
    fn an_event_of_version_1_is_read_as_it_was_written() {
        let payload = b"\x01\x00\x04door\x017\x04face\x00\x80\x80\xf2\x81\x83\x89\x85\x06\x01\x05a.jpg\x02{}\x02\x08dlib-128\x01\x02\x00\x01\x00\x00@?=\x0a\xd7>\x00\x01\x00\x00\x00?";
        let Record::Event { event, identification } = Record::decode(payload).unwrap() else { panic!() };
        assert_eq!((event.key.camera.as_str(), event.key.id.as_str()), ("door", "7"));
        assert_eq!(identification.model, "dlib-128");
        assert_eq!(identification.faces[0].outcome, Outcome::Stranger);
        assert_eq!(identification.faces[0].threshold, 0.42);
        assert_eq!(identification.effort, None);
        let again = Record::Event { event, identification }.encode().unwrap();
        assert_eq!(Record::decode(&again).unwrap(), Record::decode(payload).unwrap());
    }

    #[test]
    fn a_record_of_versions_2_to_7_is_read_as_it_was_written() {
        let cursor = Record::RowsDelivered { lsn: 300, seq: 5 };
        for version in [2, 3, 4, 5, 6, 7] {
            assert_eq!(Record::decode(&[version, 7, 0xac, 2, 5]).unwrap(), cursor);
        }
        assert_eq!(cursor.encode().unwrap(), [8, 7, 0xac, 2, 5]);
        assert!(Record::decode(&[9, 7, 0xac, 2, 5]).is_err());
    }

    #[test]
    fn another_record_of_version_1_is_read_as_it_was_written() {
        let refused = Record::Refused { item: crate::record::Item::Media, reason: "x".into(), bytes: 300 };
        assert_eq!(Record::decode(&[VERSION, 2, 1, 1, b'x', 0xac, 2]).unwrap(), refused);
    }
}
