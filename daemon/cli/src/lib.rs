//! The operator's tool, with one file per group of commands. Every command sends requests to the daemon over its
//! control socket, except `central`, `receipt`, `setup`, `provision`, `completions` and
//! `gallery evaluate`.

mod central;
mod config;
mod doctor;
mod event;
mod examples;
mod export;
mod format;
mod gallery;
mod identify;
mod input;
mod key;
mod ledger;
pub mod manual;
mod media;
mod person;
mod provision;
mod receipt;
mod selftest;
mod session;
mod setup;
mod status;
mod store;
mod sync;
mod table;
mod terminal;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use clap_complete::Shell as CompletionShell;

use gatehouse_control::exit::exit_status_help;
use gatehouse_control::types::Fault;
use session::Session;

/// Heading of the options that every command has.
const GLOBAL_OPTIONS: &str = "Global options";

/// Operate the Gatehouse appliance on this machine.
#[derive(Debug, Parser)]
#[command(name = "gatehouse", version, max_term_width = 100, after_long_help = exit_status_help(|code| code.tool))]
struct Cli {
    /// Control socket of the daemon.
    #[arg(long, global = true, help_heading = GLOBAL_OPTIONS, value_name = "PATH", env = "GATEHOUSE_SOCKET", default_value = "/run/gatehouse/control.sock")]
    socket: PathBuf,
    /// Print JSON instead of text.
    #[arg(long, global = true, help_heading = GLOBAL_OPTIONS)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show broker connection, clock, gallery, stored and pending data.
    Status,
    /// Find faults and show how to correct them.
    Doctor(doctor::Args),
    /// Test the running daemon: search for a face, write to the journal; stores no event.
    SelfTest(selftest::Args),
    /// Enroll, list, rename and erase people.
    #[command(subcommand, alias = "people")]
    Person(person::Command),
    /// Measure recognition, and change to another face model.
    #[command(subcommand)]
    Gallery(gallery::Command),
    /// Identify face encodings; stores nothing.
    Identify(identify::Args),
    /// List, show and correct stored events.
    #[command(subcommand)]
    Event(event::Command),
    /// List and fetch stored pictures and clips.
    #[command(subcommand)]
    Media(media::Command),
    /// Show and control delivery to the central services.
    #[command(subcommand)]
    Sync(sync::Command),
    /// Show message accounting: received, stored, delivered, pending, dropped.
    Ledger,
    /// Show keys, and rotate the template key.
    #[command(subcommand)]
    Key(key::Command),
    /// Verify, compact and clean up data on disk.
    #[command(subcommand)]
    Store(store::Command),
    /// Show or reload the settings.
    #[command(subcommand)]
    Config(config::Command),
    /// Manage the central database and bucket; does not need the daemon.
    #[command(subcommand)]
    Central(central::Command),
    /// Verify and show receipts of erasures; does not need the daemon.
    #[command(subcommand)]
    Receipt(receipt::Command),
    /// Seal the appliance's secrets for this machine; does not need the daemon.
    ///
    /// Creates a root key if there is none. One FILE may be `-` for standard input. A line end at the end of a file is not
    /// part of the secret.
    Setup(setup::Args),
    /// Apply a provisioning file once, as the first boot does; does not need the daemon.
    ///
    /// Checks the file, seals its secrets, writes its settings to conf.d/50-provisioned.toml, and then overwrites and
    /// removes it. A faulty file is not changed.
    Provision(provision::Args),
    /// Print the completion script of a shell.
    Completions {
        /// The shell.
        #[arg(value_enum)]
        shell: CompletionKind,
    },
}

/// Supported shells.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum CompletionKind {
    Bash,
    Zsh,
    Fish,
}

/// The command line of the tool, also for the man pages.
pub fn command() -> clap::Command {
    examples::add_to(Cli::command())
}

/// Runs the tool with the arguments of this process.
pub fn main() -> ExitCode {
    let matches = command().get_matches();
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let mut session = Session::new(cli.socket, cli.json);
    match run(cli.command, &mut session) {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            session.print_error(&fault);
            ExitCode::from(fault.code)
        }
    }
}

fn run(command: Command, session: &mut Session) -> Result<(), Fault> {
    match command {
        Command::Status => status::run(session),
        Command::Doctor(args) => doctor::run(&args, session),
        Command::SelfTest(args) => selftest::run(&args, session),
        Command::Person(command) => person::run(command, session),
        Command::Gallery(command) => gallery::run(command, session),
        Command::Identify(args) => identify::run(args, session),
        Command::Event(command) => event::run(command, session),
        Command::Media(command) => media::run(command, session),
        Command::Sync(command) => sync::run(&command, session),
        Command::Ledger => ledger::run(session),
        Command::Key(command) => key::run(&command, session),
        Command::Store(command) => store::run(&command, session),
        Command::Config(command) => config::run(&command, session),
        Command::Central(command) => central::run(command, session),
        Command::Receipt(command) => receipt::run(&command, session),
        Command::Setup(args) => setup::run(&args, session),
        Command::Provision(args) => provision::run(&args, session),
        Command::Completions { shell: kind } => completions(kind, session),
    }
}

fn completions(kind: CompletionKind, session: &mut Session) -> Result<(), Fault> {
    let kind = match kind {
        CompletionKind::Bash => CompletionShell::Bash,
        CompletionKind::Zsh => CompletionShell::Zsh,
        CompletionKind::Fish => CompletionShell::Fish,
    };
    let mut script = Vec::new();
    clap_complete::generate(kind, &mut command(), "gatehouse", &mut script);
    let script = String::from_utf8_lossy(&script).into_owned();
    session.show(&script, |script| script.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_line_passes_the_checks_of_clap() {
        Cli::command().debug_assert();
    }

    #[test]
    fn command_lines_of_the_contract_parse() {
        for line in [
            "gatehouse --socket /x --json person enroll --id a --name B --encodings -",
            "gatehouse identify probe.json",
            "gatehouse event list --camera door --person a --since 2026-11-20T00:00:00Z --limit 5",
            "gatehouse sync now --json",
            "gatehouse key status",
            "gatehouse key rotate --templates",
            "gatehouse gallery add --model m --dimensions 512 --metric cosine --normalised",
            "gatehouse gallery switch m --force",
            "gatehouse person enroll --gallery m --id a --name B --encodings -",
            "gatehouse gallery evaluate --encodings f.csv --threshold 0.5 --threshold 0.6 --json",
            "gatehouse receipt verify r --keys k --id a --deployment-key d --json",
        ] {
            assert!(Cli::try_parse_from(line.split(' ')).is_ok(), "{line}");
        }
        let usage = Cli::try_parse_from(["gatehouse", "person", "enroll"]).unwrap_err();
        assert_eq!(usage.exit_code(), i32::from(gatehouse_control::exit::USAGE));
    }
}
