//! The same records in other stores, each in its own program below `tests/peers`.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::super::measure::{Durable, MEASURE_PERIOD, Spread};
use super::PAYLOAD;

/// Names the program of fjall, which `./run bench` builds.
const FJALL: &str = "GATEHOUSE_BENCH_FJALL";

/// All that are at hand: a batch or a transaction of so many, made durable, again and again.
///
/// # Errors
/// If a program fails.
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
    let numbers = [group.to_string(), PAYLOAD.to_string(), MEASURE_PERIOD.as_secs_f64().to_string()];
    let output = command.args(numbers).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let output_json: Value = serde_json::from_slice(&output.stdout)?;
    let number =
        |name: &str| output_json[name].as_f64().with_context(|| format!("the program prints no {name}"));
    let wait = Spread { p50: number("p50")?, p99: number("p99")? };
    Ok(Durable { rate: number("rate")?, wait, written: number("written")?, group: group as f64 })
}
