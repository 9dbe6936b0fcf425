//! The file operations on which durability depends, behind two traits.
//!
//! The journal and the key table access the disk only through [`Disk`] and [`DiskFile`], so that a test can simulate
//! failing, torn and lost writes. Rules for both sides:
//! - Written data is durable only after [`DiskFile::sync`] succeeded.
//! - A new or renamed file is durable only after [`Disk::sync_dir`] of its folder succeeded.
//! - After a failed sync, data written since the last successful sync must not be trusted. The same bytes are written
//!   again or cut off before the next sync, because the kernel reports a failed page only once.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::FallocateFlags;

/// Mode of every created file: readable by the daemon's user only.
pub const FILE_MODE: u32 = 0o600;

/// Operations on folders. Implemented by [`RealDisk`].
pub trait Disk: Send + Sync {
    /// Creates a file of mode [`FILE_MODE`], for reading and writing.
    ///
    /// # Errors
    /// The error of the system, for example `AlreadyExists`.
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;
    /// Opens an existing file, for reading and writing.
    ///
    /// # Errors
    /// The error of the system, for example `NotFound`.
    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;
    /// Renames a file; an existing file of the new name is replaced atomically.
    ///
    /// # Errors
    /// The error of the system.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    ///
    /// # Errors
    /// The error of the system.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes the names in a folder durable.
    ///
    /// # Errors
    /// The error of the system.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
}

/// Operations on an open file; offsets and lengths are in bytes.
pub trait DiskFile: Send + Sync {
    /// Reads up to the size of `into` at `offset`; 0 at the end of the file.
    ///
    /// # Errors
    /// The error of the system.
    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes all bytes at `offset`.
    ///
    /// # Errors
    /// The error of the system; any part of the bytes may have been written.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Makes contents and length durable (fdatasync).
    ///
    /// # Errors
    /// The error of the system; see the rules of the module.
    fn sync(&self) -> io::Result<()>;
    /// Truncates or extends the file.
    ///
    /// # Errors
    /// The error of the system.
    fn set_len(&self, bytes: u64) -> io::Result<()>;
    /// Reserves disk space up to this length without changing the length. Correctness must not depend on it.
    ///
    /// # Errors
    /// The error of the system if the disk is full or the file system does not support it.
    fn reserve(&self, bytes: u64) -> io::Result<()>;
    /// Releases space that was reserved and not written.
    ///
    /// # Errors
    /// The error of the system.
    fn release_reserved(&self) -> io::Result<()>;
    /// Length of the file.
    ///
    /// # Errors
    /// The error of the system.
    fn size(&self) -> io::Result<u64>;
}

/// The disk of this machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(FILE_MODE).open(path)?;
        Ok(Box::new(file))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(OpenOptions::new().read(true).write(true).open(path)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }
}

impl DiskFile for File {
    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        FileExt::read_at(self, into, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        File::set_len(self, bytes)
    }

    fn reserve(&self, bytes: u64) -> io::Result<()> {
        Ok(rustix::fs::fallocate(self, FallocateFlags::KEEP_SIZE, 0, bytes)?)
    }

    fn release_reserved(&self) -> io::Result<()> {
        // Truncating a file at its end releases the space reserved after it.
        File::set_len(self, self.metadata()?.len())
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }
}

/// Unit of reading around an unreadable place of a failing disk.
const SECTOR_BYTES: u64 = 4096;
/// EIO: the device cannot read the place. The number is the same on all Linux architectures.
const EIO: i32 = 5;

/// Reads from `offset` until `into` is full or the file ends. An unreadable sector is returned as zeros, which no
/// checksum accepts, so that only the data on that sector is lost.
///
/// # Errors
/// Any other error of the system.
pub fn read_around_damage(file: &dyn DiskFile, into: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut done = 0;
    while done < into.len() {
        let at = offset + done as u64;
        match file.read_at(&mut into[done..], at) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) if e.raw_os_error() == Some(EIO) => done += read_sector(file, &mut into[done..], at)?,
            Err(e) => return Err(e),
        }
    }
    Ok(done)
}

/// Reads the part of `into` on one sector: its bytes, or zeros if it cannot be read.
fn read_sector(file: &dyn DiskFile, into: &mut [u8], at: u64) -> io::Result<usize> {
    let sector_left = SECTOR_BYTES - at % SECTOR_BYTES;
    let file_left = file.size()?.saturating_sub(at);
    let want = into.len().min(usize::try_from(sector_left.min(file_left)).unwrap_or(into.len()));
    let part = &mut into[..want];
    match file.read_at(part, at) {
        Ok(n) => Ok(n),
        Err(e) if e.raw_os_error() == Some(EIO) => {
            part.fill(0);
            Ok(want)
        }
        Err(e) => Err(e),
    }
}
