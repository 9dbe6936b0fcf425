//! The operator's tool. One short file per group of commands; every command asks the daemon over its control
//! socket, except `central`, `setup`, `provision` and `completions`, which need no daemon.

mod central;
mod config;
mod doctor;
mod event;
mod gallery;
mod identify;
mod input;
mod key;
mod ledger;
mod media;
mod person;
mod provision;
mod selftest;
mod setup;
mod shell;
mod status;
mod store;
mod sync;
mod table;
mod words;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell as CompletionShell;

use crate::control::types::Fault;
use shell::Shell;

/// Where the settings are unless said otherwise.
pub const DEFAULT_CONFIG: &str = "/etc/gatehouse/gatehouse.toml";

/// Operates the Gatehouse appliance on this machine.
///
/// Exit codes: 0 done, 1 refused or not found, 2 the command line is wrong, 69 the daemon is not reachable,
/// 77 not permitted.
#[derive(Debug, Parser)]
#[command(name = "gatehouse", version, max_term_width = 100)]
struct Cli {
    /// Control socket of the daemon.
    #[arg(long, global = true, env = "GATEHOUSE_SOCKET", default_value = "/run/gatehouse/control.sock")]
    socket: PathBuf,
    /// Print JSON, for programs.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// How the appliance is: broker, gallery, what is stored and what waits.
    Status,
    /// What is wrong, and what to do about it.
    Doctor(doctor::Args),
    /// Does the daemon do its work? A face is looked up and the journal gone through; nothing is kept of it.
    SelfTest(selftest::Args),
    /// Enrolled people.
    #[command(subcommand)]
    Person(person::Command),
    /// How well faces are told apart, and going over to another model.
    #[command(subcommand)]
    Gallery(gallery::Command),
    /// Ask the gallery who somebody is; nothing is kept of it.
    Identify(identify::Args),
    /// Stored events.
    #[command(subcommand)]
    Event(event::Command),
    /// Stored pictures and clips.
    #[command(subcommand)]
    Media(media::Command),
    /// Delivery to the central side.
    #[command(subcommand)]
    Sync(sync::Command),
    /// The proof that nothing is lost: received, stored, delivered, pending, dropped.
    Ledger,
    /// The keys: what there is, and going over to new ones.
    #[command(subcommand)]
    Key(key::Command),
    /// What lies on the disk.
    #[command(subcommand)]
    Store(store::Command),
    /// The settings in force.
    #[command(subcommand)]
    Config(config::Command),
    /// Prepare or check the central database and bucket; works without the daemon.
    #[command(subcommand)]
    Central(central::Command),
    /// Seal the appliance's secrets for this machine; works without the daemon.
    Setup(setup::Args),
    /// Take in a provisioning file once, as the first boot of an appliance does; works without the daemon.
    Provision(provision::Args),
    /// Print the completions of a shell.
    Completions {
        /// Which shell.
        #[arg(value_enum)]
        shell: CompletionKind,
    },
}

/// The shells that completions exist for.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum CompletionKind {
    Bash,
    Zsh,
    Fish,
}

/// The command line of the tool, for the manual.
pub fn command() -> clap::Command {
    Cli::command()
}

/// Runs the tool with the arguments of this process.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let mut shell = Shell::new(cli.socket, cli.json);
    match run(cli.command, &mut shell) {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            shell.complain(&fault);
            ExitCode::from(fault.code)
        }
    }
}

fn run(command: Command, shell: &mut Shell) -> Result<(), Fault> {
    match command {
        Command::Status => status::run(shell),
        Command::Doctor(args) => doctor::run(&args, shell),
        Command::SelfTest(args) => selftest::run(&args, shell),
        Command::Person(command) => person::run(command, shell),
        Command::Gallery(command) => gallery::run(command, shell),
        Command::Identify(args) => identify::run(args, shell),
        Command::Event(command) => event::run(command, shell),
        Command::Media(command) => media::run(command, shell),
        Command::Sync(command) => sync::run(&command, shell),
        Command::Ledger => ledger::run(shell),
        Command::Key(command) => key::run(&command, shell),
        Command::Store(command) => store::run(&command, shell),
        Command::Config(command) => config::run(&command, shell),
        Command::Central(command) => central::run(command, shell),
        Command::Setup(args) => setup::run(&args, shell),
        Command::Provision(args) => provision::run(&args, shell),
        Command::Completions { shell: kind } => completions(kind, shell),
    }
}

fn completions(kind: CompletionKind, shell: &mut Shell) -> Result<(), Fault> {
    let kind = match kind {
        CompletionKind::Bash => CompletionShell::Bash,
        CompletionKind::Zsh => CompletionShell::Zsh,
        CompletionKind::Fish => CompletionShell::Fish,
    };
    let mut script = Vec::new();
    clap_complete::generate(kind, &mut Cli::command(), "gatehouse", &mut script);
    let script = String::from_utf8_lossy(&script).into_owned();
    shell.show(&script, |script| script.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_forms_of_the_contract_are_understood() {
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
        ] {
            assert!(Cli::try_parse_from(line.split(' ')).is_ok(), "{line}");
        }
        let usage = Cli::try_parse_from(["gatehouse", "person", "enroll"]).unwrap_err();
        assert_eq!(usage.exit_code(), i32::from(crate::exit::USAGE));
    }
}
