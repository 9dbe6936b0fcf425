//! The daemon.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use gatehouse_config::Config;
use gatehouse_control::exit;
use gatehouse_daemon::arguments::{Arguments, Command};
use gatehouse_daemon::{app, log};
use gatehouse_machine::notes::notes;
use tracing::error;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let code = match arguments.command {
        Some(Command::CheckConfig) => check_config(&arguments.config),
        None => serve(&arguments.config),
    };
    ExitCode::from(code)
}

fn check_config(path: &Path) -> u8 {
    let (text, code) = match Config::load(path, &Config::process_environment()) {
        Ok(config) => {
            let notes =
                notes(&config).into_iter().map(|note| format!("\nnote: {}; {}", note.text, note.advice));
            (format!("{}: no fault{}", path.display(), notes.collect::<String>()), exit::OK)
        }
        Err(faults) => (faults.to_string(), exit::CONFIG),
    };
    // The exit code says it too.
    let _ = writeln!(io::stdout(), "{text}");
    code
}

fn serve(path: &Path) -> u8 {
    // Held to the end: its drop waits for the last lines.
    let _log = log::init().inspect_err(|error| {
        // Nothing worse than a silent start: the daemon does its work all the same.
        let _ = writeln!(io::stderr(), "gatehoused: no log: {error}");
    });
    match app::run(path) {
        Ok(()) => exit::OK,
        Err(failure) => {
            error!("{failure}");
            failure.code()
        }
    }
}
