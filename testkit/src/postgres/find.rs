//! Finds a Postgres with pgvector.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

/// Environment variable with the folder (or one above it) that contains `bin/postgres`.
pub const POSTGRES_VARIABLE: &str = "GATEHOUSE_TEST_POSTGRES";
/// Maximum depth of `bin/postgres` below the named folder.
const DEPTH_MAX: usize = 6;

/// The folder with `bin/postgres`, `bin/initdb` and pgvector's control file; the newest if there are several.
///
/// # Errors
/// If there is none; the message says how to install one.
pub fn installation() -> Result<PathBuf> {
    let mut places: Vec<PathBuf> =
        std::env::var_os(POSTGRES_VARIABLE).map(PathBuf::from).into_iter().collect();
    places.extend(services_folders());
    let mut found = Vec::new();
    for place in &places {
        search(place, DEPTH_MAX, &mut found);
        found.sort();
        if let Some(newest) = found.pop() {
            return Ok(newest);
        }
    }
    bail!(
        "this test needs a real Postgres with pgvector and found none. `./run test` fetches one into \
         target/services; or name the folder of an installation in {POSTGRES_VARIABLE}"
    )
}

/// `target/services` above the running executable and below the working folder and its parents.
pub fn services_folders() -> Vec<PathBuf> {
    let mut folders = Vec::new();
    if let Ok(exe) = std::env::current_exe() {
        folders.extend(exe.ancestors().filter(|p| p.ends_with("target")).map(|p| p.join("services")));
    }
    if let Ok(here) = std::env::current_dir() {
        folders.extend(here.ancestors().map(|p| p.join("target/services")));
    }
    folders.retain(|folder| folder.is_dir());
    folders
}

fn search(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) {
    let vector = ["share/postgresql/extension", "share/extension", "../../../usr/share/postgresql"]
        .iter()
        .any(|share| folder.join(share).join("vector.control").is_file());
    if vector && folder.join("bin/postgres").is_file() && folder.join("bin/initdb").is_file() {
        found.push(folder.to_owned());
        return;
    }
    if depth == 0 {
        return;
    }
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten().filter(|e| e.file_type().is_ok_and(|t| t.is_dir())) {
        search(&entry.path(), depth - 1, found);
    }
}
