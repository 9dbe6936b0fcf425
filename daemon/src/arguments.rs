//! The command line of the daemon. It is part of the library, because the man page is generated from it.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::cli;

/// Run the Gatehouse daemon: identify faces, store events, deliver them to the central services.
#[derive(Debug, Parser)]
#[command(name = "gatehoused", version, max_term_width = 100)]
pub struct Arguments {
    /// Settings file; conf.d/*.toml in the same folder and GATEHOUSE__SECTION__KEY override it.
    #[arg(long, global = true, value_name = "FILE", default_value = cli::DEFAULT_CONFIG)]
    pub config: PathBuf,
    /// Command to run instead of the daemon.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// Commands of the daemon's program.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Check the settings: print all faults with file, line and key; exit code 0 or 78.
    CheckConfig,
}
