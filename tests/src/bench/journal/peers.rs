//! The same records in stores that others keep well, each a program of its own below `tests/peers`.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::super::measure::{Durable, SPAN, Spread};
use super::PAYLOAD;

/// Names the program of fjall, which `./run bench` builds.
const FJALL: &str = "GATEHOUSE_BENCH_FJALL";

/// All that are at hand: a batch or a transaction of so many, made durable, again and again.
///
/// # Errors
/// Where a program fails.
pub(super) fn measure(folder: &Path, group: usize) -> Result<Vec<(&'static str, Durable)>> {
    let mut found = Vec::new();
    if let Some(program) = std::env::var_os(FJALL) {
        found.push(("fjall", run(Command::new(program).arg(folder.join("fjall")), group)?));
    }
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("peers/sqlite.py");
    if Command::new("python3").arg("--version").output().is_ok() {
        found.push(("SQLite", run(Command::new("python3").arg(script).arg(folder.join("sqlite")), group)?));
    }
    Ok(found)
}

fn run(command: &mut Command, group: usize) -> Result<Durable> {
    let numbers = [group.to_string(), PAYLOAD.to_string(), SPAN.as_secs_f64().to_string()];
    let output = command.args(numbers).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let told: Value = serde_json::from_slice(&output.stdout)?;
    let number = |name: &str| told[name].as_f64().with_context(|| format!("the program tells no {name}"));
    let wait = Spread { p50: number("p50")?, p99: number("p99")? };
    Ok(Durable { rate: number("rate")?, wait, written: number("written")?, group: group as f64 })
}
