//! The views: the state that must be looked up, in sled, with the journal position that they have applied.
//!
//! All kinds share one tree, with a prefix byte per kind. So a batch of changes and the new position are
//! written in one atomic step. A view may be lost at any time: sled 0.34 does not survive every power cut,
//! and panics on a flipped bit. So the views are never authoritative: the journal can rebuild them all.
//! [`Views::open`] checks the views before their use. Every value is sealed and bound to its key. The number
//! of entries of each kind must match the totals. A mark outside of sled detects a view that went back to an
//! older position.
//!
//! Deletes and writes are batched, at most [`BATCH_KEYS`] each, because larger batches cost sled ten times
//! the memory.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::ops::Bound;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use gatehouse_model::KeyId;
use gatehouse_vault::error::IoError;
use gatehouse_vault::keys::{KeyKind, KeyTable};
use gatehouse_vault::seal::DataKey;
use serde::Serialize;
use serde::de::DeserializeOwned;

pub(crate) mod apply;
pub(crate) mod entries;
mod mark;
pub(crate) mod snapshot;

use entries::{Counts, Key, State};

/// Keys that one sled batch may touch.
pub(crate) const BATCH_KEYS: usize = 64;
/// sled's page cache. Its default of 1 GiB exceeds the memory of the board.
const CACHE_BYTES: u64 = 8 << 20;
/// Attempts to open or remove the folder of a database that was just closed, about two seconds in all. Its threads
/// may hold the lock, or write a file, for a moment longer.
const CLOSING_ATTEMPTS_MAX: u32 = 20;
/// Interval between two attempts.
const CLOSING_RETRY_INTERVAL: Duration = Duration::from_millis(100);

/// Why a view cannot be used. The remedy is always to rebuild it.
#[derive(Debug, thiserror::Error)]
pub enum ViewError {
    /// sled cannot read or write its files.
    #[error("views: {0}; they are rebuilt from the journal at the next start")]
    Sled(#[from] sled::Error),
    /// sled panicked on its own files.
    #[error("views are damaged beyond opening; they are rebuilt from the journal")]
    Panicked,
    /// A value differs from what was written, or values are missing.
    #[error("views are damaged: {0}; they are rebuilt from the journal at the next start")]
    Damaged(&'static str),
    /// An older version of this program wrote them.
    #[error("views are of an older version; they are rebuilt from the journal")]
    Outdated,
    /// An event cannot be read from the journal.
    #[error(transparent)]
    Journal(#[from] gatehouse_journal::JournalError),
    /// The folder cannot be used.
    #[error(transparent)]
    Io(#[from] IoError),
    /// The key of the views is not available.
    #[error(transparent)]
    Key(#[from] gatehouse_vault::keys::KeyError),
}

/// Opens the database in `directory`, and waits while a closed one still holds its lock.
pub(crate) fn open_db(directory: &Path) -> Result<sled::Db, sled::Error> {
    let config = sled::Config::new().path(directory).cache_capacity(CACHE_BYTES).flush_every_ms(None);
    for _ in 1..CLOSING_ATTEMPTS_MAX {
        match config.open() {
            // sled reports a held lock as an error of no kind of its own.
            Err(sled::Error::Io(error)) if error.to_string().contains("could not acquire lock") => {
                std::thread::sleep(CLOSING_RETRY_INTERVAL);
            }
            opened => return opened,
        }
    }
    config.open()
}

/// The open views.
pub(crate) struct Views {
    db: sled::Db,
    directory: PathBuf,
    key: Arc<DataKey>,
    /// Held by a writer, and by a reader that must see all entries at one position.
    still: Mutex<()>,
    /// Whether a snapshot is being taken. Changes only while `still` is held.
    frozen: AtomicBool,
}

impl Views {
    /// Opens the views in `directory`, and creates them if there are none.
    pub(crate) fn open(directory: &Path, keys: &KeyTable) -> Result<Self, ViewError> {
        std::fs::create_dir_all(directory).map_err(IoError::at("create", directory))?;
        mark::remove_unfinished_snapshots(directory);
        let fresh = !directory.join("db").exists();
        // sled asserts on what it reads; a damaged file must not end the daemon.
        let db = std::panic::catch_unwind(AssertUnwindSafe(|| open_db(directory)))
            .map_err(|_| ViewError::Panicked)??;
        if fresh {
            mark::sync_created(directory)?;
        }
        let key = Self::key(keys, fresh)?;
        let views = Self {
            db,
            directory: directory.to_owned(),
            key,
            still: Mutex::default(),
            frozen: AtomicBool::new(false),
        };
        let checked = std::panic::catch_unwind(AssertUnwindSafe(|| views.check()));
        checked.map_err(|_| ViewError::Panicked)??;
        Ok(views)
    }

    /// Removes the views and their key, so that [`Views::open`] creates new ones.
    pub(crate) fn discard(directory: &Path, keys: &KeyTable) -> Result<(), ViewError> {
        for id in keys.ids(KeyKind::View) {
            keys.destroy(&id)?;
        }
        for attempt in 1..=CLOSING_ATTEMPTS_MAX {
            match std::fs::remove_dir_all(directory) {
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
                Err(error)
                    if error.kind() == ErrorKind::DirectoryNotEmpty && attempt < CLOSING_ATTEMPTS_MAX =>
                {
                    std::thread::sleep(CLOSING_RETRY_INTERVAL);
                }
                removed => return Ok(removed.map_err(IoError::at("remove", directory))?),
            }
        }
        Ok(())
    }

    fn key(keys: &KeyTable, fresh: bool) -> Result<Arc<DataKey>, ViewError> {
        let id = match (keys.ids(KeyKind::View).first(), fresh) {
            (Some(id), _) => *id,
            (None, true) => keys.create(KeyKind::View)?,
            (None, false) => return Err(ViewError::Damaged("their key is missing")),
        };
        Ok(keys.key(&id)?)
    }

    /// Compares the number of entries of each kind with the totals.
    fn check(&self) -> Result<(), ViewError> {
        if self.db.contains_key([entries::STATE_BEFORE])? {
            return Err(ViewError::Outdated);
        }
        let state = self.state()?;
        if mark::read(&self.directory) > state.totals.applied.lsn {
            return Err(ViewError::Damaged("their position is older than the last flushed one"));
        }
        let mut found = Counts::default();
        for entry in self.db.iter().keys() {
            found.count(&entry?, 1);
        }
        if found != state.counts {
            return Err(ViewError::Damaged("entries are missing"));
        }
        Ok(())
    }

    /// Holds off all writes while the guard exists.
    pub(crate) fn hold(&self) -> MutexGuard<'_, ()> {
        self.still.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The totals and counts of the views; zero for new ones.
    pub(crate) fn state(&self) -> Result<State, ViewError> {
        Ok(self.get(&Key::State)?.unwrap_or_default())
    }

    /// Reads and opens one value.
    pub(crate) fn get<T: DeserializeOwned>(&self, key: &Key<'_>) -> Result<Option<T>, ViewError> {
        let name = key.bytes();
        match self.db.get(&name)? {
            Some(sealed) => self.unseal(&name, &sealed).map(Some),
            None => Ok(None),
        }
    }

    /// All entries whose key starts with `prefix`, in order, or in reverse order if `newest_first`.
    pub(crate) fn scan(
        &self,
        prefix: Vec<u8>,
        newest_first: bool,
    ) -> impl Iterator<Item = Result<(Vec<u8>, sled::IVec), ViewError>> + use<> {
        let both = self.db.scan_prefix(prefix);
        let mut both = both.map(|entry| entry.map(|(k, v)| (k.to_vec(), v)).map_err(ViewError::from));
        std::iter::from_fn(move || if newest_first { both.next_back() } else { both.next() })
    }

    /// The names of all entries after `after`, in order.
    pub(crate) fn names_after(
        &self,
        after: &[u8],
    ) -> impl Iterator<Item = Result<Vec<u8>, ViewError>> + use<> {
        let behind = (Bound::Excluded(after.to_vec()), Bound::Unbounded);
        self.db.range::<Vec<u8>, _>(behind).keys().map(|name| Ok(name?.to_vec()))
    }

    /// The stored, sealed value of this name.
    pub(crate) fn stored(&self, name: &[u8]) -> Result<Option<sled::IVec>, ViewError> {
        Ok(self.db.get(name)?)
    }

    /// Whether a value is intact. Not for values that are sealed with a person's key.
    pub(crate) fn is_whole(&self, name: &[u8], stored: &[u8]) -> bool {
        self.key.open(name, stored).is_ok()
    }

    /// Opens a value found by [`Views::scan`].
    pub(crate) fn unseal<T: DeserializeOwned>(&self, name: &[u8], sealed: &[u8]) -> Result<T, ViewError> {
        let plain = self.open_raw(name, sealed)?;
        postcard::from_bytes(&plain).map_err(|_| ViewError::Damaged("a value is not what was written"))
    }

    fn seal<T: Serialize>(&self, name: &[u8], value: &T) -> Result<Vec<u8>, ViewError> {
        let plain =
            postcard::to_stdvec(value).map_err(|_| ViewError::Damaged("a value cannot be encoded"))?;
        self.seal_raw(name, &plain)
    }

    fn open_raw(&self, name: &[u8], sealed: &[u8]) -> Result<Vec<u8>, ViewError> {
        let damaged = |_| ViewError::Damaged("a value is not what was written");
        Ok(self.key.open(name, sealed).map_err(damaged)?.to_vec())
    }

    fn seal_raw(&self, name: &[u8], plain: &[u8]) -> Result<Vec<u8>, ViewError> {
        self.key.seal(name, plain).map_err(|_| ViewError::Damaged("a value cannot be sealed"))
    }

    /// Writes the changes and the state in one atomic step. They are durable only after [`Views::flush`].
    fn write(&self, mut changes: BTreeMap<Vec<u8>, Option<Vec<u8>>>, state: &State) -> Result<(), ViewError> {
        if self.frozen.load(Ordering::Relaxed) {
            self.keep(&changes)?;
        }
        let name = Key::State.bytes();
        let sealed = self.seal(&name, state)?;
        changes.insert(name, Some(sealed));
        let mut batch = sled::Batch::default();
        for (name, value) in changes {
            match value {
                Some(sealed) => batch.insert(name, sealed),
                None => batch.remove(name),
            }
        }
        Ok(self.db.apply_batch(batch)?)
    }

    /// Makes all writes and the state durable: sled's own flush does not sync.
    pub(crate) fn flush(&self, state: &State) -> Result<(), ViewError> {
        self.write(BTreeMap::new(), state)?;
        self.db.flush()?;
        mark::sync_db(&self.directory)?;
        mark::write(&self.directory, state.totals.applied.lsn)?;
        Ok(())
    }

    /// Key ids and sealed profiles of the people in the views.
    pub(crate) fn person_keys(&self) -> impl Iterator<Item = Result<(KeyId, Vec<u8>), ViewError>> {
        self.scan(vec![entries::PROFILE], false).map(|entry| {
            let (name, value) = entry?;
            let id = entries::id_in(&name).ok_or(ViewError::Damaged("a key is not what was written"))?;
            Ok((id, value.to_vec()))
        })
    }
}
