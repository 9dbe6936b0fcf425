//! `gatehouse config show|reload`

use super::session::Session;
use super::table::Table;
use gatehouse_control::answers::{Reloaded, SettingLine};
use gatehouse_control::types::{Fault, Request};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Show every setting in force and its source.
    Show,
    /// Reload the settings and show which of them need a restart.
    Reload,
}

pub(super) fn run(command: &Command, session: &mut Session) -> Result<(), Fault> {
    match command {
        Command::Show => session.ask_and_show(&Request::ConfigShow, |lines: &Vec<SettingLine>| show(lines)),
        Command::Reload => session.ask_and_show(&Request::ConfigReload, reloaded),
    }
}

fn show(lines: &[SettingLine]) -> String {
    let mut table = Table::new(["KEY", "VALUE", "SOURCE", ""]);
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
    let list = |keys: &[String]| if keys.is_empty() { "nothing".to_owned() } else { keys.join(", ") };
    format!("in force now: {}\nafter a restart: {}\n", list(&done.applied), list(&done.at_restart))
}
