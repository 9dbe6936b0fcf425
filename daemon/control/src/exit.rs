//! Exit codes of both programs. Where the contract does not define one they follow sysexits.h.

/// Success.
pub const OK: u8 = 0;
/// The request was refused, something was not found, or a check found a fault. A receipt is pending.
pub const REFUSED: u8 = 1;
/// The command line is not valid. A receipt is not authentic.
pub const USAGE: u8 = 2;
/// The daemon is not reachable.
pub const UNREACHABLE: u8 = 69;
/// An internal error: a task ended unexpectedly.
pub const SOFTWARE: u8 = 70;
/// Reading or writing the state directory failed.
pub const STORAGE: u8 = 74;
/// Another process uses the state directory.
pub const BUSY: u8 = 75;
/// The caller has no permission.
pub const FORBIDDEN: u8 = 77;
/// The settings, the root key or the data format are wrong. A restart does not help.
pub const CONFIG: u8 = 78;

/// A row of the table of exit codes in the help, in the man pages and in docs/contract.md.
#[derive(Debug)]
pub struct ExitCode {
    /// The code.
    pub code: u8,
    /// Meaning for `gatehouse`; empty if it does not use the code.
    pub tool: &'static str,
    /// Meaning for `gatehoused`; empty if it does not use the code.
    pub daemon: &'static str,
}

/// All exit codes.
pub const EXIT_CODES: [ExitCode; 9] = [
    ExitCode { code: OK, tool: "success", daemon: "orderly shutdown" },
    ExitCode {
        code: REFUSED,
        tool: "refused, not found, or a check found a fault; a receipt is pending (`receipt verify`)",
        daemon: "",
    },
    ExitCode {
        code: USAGE,
        tool: "usage error; a receipt is not authentic (`receipt verify`)",
        daemon: "usage error",
    },
    ExitCode { code: UNREACHABLE, tool: "daemon not reachable", daemon: "" },
    ExitCode { code: SOFTWARE, tool: "", daemon: "a task ended unexpectedly" },
    ExitCode { code: STORAGE, tool: "", daemon: "disk failure" },
    ExitCode { code: BUSY, tool: "", daemon: "another daemon uses the state directory" },
    ExitCode { code: FORBIDDEN, tool: "not permitted", daemon: "" },
    ExitCode {
        code: CONFIG,
        tool: "fault in settings or provisioning file (`setup`, `provision`)",
        daemon: "fault in settings, root key or data format",
    },
];

/// The exit codes of one program, for the end of its help.
pub fn exit_status_help(meaning: fn(&ExitCode) -> &'static str) -> String {
    let used = EXIT_CODES.iter().filter(|code| !meaning(code).is_empty());
    let lines: Vec<_> = used.map(|code| format!("\n  {:>2}  {}", code.code, meaning(code))).collect();
    format!("Exit status:{}", lines.concat())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn table_contains_every_code_and_no_other() {
        let source = include_str!("exit.rs");
        let constants =
            source.lines().filter_map(|line| line.strip_prefix("pub const ")?.split_once(": u8 = "));
        let codes: Vec<u8> =
            constants.map(|(_, code)| code.trim_end_matches(';').parse().expect("a code")).collect();
        assert_eq!(codes, EXIT_CODES.map(|row| row.code));
    }

    #[test]
    fn table_in_the_contract_is_equal() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
        let top = folder.ancestors().find(|folder| folder.join("docs/contract.md").exists());
        let contract =
            std::fs::read_to_string(top.expect("the repository").join("docs/contract.md")).expect("a page");
        let cell = |text: &str| if text.is_empty() { " ".to_owned() } else { format!(" {text} ") };
        let row = |row: &ExitCode| format!("| {} |{}|{}|", row.code, cell(row.tool), cell(row.daemon));
        let expected = EXIT_CODES.iter().map(row).collect::<Vec<_>>().join("\n");
        assert!(contract.contains(&expected), "docs/contract.md, section 1:\n{expected}");
    }
}
