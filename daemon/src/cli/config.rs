//! `gatehouse config show|reload`

use super::shell::Shell;
use super::table::Table;
use crate::control::answers::{Reloaded, SettingLine};
use crate::control::types::{Fault, Request};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Every setting in force and where it comes from.
    Show,
    /// Read the settings again; says what is in force at once and what needs a restart.
    Reload,
}

pub(super) fn run(command: &Command, shell: &mut Shell) -> Result<(), Fault> {
    match command {
        Command::Show => shell.ask_and_show(&Request::ConfigShow, |lines: &Vec<SettingLine>| show(lines)),
        Command::Reload => shell.ask_and_show(&Request::ConfigReload, reloaded),
    }
}

fn show(lines: &[SettingLine]) -> String {
    let mut table = Table::new(["KEY", "VALUE", "FROM", ""]);
    for line in lines {
        table.row([
            line.key.clone(),
            line.value.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string),
            line.source.clone(),
            if line.restart_needed { "changed, needs a restart" } else { "" }.to_owned(),
        ]);
    }
    table.text("")
}

fn reloaded(done: &Reloaded) -> String {
    let told = |keys: &[String]| if keys.is_empty() { "nothing".to_owned() } else { keys.join(", ") };
    format!("in force now: {}\nneeds a restart: {}\n", told(&done.applied), told(&done.at_restart))
}
