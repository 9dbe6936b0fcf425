//! Examples of all commands, for `--help` and the man pages. A test parses each of them with the real command line.

use clap::Command;

/// An example of one command.
struct Example {
    /// Path of the command below the program, such as `person enroll`.
    command: &'static str,
    /// What the example does.
    purpose: &'static str,
    /// The command line.
    line: &'static str,
}

const fn example(command: &'static str, purpose: &'static str, line: &'static str) -> Example {
    Example { command, purpose, line }
}

/// In the order in which the help shows them.
const EXAMPLES: &[Example] = &[
    example("status", "Show the state of the appliance", "gatehouse status"),
    example("status", "Show the number of pending events", "gatehouse status --json | jq .pending_events"),
    example("doctor", "Show all findings", "gatehouse doctor"),
    example("self-test", "Wait up to 5 minutes for a starting daemon", "gatehouse self-test --wait 5m"),
    example("identify", "Identify the faces of a file", "gatehouse identify probe.json"),
    example("identify", "Use the threshold of a camera", "gatehouse identify --camera front-door probe.json"),
    example("ledger", "Show message accounting", "gatehouse ledger"),
    example(
        "setup",
        "Create a root key, and keep a copy on a USB stick",
        "gatehouse setup --copy-root-key-to /media/usb/root.key",
    ),
    example("setup", "Seal the broker's password", "gatehouse setup --mqtt-password-file password.txt"),
    example(
        "provision",
        "Check a file before it is copied to a card",
        "gatehouse provision --check --file FILE",
    ),
    example(
        "completions",
        "Enable completions in this shell",
        "gatehouse completions bash > completions.bash",
    ),
    example(
        "person enroll",
        "Enroll a person",
        "gatehouse person enroll --id anna --name \"Anna Berg\" --encodings anna.json",
    ),
    example(
        "person enroll",
        "Add encodings from standard input",
        "gatehouse person enroll --id anna --name \"Anna Berg\" --encodings -",
    ),
    example(
        "person enroll",
        "Record the consent, and erase the person at the end of a day",
        "gatehouse person enroll --id anna --name \"Anna Berg\" --encodings anna.json --consent form-17 --until 2027-01-31",
    ),
    example("person list", "List the enrolled people", "gatehouse person list"),
    example("person show", "Show one person", "gatehouse person show anna"),
    example("person export", "Export all data of a person", "gatehouse person export anna --to anna-export"),
    example("person rename", "Change a name", "gatehouse person rename anna \"Anna Holm\""),
    example(
        "person suspend",
        "Answer a person as a stranger",
        "gatehouse person suspend anna --reason objection",
    ),
    example("person resume", "End a suspension", "gatehouse person resume anna"),
    example("person erase", "Erase a person", "gatehouse person erase anna"),
    example(
        "receipt verify-export",
        "Verify an export with the keys of the appliances",
        "gatehouse receipt verify-export anna-export --keys receipt.keys",
    ),
    example("person restore", "Cancel an erasure in its grace period", "gatehouse person restore anna"),
    example("person erase", "Erase a person in a script", "gatehouse person erase anna --yes"),
    example(
        "gallery evaluate",
        "Measure the error rates at two thresholds",
        "gatehouse gallery evaluate --encodings people.csv --threshold 0.5 --threshold 0.6",
    ),
    example(
        "gallery evaluate",
        "Write a calibration",
        "gatehouse gallery evaluate --encodings people.csv --model arcface-512 --save-calibration arcface.json",
    ),
    example("gallery report", "Also draw the distances", "gatehouse gallery report --svg report.svg"),
    example("gallery list", "List the galleries", "gatehouse gallery list"),
    example(
        "gallery add",
        "Add a gallery for another model",
        "gatehouse gallery add --model arcface-512 --dimensions 512 --metric cosine --normalised",
    ),
    example(
        "gallery calibrate",
        "Load a calibration for the second gallery",
        "gatehouse gallery calibrate arcface.json --gallery arcface-512",
    ),
    example("gallery compare", "Compare both galleries", "gatehouse gallery compare"),
    example("gallery switch", "Switch to the second gallery", "gatehouse gallery switch arcface-512"),
    example("gallery remove", "Remove the gallery no longer in use", "gatehouse gallery remove dlib-128"),
    example("event list", "List the events of the last two hours", "gatehouse event list --since 2h"),
    example(
        "event list",
        "List the events with one person",
        "gatehouse event list --person anna --since 2026-11-20 --limit 100",
    ),
    example("event show", "Show one event", "gatehouse event show 1742"),
    example("event correct", "Report a wrong match", "gatehouse event correct 1742 --not-person"),
    example("media list", "List the newest files", "gatehouse media list"),
    example("media get", "Fetch a picture", "gatehouse media get front-door/e1/a.jpg --output a.jpg"),
    example(
        "media url",
        "Create a URL valid for one hour",
        "gatehouse media url front-door/e1/a.jpg --expires 1h",
    ),
    example("sync status", "Show the state of delivery", "gatehouse sync status"),
    example("sync now", "Retry delivery now", "gatehouse sync now"),
    example("sync pause", "Pause delivery for two hours", "gatehouse sync pause --for 2h"),
    example("sync resume", "Resume delivery", "gatehouse sync resume"),
    example("sync conflicts", "List conflicting changes of people", "gatehouse sync conflicts"),
    example("key status", "Show the keys", "gatehouse key status"),
    example("key rotate", "Rotate the template key", "gatehouse key rotate --templates"),
    example("store verify", "Verify all data on disk", "gatehouse store verify"),
    example("store compact", "Free disk space of the views", "gatehouse store compact"),
    example("store retain", "Apply the retention policy now", "gatehouse store retain"),
    example("config show", "Show all settings", "gatehouse config show"),
    example("config reload", "Reload the settings", "gatehouse config reload"),
    example(
        "receipt verify",
        "Verify the receipt of an erasure",
        "gatehouse receipt verify anna.receipt --keys receipt.keys",
    ),
    example(
        "receipt verify",
        "Also verify that it is about one person",
        "gatehouse receipt verify anna.receipt --keys receipt.keys --id anna --deployment-key deployment.key",
    ),
    example("receipt show", "Show a receipt in plain language", "gatehouse receipt show anna.receipt"),
    example("central init", "Prepare database and bucket", "gatehouse central init --config central.toml"),
    example("central check", "Check database and bucket", "gatehouse central check --config central.toml"),
    example(
        "central migrate",
        "Migrate to the newest schema",
        "gatehouse central migrate --config central.toml",
    ),
    example(
        "central enroll-device",
        "Create the role of an appliance",
        "gatehouse central enroll-device house-1 --password-file house-1.password",
    ),
    example(
        "central retire-device",
        "Remove the role of an appliance",
        "gatehouse central retire-device house-1",
    ),
    example(
        "central url",
        "Create a URL valid for one day",
        "gatehouse central url 0192f3c4-7a5e-7cc1-8d2f-3b1f6a0c9e11 --expires 1d",
    ),
    example("central orphans", "List objects and rows that do not match", "gatehouse central orphans"),
    example("central orphans", "Fix them", "gatehouse central orphans --fix"),
    example("central verify", "Read 500 files back", "gatehouse central verify --sample 500"),
    example(
        "central delete-file",
        "Mark a file for deletion",
        "gatehouse central delete-file 0192f3c4-7a5e-7cc1-8d2f-3b1f6a0c9e11",
    ),
    example(
        "central undelete",
        "Unmark a file for deletion",
        "gatehouse central undelete 0192f3c4-7a5e-7cc1-8d2f-3b1f6a0c9e11",
    ),
    example("central purge-deleted", "Remove files marked 30 days ago", "gatehouse central purge-deleted"),
    example("central restored", "Hold people back after a restore", "gatehouse central restored"),
    example("central restored", "Deliver them now", "gatehouse central restored --release"),
    example("central archive", "Archive up to yesterday", "gatehouse central archive"),
    example("central archive", "Check the archive", "gatehouse central archive --check"),
    example(
        "central retention",
        "List the months older than a year",
        "gatehouse central retention --keep-months 12",
    ),
    example(
        "central retention",
        "Drop them from the database",
        "gatehouse central retention --keep-months 12 --drop",
    ),
    example(
        "central person enroll",
        "Enroll a person on all appliances",
        "gatehouse central person enroll --id anna --name \"Anna Berg\" --encodings anna.json",
    ),
    example(
        "central person export",
        "Export all data of a person from database and bucket",
        "gatehouse central person export anna --to anna-export",
    ),
    example("central person list", "List the people", "gatehouse central person list"),
    example(
        "central person absent",
        "List people without a visit for half a year",
        "gatehouse central person absent --days 180",
    ),
    example("central person rename", "Change a name", "gatehouse central person rename anna \"Anna Holm\""),
    example(
        "central person suspend",
        "Answer a person as a stranger on all appliances",
        "gatehouse central person suspend anna --reason objection",
    ),
    example("central person resume", "End a suspension", "gatehouse central person resume anna"),
    example(
        "central request open",
        "Record a letter that asks for access",
        "gatehouse central request open --kind access --reference 2026-117 --received 2026-11-20",
    ),
    example("central request list", "List what has to be answered", "gatehouse central request list"),
    example("central request close", "Close a request", "gatehouse central request close 4 --outcome done"),
    example(
        "central person erase",
        "Erase a person on all appliances",
        "gatehouse central person erase anna",
    ),
    example(
        "central person restore",
        "Cancel an erasure in its grace period",
        "gatehouse central person restore anna",
    ),
    example("central identify", "Identify faces", "gatehouse central identify probe.json --threshold 0.45"),
    example("central make-key", "Create a deployment key", "gatehouse central make-key deployment.key"),
    example(
        "central receipt issue",
        "Write the receipt of a person's erasure",
        "gatehouse central receipt issue --id anna --signing-key receipt-signing.key --to anna.receipt",
    ),
    example("central receipt list", "List the erasures", "gatehouse central receipt list"),
    example(
        "central receipt keys",
        "Write the keys that verify receipts",
        "gatehouse central receipt keys --signing-key receipt-signing.key > receipt.keys",
    ),
    example(
        "central receipt make-key",
        "Create the signing key",
        "gatehouse central receipt make-key receipt-signing.key",
    ),
    example("central report", "Report on the last 30 days", "gatehouse central report --days 30"),
    example(
        "central report",
        "Report all data about a person",
        "gatehouse central report --person anna --json > anna.json",
    ),
];

/// Adds its examples to the help of each command.
pub(super) fn add_to(command: Command) -> Command {
    let mut paths: Vec<&str> = EXAMPLES.iter().map(|example| example.command).collect();
    paths.dedup();
    paths.into_iter().fold(command, |command, path| add_to_command(command, path, &help(path)))
}

fn add_to_command(command: Command, path: &str, help: &str) -> Command {
    let (name, rest) = path.split_once(' ').unwrap_or((path, ""));
    command.mut_subcommand(name, |inner| match rest {
        "" => inner.after_long_help(help.to_owned()),
        rest => add_to_command(inner, rest, help),
    })
}

fn help(path: &str) -> String {
    let mut text = super::manual::EXAMPLES_HEADING.to_owned();
    for Example { purpose, line, .. } in EXAMPLES.iter().filter(|example| example.command == path) {
        text.push_str(&format!("\n  {purpose}:\n    {line}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The words of a command line as a shell splits them, up to a pipe or a redirection.
    fn words(line: &str) -> Vec<String> {
        let mut words = vec![String::new()];
        let mut is_quoted = false;
        for c in line.chars() {
            match c {
                '"' => is_quoted = !is_quoted,
                '|' | '>' if !is_quoted => break,
                ' ' if !is_quoted => words.push(String::new()),
                c => words.last_mut().unwrap().push(c),
            }
        }
        words.retain(|word| !word.is_empty());
        words
    }

    fn leaves(command: &Command, path: &str, found: &mut Vec<String>) {
        for inner in command.get_subcommands().filter(|inner| inner.get_name() != "help") {
            let path = format!("{path} {}", inner.get_name()).trim().to_owned();
            match inner.has_subcommands() {
                true => leaves(inner, &path, found),
                false => found.push(path),
            }
        }
    }

    #[test]
    fn every_example_parses_and_runs_the_command_that_it_is_for() {
        for Example { command, line, .. } in EXAMPLES {
            let matches = crate::command().try_get_matches_from(words(line));
            let matches = matches.unwrap_or_else(|error| panic!("{line}: {error}"));
            let mut path = Vec::new();
            let mut at = &matches;
            while let Some((name, inner)) = at.subcommand() {
                path.push(name.to_owned());
                at = inner;
            }
            assert_eq!(path.join(" "), *command, "{line}");
        }
    }

    /// Command lines of the tool in the code blocks of a document.
    fn documented(text: &str) -> Vec<&str> {
        let blocks = text.split("```").skip(1).step_by(2);
        let lines = blocks.flat_map(str::lines).map(|line| line.trim_start_matches(['$', '#', ' ']));
        let lines = lines.map(|line| line.strip_prefix("sudo ").unwrap_or(line));
        lines.filter(|line| line.starts_with("gatehouse ") && !line.contains(['<', '…'])).collect()
    }

    #[test]
    fn every_command_line_in_the_documents_parses() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let top = folder.ancestors().find(|folder| folder.join("docs/contract.md").exists()).unwrap();
        let pages = std::fs::read_dir(top.join("docs")).unwrap().map(|entry| entry.unwrap().path());
        let mut checked = 0;
        for page in pages
            .chain([top.join("README.md")])
            .filter(|page| page.extension().is_some_and(|end| end == "md"))
        {
            let text = std::fs::read_to_string(&page).unwrap();
            // A comment may follow the commands.
            let lines = documented(&text).into_iter().map(|line| line.split(" #").next().unwrap_or(line));
            for line in lines.flat_map(|line| line.split("; ")) {
                let matches = crate::command().try_get_matches_from(words(line));
                assert!(matches.is_ok(), "{}: {line}: {}", page.display(), matches.unwrap_err());
                checked += 1;
            }
        }
        assert!(checked > 10, "{checked} lines");
    }

    #[test]
    fn every_command_has_an_example_in_its_help() {
        let mut paths = Vec::new();
        leaves(&crate::command(), "", &mut paths);
        assert!(paths.len() > 50, "{paths:?}");
        for path in paths {
            let words = ["gatehouse"].into_iter().chain(path.split(' ')).chain(["--help"]);
            let help = crate::command().try_get_matches_from(words).unwrap_err().to_string();
            assert!(help.contains("\nExamples:\n  "), "{path}: {help}");
        }
    }
}
