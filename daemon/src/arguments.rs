//! The command line of the daemon. It is part of the library, because the man page is generated from it.

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use gatehouse_config::DEFAULT_CONFIG;
use gatehouse_control::exit;

/// Run the Gatehouse daemon: identify faces, store events, deliver them to the central services.
#[derive(Debug, Parser)]
#[command(name = "gatehoused", version, max_term_width = 100, after_long_help = help_end())]
pub struct Arguments {
    /// Settings file; conf.d/*.toml in the same folder and GATEHOUSE__SECTION__KEY override it.
    #[arg(long, global = true, value_name = "FILE", default_value = DEFAULT_CONFIG)]
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

/// Examples and exit codes, at the end of the help.
fn help_end() -> String {
    let exit_status = exit::exit_status_help(|code| code.daemon);
    format!(
        "Examples:\n  Check the settings:\n    gatehoused check-config\n  Run with other settings:\n    \
         gatehoused --config test.toml\n\n{exit_status}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_in_the_help_parse() {
        let text = help_end();
        let lines: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("    ")).collect();
        assert_eq!(lines.len(), 2, "{text}");
        for line in lines {
            assert!(Arguments::try_parse_from(line.split(' ')).is_ok(), "{line}");
        }
    }
}
