//! Disk space, and the handling of a full disk.
//!
//! A full disk is a state, not a failure. Writers wait and write the same bytes again, and the broker holds back new
//! messages meanwhile. Freeing space needs records as well: a dropped picture is a step in the ledger. Therefore a
//! ballast file reserves space. It is removed when the disk is full, and created again when there is enough space.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::watch;

use crate::disk::FILE_MODE;
use crate::error::IoError;

/// Size of the ballast: records and views of about ten thousand events, and little even for a small card.
pub const BALLAST_BYTES: u64 = 32 << 20;
/// Free bytes below which the views are not written, because sled does not recover from a full disk.
pub const FREE_BYTES_MIN: u64 = 8 << 20;
/// Free bytes from which on the ballast is created again, so that the ballast does not fill the disk.
pub const BALLAST_FREE_BYTES_MIN: u64 = 2 * (BALLAST_BYTES + FREE_BYTES_MIN);
/// Interval of attempts while the disk is full.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// Name of the ballast in the state folder.
const BALLAST: &str = "ballast";

/// State of a full disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pressure {
    /// Number of writers that wait for space.
    pub waiting: usize,
    /// Whether the disk was full and the ballast is not created again yet.
    pub reserve_used: bool,
}

/// The disk space of a state folder. The default has no folder and no ballast.
#[derive(Debug)]
pub struct Space {
    directory: Option<PathBuf>,
    retry_interval: Duration,
    closing: AtomicBool,
    pressure: watch::Sender<Pressure>,
}

/// A waiting writer; the wait ends when this is dropped.
pub struct Waiting(Arc<Space>);

impl Default for Space {
    fn default() -> Self {
        Self::with_retry_interval(RETRY_INTERVAL)
    }
}

impl Space {
    /// Without a ballast, with this interval of attempts while the disk is full.
    pub fn with_retry_interval(retry_interval: Duration) -> Self {
        Self {
            directory: None,
            retry_interval,
            closing: AtomicBool::new(false),
            pressure: watch::Sender::default(),
        }
    }

    /// Interval of attempts while the disk is full.
    pub fn retry_interval(&self) -> Duration {
        self.retry_interval
    }

    /// The disk space of a state folder. If the disk is full already, the ballast is removed at once.
    pub fn open(directory: &Path) -> Self {
        let space = Self { directory: Some(directory.to_owned()), ..Self::default() };
        if space.free().is_ok_and(|free| free < FREE_BYTES_MIN) {
            space.release_ballast();
        }
        space
    }

    /// Free bytes of the file system; the maximum if there is no folder.
    ///
    /// # Errors
    /// [`IoError`] of the system.
    pub fn free(&self) -> Result<u64, IoError> {
        let Some(directory) = &self.directory else { return Ok(u64::MAX) };
        let stat = rustix::fs::statvfs(directory).map_err(std::io::Error::from);
        let stat = stat.map_err(IoError::at("read the free space of", directory))?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    /// Whether so many bytes can be reserved without nearly filling the disk.
    pub fn has_space_for(&self, bytes: u64) -> bool {
        self.free().is_ok_and(|free| free >= BALLAST_FREE_BYTES_MIN.saturating_add(bytes))
    }

    /// Receives every change of the state.
    pub fn pressure(&self) -> watch::Receiver<Pressure> {
        self.pressure.subscribe()
    }

    /// Removes the ballast; false if there is none.
    pub fn release_ballast(&self) -> bool {
        let given = self.ballast().is_some_and(|path| std::fs::remove_file(path).is_ok());
        if given {
            tracing::error!(
                "the disk is full: the reserve of {BALLAST_BYTES} bytes is in use; free some space"
            );
        }
        self.pressure.send_if_modified(|now| !std::mem::replace(&mut now.reserve_used, true));
        given
    }

    /// Creates the ballast if it is missing and there is enough space. Without it, writers only wait earlier.
    pub fn restore_ballast(&self) {
        let Some(path) = self.ballast().filter(|path| !path.exists()) else { return };
        if self.free().is_ok_and(|free| free >= BALLAST_FREE_BYTES_MIN) {
            if let Err(error) = create_ballast(&path) {
                tracing::debug!(%error, "no ballast");
                let _ = std::fs::remove_file(&path);
            }
            self.pressure.send_if_modified(|now| std::mem::replace(&mut now.reserve_used, false));
        }
    }

    /// Registers a waiting writer.
    pub fn wait(self: &Arc<Self>) -> Waiting {
        tracing::error!("the disk is full: nothing is stored or acknowledged until there is space");
        self.pressure.send_modify(|pressure| pressure.waiting += 1);
        Waiting(Arc::clone(self))
    }

    /// Blocks until [`FREE_BYTES_MIN`] are free; false when the store closes meanwhile.
    pub fn wait_for_free_bytes(self: &Arc<Self>) -> bool {
        let mut waiting = None;
        while self.free().is_ok_and(|free| free < FREE_BYTES_MIN) && !self.release_ballast() {
            if self.closing.load(Ordering::Relaxed) {
                return false;
            }
            waiting.get_or_insert_with(|| self.wait());
            std::thread::sleep(self.retry_interval);
        }
        true
    }

    /// Ends the wait in [`Space::wait_for_free_bytes`].
    pub fn close(&self) {
        self.closing.store(true, Ordering::Relaxed);
    }

    fn ballast(&self) -> Option<PathBuf> {
        self.directory.as_ref().map(|directory| directory.join(BALLAST))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        tracing::info!("the disk has space again");
        self.0.pressure.send_modify(|pressure| pressure.waiting -= 1);
    }
}

fn create_ballast(path: &Path) -> std::io::Result<()> {
    let file: File = OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(path)?;
    rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, BALLAST_BYTES)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ballast_is_created_and_released_once_and_reported() {
        let folder = tempfile::tempdir().unwrap();
        let space = Arc::new(Space::open(folder.path()));
        space.restore_ballast();
        space.restore_ballast();
        let ballast = folder.path().join(BALLAST);
        assert_eq!(ballast.metadata().unwrap().len(), BALLAST_BYTES);
        let pressure = space.pressure();
        assert!(space.release_ballast());
        assert!(!ballast.exists());
        assert!(!space.release_ballast(), "there is only one");
        drop(space.wait());
        assert_eq!(*pressure.borrow(), Pressure { waiting: 0, reserve_used: true });
        space.restore_ballast();
        assert_eq!(*pressure.borrow(), Pressure::default());
        assert!(ballast.exists());
    }
}
