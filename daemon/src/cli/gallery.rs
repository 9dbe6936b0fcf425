//! `gatehouse gallery evaluate`

mod evaluate;

use super::shell::Shell;
use crate::control::types::Fault;

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Measure how well a model tells your own people apart; works without the daemon and keeps nothing.
    Evaluate(evaluate::Args),
}

pub(super) fn run(command: Command, shell: &mut Shell) -> Result<(), Fault> {
    match command {
        Command::Evaluate(args) => evaluate::run(&args, shell),
    }
}
