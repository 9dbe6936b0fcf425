//! `gatehouse person enroll|list|show|export|rename|suspend|resume|erase|restore`

use std::path::PathBuf;

use gatehouse_store::people::PersonSummary;
use gatehouse_store::store::{Alike, Doubt, Enrolled};

use super::session::Session;
use super::table::{Table, pairs, printable};
use super::terminal::{Confirmation, confirm};
use super::{export, format, input};
use gatehouse_control::answers::PersonErasure;
use gatehouse_control::types::{Fault, Request};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Enroll a person, or add encodings to an enrolled person.
    #[command(alias = "enrol")]
    Enroll {
        #[command(flatten)]
        enrollment: Enrollment,
        /// Enroll into this gallery instead of the one in use.
        #[arg(long, value_name = "NAME")]
        gallery: Option<String>,
    },
    /// List the enrolled people.
    #[command(alias = "ls")]
    List,
    /// Show one person.
    Show {
        /// Identifier of the person.
        id: String,
    },
    /// Export all data of a person on this device into a new folder, with a page that the person can read.
    ///
    /// The folder contains README.html, the data as JSON, the pictures in which the person was recognized, and MANIFEST
    /// with the SHA-256 of each file ("sha256sum -c MANIFEST"). No other person is named. A folder without MANIFEST is
    /// incomplete. The export is recorded in the log of the daemon.
    Export {
        /// Identifier of the person.
        id: String,
        /// New or empty folder.
        #[arg(long, value_name = "DIR")]
        to: PathBuf,
        /// Also export the numbers of the encodings.
        #[arg(long)]
        templates: bool,
    },
    /// Change a person's display name.
    Rename(NewName),
    /// Suspend a person: answer them as a stranger until they are resumed. Nothing is destroyed.
    Suspend(Suspension),
    /// End the suspension of a person.
    Resume {
        /// Identifier of the person.
        id: String,
    },
    /// Cancel the erasure of a person in its grace period.
    Restore {
        /// Identifier of the person.
        id: String,
    },
    /// Erase a person: destroy the key, and with it the encodings and the link to all past visits.
    #[command(alias = "rm")]
    Erase {
        /// Identifier of the person.
        id: String,
        /// Erase without a question; an erasure cannot be undone.
        #[arg(long)]
        yes: bool,
        /// Do not wait for the grace period (privacy.grace_days).
        #[arg(long)]
        now: bool,
    },
}

/// A person with encodings, also for `gatehouse central person enroll`.
#[derive(Debug, clap::Args)]
pub(super) struct Enrollment {
    /// Identifier of the person, chosen by you.
    #[arg(long)]
    pub(super) id: String,
    /// Display name.
    #[arg(long)]
    pub(super) name: String,
    /// JSON file with an array of encodings of the gallery's model; `-` is standard input.
    #[arg(long, value_name = "FILE")]
    pub(super) encodings: PathBuf,
    /// Enroll encodings even if they are nearer to another person.
    #[arg(long)]
    pub(super) force: bool,
    #[command(flatten)]
    pub(super) consent: ConsentOptions,
}

/// The consent of a person. An option that is not given leaves the present value.
#[derive(Debug, clap::Args)]
pub(super) struct ConsentOptions {
    /// Reference of the person's consent, such as the number of the signed form.
    #[arg(long, value_name = "REF")]
    pub(super) consent: Option<String>,
    /// Erase the person at this time: RFC 3339, or a day such as 2027-01-31, at the end of which (UTC) they are erased.
    #[arg(long, value_name = "DATE", value_parser = input::until)]
    pub(super) until: Option<String>,
}

/// A suspension, also for `gatehouse central person suspend`.
#[derive(Debug, clap::Args)]
pub(super) struct Suspension {
    /// Identifier of the person.
    pub(super) id: String,
    /// Why the person is suspended.
    #[arg(long, value_name = "TEXT")]
    pub(super) reason: Option<String>,
}

/// A new name, also for `gatehouse central person rename`.
#[derive(Debug, clap::Args)]
pub(super) struct NewName {
    /// Identifier of the person.
    pub(super) id: String,
    /// New display name.
    #[arg(value_name = "NAME", required_unless_present = "name")]
    new_name: Option<String>,
    /// New display name.
    #[arg(long, conflicts_with = "new_name")]
    name: Option<String>,
}

impl NewName {
    /// The new name, which can be given in two ways.
    pub(super) fn name(&self) -> String {
        self.new_name.clone().or_else(|| self.name.clone()).unwrap_or_default()
    }
}

pub(super) fn run(command: Command, session: &mut Session) -> Result<(), Fault> {
    match command {
        Command::Enroll { enrollment, gallery } => {
            let Enrollment { id, name, encodings, force, consent: ConsentOptions { consent, until } } =
                enrollment;
            let encodings = input::encodings(&encodings)?;
            let gallery = gallery.clone();
            let request = Request::PersonEnroll {
                id,
                name,
                encodings,
                force,
                gallery: gallery.clone(),
                consent,
                until,
            };
            session.ask_and_show(&request, |answer| enrolled(answer, gallery.as_deref()))
        }
        Command::List => {
            session.ask_and_show(&Request::PersonList, |people: &Vec<PersonSummary>| list(people))
        }
        Command::Show { id } => session.ask_and_show(&Request::PersonShow { id }, show),
        Command::Export { id, to, templates } => export::device(&id, &to, templates, session),
        Command::Rename(rename) => session.ask_and_show(
            &Request::PersonRename { id: rename.id.clone(), name: rename.name() },
            |person: &PersonSummary| format!("{} is now {}", printable(&person.id), printable(&person.name)),
        ),
        Command::Suspend(Suspension { id, reason }) => {
            session.ask_and_show(&Request::PersonSuspend { id, reason }, |person: &PersonSummary| {
                format!("{} is suspended: answered as a stranger", printable(&person.id))
            })
        }
        Command::Resume { id } => session
            .ask_and_show(&Request::PersonResume { id }, |person: &PersonSummary| {
                format!("{} is resumed", printable(&person.id))
            }),
        Command::Restore { id } => session
            .ask_and_show(&Request::PersonRestore { id }, |person: &PersonSummary| {
                format!("the erasure of {} is cancelled", printable(&person.id))
            }),
        Command::Erase { id, yes, now } => {
            let step = format!(
                "Erases {}: its encodings, the link to all past visits, and the pictures of these visits.",
                printable(&id)
            );
            confirm(&Confirmation { yes, step: &step, answer: &id })?;
            session.ask_and_show(&Request::PersonErase { id, now }, erasure)
        }
    }
}

fn erasure(erasure: &PersonErasure) -> String {
    match erasure {
        PersonErasure::Done(erased) => {
            let encodings = format::count(erased.samples as u64, "encoding", "encodings");
            let files = format::count(erased.files, "file", "files");
            let visits = format::count(erased.visits, "visit", "visits");
            let (id, order) = (printable(&erased.id), &erased.order);
            format!("{id} is erased, with {encodings} and {files} of {visits}\norder {order}")
        }
        PersonErasure::Ordered(person) => {
            let (id, end) = (printable(&person.id), time_or_dash(person.expires_at.as_deref()));
            format!(
                "{id} is a stranger from now on, and is erased at {end}\ngatehouse person restore {id} cancels that"
            )
        }
    }
}

fn enrolled(answer: &Enrolled, gallery: Option<&str>) -> String {
    let id = printable(&answer.person.id);
    let added = format::count(answer.added as u64, "encoding", "encodings");
    let samples =
        gallery.and_then(|name| answer.person.galleries.get(name)).unwrap_or(&answer.person.samples);
    let target = gallery.map_or_else(String::new, |name| format!(" in {}", printable(name)));
    let mut text = format!("{id} is enrolled{target}: {added} added, {samples} in total\n");
    if answer.repeated > 0 {
        let repeated =
            format::count(answer.repeated as u64, "encoding is a duplicate", "encodings are duplicates");
        text.push_str(&format!("{repeated} and not added\n"));
    }
    for Alike { id: other, distance } in &answer.alike {
        let other = printable(other);
        text.push_str(&format!(
            "{id} and {other} look alike (distance {distance:.3}): possibly neither is recognized\n"
        ));
    }
    for Doubt { nth, id: other, distance } in &answer.doubtful {
        let other = printable(other);
        text.push_str(&format!(
            "encoding {nth} is nearer to {other} (distance {distance:.3}) than to {id}: check the picture\n"
        ));
    }
    if let Some(cause) = &answer.no_threshold {
        text.push_str(&format!("no face is recognized at present: {cause}\n"));
    }
    text
}

fn list(people: &[PersonSummary]) -> String {
    let mut table =
        Table::new(["ID", "NAME", "ENCODINGS", "ENROLLED", "CHANGED", "CONSENT", "UNTIL", "SUSPENDED"]);
    for person in people {
        table.row([
            person.id.clone(),
            person.name.clone(),
            person.samples.to_string(),
            format::time(&person.enrolled_at),
            format::time(&person.updated_at),
            or_dash(person.consent.clone()),
            time_or_dash(person.expires_at.as_deref()),
            time_or_dash(person.suspended_at.as_deref()),
        ]);
    }
    table.text("no people are enrolled; gatehouse person enroll adds one\n")
}

/// A value that may be absent.
pub(super) fn or_dash(text: Option<String>) -> String {
    text.unwrap_or_else(|| "-".to_owned())
}

/// A time that may be absent.
pub(super) fn time_or_dash(time: Option<&str>) -> String {
    or_dash(time.map(format::time))
}

fn show(person: &PersonSummary) -> String {
    pairs(&[
        ("id", person.id.clone()),
        ("name", person.name.clone()),
        ("encodings", encodings(person)),
        ("corrections", person.corrections.to_string()),
        ("enrolled", format::time(&person.enrolled_at)),
        ("changed", format::time(&person.updated_at)),
        ("consent", or_dash(person.consent.clone())),
        ("erased at", time_or_dash(person.expires_at.as_deref())),
        ("erasure ordered", if person.erasure_ordered { "yes" } else { "no" }.to_owned()),
        ("suspended", time_or_dash(person.suspended_at.as_deref())),
        ("reason", or_dash(person.suspension_reason.clone())),
    ])
}

/// Number of encodings, for each gallery if there are two.
fn encodings(person: &PersonSummary) -> String {
    if person.galleries.len() < 2 {
        return person.samples.to_string();
    }
    let counts =
        person.galleries.iter().map(|(gallery, samples)| format!("{samples} in {}", printable(gallery)));
    counts.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_enrollment_shows_duplicates_and_look_alikes() {
        let person = PersonSummary {
            id: "a".into(),
            name: "A".into(),
            samples: 3,
            galleries: [("m".to_owned(), 3)].into(),
            corrections: 0,
            enrolled_at: String::new(),
            updated_at: String::new(),
            consent: None,
            expires_at: None,
            erasure_ordered: false,
            suspended_at: None,
            suspension_reason: None,
        };
        let alike = vec![Alike { id: "b".into(), distance: 0.3 }];
        let text = enrolled(
            &Enrolled { person, added: 2, repeated: 1, alike, doubtful: Vec::new(), no_threshold: None },
            None,
        );
        for part in [
            "2 encodings added, 3 in total",
            "1 encoding is a duplicate",
            "a and b look alike (distance 0.300)",
        ] {
            assert!(text.contains(part), "{text}");
        }
    }
}
