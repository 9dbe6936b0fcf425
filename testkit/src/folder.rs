//! Temporary folders that are removed even if a test process is killed.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};

/// All folders of a process are named `<PREFIX>-<pid>-<number>`.
const PREFIX: &str = "gatehouse-test";

static SWEEP: Once = Once::new();
static NEXT: AtomicU32 = AtomicU32::new(0);

/// A folder below the system's temporary folder, removed on drop.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    keep: bool,
}

impl Folder {
    /// Makes a new folder that every user may enter: Postgres does not run as root.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn new(what: &str) -> Result<Self> {
        SWEEP.call_once(sweep);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("{PREFIX}-{}-{number}-{what}", std::process::id()));
        fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        Ok(Self { path, keep: std::env::var_os("GATEHOUSE_TEST_KEEP").is_some() })
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Keeps the folder on drop, to inspect what a failed test left.
    pub fn keep(&mut self) {
        self.keep = true;
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.keep {
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// Removes all folders of this process: at its end, since folders in statics are never dropped.
pub fn remove_own_folders() {
    sweep_folders(|pid| pid == std::process::id());
}

/// Removes the folders of processes that have ended: statics are never dropped, and killed tests drop nothing.
fn sweep() {
    sweep_folders(|pid| !Path::new(&format!("/proc/{pid}")).exists());
}

fn sweep_folders(is_unused: impl Fn(u32) -> bool) {
    if std::env::var_os("GATEHOUSE_TEST_KEEP").is_some() {
        return;
    }
    let Ok(entries) = fs::read_dir(std::env::temp_dir()) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(rest) = name.to_str().and_then(|n| n.strip_prefix(PREFIX)) else { continue };
        let pid = rest.trim_start_matches('-').split('-').next().and_then(|p| p.parse::<u32>().ok());
        if pid.is_some_and(&is_unused) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
