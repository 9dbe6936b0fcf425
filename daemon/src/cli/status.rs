//! `gatehouse status`

use super::shell::Shell;
use super::table::pairs;
use super::{sync, words};
use crate::control::answers::{BrokerStatus, Status};
use crate::control::types::{Fault, Request};

pub(super) fn run(shell: &mut Shell) -> Result<(), Fault> {
    shell.ask_and_show(&Request::Status, human)
}

fn human(status: &Status) -> String {
    let site = if status.site.is_empty() { String::new() } else { format!(" at {}", status.site) };
    let disk = status.free_bytes.map_or_else(|| "?".to_owned(), words::bytes);
    let oldest = status.oldest_pending.as_deref().map(|at| format!(", oldest {}", words::ago(at)));
    let people = words::count(status.people, "person", "people");
    let templates = words::count(status.templates, "template", "templates");
    let beside = status.beside.as_ref().map_or_else(String::new, |model| format!("; beside it {model}"));
    let differs = if status.settings_differ { "; not what the settings describe, see doctor" } else { "" };
    let events = words::count(status.pending_events, "event", "events");
    let files = words::count(status.pending_media, "media file", "media files");
    let (bytes, quota) = (words::bytes(status.media_bytes), words::bytes(status.media_quota_bytes));
    let mut list = vec![
        ("device", format!("{}{site} ({})", status.device, status.environment)),
        ("version", format!("{}, up {}", status.version, words::duration(status.uptime_seconds))),
        ("broker", broker(&status.broker)),
        ("clock", words::clock(&status.clock)),
        ("gallery", format!("{people}, {templates}, model {}{beside}{differs}", status.model)),
        ("threshold", threshold(status)),
        ("stored", words::count(status.head_seq, "event", "events")),
        ("pending", format!("{events}, {files}{}", oldest.unwrap_or_default())),
        ("media", format!("{bytes} of {quota}, {disk} free on disk")),
        ("in flight", words::bytes(status.in_flight_bytes)),
    ];
    list.extend(status.sinks.iter().map(|sink| (sync::name(sink.sink), sync::summary(sink))));
    pairs(&list)
}

fn threshold(status: &Status) -> String {
    match &status.no_threshold {
        Some(cause) => format!("none, every face is a stranger's: {cause}"),
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
