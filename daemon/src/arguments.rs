//! The command line of the daemon. It lies here, and not in the program, so that the manual is made from it.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::cli;

/// The Gatehouse daemon: identifies visitors, keeps every event safely, delivers to the central side.
#[derive(Debug, Parser)]
#[command(name = "gatehoused", version, max_term_width = 100)]
pub struct Arguments {
    /// The settings; conf.d/*.toml beside the file and GATEHOUSE__SECTION__KEY come on top.
    #[arg(long, global = true, value_name = "FILE", default_value = cli::DEFAULT_CONFIG)]
    pub config: PathBuf,
    /// What to do instead of serving.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What the daemon's program can do beside serving.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Print every fault of the settings with file, line and key; exit code 0 or 78.
    CheckConfig,
}
