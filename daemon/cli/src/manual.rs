//! The man pages in roff: gatehoused(8), gatehouse(1), one page for each group of commands, gatehouse.toml(5).
//!
//! Descriptions, options and examples come from the command lines, settings from `edge.toml`, and exit codes from
//! [`gatehouse_control::exit`], so that pages, `--help` and code cannot differ. Every page has the same sections, in [`SECTIONS`].

mod roff;

use clap::{Arg, ArgAction, Command};
use gatehouse_config::EDGE_TOML;

use gatehouse_control::exit::{EXIT_CODES, ExitCode};
use roff::{Roff, bold, italic};

/// Headings of every page, in this order. Pages with commands have a section COMMANDS after DESCRIPTION.
pub const SECTIONS: [&str; 9] = [
    "NAME",
    "SYNOPSIS",
    "DESCRIPTION",
    "OPTIONS",
    "EXAMPLES",
    "FILES",
    "ENVIRONMENT",
    "EXIT STATUS",
    "SEE ALSO",
];
/// Begins the examples in the help of a command. Purposes below it are indented by two spaces, command lines by four.
pub const EXAMPLES_HEADING: &str = "Examples:";

/// A file of the manual.
#[derive(Debug)]
pub struct Page {
    /// Name with the section, such as `gatehouse.1`.
    pub file_name: String,
    /// The page in roff.
    pub text: String,
}

/// A term with its meaning.
struct Entry {
    term: &'static str,
    meaning: &'static str,
}

const fn entry(term: &'static str, meaning: &'static str) -> Entry {
    Entry { term, meaning }
}

/// The sections of a page below DESCRIPTION and OPTIONS.
struct Tail {
    examples: Vec<Example>,
    files: &'static [Entry],
    environment: Vec<&'static Entry>,
    exit_meaning: fn(&ExitCode) -> &'static str,
    see_also: Vec<String>,
}

struct Example {
    purpose: String,
    line: String,
}

const SETTINGS_FILE: Entry = entry("/etc/gatehouse/gatehouse.toml", "Settings of the appliance.");
const SETTINGS_FOLDER: Entry =
    entry("/etc/gatehouse/conf.d/*.toml", "Further settings; later names override earlier ones.");
const EDGE_FILE: Entry =
    entry("/usr/lib/gatehouse/edge.toml", "All settings with defaults and explanations.");
const SOCKET: Entry = entry("/run/gatehouse/control.sock", "Control socket of the daemon.");
const SECRETS: Entry = entry("/etc/credstore.encrypted/gatehouse.*", "Sealed secrets.");
const STATE: Entry = entry("/var/lib/gatehouse", "State directory: keys, journal, views and media files.");
const TOOL_FILES: &[Entry] = &[SETTINGS_FILE, SETTINGS_FOLDER, SOCKET, SECRETS];
const DAEMON_FILES: &[Entry] = &[SETTINGS_FILE, SETTINGS_FOLDER, EDGE_FILE, STATE, SOCKET, SECRETS];
const SETTINGS_FILES: &[Entry] = &[SETTINGS_FILE, SETTINGS_FOLDER, EDGE_FILE];
const SOCKET_VARIABLE: Entry =
    entry("GATEHOUSE_SOCKET", "Path of the control socket. The option --socket overrides it.");
const NO_COLOR_VARIABLE: Entry = entry("NO_COLOR", "If set and not empty, the output has no colors.");
const TZ_VARIABLE: Entry =
    entry("TZ", "Time zone of the output on a terminal. JSON, files and pipes always get UTC.");
const SETTING_VARIABLE: Entry =
    entry("GATEHOUSE__SECTION__KEY", "Overrides a setting, for example GATEHOUSE__MQTT__URL for mqtt.url.");
const LOG_VARIABLE: Entry =
    entry("GATEHOUSE_LOG", "Log level of the daemon: error, warn, info (default), debug or trace.");
const CREDENTIALS_VARIABLE: Entry =
    entry("CREDENTIALS_DIRECTORY", "Folder of the opened secrets. systemd sets it.");

/// All pages. `daemon` is the command line of `gatehoused`.
pub fn pages(mut daemon: Command) -> Vec<Page> {
    daemon.build();
    let mut tool = super::command();
    tool.build();
    let mut pages = vec![daemon_page(&daemon), tool_page(&tool)];
    pages.extend(groups(&tool).map(|group| group_page(group, &tool)));
    pages.push(settings_page());
    pages
}

fn daemon_page(daemon: &Command) -> Page {
    let mut page = head("gatehoused", 8, &about(daemon));
    page.section("SYNOPSIS");
    page.bold_lines(&[usage(daemon)]);
    page.section("DESCRIPTION");
    page.paragraph(&description(daemon));
    page.paragraph(
        "Cameras publish events and pictures over MQTT. The daemon answers each event with the people that it \
         recognizes, stores everything encrypted, and delivers it to PostgreSQL and S3. SIGTERM stops the daemon after \
         the messages in progress. SIGHUP reloads the settings.",
    );
    page.section("COMMANDS");
    commands(&mut page, daemon);
    page.section("OPTIONS");
    options(&mut page, daemon);
    let tail = Tail {
        examples: all_examples(daemon),
        files: DAEMON_FILES,
        environment: vec![&SETTING_VARIABLE, &LOG_VARIABLE, &CREDENTIALS_VARIABLE],
        exit_meaning: |code| code.daemon,
        see_also: vec!["gatehouse(1)".to_owned(), "gatehouse.toml(5)".to_owned()],
    };
    finish(page, "gatehoused.8", &tail)
}

/// The page of the tool: commands that belong to no group, and the names of the other pages.
fn tool_page(tool: &Command) -> Page {
    let mut page = head("gatehouse", 1, &about(tool));
    page.section("SYNOPSIS");
    page.bold_lines(&["gatehouse [OPTIONS] COMMAND".to_owned()]);
    page.section("DESCRIPTION");
    page.paragraph(&description(tool));
    page.paragraph(
        "Most commands send a request to the daemon over its control socket. Members of the group gatehouse and root \
         may use it. Groups of commands have pages of their own:",
    );
    for group in groups(tool) {
        page.entry(&bold(&format!("gatehouse-{}(1)", group.get_name())), &sentence(&about(group)));
    }
    page.section("COMMANDS");
    let single = tool.get_subcommands().filter(|inner| !inner.has_subcommands() && is_shown(inner));
    let single: Vec<&Command> = single.collect();
    single.iter().for_each(|command| command_entry(&mut page, command));
    page.section("OPTIONS");
    page.paragraph("Every command has these options.");
    options(&mut page, tool);
    let pages = groups(tool).map(|group| format!("gatehouse-{}(1)", group.get_name()));
    let tail = Tail {
        examples: single.iter().flat_map(|command| examples(command)).collect(),
        files: TOOL_FILES,
        environment: vec![&SOCKET_VARIABLE, &NO_COLOR_VARIABLE, &TZ_VARIABLE],
        exit_meaning: |code| code.tool,
        see_also: pages.chain(["gatehoused(8)".to_owned(), "gatehouse.toml(5)".to_owned()]).collect(),
    };
    finish(page, "gatehouse.1", &tail)
}

fn group_page(group: &Command, tool: &Command) -> Page {
    let name = format!("gatehouse-{}", group.get_name());
    let mut page = head(&name, 1, &about(group));
    page.section("SYNOPSIS");
    let mut lines = Vec::new();
    usages(group, &mut lines);
    page.bold_lines(&lines);
    page.section("DESCRIPTION");
    page.paragraph(&description(group));
    page.section("COMMANDS");
    commands(&mut page, group);
    page.section("OPTIONS");
    page.paragraph("Every command also has these options.");
    options(&mut page, tool);
    let own = if group.get_name() == "central" { &SETTING_VARIABLE } else { &SOCKET_VARIABLE };
    let tail = Tail {
        examples: all_examples(group),
        files: TOOL_FILES,
        environment: vec![own, &NO_COLOR_VARIABLE, &TZ_VARIABLE],
        exit_meaning: |code| code.tool,
        see_also: vec!["gatehouse(1)".into(), "gatehoused(8)".into(), "gatehouse.toml(5)".into()],
    };
    finish(page, &format!("{name}.1"), &tail)
}

/// The page of the settings. In `edge.toml` a comment explains the keys that follow it.
fn settings_page() -> Page {
    let mut page = head("gatehouse.toml", 5, "settings of the Gatehouse appliance");
    page.section("SYNOPSIS");
    page.bold_lines(&[SETTINGS_FILE.term.to_owned(), SETTINGS_FOLDER.term.to_owned()]);
    page.section("DESCRIPTION");
    page.paragraph("The settings of gatehoused(8) in TOML. Every value below is the default or an example.");
    let mut comment: Vec<&str> = Vec::new();
    let mut keys: Vec<&str> = Vec::new();
    let mut has_options = false;
    for line in EDGE_TOML.lines().chain([""]) {
        let bare = line.trim_start_matches('#');
        if let Some(text) = line.strip_prefix("# ") {
            comment.push(text);
        } else if bare.starts_with('[') {
            if !has_options {
                page.paragraph(&comment.join("\n"));
                comment.clear();
                page.section("OPTIONS");
                has_options = true;
            }
            page.subsection(bare);
            page.paragraph(&comment.join("\n"));
            comment.clear();
        } else if bare.contains(" = ") {
            keys.push(bare);
        } else if !keys.is_empty() {
            let terms: Vec<_> = keys.iter().map(|key| bold(key)).collect();
            page.entry(&terms.join("\n.TQ\n"), &comment.join("\n"));
            comment.clear();
            keys.clear();
        } else if line.is_empty() || line == "#" {
            page.paragraph(&comment.join("\n"));
            comment.clear();
        }
    }
    let example = |purpose: &str, line: &str| Example { purpose: purpose.into(), line: line.into() };
    let tail = Tail {
        examples: vec![
            example(
                "The values that every appliance needs:",
                "[device]\nid = \"house-1\"\nenvironment = \"prod\"\n\n[mqtt]\nurl = \"mqtts://broker.example.org\"",
            ),
            example("Check the settings:", "gatehoused check-config"),
        ],
        files: SETTINGS_FILES,
        environment: vec![&SETTING_VARIABLE],
        exit_meaning: |code| code.daemon,
        see_also: vec!["gatehoused(8)".into(), "gatehouse(1)".into(), "gatehouse-config(1)".into()],
    };
    finish(page, "gatehouse.toml.5", &tail)
}

fn head(name: &str, section: u8, about: &str) -> Roff {
    let mut page = Roff::new(name, section);
    page.section("NAME");
    page.raw(&format!("{} \\- {}", roff::escaped(name), roff::escaped(about)));
    page
}

fn finish(mut page: Roff, file_name: &str, tail: &Tail) -> Page {
    page.section("EXAMPLES");
    for Example { purpose, line } in &tail.examples {
        page.example(purpose, line);
    }
    page.section("FILES");
    for Entry { term, meaning } in tail.files {
        page.entry(&italic(term), meaning);
    }
    page.section("ENVIRONMENT");
    for Entry { term, meaning } in &tail.environment {
        page.entry(&bold(term), meaning);
    }
    page.section("EXIT STATUS");
    for code in EXIT_CODES.iter().filter(|code| !(tail.exit_meaning)(code).is_empty()) {
        page.entry(&bold(&code.code.to_string()), &sentence((tail.exit_meaning)(code)));
    }
    page.section("SEE ALSO");
    let names: Vec<_> = tail.see_also.iter().map(|name| bold(name)).collect();
    page.raw(&names.join(",\n"));
    Page { file_name: file_name.to_owned(), text: page.finish() }
}

fn groups(tool: &Command) -> impl Iterator<Item = &Command> {
    tool.get_subcommands().filter(|inner| inner.has_subcommands() && is_shown(inner))
}

fn is_shown(command: &Command) -> bool {
    !command.is_hide_set() && command.get_name() != "help"
}

/// Entries of all commands below this one.
fn commands(page: &mut Roff, command: &Command) {
    for inner in command.get_subcommands().filter(|inner| is_shown(inner)) {
        match inner.has_subcommands() {
            true => commands(page, inner),
            false => command_entry(page, inner),
        }
    }
}

fn command_entry(page: &mut Roff, command: &Command) {
    page.subsection(command.get_bin_name().unwrap_or_else(|| command.get_name()));
    page.bold_lines(&[usage(command)]);
    page.paragraph(&description(command));
    for argument in command.get_arguments().filter(|argument| !argument.is_global_set() && !is_help(argument))
    {
        page.entry(&argument_term(argument), &argument_text(argument));
    }
}

/// Entries of the options of a program.
fn options(page: &mut Roff, program: &Command) {
    for argument in program.get_arguments() {
        page.entry(&argument_term(argument), &argument_text(argument));
    }
}

fn is_help(argument: &Arg) -> bool {
    matches!(argument.get_action(), ArgAction::Help | ArgAction::HelpLong | ArgAction::HelpShort)
}

fn argument_term(argument: &Arg) -> String {
    let names = argument.get_value_names().unwrap_or_default();
    let takes_value = argument.get_action().takes_values();
    let values: Vec<_> = names.iter().filter(|_| takes_value).map(|name| italic(name)).collect();
    let short = argument.get_short().map(|short| bold(&format!("-{short}")));
    let long = argument.get_long().map(|long| bold(&format!("--{long}")));
    let flags: Vec<_> = short.into_iter().chain(long).collect();
    [flags.join(", "), values.join(" ")].join(" ").trim().to_owned()
}

fn argument_text(argument: &Arg) -> String {
    let help = argument.get_long_help().or_else(|| argument.get_help());
    let mut text = sentence(&help.map(ToString::to_string).unwrap_or_default());
    if !argument.get_action().takes_values() {
        return text;
    }
    let possible: Vec<_> =
        argument.get_possible_values().iter().map(|value| value.get_name().to_owned()).collect();
    if !possible.is_empty() {
        text.push_str(&format!(" One of: {}.", possible.join(", ")));
    }
    let defaults: Vec<_> =
        argument.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
    if !defaults.is_empty() {
        text.push_str(&format!(" The default is {}.", defaults.join(", ")));
    }
    text
}

fn about(command: &Command) -> String {
    command.get_about().map(ToString::to_string).unwrap_or_default()
}

fn description(command: &Command) -> String {
    let long = command.get_long_about().map(ToString::to_string);
    sentence(&long.unwrap_or_else(|| about(command)))
}

/// The text with a capital and a full stop, which clap removes from help texts.
fn sentence(text: &str) -> String {
    let Some(first) = text.chars().next() else { return String::new() };
    let end = if text.ends_with(['.', ']', ':']) { "" } else { "." };
    format!("{}{}{end}", first.to_uppercase(), &text[first.len_utf8()..])
}

/// The usage line of a command.
fn usage(command: &Command) -> String {
    let usage = command.clone().render_usage().to_string();
    let usage = usage.trim_start_matches("Usage: ").split_whitespace().collect::<Vec<_>>().join(" ");
    usage.replace(['<', '>'], "")
}

fn usages(command: &Command, lines: &mut Vec<String>) {
    for inner in command.get_subcommands().filter(|inner| is_shown(inner)) {
        match inner.has_subcommands() {
            true => usages(inner, lines),
            false => lines.push(usage(inner)),
        }
    }
}

/// The examples in the help of a command.
fn examples(command: &Command) -> Vec<Example> {
    let help = command.get_after_long_help().map(ToString::to_string).unwrap_or_default();
    let lines = help.lines().skip_while(|line| *line != EXAMPLES_HEADING).skip(1);
    let mut purpose = String::new();
    let mut found = Vec::new();
    for line in lines.take_while(|line| !line.is_empty()) {
        match line.strip_prefix("    ") {
            Some(line) => found.push(Example { purpose: purpose.clone(), line: line.to_owned() }),
            None => purpose = line.trim().to_owned(),
        }
    }
    found
}

/// The examples of a command and of all commands below it.
fn all_examples(command: &Command) -> Vec<Example> {
    let inner = command.get_subcommands().filter(|inner| is_shown(inner));
    examples(command).into_iter().chain(inner.flat_map(all_examples)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn daemon() -> Command {
        Command::new("gatehoused")
            .about("Run the daemon")
            .after_long_help("Examples:\n  Check the settings:\n    gatehoused check-config")
            .subcommand(Command::new("check-config").about("Check the settings"))
    }

    fn headings(page: &Page) -> Vec<&str> {
        page.text.lines().filter_map(|line| line.strip_prefix(".SH ")).collect()
    }

    #[test]
    fn every_page_has_all_sections_in_order_and_none_is_empty() {
        let pages = pages(daemon());
        assert_eq!(pages.len(), 3 + 10, "a page per program and group, and the settings");
        for page in &pages {
            let headings: Vec<_> =
                headings(page).into_iter().filter(|heading| *heading != "COMMANDS").collect();
            assert_eq!(headings, SECTIONS, "{}", page.file_name);
            let lines: Vec<_> = page.text.lines().collect();
            let empty =
                lines.windows(2).find(|pair| pair[0].starts_with(".SH") && pair[1].starts_with(".SH"));
            assert_eq!(empty, None, "{}", page.file_name);
        }
    }

    #[test]
    fn pages_contain_every_command_option_and_example() {
        let pages = pages(daemon());
        let page = |name: &str| &pages.iter().find(|page| page.file_name == name).unwrap().text;
        for part in [
            ".SS gatehouse person enroll",
            "\\fB\\-\\-encodings\\fR \\fIFILE\\fR",
            "gatehouse person erase anna",
        ] {
            assert!(page("gatehouse-person.1").contains(part), "{part}");
        }
        assert!(page("gatehouse-central.1").contains(".SS gatehouse central person absent"));
        assert!(page("gatehouse.1").contains(".SS gatehouse self\\-test"));
        assert!(page("gatehouse.1").contains("\\fB69\\fR"));
        assert!(page("gatehoused.8").contains("\\fB78\\fR"));
        assert!(page("gatehoused.8").contains("gatehoused check\\-config"));
        assert!(page("gatehouse.toml.5").contains(".SS [mqtt]"));
    }
}
