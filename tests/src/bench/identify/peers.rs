//! The same vectors and probes in other search libraries, in a Python process.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// Environment variable with the path of a Python that has the peers; `run` sets it.
const PYTHON: &str = "GATEHOUSE_BENCH_PYTHON";

/// The Python that has them, if there is one.
pub(super) fn python() -> Option<PathBuf> {
    std::env::var_os(PYTHON).map(PathBuf::from).filter(|path| path.exists())
}

/// The input of the peers.
pub(super) struct Input<'a> {
    /// All templates, one after the other.
    pub(super) templates: &'a [f32],
    /// All probes, one after the other.
    pub(super) probes: &'a [f32],
    /// The number of the nearest template of each probe.
    pub(super) nearest: &'a [u32],
    /// Components of a template.
    pub(super) dimensions: usize,
    /// The peers whose graphs are measured, too.
    pub(super) graphs: &'a [&'a str],
}

/// Measures all peers: name, median, 99th percentile (microseconds), recall and build time (seconds).
pub(super) fn measure(python: &Path, input: &Input<'_>) -> Result<Vec<Value>> {
    let Input { templates, probes, nearest, dimensions, graphs } = *input;
    let folder = std::env::temp_dir().join(format!("gatehouse-peers-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let floats = |values: &[f32]| values.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
    std::fs::write(folder.join("templates.f32"), floats(templates))?;
    std::fs::write(folder.join("probes.f32"), floats(probes))?;
    let rows: Vec<u8> = nearest.iter().flat_map(|row| row.to_le_bytes()).collect();
    std::fs::write(folder.join("nearest.u32"), rows)?;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/peers/identify.py");
    let mut command = Command::new(python);
    command.arg(script).arg(&folder).arg(dimensions.to_string());
    command.args(graphs);
    let output = command.output().context("cannot start the Python of the peers");
    std::fs::remove_dir_all(&folder)?;
    let output = output?;
    ensure!(output.status.success(), "the peers failed: {}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout)?;
    lines.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
}
