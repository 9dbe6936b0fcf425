//! A disk that fails on demand, and that can lose unsynced data like in a power cut.

// Each test binary uses its own part of this, as if it were a crate.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(dead_code, unreachable_pub)]

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use gatehouse_vault::disk::{Disk, DiskFile, RealDisk};

pub const ENOSPC: i32 = 28;
pub const EIO: i32 = 5;
/// Bytes that a disk writes as a unit.
const SECTOR: u64 = 512;

/// State of a file at its last sync: its size, and the sectors written since.
#[derive(Default)]
struct Unsynced {
    size: u64,
    sectors: BTreeMap<u64, Vec<u8>>,
    /// Sectors of a failed sync: the kernel considers them clean and writes them only after another change.
    forgotten: BTreeMap<u64, Vec<u8>>,
}

struct State {
    /// Operations until the next failure. Negative: no failure.
    left: AtomicI64,
    /// Whether everything after the first failure fails as well.
    sticky: bool,
    error: i32,
    acts: AtomicUsize,
    unsynced: Mutex<HashMap<PathBuf, Unsynced>>,
    names: Mutex<HashMap<usize, PathBuf>>,
    unreadable: Mutex<Option<(PathBuf, u64)>>,
}

/// The disk. Clones are the same disk.
#[derive(Clone)]
pub struct Twin(Arc<State>);

struct TwinFile {
    disk: Twin,
    inner: Box<dyn DiskFile>,
    number: usize,
}

impl Twin {
    /// Fails the operation number `after` (from 0) with `error`, and all later ones if `sticky`.
    pub fn failing(after: i64, error: i32, sticky: bool) -> Self {
        Self(Arc::new(State {
            left: AtomicI64::new(after),
            sticky,
            error,
            acts: AtomicUsize::new(0),
            unsynced: Mutex::default(),
            names: Mutex::default(),
            unreadable: Mutex::default(),
        }))
    }

    pub fn well() -> Self {
        Self::failing(-1, 0, false)
    }

    /// Number of operations so far that could have failed.
    pub fn acts(&self) -> usize {
        self.0.acts.load(Ordering::SeqCst)
    }

    /// Whether the failure has happened.
    pub fn has_failed(&self) -> bool {
        self.0.left.load(Ordering::SeqCst) == i64::MIN
    }

    /// Returns EIO for every read that touches one 4 KiB sector of a file.
    pub fn make_unreadable(&self, path: &Path, sector: u64) {
        *self.0.unreadable.lock().unwrap() = Some((path.to_owned(), sector));
    }

    /// Works again with its present content: like a process that was killed while the machine kept running.
    pub fn revive(&self) {
        self.0.left.store(-1, Ordering::SeqCst);
    }

    /// An operation that needs no space: a full disk still does it.
    fn free_act(&self) -> io::Result<()> {
        if self.0.error == ENOSPC { Ok(()) } else { self.act() }
    }

    fn act(&self) -> io::Result<()> {
        self.0.acts.fetch_add(1, Ordering::SeqCst);
        let step = |left: i64| match left {
            0 => Some(i64::MIN),
            n if n > 0 => Some(n - 1),
            _ => None,
        };
        match self.0.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, step) {
            Ok(0) => Err(io::Error::from_raw_os_error(self.0.error)),
            Err(i64::MIN) if self.0.sticky => Err(io::Error::from_raw_os_error(self.0.error)),
            _ => Ok(()),
        }
    }

    /// Loses unsynced data: in each file, each sector written since the last sync is reverted or not, at
    /// random. The same holds for the size. All users of the disk must be gone.
    pub fn cut_power(&self, random: &mut fastrand::Rng) {
        for (path, unsynced) in self.0.unsynced.lock().unwrap().drain() {
            let Ok(mut bytes) = std::fs::read(&path) else { continue };
            for (sector, old) in unsynced.sectors.iter().chain(&unsynced.forgotten) {
                let at = ((sector * SECTOR) as usize).min(bytes.len());
                let end = (at + old.len()).min(bytes.len());
                if random.bool() {
                    bytes[at..end].copy_from_slice(&old[..end - at]);
                }
            }
            if random.bool() && (unsynced.size as usize) < bytes.len() {
                bytes.truncate(unsynced.size as usize);
            }
            std::fs::write(&path, bytes).unwrap();
        }
    }

    fn wrap(&self, path: &Path, inner: Box<dyn DiskFile>) -> Box<dyn DiskFile> {
        let mut names = self.0.names.lock().unwrap();
        let number = names.len();
        names.insert(number, path.to_owned());
        Box::new(TwinFile { disk: self.clone(), inner, number })
    }
}

impl Disk for Twin {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.act()?;
        Ok(self.wrap(path, RealDisk.create(path)?))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(self.wrap(path, RealDisk.open(path)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.act()?;
        RealDisk.rename(from, to)?;
        for name in self.0.names.lock().unwrap().values_mut().filter(|name| *name == from) {
            to.clone_into(name);
        }
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.free_act()?;
        RealDisk.remove(path)
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        self.act()
    }
}

impl TwinFile {
    fn path(&self) -> PathBuf {
        self.disk.0.names.lock().unwrap()[&self.number].clone()
    }

    /// Saves the content of the sectors before they are written.
    fn remember(&self, length: u64, offset: u64) -> io::Result<()> {
        let size = self.inner.size()?;
        let mut files = self.disk.0.unsynced.lock().unwrap();
        let unsynced = files.entry(self.path()).or_insert_with(|| Unsynced { size, ..Unsynced::default() });
        for sector in offset / SECTOR..(offset + length).div_ceil(SECTOR) {
            if let Some(old) = unsynced.forgotten.remove(&sector) {
                unsynced.sectors.insert(sector, old);
            } else if let Entry::Vacant(place) = unsynced.sectors.entry(sector) {
                let mut old = vec![0; SECTOR as usize];
                self.inner.read_at(&mut old, sector * SECTOR)?;
                place.insert(old);
            }
        }
        Ok(())
    }
}

impl DiskFile for TwinFile {
    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        if let Some((path, sector)) = &*self.disk.0.unreadable.lock().unwrap() {
            let bad = sector * 4096..(sector + 1) * 4096;
            if *path == self.path() && offset < bad.end && bad.start < offset + into.len() as u64 {
                return Err(io::Error::from_raw_os_error(EIO));
            }
        }
        self.inner.read_at(into, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.remember(bytes.len() as u64, offset)?;
        if let Err(error) = self.disk.act() {
            // A failing write leaves a partial result, but a dead disk accepts nothing more.
            if !self.disk.0.sticky || self.disk.0.error != EIO {
                self.inner.write_at(&bytes[..bytes.len() / 2], offset)?;
            }
            return Err(error);
        }
        self.inner.write_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        // A real sync has no effect here: `cut_power` decides what is lost.
        let result = self.disk.act();
        let size = self.inner.size()?;
        if let Some(unsynced) = self.disk.0.unsynced.lock().unwrap().get_mut(&self.path()) {
            let sectors = std::mem::take(&mut unsynced.sectors);
            match result {
                Ok(()) => unsynced.size = size,
                Err(_) => unsynced.forgotten.extend(sectors),
            }
        }
        result
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.disk.free_act()?;
        self.inner.set_len(bytes)?;
        if let Some(unsynced) = self.disk.0.unsynced.lock().unwrap().get_mut(&self.path()) {
            unsynced.size = unsynced.size.min(bytes);
        }
        Ok(())
    }

    // These two do not count as operations. A failed disk does not perform them.
    fn reserve(&self, bytes: u64) -> io::Result<()> {
        if self.disk.has_failed() {
            Err(io::Error::from_raw_os_error(ENOSPC))
        } else {
            self.inner.reserve(bytes)
        }
    }

    fn release_reserved(&self) -> io::Result<()> {
        if self.disk.has_failed() {
            Err(io::Error::from_raw_os_error(EIO))
        } else {
            self.inner.release_reserved()
        }
    }

    fn size(&self) -> io::Result<u64> {
        self.inner.size()
    }
}
