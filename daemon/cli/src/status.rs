//! `gatehouse status`

use super::session::Session;
use super::table::pairs;
use super::{format, sync};
use gatehouse_control::answers::{BrokerStatus, Status};
use gatehouse_control::types::{Fault, Request};

pub(super) fn run(session: &mut Session) -> Result<(), Fault> {
    session.ask_and_show(&Request::Status, text)
}

fn text(status: &Status) -> String {
    let site = if status.site.is_empty() { String::new() } else { format!(" at {}", status.site) };
    let disk = status.free_bytes.map_or_else(|| "unknown".to_owned(), format::bytes);
    let oldest = status.oldest_pending.as_deref().map(|at| format!(", oldest {}", format::ago(at)));
    let people = format::count(status.people, "person", "people");
    let templates = format::count(status.templates, "template", "templates");
    let second =
        status.candidate.as_ref().map_or_else(String::new, |model| format!("; second gallery {model}"));
    let differs =
        if status.settings_differ { "; differs from the settings, see gatehouse doctor" } else { "" };
    let events = format::count(status.pending_events, "event", "events");
    let files = format::count(status.pending_media, "media file", "media files");
    let used = format::bytes(status.media_bytes);
    let quota = format::bytes(status.media_quota_bytes);
    let mut list = vec![
        ("device", format!("{}{site} ({})", status.device, status.environment)),
        ("version", format!("{}, up {}", status.version, format::duration(status.uptime_seconds))),
        ("broker", broker(&status.broker)),
        ("clock", format::clock(&status.clock)),
        ("gallery", format!("{people}, {templates}, model {}{second}{differs}", status.model)),
        ("threshold", threshold(status)),
        ("stored", format::count(status.head_seq, "event", "events")),
        ("pending", format!("{events}, {files}{}", oldest.unwrap_or_default())),
        ("media", format!("{used} of {quota}, {disk} free on disk")),
        ("in flight", format::bytes(status.in_flight_bytes)),
    ];
    list.extend(status.sinks.iter().map(|sink| (sync::name(sink.sink), sync::summary(sink))));
    pairs(&list)
}

fn threshold(status: &Status) -> String {
    match &status.no_threshold {
        Some(cause) => format!("none, every face counts as a stranger: {cause}"),
        None => format!("{:.4}", status.threshold),
    }
}

fn broker(broker: &BrokerStatus) -> String {
    match (broker.connected, &broker.error) {
        (true, _) => format!("connected to {}", broker.address),
        (false, Some(error)) => format!("not connected to {}: {error}", broker.address),
        (false, None) => format!("connecting to {}", broker.address),
    }
}
