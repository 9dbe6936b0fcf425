//! Room on the disk: what a full disk is met with.
//!
//! A full disk is a state and no failure: nothing ends and nothing is lost, writers wait and try the same again, and
//! what waits upstream is held back by the broker. So that there is room for the records that make room (a dropped
//! picture is a line of the ledger), a ballast file is kept beside the state and given up when the disk is full for
//! the first time. It is laid anew once there is room again.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::watch;

use crate::disk::FILE_MODE;
use crate::error::IoError;

/// Size of the ballast: records and views of some ten thousand events, and nothing that a small card would miss.
pub const BALLAST_BYTES: u64 = 32 << 20;
/// Free bytes below which the views are not written: sled stays broken once a write of it has found no room.
pub const FLOOR_BYTES: u64 = 8 << 20;
/// Free bytes from which on the ballast is laid again, so that it does not fill the disk itself.
pub const CALM_BYTES: u64 = 2 * (BALLAST_BYTES + FLOOR_BYTES);
/// Wait before a full disk is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// Name of the ballast in the state folder.
const BALLAST: &str = "ballast";

/// How short the disk is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pressure {
    /// Writers that wait for room at this moment.
    pub waiting: usize,
    /// Whether the disk was full and the ballast is not laid again yet.
    pub reserve_used: bool,
}

/// The room that a store has. The default has no ballast and knows no folder.
#[derive(Debug)]
pub struct Space {
    directory: Option<PathBuf>,
    retry: Duration,
    closing: AtomicBool,
    pressure: watch::Sender<Pressure>,
}

/// A writer that waits; it no longer does when this is dropped.
pub struct Waiting(Arc<Space>);

impl Default for Space {
    fn default() -> Self {
        Self::trying_every(RETRY)
    }
}

impl Space {
    /// Without a ballast; a full disk is tried again after this time.
    pub fn trying_every(retry: Duration) -> Self {
        Self { directory: None, retry, closing: AtomicBool::new(false), pressure: watch::Sender::default() }
    }

    /// The wait before a full disk is tried again.
    pub fn retry(&self) -> Duration {
        self.retry
    }

    /// The room of a state folder; gives the ballast up at once where the disk is full already.
    pub fn open(directory: &Path) -> Self {
        let space = Self { directory: Some(directory.to_owned()), ..Self::default() };
        if space.free().is_ok_and(|free| free < FLOOR_BYTES) {
            space.give();
        }
        space
    }

    /// Free bytes of the file system; all there could be where no folder is known.
    ///
    /// # Errors
    /// [`IoError`] where the system does not tell.
    pub fn free(&self) -> Result<u64, IoError> {
        let Some(directory) = &self.directory else { return Ok(u64::MAX) };
        let stat = rustix::fs::statvfs(directory).map_err(std::io::Error::from);
        let stat = stat.map_err(IoError::at("ask for the free space of", directory))?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    /// Whether so many bytes can be taken in advance without coming near to a full disk.
    pub fn has_room_for(&self, bytes: u64) -> bool {
        self.free().is_ok_and(|free| free >= CALM_BYTES.saturating_add(bytes))
    }

    /// Tells how short the disk is, whenever that changes.
    pub fn pressure(&self) -> watch::Receiver<Pressure> {
        self.pressure.subscribe()
    }

    /// Gives the ballast up; false where there is none.
    pub fn give(&self) -> bool {
        let given = self.ballast().is_some_and(|path| std::fs::remove_file(path).is_ok());
        if given {
            tracing::error!("the disk is full: the reserve of {BALLAST_BYTES} bytes is in use; make room");
        }
        self.pressure.send_if_modified(|now| !std::mem::replace(&mut now.reserve_used, true));
        given
    }

    /// Lays the ballast where there is none and enough room. Best effort: without it a full disk only waits sooner.
    pub fn settle(&self) {
        let Some(path) = self.ballast().filter(|path| !path.exists()) else { return };
        if self.free().is_ok_and(|free| free >= CALM_BYTES) {
            if let Err(error) = lay(&path) {
                tracing::debug!(%error, "no ballast");
                let _ = std::fs::remove_file(&path);
            }
            self.pressure.send_if_modified(|now| std::mem::replace(&mut now.reserve_used, false));
        }
    }

    /// From now on somebody waits for room.
    pub fn wait(self: &Arc<Self>) -> Waiting {
        tracing::error!("the disk is full: the appliance waits for room and acknowledges nothing meanwhile");
        self.pressure.send_modify(|pressure| pressure.waiting += 1);
        Waiting(Arc::clone(self))
    }

    /// Blocks until there are [`FLOOR_BYTES`]; false when the store closes meanwhile.
    pub fn wait_for_floor(self: &Arc<Self>) -> bool {
        let mut waiting = None;
        while self.free().is_ok_and(|free| free < FLOOR_BYTES) && !self.give() {
            if self.closing.load(Ordering::Relaxed) {
                return false;
            }
            waiting.get_or_insert_with(|| self.wait());
            std::thread::sleep(self.retry);
        }
        true
    }

    /// Ends the waiting of [`Space::wait_for_floor`].
    pub fn close(&self) {
        self.closing.store(true, Ordering::Relaxed);
    }

    fn ballast(&self) -> Option<PathBuf> {
        self.directory.as_ref().map(|directory| directory.join(BALLAST))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        tracing::info!("there is room on the disk again");
        self.0.pressure.send_modify(|pressure| pressure.waiting -= 1);
    }
}

fn lay(path: &Path) -> std::io::Result<()> {
    let file: File = OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(path)?;
    rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, BALLAST_BYTES)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ballast_is_laid_once_given_once_and_tells_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let space = Arc::new(Space::open(folder.path()));
        space.settle();
        space.settle();
        let ballast = folder.path().join(BALLAST);
        assert_eq!(ballast.metadata().unwrap().len(), BALLAST_BYTES);
        let pressure = space.pressure();
        assert!(space.give());
        assert!(!ballast.exists());
        assert!(!space.give(), "there is only one");
        drop(space.wait());
        assert_eq!(*pressure.borrow(), Pressure { waiting: 0, reserve_used: true });
        space.settle();
        assert_eq!(*pressure.borrow(), Pressure::default());
        assert!(ballast.exists());
    }
}
