//! `gatehouse event list|show|correct`

use gatehouse_store::store::Corrected;

use super::session::Session;
use super::table::{Table, pairs, printable};
use super::{format, identify, input};
use gatehouse_control::answers::{EventLine, FaceLine, JsonText};
use gatehouse_control::types::{Fault, LIST_MAX, Request};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// List events, newest first.
    #[command(alias = "ls")]
    List {
        /// Only events of this camera.
        #[arg(long, value_name = "CAMERA")]
        camera: Option<String>,
        /// Only events in which this person was matched.
        #[arg(long, value_name = "ID")]
        person: Option<String>,
        /// Only events received since this time: RFC 3339, a day (UTC) such as 2026-11-20, or an age such as 15m, 2h, 7d.
        #[arg(long, value_name = "TIME", value_parser = input::since)]
        since: Option<String>,
        /// Maximum number of events.
        #[arg(long, value_name = "N", default_value_t = 20, value_parser = limit)]
        limit: usize,
    },
    /// Show all details of one event.
    Show {
        /// Sequence number of the event, or CAMERA/EVENT-ID.
        event: String,
    },
    /// Report a wrong match: similar faces are no longer matched with that person.
    ///
    /// Possible for the last 256 events with a match, for 24 hours and until the daemon stops, because faces are
    /// not stored on disk.
    Correct {
        /// Sequence number of the event, or CAMERA/EVENT-ID.
        event: String,
        /// The face does not belong to the person named in the event.
        #[arg(long, required = true)]
        not_person: bool,
        /// Number of the face in the event, from 1; required if several faces were matched.
        #[arg(long, value_name = "N")]
        face: Option<usize>,
    },
}

/// Parses the maximum number of entries of a list.
pub(super) fn limit(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| (1..=LIST_MAX).contains(number));
    number.ok_or_else(|| format!("expected a number from 1 to {LIST_MAX}"))
}

pub(super) fn run(command: Command, session: &mut Session) -> Result<(), Fault> {
    match command {
        Command::List { camera, person, since, limit } => {
            let request = Request::EventList { camera, person, since, limit };
            session.ask_and_show(&request, |events: &Vec<EventLine>| list(events))
        }
        Command::Show { event } => session.ask_and_show(&Request::EventShow { event }, show),
        Command::Correct { event, face, .. } => {
            session.ask_and_show(&Request::EventCorrect { event, face }, |corrected: &Corrected| {
                let count = format::count(corrected.corrections as u64, "correction", "corrections");
                format!(
                    "similar faces are no longer matched with {} ({count})",
                    printable(&corrected.person.name)
                )
            })
        }
    }
}

fn list(events: &[EventLine]) -> String {
    let mut table = Table::new(["SEQ", "RECEIVED", "CAMERA", "KIND", "WHO", "DISTANCE", "MEDIA", "EVENT"]);
    for event in events {
        table.row([
            event.seq.to_string(),
            format::time(&event.received_at),
            event.camera.clone(),
            event.kind.clone(),
            who(&event.faces),
            format::distance(event.faces.first().and_then(|face| face.distance)),
            event.media.len().to_string(),
            event.event_id.clone(),
        ]);
    }
    table.text("no events\n")
}

/// Each outcome once, with its count, so that many faces do not widen the table.
fn who(faces: &[FaceLine]) -> String {
    let names = faces.iter().map(|face| match &face.person {
        Some(person) => person.name.clone(),
        None => identify::outcome(face.outcome).to_owned(),
    });
    let mut counted: Vec<(String, usize)> = Vec::new();
    for name in names {
        match counted.iter_mut().find(|(known, _)| *known == name) {
            Some((_, count)) => *count += 1,
            None => counted.push((name, 1)),
        }
    }
    let names: Vec<_> = counted
        .into_iter()
        .map(|(name, count)| if count > 1 { format!("{count} {name}") } else { name })
        .collect();
    if names.is_empty() { "-".to_owned() } else { names.join(", ") }
}

/// Time of arrival, its uncertainty, and the time shown by the clock if that differs.
fn received(event: &EventLine) -> String {
    let uncertainty = event.clock_uncertainty_ms.map_or_else(String::new, |ms| format!(", within {ms} ms"));
    let clock = match event.clock_said == event.received_at {
        true => String::new(),
        false => format!("; the clock showed {}", format::time(&event.clock_said)),
    };
    format!("{}{uncertainty}{clock}", format::time(&event.received_at))
}

fn show(event: &EventLine) -> String {
    let occurred = event.occurred_at.as_deref().map_or_else(|| "-".to_owned(), format::time);
    let media = if event.media.is_empty() { "-".to_owned() } else { event.media.join(", ") };
    let gallery = format::count(event.gallery_size.into(), "person", "people");
    let head = pairs(&[
        ("seq", event.seq.to_string()),
        ("event", format!("{}/{}", event.camera, event.event_id)),
        ("correlation", event.correlation.clone()),
        ("kind", event.kind.clone()),
        ("occurred", occurred),
        ("received", received(event)),
        ("media", media),
        ("gallery", format!("{gallery}, model {}{}", event.model, identify::effort_text(event.effort))),
    ]);
    let mut text = format!("{head}\n{}", identify::faces(&event.faces));
    let attributes = event.attributes.as_ref().map(JsonText::members).unwrap_or_default();
    if !attributes.is_empty() {
        let lines: Vec<_> =
            attributes.iter().map(|(name, value)| (printable(name), value.get().to_owned())).collect();
        let lines: Vec<_> = lines.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
        text.push_str("\nattributes\n");
        text.push_str(&pairs(&lines));
    }
    text
}

#[cfg(test)]
mod tests {
    use clap::Subcommand;
    use gatehouse_store::store::{MATCHES_HOURS, MATCHES_MAX};

    use super::*;

    #[test]
    fn help_states_for_how_long_a_match_can_be_corrected() {
        let command = Command::augment_subcommands(clap::Command::new("event"));
        let help = command.find_subcommand("correct").unwrap().get_long_about().unwrap().to_string();
        assert!(help.contains(&format!("last {MATCHES_MAX} events")), "{help}");
        assert!(help.contains(&format!("{MATCHES_HOURS} hours")), "{help}");
    }
}
