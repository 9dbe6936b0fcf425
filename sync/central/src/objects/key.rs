//! Keys of objects in the bucket.
//!
//! Names were validated on receipt, so none of them leaves its folder. A key is the same for every attempt, also after
//! a restart.

use chrono::Datelike;
use gatehouse_model::{EventKey, MediaName, Timestamp};

/// `devices/<device>/events/<yyyy>/<mm>/<dd>/<camera>/<event id>/<name>`, by the day (UTC) at which the appliance
/// received the event.
pub(super) fn object_key(device: &str, received_at: Timestamp, event: &EventKey, name: &MediaName) -> String {
    format!("{}/{name}", folder(device, received_at, event))
}

/// `thumbnails/<edge>/<name>.jpg` in the same folder. It contains the whole name, because `a.jpg` and `a.png` are two
/// pictures.
pub(super) fn thumbnail_key(
    device: &str,
    received_at: Timestamp,
    event: &EventKey,
    name: &MediaName,
    edge: u16,
) -> String {
    format!("{}/thumbnails/{edge}/{name}.jpg", folder(device, received_at, event))
}

fn folder(device: &str, received_at: Timestamp, event: &EventKey) -> String {
    let day = received_at.to_chrono();
    let (year, month, day) = (day.year(), day.month(), day.day());
    format!("devices/{device}/events/{year:04}/{month:02}/{day:02}/{}/{}", event.camera, event.id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_those_of_the_contract() {
        let event = EventKey { camera: "front-door".try_into().unwrap(), id: "a:1".try_into().unwrap() };
        let name = "snapshot.jpg".try_into().unwrap();
        let at = Timestamp::parse("2026-01-02T00:30:00+01:00").unwrap();
        let key = object_key("gate-7", at, &event, &name);
        assert_eq!(key, "devices/gate-7/events/2026/01/01/front-door/a:1/snapshot.jpg");
        let key = thumbnail_key("gate-7", at, &event, &name, 320);
        assert_eq!(key, "devices/gate-7/events/2026/01/01/front-door/a:1/thumbnails/320/snapshot.jpg.jpg");
    }
}
