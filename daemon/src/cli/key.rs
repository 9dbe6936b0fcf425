//! `gatehouse key status|rotate`

use gatehouse_store::store::{KeyStatus, TemplatesRotated};

use super::shell::Shell;
use super::table::pairs;
use super::words;
use crate::control::types::{Fault, Request};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// How many keys there are of each kind, the generation of the templates, and what is damaged.
    Status,
    /// Go over to a new key.
    ///
    /// People are recognised all the while, and nobody has to enrol again. Every template of before, also in a
    /// backup, is worthless afterwards.
    Rotate {
        /// The key of the templates.
        #[arg(long, required = true)]
        templates: bool,
    },
}

pub(super) fn run(command: &Command, shell: &mut Shell) -> Result<(), Fault> {
    match command {
        Command::Status => shell.ask_and_show(&Request::KeyStatus, status),
        Command::Rotate { .. } => shell.ask_and_show(&Request::KeyRotateTemplates, rotated),
    }
}

fn status(keys: &KeyStatus) -> String {
    let since = words::time(&keys.template_since);
    let count = |kind: &str| keys.kinds.iter().find(|count| count.kind == kind).map_or(0, |count| count.keys);
    let mut list: Vec<(&str, String)> = keys
        .kinds
        .iter()
        .map(|count| (count.kind.as_str(), words::count(count.keys as u64, "key", "keys")))
        .collect();
    list.push(("generation", format!("{} of the templates, since {since}", keys.template_generation)));
    if count("template") > 1 {
        list.push((
            "",
            "an older template key is kept: not everybody could be renewed, see gatehouse doctor".into(),
        ));
    }
    let slots = |count: usize| words::count(count as u64, "slot", "slots");
    list.push((
        "damaged",
        match keys.damaged.as_slice() {
            [] => "none".to_owned(),
            lost => format!(
                "{}: what they sealed is lost; restore the state directory from a backup",
                slots(lost.len())
            ),
        },
    ));
    for lost in &keys.damaged {
        let id = lost.id.as_deref().unwrap_or("unknown");
        list.push(("", format!("slot {}, key {id}", lost.slot)));
    }
    if keys.healed > 0 {
        list.push(("mended", format!("{} at the last start; look after the disk", slots(keys.healed))));
    }
    pairs(&list)
}

fn rotated(done: &TemplatesRotated) -> String {
    let templates = words::count(done.templates as u64, "template", "templates");
    let people = words::count(done.people as u64, "person", "people");
    let end = match done.unreadable {
        0 => "the old key is destroyed".to_owned(),
        lost => format!(
            "{} cannot be read, so the old key is kept; gatehouse doctor says more",
            words::count(lost as u64, "person", "people")
        ),
    };
    format!("{templates} of {people} are of generation {} now; {end}", done.generation)
}

#[cfg(test)]
mod tests {
    use super::*;
    use gatehouse_store::store::{DamagedKey, KeyCount};

    #[test]
    fn what_is_damaged_or_kept_is_said() {
        let kinds = vec![KeyCount { kind: "template".into(), keys: 2 }];
        let damaged = vec![DamagedKey { slot: 7, id: None }];
        let template_since = "2026-11-20T22:54:01Z".into();
        let text = status(&KeyStatus { kinds, template_generation: 3, template_since, damaged, healed: 0 });
        for word in ["2 keys", "3 of the templates", "older template key", "1 slot", "slot 7"] {
            assert!(text.contains(word), "{word}: {text}");
        }
        let done = TemplatesRotated { generation: 2, people: 1, templates: 3, unreadable: 1 };
        assert!(rotated(&done).contains("1 person cannot be read"));
    }
}
