//! A segment's file: its name, its header, and its creation.
//!
//! Header, 64 bytes, little-endian: magic 8, version 2, zero 6, key id 16, position before the first record
//! (lsn 8, seq 8), made at 8 (microseconds), zero 4, CRC-32 4. Frames follow without a gap.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use gatehouse_model::{KeyId, Timestamp};
use gatehouse_vault::disk::{Disk, DiskFile};
use gatehouse_vault::error::IoError;
use gatehouse_vault::keys::{KeyKind, KeyTable};
use gatehouse_vault::seal::DataKey;

use super::frame::LSN_MAX;
use super::{JournalError, Position};

pub(super) const HEADER_BYTES: usize = 64;
const MAGIC: &[u8; 8] = b"GHJOURNL";
const VERSION: u16 = 1;
const CRC_AT: usize = HEADER_BYTES - 4;

/// Content of a segment's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) key: KeyId,
    pub(super) before: Position,
}

impl Header {
    /// Reads a header; none if it is damaged or of an unsupported version.
    pub(super) fn read(bytes: &[u8; HEADER_BYTES]) -> Option<Self> {
        let whole = bytes[CRC_AT..] == crc32fast::hash(&bytes[..CRC_AT]).to_le_bytes();
        if !whole || !bytes.starts_with(MAGIC) || bytes[8..10] != VERSION.to_le_bytes() {
            return None;
        }
        let before = Position { lsn: long(bytes, 32), seq: long(bytes, 40) };
        Some(Self { key: KeyId::from_bytes(bytes[16..32].try_into().ok()?), before })
    }

    fn bytes(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..10].copy_from_slice(&VERSION.to_le_bytes());
        bytes[16..32].copy_from_slice(self.key.as_bytes());
        bytes[32..40].copy_from_slice(&self.before.lsn.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.before.seq.to_le_bytes());
        bytes[48..56].copy_from_slice(&Timestamp::now().0.to_le_bytes());
        let crc = crc32fast::hash(&bytes[..CRC_AT]);
        bytes[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }
}

fn long(bytes: &[u8; HEADER_BYTES], at: usize) -> u64 {
    let mut long = [0; 8];
    long.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(long)
}

/// Path of the segment whose first record is `first`.
pub(super) fn path(directory: &Path, first: u64) -> PathBuf {
    directory.join(format!("{first:020}.gj"))
}

/// Suffix of a segment that is being created; leftovers are removed when the journal is opened.
pub(super) const TEMPORARY: &str = "new";

/// First lsn of a segment by its file name.
pub(super) fn first_of(path: &Path) -> Option<u64> {
    let digits = path.file_name()?.to_str()?.strip_suffix(".gj")?;
    let first = (digits.len() == 20).then(|| digits.parse().ok()).flatten()?;
    (1..=LSN_MAX).contains(&first).then_some(first)
}

/// The segment that the writer appends to.
pub(super) struct Active {
    pub(super) first: u64,
    pub(super) key_id: KeyId,
    pub(super) key: Arc<DataKey>,
    pub(super) target: Arc<Target>,
    /// Offset of the next frame.
    pub(super) end: u64,
}

/// The file of a segment.
pub(super) struct Target {
    pub(super) file: Box<dyn DiskFile>,
    path: PathBuf,
}

impl Target {
    /// Writes a whole batch and syncs. A repeated attempt must write all bytes again before the sync.
    pub(super) fn put(&self, bytes: &[u8], at: u64) -> Result<(), IoError> {
        self.file.write_at(bytes, at).map_err(IoError::at("write", &self.path))?;
        self.file.sync().map_err(IoError::at("sync", &self.path))
    }

    /// Truncates a failed batch, so that the next start does not consider it durable.
    pub(super) fn cut(&self, end: u64) {
        let _ = self.file.set_len(end).and_then(|()| self.file.sync());
    }
}

/// Creates the segment that follows `before`, with a new key; durable on return. A segment of the same name, which has no
/// record, is replaced. Space for `reserve` bytes is reserved if possible, to keep the file contiguous and writable when
/// the disk fills up.
pub(super) fn create(
    disk: &dyn Disk,
    directory: &Path,
    keys: &KeyTable,
    before: Position,
    reserve: Option<u64>,
) -> Result<Active, JournalError> {
    let first = before.lsn + 1;
    let path = path(directory, first);
    let temporary = path.with_extension(TEMPORARY);
    let key_id = keys.create(KeyKind::Journal)?;
    let make = || {
        let file = disk.create(&temporary).map_err(IoError::at("create", &temporary))?;
        if let Some(bytes) = reserve {
            let _ = file.reserve(bytes);
        }
        let header = Header { key: key_id, before };
        file.write_at(&header.bytes(), 0).map_err(IoError::at("write", &temporary))?;
        file.sync().map_err(IoError::at("sync", &temporary))?;
        disk.rename(&temporary, &path).map_err(IoError::at("rename", &temporary))?;
        disk.sync_dir(directory).map_err(IoError::at("sync", directory))?;
        Ok(file)
    };
    let file = make().inspect_err(|_: &IoError| {
        // For a repeated attempt. The next start removes anything that is left.
        let _ = disk.remove(&temporary);
        let _ = keys.destroy(&key_id);
    })?;
    let target = Arc::new(Target { file, path });
    Ok(Active { first, key_id, key: keys.key(&key_id)?, target, end: HEADER_BYTES as u64 })
}
