//! `gatehouse person enroll|list|show|rename|erase`

use std::io::{IsTerminal, stdin};
use std::path::PathBuf;

use gatehouse_store::people::PersonSummary;
use gatehouse_store::store::{Alike, Doubt, Enrolled, Erased};

use super::shell::Shell;
use super::table::{Table, pairs, printable};
use super::{input, words};
use crate::control::types::{Fault, Request};
use crate::exit;

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Enrol a person, or add encodings to one who is enrolled.
    Enroll {
        /// Identifier of the person, your own.
        #[arg(long)]
        id: String,
        /// Display name.
        #[arg(long)]
        name: String,
        /// JSON file with an array of encodings; `-` is standard input.
        #[arg(long, value_name = "FILE")]
        encodings: PathBuf,
        /// Enrol encodings also where they look more like somebody else.
        #[arg(long)]
        force: bool,
        /// Into this gallery and not the one in use.
        #[arg(long, value_name = "NAME")]
        gallery: Option<String>,
    },
    /// Everybody enrolled.
    List,
    /// One person.
    Show {
        /// Identifier of the person.
        id: String,
    },
    /// Change a person's display name.
    Rename {
        /// Identifier of the person.
        id: String,
        /// The new name.
        #[arg(long)]
        name: String,
    },
    /// Forget a person for good: the key is destroyed, and with it the encodings and the link to every past visit.
    Erase {
        /// Identifier of the person.
        id: String,
        /// Needed on a terminal, since this cannot be undone.
        #[arg(long)]
        yes: bool,
    },
}

pub(super) fn run(command: Command, shell: &mut Shell) -> Result<(), Fault> {
    match command {
        Command::Enroll { id, name, encodings, force, gallery } => {
            let encodings = input::encodings(&encodings)?;
            let request = Request::PersonEnroll { id, name, encodings, force, gallery: gallery.clone() };
            shell.ask_and_show(&request, |told| enrolled(told, gallery.as_deref()))
        }
        Command::List => shell.ask_and_show(&Request::PersonList, |people: &Vec<PersonSummary>| list(people)),
        Command::Show { id } => shell.ask_and_show(&Request::PersonShow { id }, show),
        Command::Rename { id, name } => shell
            .ask_and_show(&Request::PersonRename { id, name }, |person: &PersonSummary| {
                format!("{} is now {}", printable(&person.id), printable(&person.name))
            }),
        Command::Erase { id, yes } => {
            confirmed(yes, stdin().is_terminal(), "an erasure")?;
            shell.ask_and_show(&Request::PersonErase { id }, |erased: &Erased| {
                let encodings = words::count(erased.samples as u64, "encoding", "encodings");
                format!("{} is erased, with {encodings}", printable(&erased.id))
            })
        }
    }
}

fn enrolled(told: &Enrolled, gallery: Option<&str>) -> String {
    let id = printable(&told.person.id);
    let added = words::count(told.added as u64, "encoding", "encodings");
    let samples = gallery.and_then(|name| told.person.galleries.get(name)).unwrap_or(&told.person.samples);
    let place = gallery.map_or_else(String::new, |name| format!(" in {}", printable(name)));
    let mut text = format!("{id} is enrolled{place}: {added} added, {samples} in all\n");
    if told.repeated > 0 {
        let repeated = words::count(told.repeated as u64, "encoding repeats", "encodings repeat");
        text.push_str(&format!("{repeated} others and added nothing\n"));
    }
    for Alike { id: other, distance } in &told.alike {
        let other = printable(other);
        text.push_str(&format!(
            "{id} and {other} look alike (distance {distance:.3}): neither may be recognised\n"
        ));
    }
    for Doubt { nth, id: other, distance } in &told.doubtful {
        let other = printable(other);
        text.push_str(&format!(
            "encoding {nth} is nearer to {other} (distance {distance:.3}) than to {id}: look at the picture again\n"
        ));
    }
    if let Some(cause) = &told.no_threshold {
        text.push_str(&format!("no face is recognized at present: {cause}\n"));
    }
    text
}

/// Whether what cannot be undone is meant.
pub(super) fn confirmed(yes: bool, terminal: bool, what: &str) -> Result<(), Fault> {
    if yes || !terminal {
        return Ok(());
    }
    Err(Fault::with_code(exit::USAGE, format!("{what} cannot be undone")).advise("say it again with --yes"))
}

fn list(people: &[PersonSummary]) -> String {
    let mut table = Table::new(["ID", "NAME", "ENCODINGS", "ENROLLED", "CHANGED"]);
    for person in people {
        table.row([
            person.id.clone(),
            person.name.clone(),
            person.samples.to_string(),
            words::time(&person.enrolled_at),
            words::time(&person.updated_at),
        ]);
    }
    table.text("nobody is enrolled; gatehouse person enroll adds somebody\n")
}

fn show(person: &PersonSummary) -> String {
    pairs(&[
        ("id", person.id.clone()),
        ("name", person.name.clone()),
        ("encodings", encodings(person)),
        ("corrections", person.corrections.to_string()),
        ("enrolled", words::time(&person.enrolled_at)),
        ("changed", words::time(&person.updated_at)),
    ])
}

/// With each gallery where there are two.
fn encodings(person: &PersonSummary) -> String {
    if person.galleries.len() < 2 {
        return person.samples.to_string();
    }
    let told =
        person.galleries.iter().map(|(gallery, samples)| format!("{samples} in {}", printable(gallery)));
    told.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_enrolment_tells_what_was_left_out_and_who_looks_alike() {
        let person = PersonSummary {
            id: "a".into(),
            name: "A".into(),
            samples: 3,
            galleries: [("m".to_owned(), 3)].into(),
            corrections: 0,
            enrolled_at: String::new(),
            updated_at: String::new(),
        };
        let alike = vec![Alike { id: "b".into(), distance: 0.3 }];
        let text = enrolled(
            &Enrolled { person, added: 2, repeated: 1, alike, doubtful: Vec::new(), no_threshold: None },
            None,
        );
        for part in
            ["2 encodings added, 3 in all", "1 encoding repeats", "a and b look alike (distance 0.300)"]
        {
            assert!(text.contains(part), "{text}");
        }
    }

    #[test]
    fn an_erasure_on_a_terminal_needs_yes() {
        assert_eq!(confirmed(false, true, "it").unwrap_err().code, exit::USAGE);
        assert!(confirmed(true, true, "it").is_ok());
        assert!(confirmed(false, false, "it").is_ok(), "a script has made up its mind");
    }
}
