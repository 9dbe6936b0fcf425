//! Reads a sealed media file chunk by chunk. Each chunk is authenticated before any of its bytes are
//! returned.

use std::io::{self, ErrorKind, Read};
use std::path::PathBuf;
use std::sync::Arc;

use gatehouse_model::KeyId;
use gatehouse_vault::disk::DiskFile;
use gatehouse_vault::error::IoError;
use gatehouse_vault::seal::{DataKey, TAG_BYTES};
use zeroize::Zeroizing;

use super::FileError;
use super::format::{CHUNK_BYTES, HEADER_BYTES, Header, chunk_offset};

/// The content of a media file as a stream. It holds one chunk in memory and wipes it.
///
/// In [`Read`], a damaged chunk is an error of kind [`ErrorKind::InvalidData`] that carries the
/// [`FileError`].
pub struct SealedReader {
    header: Header,
    key: Arc<DataKey>,
    file: Box<dyn DiskFile>,
    path: PathBuf,
    /// Number of the next chunk.
    next: u64,
    buffer: Zeroizing<Vec<u8>>,
    /// The bytes of the buffer that were not returned yet.
    rest: std::ops::Range<usize>,
}

impl std::fmt::Debug for SealedReader {
    /// Prints neither content nor key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SealedReader").field("header", &self.header).finish_non_exhaustive()
    }
}

impl SealedReader {
    pub(super) fn new(
        id: KeyId,
        key: Arc<DataKey>,
        file: Box<dyn DiskFile>,
        path: PathBuf,
    ) -> Result<Self, FileError> {
        let damaged = |what| FileError::Damaged { id, what };
        let length = file.size().map_err(IoError::at("read", &path))?;
        if length < HEADER_BYTES as u64 {
            return Err(damaged("it is shorter than its header"));
        }
        let mut bytes = [0; HEADER_BYTES];
        read_exact_at(&*file, &mut bytes, 0).map_err(IoError::at("read", &path))?;
        let header = Header::from_bytes(id, &bytes).map_err(damaged)?;
        if header.disk_bytes() != length {
            return Err(damaged("its length does not match its header"));
        }
        let buffer = Zeroizing::new(vec![0; CHUNK_BYTES + TAG_BYTES]);
        Ok(Self { header, key, file, path, next: 0, buffer, rest: 0..0 })
    }

    /// Bytes of content.
    pub fn size(&self) -> u64 {
        self.header.size
    }

    /// Id of the file.
    pub fn id(&self) -> KeyId {
        self.header.id
    }

    /// The next chunk; none at the end.
    ///
    /// # Errors
    /// [`FileError::Damaged`] if the bytes differ from those that were written, [`FileError::Io`] for the
    /// disk. After an error the reader is at its end.
    pub fn next_chunk(&mut self) -> Result<Option<&[u8]>, FileError> {
        self.fill()?;
        let rest = std::mem::replace(&mut self.rest, 0..0);
        Ok((!rest.is_empty()).then(|| &self.buffer[rest]))
    }

    /// Fills the buffer, unless the file is at its end.
    fn fill(&mut self) -> Result<(), FileError> {
        if !self.rest.is_empty() || self.next >= self.header.chunks() {
            return Ok(());
        }
        let number = self.next;
        // After an error no more content is returned: a reader must not continue after a damaged chunk.
        self.next = u64::MAX;
        let content = self.header.chunk_len(number);
        let sealed = &mut self.buffer[..content + TAG_BYTES];
        match read_exact_at(&*self.file, sealed, chunk_offset(number)) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                return Err(FileError::Damaged { id: self.header.id, what: "it ends too early" });
            }
            other => other.map_err(IoError::at("read", &self.path))?,
        }
        let ad = self.header.chunk_ad(number);
        if self.key.open_numbered(number, &ad, sealed).is_err() {
            return Err(FileError::Damaged { id: self.header.id, what: "a chunk is not what was written" });
        }
        self.next = number + 1;
        self.rest = 0..content;
        Ok(())
    }
}

impl Read for SealedReader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.fill().map_err(|error| match error {
            FileError::Io(error) => io::Error::new(error.source.kind(), error),
            other => io::Error::new(ErrorKind::InvalidData, other),
        })?;
        let count = out.len().min(self.rest.len());
        let from = self.rest.start;
        out[..count].copy_from_slice(&self.buffer[from..from + count]);
        self.rest.start += count;
        Ok(count)
    }
}

fn read_exact_at(file: &dyn DiskFile, into: &mut [u8], offset: u64) -> io::Result<()> {
    let mut done = 0;
    while done < into.len() {
        match file.read_at(&mut into[done..], offset + done as u64) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(count) => done += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
