//! The command line tool of the operator.

use std::process::ExitCode;

fn main() -> ExitCode {
    gatehouse_cli::main()
}
