//! Durability of the files around sled that sled itself does not ensure.
//!
//! The file `mark` is in the folder of `db` and holds the last flushed position: 8 bytes, little-endian, and
//! their CRC-32. It is written after the flush and need not be durable: an older mark only detects less.

use std::fs::{self, File};
use std::path::Path;

use gatehouse_vault::error::IoError;

/// sled leaves such a file if it is killed while it writes a snapshot, and then does not open
/// (spacejam/sled#1527).
const UNFINISHED: &str = ".generating";

pub(super) fn remove_unfinished_snapshots(directory: &Path) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten().filter(|e| e.file_name().to_string_lossy().ends_with(UNFINISHED)) {
        // If it cannot be removed, opening sled reports the error.
        let _ = fs::remove_file(entry.path());
    }
}

/// sled never syncs `conf` and its folder.
pub(super) fn sync_created(directory: &Path) -> Result<(), IoError> {
    let conf = directory.join("conf");
    if conf.exists() {
        sync(&conf)?;
    }
    sync(directory)
}

/// sled's flush hands pages to the kernel with sync_file_range, which does not reach the flash.
pub(super) fn sync_db(directory: &Path) -> Result<(), IoError> {
    sync(&directory.join("db"))
}

fn sync(path: &Path) -> Result<(), IoError> {
    let file = File::open(path).map_err(IoError::at("open", path))?;
    file.sync_data().map_err(IoError::at("sync", path))
}

pub(super) fn write(directory: &Path, applied_lsn: u64) -> Result<(), IoError> {
    let path = directory.join("mark");
    let number = applied_lsn.to_le_bytes();
    let bytes = [number.as_slice(), &crc32fast::hash(&number).to_le_bytes()].concat();
    fs::write(&path, bytes).map_err(IoError::at("write", &path))
}

/// The marked position, or 0 if there is no readable mark.
pub(super) fn read(directory: &Path) -> u64 {
    let bytes = fs::read(directory.join("mark")).unwrap_or_default();
    let Some((number, crc)) = bytes.split_first_chunk::<8>() else { return 0 };
    if crc == crc32fast::hash(number).to_le_bytes() { u64::from_le_bytes(*number) } else { 0 }
}
