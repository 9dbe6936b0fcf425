//! The key table: fixed slots in one file, overwritten in place.
//!
//! On disk: pages of 32 slots, each page followed by its copy, so that a flipped bit or a lost page costs no key.
//! Order of every change: first copy, sync, second copy, sync. At most one copy is being written at any time, and
//! the first copy is never older than the second.
//!
//! After a crash, the first copy is used if it is intact, otherwise the second. The other copy is written again.
//! - An interrupted creation may leave a key with an id that was not returned. [`KeyTable::ids`] lists it.
//! - An interrupted destruction leaves the key either destroyed or intact. The owner records erasures and repeats it.
//! - A slot with two damaged copies is reported and never used again. The table opens without it.
//!
//! A failed write or sync is returned to the caller. The same slot is written in full before it is used again.
//! Destroying a key needs no disk space, so it works on a full disk.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ring::aead::LessSafeKey;
use zeroize::Zeroizing;

use super::slot::{
    self, Header, NewKey, PAGE_BYTES, PAGE_SLOTS, PAIR_BYTES, SLOT_BYTES, SlotBytes, SlotContent,
};
use super::{KeyError, KeyId, KeyKind, RootKey};
use crate::disk::{Disk, DiskFile, RealDisk, read_around_damage};
use crate::error::IoError;
use crate::seal::DataKey;
use gatehouse_model::random;

/// Unwrapped keys in memory: about 1 KiB each, so at most 4 MiB. Unwrapping takes microseconds.
const CACHE_KEYS_MAX: usize = 4096;

/// A slot with two damaged copies: its key is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DamagedSlot {
    /// Number of the slot.
    pub slot: u32,
    /// The key that was probably in it, if both copies contain the same id.
    pub id: Option<KeyId>,
}

/// A key with damaged copies on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyFault {
    /// Number of the slot.
    pub slot: u32,
    /// Damaged copies, of two.
    pub copies: u32,
}

impl std::fmt::Display for KeyFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { slot, copies } = self;
        match copies {
            1 => {
                write!(
                    f,
                    "slot {slot} of the key table is damaged in one of two copies; a restart repairs it"
                )
            }
            _ => write!(f, "slot {slot} of the key table is damaged; the data of its key is lost"),
        }
    }
}

/// The wrapped keys of this appliance. Shared by all threads; a change does not block a lookup.
pub struct KeyTable {
    path: PathBuf,
    file: Box<dyn DiskFile>,
    wrap: LessSafeKey,
    generation: u32,
    damaged: Vec<DamagedSlot>,
    healed: usize,
    /// Locked for a whole change with its syncs.
    space: Mutex<Space>,
    /// Locked briefly, and after `space` if both are needed.
    index: Mutex<Index>,
}

/// Free slots, of which the last is used next, and the page pairs of the file.
struct Space {
    free: Vec<u32>,
    pairs: u32,
}

/// Both copies of a slot.
#[derive(Clone, Copy)]
struct Copies<'a> {
    first: &'a [u8],
    second: &'a [u8],
}

#[derive(Default)]
struct Index {
    slots: HashMap<KeyId, (u32, KeyKind)>,
    cache: HashMap<KeyId, Arc<DataKey>>,
}

impl KeyTable {
    /// Opens the key table; creates it if it is missing.
    ///
    /// # Errors
    /// [`KeyError::WrongRoot`] if it was created with another root key; [`KeyError::NotATable`],
    /// [`KeyError::Version`], [`KeyError::Io`]. Damaged slots are not an error, see [`KeyTable::damaged`].
    pub fn open(path: &Path, root: &RootKey) -> Result<Self, KeyError> {
        Self::open_on(&RealDisk, path, root)
    }

    /// As [`KeyTable::open`], on another disk.
    ///
    /// # Errors
    /// As [`KeyTable::open`].
    pub fn open_on(disk: &dyn Disk, path: &Path, root: &RootKey) -> Result<Self, KeyError> {
        let wrap = root.wrapping_key()?;
        let file = match disk.open(path) {
            Ok(file) => file,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => make(disk, path, &wrap)?,
            Err(e) => return Err(IoError::at("open", path)(e).into()),
        };
        let mut table = Self {
            path: path.to_owned(),
            file,
            wrap,
            generation: 0,
            damaged: Vec::new(),
            healed: 0,
            space: Mutex::new(Space { free: Vec::new(), pairs: 0 }),
            index: Mutex::default(),
        };
        table.load()?;
        Ok(table)
    }

    /// Creates a key, durable on return.
    ///
    /// # Errors
    /// [`KeyError::Io`]; no key was created then.
    pub fn create(&self, kind: KeyKind) -> Result<KeyId, KeyError> {
        let (id, secret) = (KeyId::random(), Zeroizing::new(random::<32>()));
        let key = Arc::new(DataKey::from_secret(&secret)?);
        let mut space = locked(&self.space);
        if space.free.is_empty() {
            self.grow(&mut space)?;
        }
        let Some(slot) = space.free.pop() else { return Err(KeyError::NotATable(self.path.clone())) };
        let written = slot::live(slot, self.generation, &NewKey { id, kind, secret: &secret }, &self.wrap)
            .map_err(KeyError::from)
            .and_then(|bytes| Ok(self.write(slot, &bytes)?));
        if let Err(error) = written {
            space.free.push(slot);
            return Err(error);
        }
        let mut index = locked(&self.index);
        index.slots.insert(id, (slot, kind));
        index.keep(id, key);
        Ok(id)
    }

    /// A key by its id.
    ///
    /// # Errors
    /// [`KeyError::Destroyed`] if it does not exist, [`KeyError::Damaged`] if it does not authenticate,
    /// [`KeyError::Io`].
    pub fn key(&self, id: &KeyId) -> Result<Arc<DataKey>, KeyError> {
        let slot = {
            let index = locked(&self.index);
            if let Some(key) = index.cache.get(id) {
                return Ok(Arc::clone(key));
            }
            index.slots.get(id).ok_or(KeyError::Destroyed(*id))?.0
        };
        let key = self.read_key(id, slot)?;
        let mut index = locked(&self.index);
        // Destroyed meanwhile: it must not be cached.
        if index.slots.get(id).is_none_or(|known| known.0 != slot) {
            return Err(KeyError::Destroyed(*id));
        }
        index.keep(*id, Arc::clone(&key));
        Ok(key)
    }

    /// Destroys a key: its slot is overwritten, durable on return, and the cached copy is dropped. A caller that
    /// already has the key keeps it until it is dropped. False if the key did not exist.
    ///
    /// # Errors
    /// [`KeyError::Io`]: the key may not be destroyed; repeat the call.
    pub fn destroy(&self, id: &KeyId) -> Result<bool, KeyError> {
        let mut space = locked(&self.space);
        let Some((slot, _)) = locked(&self.index).slots.get(id).copied() else { return Ok(false) };
        self.write(slot, &slot::free(slot))?;
        let mut index = locked(&self.index);
        index.slots.remove(id);
        index.cache.remove(id);
        space.free.push(slot);
        Ok(true)
    }

    /// Reads the whole table from disk: the copies of slots that hold this key. Of a destroyed key there is none.
    ///
    /// # Errors
    /// [`KeyError::Io`].
    pub fn copies_on_disk(&self, id: &KeyId) -> Result<u64, KeyError> {
        let slots = locked(&self.space).pairs * PAGE_SLOTS;
        let mut copies = 0;
        let mut page = [0; PAGE_BYTES];
        for first in (0..slots).step_by(PAGE_SLOTS as usize) {
            for copy in 0..2 {
                read_around_damage(&*self.file, &mut page, slot::offset(first, copy))
                    .map_err(IoError::at("read", &self.path))?;
                for (slot, bytes) in (first..).zip(page.chunks_exact(SLOT_BYTES)) {
                    let Ok(bytes) = <&SlotBytes>::try_from(bytes) else { continue };
                    copies += u64::from(
                        matches!(slot::read(slot, bytes), SlotContent::Live(found, _) if found == *id),
                    );
                }
            }
        }
        Ok(copies)
    }

    /// The keys of a kind, in no particular order.
    pub fn ids(&self, kind: KeyKind) -> Vec<KeyId> {
        let index = locked(&self.index);
        index.slots.iter().filter(|(_, slot)| slot.1 == kind).map(|(id, _)| *id).collect()
    }

    /// Slots with two damaged copies when the table was opened.
    pub fn damaged(&self) -> &[DamagedSlot] {
        &self.damaged
    }

    /// Number of slots that were repaired from their other copy when the table was opened.
    pub fn healed(&self) -> usize {
        self.healed
    }

    /// Reads both copies of every key from disk: the number of keys, and the damaged ones.
    ///
    /// # Errors
    /// [`KeyError::Io`].
    pub fn verify(&self) -> Result<(u64, Vec<KeyFault>), KeyError> {
        // Changes are locked out, so that both copies are equal.
        let _no_change = locked(&self.space);
        let mut live: Vec<_> = locked(&self.index).slots.iter().map(|(id, at)| (at.0, *id)).collect();
        live.sort_unstable_by_key(|(slot, _)| *slot);
        let lost = self.damaged.iter().map(|lost| KeyFault { slot: lost.slot, copies: 2 });
        let mut faults: Vec<_> = lost.collect();
        for (slot, id) in &live {
            let mut copies = 0;
            for copy in 0..2 {
                copies += u32::from(self.read_copy(id, *slot, copy)?.is_none());
            }
            if copies > 0 {
                faults.push(KeyFault { slot: *slot, copies });
            }
        }
        Ok((live.len() as u64, faults))
    }

    fn read_key(&self, id: &KeyId, slot: u32) -> Result<Arc<DataKey>, KeyError> {
        for copy in 0..2 {
            if let Some(key) = self.read_copy(id, slot, copy)? {
                return Ok(Arc::new(key));
            }
        }
        Err(KeyError::Damaged(*id))
    }

    /// One copy of a key; none if it does not contain that key.
    fn read_copy(&self, id: &KeyId, slot: u32, copy: u64) -> Result<Option<DataKey>, KeyError> {
        let mut bytes: SlotBytes = [0; SLOT_BYTES];
        read_around_damage(&*self.file, &mut bytes, slot::offset(slot, copy))
            .map_err(IoError::at("read", &self.path))?;
        if !matches!(slot::read(slot, &bytes), SlotContent::Live(found, _) if found == *id) {
            return Ok(None);
        }
        match slot::unwrap(slot, &bytes, &self.wrap) {
            Ok(secret) => Ok(Some(DataKey::from_secret(&secret)?)),
            Err(_) => Ok(None),
        }
    }

    /// Writes both copies of a slot, one after the other.
    fn write(&self, slot: u32, bytes: &SlotBytes) -> Result<(), IoError> {
        for copy in 0..2 {
            self.put(bytes, slot::offset(slot, copy))?;
        }
        Ok(())
    }

    fn put(&self, bytes: &[u8], offset: u64) -> Result<(), IoError> {
        self.file.write_at(bytes, offset).map_err(IoError::at("write", &self.path))?;
        self.file.sync().map_err(IoError::at("sync", &self.path))
    }

    fn grow(&self, space: &mut Space) -> Result<(), KeyError> {
        let first = space.pairs * PAGE_SLOTS;
        let page: Vec<u8> = (first..first + PAGE_SLOTS).flat_map(slot::free).collect();
        // These pages contain no key yet, so both may be written at once.
        self.put(&page.repeat(2), slot::offset(first, 0))?;
        space.pairs += 1;
        space.free.extend((first..first + PAGE_SLOTS).rev());
        Ok(())
    }

    fn load(&mut self) -> Result<(), KeyError> {
        let size = self.file.size().map_err(IoError::at("read", &self.path))?;
        let pairs = u32::try_from(size.div_ceil(PAIR_BYTES as u64))
            .map_err(|_| KeyError::NotATable(self.path.clone()))?;
        let mut index = Index::default();
        let mut free = Vec::new();
        let mut used = pairs;
        for first in (0..pairs).map(|pair| pair * PAGE_SLOTS) {
            let mut pair = [0; PAIR_BYTES];
            read_around_damage(&*self.file, &mut pair, slot::offset(first, 0))
                .map_err(IoError::at("read", &self.path))?;
            if first == 0 {
                self.load_header(&pair[..SLOT_BYTES], &pair[PAGE_BYTES..PAGE_BYTES + SLOT_BYTES])?;
            } else if first / PAGE_SLOTS + 1 == pairs && never_used(first, &pair) {
                // The last growth was interrupted, or its slots are unused: it is written again when needed.
                used = pairs - 1;
                continue;
            }
            let (a, b) = pair.split_at(PAGE_BYTES);
            let copies = a.chunks_exact(SLOT_BYTES).zip(b.chunks_exact(SLOT_BYTES));
            for (slot, (a, b)) in (first..).zip(copies).skip(usize::from(first == 0)) {
                self.load_slot(slot, Copies { first: a, second: b }, &mut index, &mut free);
            }
        }
        if pairs == 0 {
            return Err(KeyError::NotATable(self.path.clone()));
        }
        free.reverse();
        self.index = Mutex::new(index);
        self.space = Mutex::new(Space { free, pairs: used });
        Ok(())
    }

    fn load_slot(&mut self, slot: u32, copies: Copies<'_>, index: &mut Index, free: &mut Vec<u32>) {
        let Copies { first: a, second: b } = copies;
        let (first, second) = (slot::read(slot, a), slot::read(slot, b));
        let (content, bytes) = match (first, second) {
            (SlotContent::Free | SlotContent::Live(..), _) => (first, a),
            (_, SlotContent::Free | SlotContent::Live(..)) => (second, b),
            _ => {
                let id = Some(slot::id(a)).filter(|id| *id == slot::id(b));
                self.damaged.push(DamagedSlot { slot, id });
                return;
            }
        };
        match content {
            SlotContent::Live(id, kind) => {
                index.slots.insert(id, (slot, kind));
            }
            _ => free.push(slot),
        }
        if a != b {
            let copy = u64::from(bytes.as_ptr() == a.as_ptr());
            self.heal(bytes, slot::offset(slot, copy));
        }
    }

    fn load_header(&mut self, a: &[u8], b: &[u8]) -> Result<(), KeyError> {
        for (copy, bytes) in [a, b].into_iter().enumerate() {
            match slot::read_header(bytes, &self.wrap) {
                Header::Good { generation } => {
                    self.generation = generation;
                    if a != b {
                        self.heal(bytes, slot::offset(0, 1 - copy as u64));
                    }
                    return Ok(());
                }
                Header::WrongRoot => return Err(KeyError::WrongRoot),
                Header::Version(version) => return Err(KeyError::Version(version)),
                Header::Damaged => {}
            }
        }
        Err(KeyError::NotATable(self.path.clone()))
    }

    /// Overwrites the damaged copy. If that fails, the intact copy is still used.
    fn heal(&mut self, bytes: &[u8], offset: u64) {
        self.healed += 1;
        let _ = self.put(bytes, offset);
    }
}

impl Index {
    fn keep(&mut self, id: KeyId, key: Arc<DataKey>) {
        if self.cache.len() >= CACHE_KEYS_MAX {
            self.cache.clear();
        }
        self.cache.insert(id, key);
    }
}

/// Whether no slot of a page pair ever contained a key: free or blank in both copies.
fn never_used(first: u32, pair: &[u8; PAIR_BYTES]) -> bool {
    let slots = (first..first + PAGE_SLOTS).cycle();
    pair.chunks_exact(SLOT_BYTES)
        .zip(slots)
        .all(|(bytes, slot)| matches!(slot::read(slot, bytes), SlotContent::Free | SlotContent::Blank))
}

/// Creates a table with one page pair, under a temporary name until it is complete.
fn make(disk: &dyn Disk, path: &Path, wrap: &LessSafeKey) -> Result<Box<dyn DiskFile>, KeyError> {
    let temporary = path.with_extension("new");
    match disk.remove(&temporary) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            return Err(IoError::at("remove", &temporary)(e).into());
        }
        _ => {}
    }
    let mut page = slot::header(1, wrap)?.to_vec();
    page.extend((1..PAGE_SLOTS).flat_map(slot::free));
    let file = disk.create(&temporary).map_err(IoError::at("create", &temporary))?;
    file.write_at(&page.repeat(2), 0).map_err(IoError::at("write", &temporary))?;
    file.sync().map_err(IoError::at("sync", &temporary))?;
    disk.rename(&temporary, path).map_err(IoError::at("rename", &temporary))?;
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    disk.sync_dir(folder).map_err(IoError::at("sync", folder))?;
    Ok(file)
}

/// State is consistent even after a panic under the lock: every change is one insertion or removal.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
