//! `gatehouse receipt` as a program without a daemon, and the notes of another program.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[allow(dead_code, reason = "the tests of the receipt crate use all of it")]
#[path = "../../../../store/receipt/tests/receipt/deployment.rs"]
mod deployment;
mod reference;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use deployment::{DAY_MICROS, Deployment, ORDERED};
use gatehouse_model::Timestamp;
use gatehouse_receipt::Bundle;

/// Evenly spaced bytes of a receipt that are changed.
const CHANGED_BYTES: usize = 200;

struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        let files = Self(tempfile::tempdir().unwrap());
        let keys = Deployment::new().keys();
        let lines: Vec<String> = keys.keys().iter().map(|key| format!("{key}\n")).collect();
        std::fs::write(files.path("keys"), lines.concat()).unwrap();
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Runs the program with no environment and no socket.
    fn run(&self, command: &str, receipt: &[u8], options: &[&str]) -> Output {
        let file = self.path("receipt");
        std::fs::write(&file, receipt).unwrap();
        let mut program = Command::new(env!("CARGO_BIN_EXE_gatehouse"));
        program.env_clear().current_dir(self.0.path()).args(["receipt", command]).arg(file).args(options);
        program.output().unwrap()
    }

    fn verify(&self, bundle: &Bundle) -> (Option<i32>, String) {
        let output = self.run("verify", bundle.to_string().as_bytes(), &["--keys", "keys"]);
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    }
}

#[test]
fn a_receipt_is_pending_until_the_last_appliance_answers() {
    let (files, deployment) = (Files::new(), Deployment::new());
    let month_before = Timestamp(ORDERED.0 - 30 * DAY_MICROS);
    let (code, text) = files.verify(&deployment.pending(Some(month_before)));
    assert_eq!(code, Some(1), "{text}");
    let line = text.lines().find(|line| line.contains("house-3")).unwrap();
    assert!(line.contains("pending") && line.contains("2026-10-31 12:00:00Z"), "{line}");
    let (code, text) = files.verify(&deployment.complete());
    assert_eq!(code, Some(0), "{text}");
    assert!(!text.contains("pending"), "{text}");
    let shown = files.run("show", deployment.complete().to_string().as_bytes(), &[]);
    assert!(shown.status.success() && String::from_utf8_lossy(&shown.stdout).contains("face templates"));
}

#[test]
fn changed_bytes_end_with_2() {
    let (files, deployment) = (Files::new(), Deployment::new());
    let bytes = deployment.complete().to_string().into_bytes();
    for n in 0..CHANGED_BYTES {
        let at = n * bytes.len() / CHANGED_BYTES;
        let mut changed = bytes.clone();
        changed[at] ^= 1 << (n % 8);
        let output = files.run("verify", &changed, &["--keys", "keys", "--json"]);
        assert_eq!(output.status.code(), Some(2), "byte {at}");
        let verdict: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(verdict["verdict"], "not_authentic");
    }
}

#[test]
fn files_that_cannot_be_read_are_not_taken_for_a_pending_receipt() {
    let (files, deployment) = (Files::new(), Deployment::new());
    let receipt = deployment.complete().to_string();
    std::fs::write(files.path("empty"), "# no key\n").unwrap();
    assert!(!Path::new("no-keys").exists());
    for options in [&["--keys", "no-keys"][..], &["--keys", "empty"], &["--keys", "receipt"], &[]] {
        let output = files.run("verify", receipt.as_bytes(), options);
        assert_eq!(output.status.code(), Some(2), "{options:?}");
        assert!(!output.stderr.is_empty(), "{options:?}");
    }
}
