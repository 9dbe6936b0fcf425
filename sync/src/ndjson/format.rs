//! One line per change: an object with `type` (`event`, `file` or `lost`), `device` and `lsn`.

use gatehouse_journal::Position;
use gatehouse_model::{Event, Identification, Outcome, Person};
use gatehouse_store::clock::Known;
use gatehouse_store::record::{Media, ObjectPlace, Thumbnail};
use gatehouse_store::store::Change;
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::rows::json;

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Line<'a> {
    Event {
        device: &'a str,
        lsn: u64,
        seq: u64,
        event_id: &'a str,
        camera: &'a str,
        kind: &'a str,
        occurred_at: Option<String>,
        received_at: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        clock_uncertainty_ms: Option<u64>,
        identification: Value,
        /// Not parsed, so that numbers keep every digit.
        attributes: Option<&'a RawValue>,
    },
    File {
        device: &'a str,
        lsn: u64,
        event_id: &'a str,
        camera: &'a str,
        name: &'a str,
        size: u64,
        sha256: String,
        bucket: &'a str,
        key: &'a str,
        content_type: &'a str,
        /// The longest edge, if it is a thumbnail of the file of this name.
        #[serde(skip_serializing_if = "Option::is_none")]
        thumbnail: Option<u16>,
        #[serde(skip_serializing_if = "Option::is_none")]
        fault: Option<&'a str>,
    },
    /// Events that were lost by damage of the local disk.
    Lost { device: &'a str, lsn: u64, from: u64, to: u64 },
}

/// The lines of changes after `after`. Empty if none is relevant.
pub(super) fn lines(device: &str, after: Position, changes: &[Change]) -> String {
    let (mut text, mut seq) = (String::new(), after.seq);
    for change in changes {
        let Position { lsn, seq: current } = change.position();
        let before = if matches!(change, Change::Event { .. }) { current.saturating_sub(1) } else { current };
        if before > seq {
            push(&mut text, &Line::Lost { device, lsn, from: seq + 1, to: before });
        }
        seq = current;
        match change {
            Change::Event { position, event, identification, time } => {
                push(&mut text, &event_line(device, *position, event, identification, *time));
            }
            Change::File { media, place, content_type, fault, .. } => {
                let fault = fault.as_deref();
                let info = ObjectInfo { size: media.size, sha256: &media.sha256, place, content_type, fault };
                push(&mut text, &file_line(device, lsn, media, None, info));
            }
            Change::Thumbnails { picture, thumbnails, .. } => {
                for Thumbnail { edge, size, sha256, place } in thumbnails {
                    let info =
                        ObjectInfo { size: *size, sha256, place, content_type: "image/jpeg", fault: None };
                    push(&mut text, &file_line(device, lsn, picture, Some(*edge), info));
                }
            }
            Change::FilesErased { .. }
            | Change::Erasure { .. }
            | Change::Statement { .. }
            | Change::Person { .. }
            | Change::Nothing { .. } => {}
        }
    }
    text
}

/// Properties of an object.
#[derive(Clone, Copy)]
struct ObjectInfo<'a> {
    size: u64,
    sha256: &'a [u8; 32],
    place: &'a ObjectPlace,
    content_type: &'a str,
    fault: Option<&'a str>,
}

fn file_line<'a>(
    device: &'a str,
    lsn: u64,
    media: &'a Media,
    thumbnail: Option<u16>,
    info: ObjectInfo<'a>,
) -> Line<'a> {
    Line::File {
        device,
        lsn,
        event_id: media.event.id.as_str(),
        camera: media.event.camera.as_str(),
        name: media.name.as_str(),
        size: info.size,
        sha256: hex::encode(info.sha256),
        bucket: &info.place.bucket,
        key: &info.place.key,
        content_type: info.content_type,
        thumbnail,
        fault: info.fault,
    }
}

fn event_line<'a>(
    device: &'a str,
    position: Position,
    event: &'a Event,
    answer: &Identification<Person>,
    time: Known,
) -> Line<'a> {
    // An erasure does not reach a file, and the attributes of a visit with a match may name the person.
    let has_match = answer.faces.iter().any(|face| face.outcome == Outcome::Match);
    let attributes = if has_match { "{}" } else { &event.attributes };
    let unnamed = answer.clone().map_person(|_| None);
    let answer = json::identification(&event.key, &unnamed);
    Line::Event {
        device,
        lsn: position.lsn,
        seq: position.seq,
        event_id: event.key.id.as_str(),
        camera: event.key.camera.as_str(),
        kind: &event.kind,
        occurred_at: event.occurred_at.map(|at| at.to_string()),
        received_at: time.at.to_string(),
        clock_uncertainty_ms: time.uncertainty_ms,
        // Both were valid JSON. A value that is no longer valid must not break its line.
        identification: serde_json::from_str(&answer).unwrap_or_default(),
        attributes: serde_json::from_str(attributes).ok(),
    }
}

fn push(text: &mut String, line: &Line<'_>) {
    // Only strings and numbers, so this cannot fail.
    if let Ok(line) = serde_json::to_string(line) {
        text.push_str(&line);
        text.push('\n');
    }
}
