//! The daemon.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use gatehouse_config::Config;
use gatehouse_daemon::{app, cli, exit, log};
use tracing::error;

/// The Gatehouse daemon: identifies visitors, keeps every event safely, delivers to the central side.
#[derive(Debug, Parser)]
#[command(name = "gatehoused", version, max_term_width = 100)]
struct Arguments {
    /// The settings; conf.d/*.toml beside the file and GATEHOUSE__SECTION__KEY come on top.
    #[arg(long, global = true, value_name = "FILE", default_value = cli::DEFAULT_CONFIG)]
    config: PathBuf,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print every fault of the settings with file, line and key; exit code 0 or 78.
    CheckConfig,
}

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
        Ok(_) => (format!("{}: no fault", path.display()), exit::OK),
        Err(faults) => (faults.to_string(), exit::CONFIG),
    };
    // The exit code says it too.
    let _ = writeln!(io::stdout(), "{text}");
    code
}

fn serve(path: &Path) -> u8 {
    if let Err(error) = log::init() {
        // Nothing worse than a silent start: the daemon does its work all the same.
        let _ = writeln!(io::stderr(), "gatehoused: no log: {error}");
    }
    match app::run(path) {
        Ok(()) => exit::OK,
        Err(failure) => {
            error!("{failure}");
            failure.code()
        }
    }
}
