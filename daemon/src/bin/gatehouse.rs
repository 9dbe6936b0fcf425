//! The operator's tool.

use std::process::ExitCode;

fn main() -> ExitCode {
    gatehouse_daemon::cli::main()
}
