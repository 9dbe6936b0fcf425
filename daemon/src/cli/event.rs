//! `gatehouse event list|show|correct`

use gatehouse_store::store::Corrected;

use super::shell::Shell;
use super::table::{Table, pairs, printable};
use super::{identify, input, words};
use crate::control::answers::{EventLine, FaceLine, JsonText};
use crate::control::types::{Fault, LIST_MAX, Request};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Events, newest first.
    List {
        /// Only of this camera.
        #[arg(long)]
        camera: Option<String>,
        /// Only those in which this person was matched.
        #[arg(long, value_name = "ID")]
        person: Option<String>,
        /// Only since then: RFC 3339, a day like 2026-11-20, or back from now like 15m, 2h, 7d.
        #[arg(long, value_name = "T", value_parser = input::since)]
        since: Option<String>,
        /// At most so many.
        #[arg(long, value_name = "N", default_value_t = 20, value_parser = limit)]
        limit: usize,
    },
    /// One event with everything that is known of it.
    Show {
        /// Its number, or CAMERA/EVENT-ID.
        event: String,
    },
    /// Say that a match was wrong: faces like that one are not taken for that person again.
    ///
    /// Possible for the last 256 events with a match, for 24 hours and until the daemon ends, since faces are not
    /// kept on disk.
    Correct {
        /// Its number, or CAMERA/EVENT-ID.
        event: String,
        /// It was not the person that was named.
        #[arg(long, required = true)]
        not_person: bool,
        /// Which face of the event, from 1; needed where several were recognised.
        #[arg(long, value_name = "N")]
        face: Option<usize>,
    },
}

/// Reads the number of entries of a list.
pub(super) fn limit(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| (1..=LIST_MAX).contains(number));
    number.ok_or_else(|| format!("a number from 1 to {LIST_MAX} is needed"))
}

pub(super) fn run(command: Command, shell: &mut Shell) -> Result<(), Fault> {
    match command {
        Command::List { camera, person, since, limit } => {
            let request = Request::EventList { camera, person, since, limit };
            shell.ask_and_show(&request, |events: &Vec<EventLine>| list(events))
        }
        Command::Show { event } => shell.ask_and_show(&Request::EventShow { event }, show),
        Command::Correct { event, face, .. } => {
            shell.ask_and_show(&Request::EventCorrect { event, face }, |corrected: &Corrected| {
                let count = words::count(corrected.corrections as u64, "correction", "corrections");
                format!("faces like this are not {} any more ({count})", printable(&corrected.person.name))
            })
        }
    }
}

fn list(events: &[EventLine]) -> String {
    let mut table = Table::new(["SEQ", "RECEIVED", "CAMERA", "KIND", "WHO", "DISTANCE", "MEDIA", "EVENT"]);
    for event in events {
        table.row([
            event.seq.to_string(),
            words::time(&event.received_at),
            event.camera.clone(),
            event.kind.clone(),
            who(&event.faces),
            words::distance(event.faces.first().and_then(|face| face.distance)),
            event.media.len().to_string(),
            event.event_id.clone(),
        ]);
    }
    table.text("no events\n")
}

/// Each answer once, with its number: a crowd must not make the table wide.
fn who(faces: &[FaceLine]) -> String {
    let told = faces.iter().map(|face| match &face.person {
        Some(person) => person.name.clone(),
        None => identify::outcome(face.outcome).to_owned(),
    });
    let mut counted: Vec<(String, usize)> = Vec::new();
    for one in told {
        match counted.iter_mut().find(|(known, _)| *known == one) {
            Some((_, count)) => *count += 1,
            None => counted.push((one, 1)),
        }
    }
    let told = counted.into_iter().map(|(one, count)| if count > 1 { format!("{count} {one}") } else { one });
    let told: Vec<_> = told.collect();
    if told.is_empty() { "-".to_owned() } else { told.join(", ") }
}

/// When it came, how sure that is, and what the clock said where that was something else.
fn received(event: &EventLine) -> String {
    let off = event.clock_uncertainty_ms.map_or_else(String::new, |off| format!(", within {off} ms"));
    let said = match event.clock_said == event.received_at {
        true => String::new(),
        false => format!("; the clock said {}", words::time(&event.clock_said)),
    };
    format!("{}{off}{said}", words::time(&event.received_at))
}

fn show(event: &EventLine) -> String {
    let occurred = event.occurred_at.as_deref().map_or_else(|| "-".to_owned(), words::time);
    let media = if event.media.is_empty() { "-".to_owned() } else { event.media.join(", ") };
    let gallery = words::count(event.gallery_size.into(), "person", "people");
    let head = pairs(&[
        ("seq", event.seq.to_string()),
        ("event", format!("{}/{}", event.camera, event.event_id)),
        ("correlation", event.correlation.clone()),
        ("kind", event.kind.clone()),
        ("occurred", occurred),
        ("received", received(event)),
        ("media", media),
        ("gallery", format!("{gallery}, model {}{}", event.model, identify::found(event.effort))),
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
    fn the_help_says_for_how_long_a_match_can_be_corrected() {
        let command = Command::augment_subcommands(clap::Command::new("event"));
        let help = command.find_subcommand("correct").unwrap().get_long_about().unwrap().to_string();
        assert!(help.contains(&format!("last {MATCHES_MAX} events")), "{help}");
        assert!(help.contains(&format!("{MATCHES_HOURS} hours")), "{help}");
    }
}
