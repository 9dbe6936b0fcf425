//! Finds the product's binaries next to the running test, and builds them if cargo runs the test.
//!
//! Cargo does not build the binaries of another package for an integration test. An old binary in `target` would be
//! tested instead of the code. So the first use in a process runs cargo, which does nothing if they are up to date.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, Result, anyhow, bail};

/// The path of `gatehoused` or `gatehouse`.
///
/// # Errors
/// If it is missing and cannot be built.
pub fn binary(name: &str) -> Result<PathBuf> {
    static FOLDER: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| prepare().map_err(|e| format!("{e:#}")));
    let file = folder.as_ref().map_err(|words| anyhow!("{words}"))?.join(name);
    if !file.is_file() {
        bail!("{} is missing: build it with `cargo build --workspace --bins`", file.display());
    }
    Ok(file)
}

/// The folder of the profile, `target/debug` or `target/release`, with current binaries if cargo is available.
fn prepare() -> Result<PathBuf> {
    let exe = std::env::current_exe()?;
    let parent = exe.parent().context("an executable is in a folder")?;
    // Tests are in `deps`, programs in its parent.
    let folder = if parent.ends_with("deps") { parent.parent().unwrap_or(parent) } else { parent };
    if let Some(cargo) = std::env::var_os("CARGO") {
        let mut command = Command::new(cargo);
        // Of the whole workspace: for single packages cargo selects other features and builds half of the dependencies
        // again.
        command.args(["build", "--quiet", "--workspace", "--bin", "gatehoused", "--bin", "gatehouse"]);
        if folder.ends_with("release") {
            command.arg("--release");
        }
        command.current_dir(env!("CARGO_MANIFEST_DIR"));
        // Cargo sets these variables for this test. The build script of ring reads them, so ring and all its dependents
        // would be built again.
        for (name, _) in std::env::vars_os() {
            if ["CARGO_MANIFEST_", "CARGO_PKG_"].iter().any(|own| name.to_string_lossy().starts_with(own)) {
                command.env_remove(name);
            }
        }
        let output = command.output().context("cargo")?;
        if !output.status.success() {
            bail!("the programs do not build:\n{}", String::from_utf8_lossy(&output.stderr));
        }
    }
    Ok(folder.to_owned())
}
