//! `gatehouse gallery evaluate|report|list|add|compare|switch|remove`

mod evaluate;
mod models;
mod report;
mod svg;

use super::session::Session;
use gatehouse_control::types::Fault;

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Evaluate a model on a file of encodings; needs no daemon, stores nothing.
    Evaluate(evaluate::Args),
    /// Gallery report: expected error rates, look-alikes, weak enrollments.
    Report(report::Args),
    #[command(flatten)]
    Models(models::Command),
}

pub(super) fn run(command: Command, session: &mut Session) -> Result<(), Fault> {
    match command {
        Command::Evaluate(args) => evaluate::run(&args, session),
        Command::Report(args) => report::run(&args, session),
        Command::Models(command) => models::run(command, session),
    }
}
