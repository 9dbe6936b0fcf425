//! The index of one journal segment, and its file `<first lsn, 20 digits>.gx`.
//!
//! The file has a magic of 8 bytes and a seal (nonce 12, ciphertext, tag 16) of rows of 32 bytes,
//! little-endian. A row has the number of the event (8), arrival (8, microseconds), fingerprint (8), mark of
//! the camera (4), and offset in the segment (4). The seal uses the segment's key and is bound to its name.
//! The file is not synced: a file that is torn by a power cut does not open.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use gatehouse_journal::Location;
use gatehouse_model::{CameraName, Event, Timestamp, sha256};
use gatehouse_vault::disk::FILE_MODE;
use gatehouse_vault::error::IoError;
use gatehouse_vault::seal::DataKey;

use super::Entry;
use super::recent::fingerprint;

const MAGIC: &[u8; 8] = b"GHINDEX1";
const ROW_BYTES: usize = 32;
/// Suffix of a file that is being written. Leftovers are removed when the index is opened.
const TEMPORARY: &str = "new";

/// The locations of the events of one segment, in the order of their numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Part {
    /// First lsn of the segment.
    pub(super) segment: u64,
    pub(super) rows: Vec<Row>,
}

/// One event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) seq: u64,
    received_at: i64,
    pub(super) fingerprint: u64,
    /// [`camera_mark`] of its camera.
    pub(super) camera: u32,
    offset: u32,
}

/// Content of a part's file.
pub(super) enum Kept {
    Whole(Part),
    Missing,
    Damaged,
}

/// A short hash of the camera's name. Two cameras may share one, so a reader must check the event itself.
pub(super) fn camera_mark(camera: &CameraName) -> u32 {
    let hash = sha256(camera.as_str().as_bytes());
    u32::from_le_bytes([hash[0], hash[1], hash[2], hash[3]])
}

/// Path of a segment's part.
pub(super) fn path(directory: &Path, segment: u64) -> PathBuf {
    directory.join(format!("{segment:020}.gx"))
}

/// Reads a part. Without its key it is indistinguishable from a damaged one and counts as missing.
pub(super) fn read(directory: &Path, segment: u64, key: Option<&DataKey>) -> Kept {
    let bytes = match fs::read(path(directory, segment)) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Kept::Missing,
        // The kernel reports an unreadable sector as an error.
        Err(_) => return Kept::Damaged,
    };
    let Some(key) = key else { return Kept::Missing };
    let plain = bytes.strip_prefix(MAGIC).and_then(|sealed| key.open(&place(segment), sealed).ok());
    match plain.as_ref().map(|plain| plain.as_chunks::<ROW_BYTES>()) {
        Some((rows, [])) => Kept::Whole(Part { segment, rows: rows.iter().map(Row::from_bytes).collect() }),
        _ => Kept::Damaged,
    }
}

fn place(segment: u64) -> [u8; 16] {
    let mut place = *b"event ix........";
    place[8..].copy_from_slice(&segment.to_le_bytes());
    place
}

impl Part {
    /// Writes the file and replaces an existing one.
    pub(super) fn write(&self, directory: &Path, key: &DataKey) -> Result<(), IoError> {
        let path = path(directory, self.segment);
        let temporary = path.with_extension(TEMPORARY);
        let plain: Vec<u8> = self.rows.iter().flat_map(Row::bytes).collect();
        let written = (|| {
            let sealed = key.seal(&place(self.segment), &plain).map_err(std::io::Error::other)?;
            let options =
                fs::OpenOptions::new().write(true).create(true).truncate(true).mode(FILE_MODE).to_owned();
            let mut file = options.open(&temporary)?;
            file.write_all(MAGIC)?;
            file.write_all(&sealed)?;
            fs::rename(&temporary, &path)
        })();
        written.map_err(|error| {
            // A leftover that cannot be removed is deleted at the next start.
            let _ = fs::remove_file(&temporary);
            IoError::at("write", &path)(error)
        })
    }

    /// The events with a fingerprint: almost always one or none.
    pub(super) fn with(&self, fingerprint: u64) -> Vec<Entry> {
        let rows = self.rows.iter().filter(|row| row.fingerprint == fingerprint);
        rows.map(|row| row.entry(self.segment)).collect()
    }

    /// The first event with this number or a later one.
    pub(super) fn at_or_after(&self, seq: u64) -> Option<Entry> {
        let at = self.rows.partition_point(|row| row.seq < seq);
        self.rows.get(at).map(|row| row.entry(self.segment))
    }
}

impl Row {
    pub(super) fn of(seq: u64, location: Location, event: &Event) -> Self {
        Self {
            seq,
            received_at: event.received_at.0,
            fingerprint: fingerprint(&event.key),
            camera: camera_mark(&event.key.camera),
            offset: location.offset,
        }
    }

    pub(super) fn entry(&self, segment: u64) -> Entry {
        Entry {
            seq: self.seq,
            received_at: Timestamp(self.received_at),
            location: Location { segment, offset: self.offset },
        }
    }

    fn bytes(&self) -> [u8; ROW_BYTES] {
        let mut bytes = [0; ROW_BYTES];
        bytes[..8].copy_from_slice(&self.seq.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.received_at.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.fingerprint.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.camera.to_le_bytes());
        bytes[28..].copy_from_slice(&self.offset.to_le_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8; ROW_BYTES]) -> Self {
        let long = |at: usize| {
            let mut long = [0; 8];
            long.copy_from_slice(&bytes[at..at + 8]);
            u64::from_le_bytes(long)
        };
        let last = long(24);
        Self {
            seq: long(0),
            received_at: long(8).cast_signed(),
            fingerprint: long(16),
            // Two 32-bit values.
            camera: last as u32,
            offset: (last >> 32) as u32,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gatehouse_model::random;

    fn part() -> Part {
        let row =
            |seq| Row { seq, received_at: -5, fingerprint: u64::MAX - seq, camera: 7, offset: u32::MAX };
        Part { segment: 3, rows: [4, 5, 9].map(row).to_vec() }
    }

    fn read_back(folder: &Path, segment: u64, key: Option<&DataKey>) -> Result<Part, bool> {
        match read(folder, segment, key) {
            Kept::Whole(part) => Ok(part),
            Kept::Missing => Err(false),
            Kept::Damaged => Err(true),
        }
    }

    #[test]
    fn a_part_comes_back_as_it_was_or_not_at_all() {
        let (folder, key) = (tempfile::tempdir().unwrap(), DataKey::from_secret(&random()).unwrap());
        assert_eq!(read_back(folder.path(), 3, Some(&key)), Err(false));
        part().write(folder.path(), &key).unwrap();
        assert_eq!(read_back(folder.path(), 3, Some(&key)), Ok(part()));
        assert_eq!(read_back(folder.path(), 3, None), Err(false));
        let other = DataKey::from_secret(&random()).unwrap();
        assert_eq!(read_back(folder.path(), 3, Some(&other)), Err(true));
        fs::copy(path(folder.path(), 3), path(folder.path(), 4)).unwrap();
        assert_eq!(read_back(folder.path(), 4, Some(&key)), Err(true), "it is bound to its segment");
        let whole = fs::read(path(folder.path(), 3)).unwrap();
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            fs::write(path(folder.path(), 3), bytes).unwrap();
            assert_eq!(read_back(folder.path(), 3, Some(&key)), Err(true));
            fs::write(path(folder.path(), 3), &whole[..at]).unwrap();
            assert_eq!(read_back(folder.path(), 3, Some(&key)), Err(true));
        }
    }

    #[test]
    fn events_are_found_by_number_and_by_fingerprint() {
        let seqs = |seq| part().at_or_after(seq).map(|entry| entry.seq);
        assert_eq!([1, 4, 6, 9, 10].map(seqs), [Some(4), Some(4), Some(9), Some(9), None]);
        assert_eq!(part().with(u64::MAX - 5).iter().map(|entry| entry.seq).collect::<Vec<_>>(), [5]);
        assert!(part().with(1).is_empty());
    }
}
