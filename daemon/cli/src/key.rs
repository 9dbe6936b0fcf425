//! `gatehouse key status|rotate`

use gatehouse_store::store::{KeyStatus, TemplatesRotated};

use super::format;
use super::session::Session;
use super::table::pairs;
use gatehouse_control::types::{Fault, Request};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Show the number of keys of each kind, the template generation, and damaged keys.
    Status,
    /// Replace a key with a new one.
    ///
    /// Recognition continues meanwhile, and no new enrollment is needed. All older templates become unusable, also
    /// those in backups.
    Rotate {
        /// Rotate the template key.
        #[arg(long, required = true)]
        templates: bool,
    },
}

pub(super) fn run(command: &Command, session: &mut Session) -> Result<(), Fault> {
    match command {
        Command::Status => session.ask_and_show(&Request::KeyStatus, status),
        Command::Rotate { .. } => session.ask_and_show(&Request::KeyRotateTemplates, rotated),
    }
}

fn status(keys: &KeyStatus) -> String {
    let since = format::time(&keys.template_since);
    let count = |kind: &str| keys.kinds.iter().find(|count| count.kind == kind).map_or(0, |count| count.keys);
    let mut list: Vec<(&str, String)> = keys
        .kinds
        .iter()
        .map(|count| (count.kind.as_str(), format::count(count.keys as u64, "key", "keys")))
        .collect();
    list.push(("template generation", format!("{}, since {since}", keys.template_generation)));
    if count("template") > 1 {
        list.push((
            "",
            "an older template key is kept, because some people could not be converted; see gatehouse doctor"
                .into(),
        ));
    }
    list.push(("verifier key", keys.verifier_key.clone().unwrap_or_else(|| "none".to_owned())));
    let slots = |count: usize| format::count(count as u64, "slot", "slots");
    list.push((
        "damaged",
        match keys.damaged.as_slice() {
            [] => "none".to_owned(),
            lost => format!(
                "{}: the data sealed with them is lost; restore the state directory from a backup",
                slots(lost.len())
            ),
        },
    ));
    for lost in &keys.damaged {
        let id = lost.id.as_deref().unwrap_or("unknown");
        list.push(("", format!("slot {}, key {id}", lost.slot)));
    }
    if keys.healed > 0 {
        list.push(("repaired", format!("{} at the last start; check the disk", slots(keys.healed))));
    }
    pairs(&list)
}

fn rotated(done: &TemplatesRotated) -> String {
    let templates = format::count(done.templates as u64, "template", "templates");
    let people = format::count(done.people as u64, "person", "people");
    let old_key = match done.unreadable {
        0 => "the old key is destroyed".to_owned(),
        lost => format!(
            "{} cannot be read, so the old key is kept; see gatehouse doctor",
            format::count(lost as u64, "person", "people")
        ),
    };
    format!("{templates} of {people} converted to generation {}; {old_key}", done.generation)
}

#[cfg(test)]
mod tests {
    use super::*;
    use gatehouse_store::store::{DamagedKey, KeyCount};

    #[test]
    fn damaged_and_kept_keys_are_shown() {
        let kinds = vec![KeyCount { kind: "template".into(), keys: 2 }];
        let damaged = vec![DamagedKey { slot: 7, id: None }];
        let template_since = "2026-11-20T22:54:01Z".into();
        let text = status(&KeyStatus {
            kinds,
            template_generation: 3,
            template_since,
            verifier_key: None,
            damaged,
            healed: 0,
        });
        for word in ["2 keys", "generation  3, since", "older template key", "1 slot", "slot 7"] {
            assert!(text.contains(word), "{word}: {text}");
        }
        let done = TemplatesRotated { generation: 2, people: 1, templates: 3, unreadable: 1 };
        assert!(rotated(&done).contains("1 person cannot be read"));
    }
}
