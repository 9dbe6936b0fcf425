//! The file operations on which durability rests, behind one seam.
//!
//! The journal and the key table reach the disk only through [`Disk`] and [`DiskFile`], so that a test can put a
//! twin in between that fails, tears or forgets. The rules both sides hold:
//! - what was written is durable only after [`DiskFile::sync`] returned well;
//! - a new or renamed file is durable only after [`Disk::sync_dir`] of its folder returned well;
//! - after a failed sync nothing written since the last good one may be believed, and the same bytes are written
//!   again, or cut off, before the next sync: the kernel reports a failed page once and forgets it.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::FallocateFlags;

/// Mode of every file the store makes: readable by the daemon's user only.
pub const FILE_MODE: u32 = 0o600;

/// The acts on a folder. Implemented by [`RealDisk`].
pub trait Disk: Send + Sync {
    /// Makes a new file of mode [`FILE_MODE`], for reading and writing.
    ///
    /// # Errors
    /// The system's word, `AlreadyExists` among others.
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;
    /// Opens a file that is there, for reading and writing.
    ///
    /// # Errors
    /// The system's word, `NotFound` among others.
    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;
    /// Gives a file another name; a file of that name is replaced in one step.
    ///
    /// # Errors
    /// The system's word.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    ///
    /// # Errors
    /// The system's word.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes the names in a folder durable.
    ///
    /// # Errors
    /// The system's word.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
}

/// The acts on one open file; offsets and lengths in bytes.
pub trait DiskFile: Send + Sync {
    /// Reads what lies at `offset`, as much as fits or is there; 0 at the end of the file.
    ///
    /// # Errors
    /// The system's word.
    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes all bytes at `offset`.
    ///
    /// # Errors
    /// The system's word; any part of the bytes may have been written.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Makes contents and length durable (fdatasync).
    ///
    /// # Errors
    /// The system's word; see the rules of the module.
    fn sync(&self) -> io::Result<()>;
    /// Cuts or extends the file.
    ///
    /// # Errors
    /// The system's word.
    fn set_len(&self, bytes: u64) -> io::Result<()>;
    /// Takes room up to this length; the length itself stays, and so does what can be read. Nothing rests on it.
    ///
    /// # Errors
    /// The system's word, where there is no room or the file system knows no such thing.
    fn reserve(&self, bytes: u64) -> io::Result<()>;
    /// Gives back what was reserved and not written.
    ///
    /// # Errors
    /// The system's word.
    fn give_back(&self) -> io::Result<()>;
    /// Length of the file.
    ///
    /// # Errors
    /// The system's word.
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

    fn give_back(&self) -> io::Result<()> {
        // To cut a file at its end is to cut off what lies behind it.
        File::set_len(self, self.metadata()?.len())
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }
}

/// Unit in which a disk that has gone bad in places is read around the bad place.
const SECTOR_BYTES: u64 = 4096;
/// EIO: the device cannot read the place. Its number is the same on every Linux.
const EIO: i32 = 5;

/// Reads as much of `into` as the file has from `offset` on. A place the device cannot read comes back as zeros,
/// which no checksum of ours takes for data, so that one bad sector costs what lies on it and no more.
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

/// The part of `into` that lies on one sector: its bytes, or zeros where it cannot be read.
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
