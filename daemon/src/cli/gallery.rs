//! `gatehouse gallery evaluate|report|list|add|compare|switch|remove`

mod evaluate;
mod models;
mod report;
mod svg;

use super::shell::Shell;
use crate::control::types::Fault;

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Measure how well a model tells your own people apart; works without the daemon and keeps nothing.
    Evaluate(evaluate::Args),
    /// How the enrolled people lie: error rates to expect, who looks alike, who is enrolled weakly.
    Report(report::Args),
    #[command(flatten)]
    Models(models::Command),
}

pub(super) fn run(command: Command, shell: &mut Shell) -> Result<(), Fault> {
    match command {
        Command::Evaluate(args) => evaluate::run(&args, shell),
        Command::Report(args) => report::run(&args, shell),
        Command::Models(command) => models::run(command, shell),
    }
}
