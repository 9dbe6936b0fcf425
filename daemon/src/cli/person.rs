//! `gatehouse person enroll|list|show|rename|erase`

use std::io::{IsTerminal, stdin};
use std::path::PathBuf;

use gatehouse_store::people::PersonSummary;
use gatehouse_store::store::Erased;

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
        Command::Enroll { id, name, encodings } => {
            let encodings = input::encodings(&encodings)?;
            let added = encodings.len();
            let request = Request::PersonEnroll { id, name, encodings };
            shell.ask_and_show(&request, |person: &PersonSummary| {
                let id = printable(&person.id);
                let added = words::count(added as u64, "encoding", "encodings");
                format!("{id} is enrolled: {added} added, {} in all", person.samples)
            })
        }
        Command::List => shell.ask_and_show(&Request::PersonList, |people: &Vec<PersonSummary>| list(people)),
        Command::Show { id } => shell.ask_and_show(&Request::PersonShow { id }, show),
        Command::Rename { id, name } => shell
            .ask_and_show(&Request::PersonRename { id, name }, |person: &PersonSummary| {
                format!("{} is now {}", printable(&person.id), printable(&person.name))
            }),
        Command::Erase { id, yes } => {
            confirmed(yes, stdin().is_terminal())?;
            shell.ask_and_show(&Request::PersonErase { id }, |erased: &Erased| {
                let encodings = words::count(erased.samples as u64, "encoding", "encodings");
                format!("{} is erased, with {encodings}", printable(&erased.id))
            })
        }
    }
}

fn confirmed(yes: bool, terminal: bool) -> Result<(), Fault> {
    if yes || !terminal {
        return Ok(());
    }
    Err(Fault::with_code(exit::USAGE, "an erasure cannot be undone").advise("say it again with --yes"))
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
        ("encodings", person.samples.to_string()),
        ("enrolled", words::time(&person.enrolled_at)),
        ("changed", words::time(&person.updated_at)),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_erasure_on_a_terminal_needs_yes() {
        assert_eq!(confirmed(false, true).unwrap_err().code, exit::USAGE);
        assert!(confirmed(true, true).is_ok());
        assert!(confirmed(false, false).is_ok(), "a script has made up its mind");
    }
}
