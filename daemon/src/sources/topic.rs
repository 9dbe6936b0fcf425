//! Topics of the native format.

use gatehouse_model::{CameraName, EventId, EventKey, MediaName};
use gatehouse_store::record::Item;

use crate::sources::Upload;
use crate::sources::refusal::{Fault, Reason, Refusal};

/// Longest invalid camera name that still gets an answer, in bytes.
const MISNAMED_BYTES_MAX: usize = 256;

/// The camera of `<root>/<camera>/event`; none for another topic.
pub(crate) fn event(root: &str, topic: &str) -> Option<Result<CameraName, Refusal>> {
    let camera = below(root, topic)?.strip_suffix("/event")?;
    (!camera.contains('/')).then(|| name(camera, Item::Event))
}

/// Event and name of `<root>/<camera>/media/<event id>/<name>`; none for another topic.
pub(crate) fn media(root: &str, topic: &str) -> Option<Result<Upload, Refusal>> {
    let (camera, rest) = below(root, topic)?.split_once('/')?;
    let rest = rest.strip_prefix("media").filter(|rest| rest.is_empty() || rest.starts_with('/'))?;
    Some(upload(camera, rest.strip_prefix('/').unwrap_or("")))
}

fn upload(camera: &str, rest: &str) -> Result<Upload, Refusal> {
    let camera = name(camera, Item::Media)?;
    let (id, media) = rest.split_once('/').unwrap_or((rest, ""));
    let id = EventId::try_from(id).map_err(|_| {
        let detail = "the topic has no valid event id: 1 to 64 of A-Z a-z 0-9 . _ : -";
        Refusal::of(Item::Media, &camera, None, Fault::new(Reason::BadEventId, detail))
    })?;
    let name = MediaName::try_from(media).map_err(|_| {
        let detail =
            "the topic does not end with a valid media name: 1 to 64 of A-Z a-z 0-9 . _ -, no folder";
        Refusal::of(Item::Media, &camera, Some(id.clone()), Fault::new(Reason::BadMediaName, detail))
    })?;
    Ok(Upload { event: EventKey { camera, id }, name })
}

fn below<'a>(root: &str, topic: &'a str) -> Option<&'a str> {
    topic.strip_prefix(root)?.strip_prefix('/')
}

fn name(camera: &str, item: Item) -> Result<CameraName, Refusal> {
    CameraName::try_from(camera).map_err(|_| {
        let detail = "the topic has no valid camera name: 1 to 64 of A-Z a-z 0-9 _ -";
        let answerable =
            (1..=MISNAMED_BYTES_MAX).contains(&camera.len()) && !camera.chars().any(char::is_control);
        let misnamed = answerable.then(|| camera.to_owned());
        Refusal { misnamed, ..Refusal::new(item, Reason::BadCamera, detail) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_come_apart() {
        assert_eq!(event("g", "g/door/event").unwrap().unwrap().as_str(), "door");
        assert_eq!(event("a/b", "a/b/door/event").unwrap().unwrap().as_str(), "door");
        let upload = media("g", "g/door/media/7/face.jpg").unwrap().unwrap();
        assert_eq!((upload.event.id.as_str(), upload.name.as_str()), ("7", "face.jpg"));
        for other in ["g/event", "h/door/event", "g/a/b/event", "gx/door/event", "g/door/events"] {
            assert!(event("g", other).is_none(), "{other}");
        }
        assert!(media("g", "g/door/mediafile/1/x").is_none());
    }

    #[test]
    fn names_that_are_not_are_refused_with_what_is_known() {
        let reason = |topic: &str| media("g", topic).unwrap().unwrap_err().reason;
        assert_eq!(event("g", "g/front door/event").unwrap().unwrap_err().reason, Reason::BadCamera);
        assert_eq!(event("g", "g/front door/event").unwrap().unwrap_err().misnamed.unwrap(), "front door");
        assert_eq!(event("g", "g//event").unwrap().unwrap_err().misnamed, None);
        assert_eq!(event("g", "g//event").unwrap().unwrap_err().reason, Reason::BadCamera);
        assert_eq!(reason("g/../media/1/x"), Reason::BadCamera);
        for bad in ["g/door/media", "g/door/media/", "g/door/media//x", "g/door/media/../x"] {
            assert_eq!(reason(bad), Reason::BadEventId, "{bad}");
        }
        for bad in [
            "g/door/media/1",
            "g/door/media/1/",
            "g/door/media/1/..",
            "g/door/media/1/../x",
            "g/door/media/1/a/b",
        ] {
            assert_eq!(reason(bad), Reason::BadMediaName, "{bad}");
        }
        let refusal = media("g", "g/door/media/1/..").unwrap().unwrap_err();
        assert_eq!(refusal.event_id.unwrap().as_str(), "1");
    }
}
