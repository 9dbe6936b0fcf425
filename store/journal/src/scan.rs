//! Reads the frames of a segment, and finds the next intact frame after a damaged place.

use gatehouse_vault::disk::{DiskFile, read_around_damage};

use super::frame::{self, FRAME_BYTES_MAX, Head, MAGIC};

/// Bytes read at once: small enough for several readers on a small appliance, large enough for sequential reads.
const CHUNK_BYTES: usize = 256 * 1024;

/// What the scanner found at its offset.
pub(super) enum Found<'a> {
    /// An intact frame.
    Frame { offset: u64, head: Head, body: &'a [u8] },
    /// Bytes that are no frame, up to the next intact frame or the end.
    Bad { offset: u64 },
    /// Nothing more before the limit.
    End,
}

/// An offset in a segment's file, with read-ahead.
pub(super) struct Scanner {
    segment: u64,
    buffer: Vec<u8>,
    /// Offset in the file of the buffer's first byte.
    base: u64,
    /// The current offset, within the buffer.
    at: usize,
}

impl Scanner {
    pub(super) fn new(segment: u64, offset: u64) -> Self {
        Self { segment, buffer: Vec::new(), base: offset, at: 0 }
    }

    /// Current offset in the file.
    pub(super) fn offset(&self) -> u64 {
        self.base + self.at as u64
    }

    /// The next frame or damaged place. Bytes before `limit` must not change any more; others are not read.
    pub(super) fn next(&mut self, file: &dyn DiskFile, limit: u64) -> std::io::Result<Found<'_>> {
        let offset = self.offset();
        if offset >= limit {
            return Ok(Found::End);
        }
        if let Some(head) = self.frame_here(file, limit)? {
            let body = self.at + frame::HEADER_BYTES;
            self.at = body + head.body;
            return Ok(Found::Frame { offset, head, body: &self.buffer[body..self.at] });
        }
        loop {
            self.at += 1;
            if !self.seek_magic(file, limit)? || self.frame_here(file, limit)?.is_some() {
                return Ok(Found::Bad { offset });
            }
        }
    }

    /// The header of the frame at the current offset, if it is intact.
    fn frame_here(&mut self, file: &dyn DiskFile, limit: u64) -> std::io::Result<Option<Head>> {
        if !self.ahead(file, frame::HEADER_BYTES, limit)? {
            return Ok(None);
        }
        let Some(head) = Head::read(&self.buffer[self.at..]) else { return Ok(None) };
        if !self.ahead(file, head.frame_bytes(), limit)? {
            return Ok(None);
        }
        let body = self.at + frame::HEADER_BYTES;
        let whole = head.matches(self.segment, &self.buffer[body..body + head.body]);
        Ok(whole.then_some(head))
    }

    /// Moves to the next bytes that may begin a frame. If there are none, moves to the limit and returns false.
    fn seek_magic(&mut self, file: &dyn DiskFile, limit: u64) -> std::io::Result<bool> {
        while self.ahead(file, frame::HEADER_BYTES, limit)? {
            let ahead = &self.buffer[self.at..];
            if let Some(found) = ahead.windows(MAGIC.len()).position(|w| w == MAGIC) {
                self.at += found;
                return Ok(true);
            }
            // The last bytes may be the beginning of the magic.
            self.at += ahead.len() - (MAGIC.len() - 1);
        }
        // No frame fits before the limit or the end of the file.
        self.base = limit;
        self.at = 0;
        self.buffer.clear();
        Ok(false)
    }

    /// Reads until `need` bytes from the current offset are in the buffer; false if there are fewer.
    fn ahead(&mut self, file: &dyn DiskFile, need: usize, limit: u64) -> std::io::Result<bool> {
        if self.buffer.len() >= self.at + need {
            return Ok(true);
        }
        if self.offset() + need as u64 > limit {
            return Ok(false);
        }
        self.buffer.drain(..self.at.min(self.buffer.len()));
        self.base += self.at as u64;
        self.at = 0;
        let have = self.buffer.len();
        let left = limit - (self.base + have as u64);
        let want = CHUNK_BYTES.max(need - have).min(usize::try_from(left).unwrap_or(FRAME_BYTES_MAX));
        self.buffer.resize(have + want, 0);
        let read = read_around_damage(file, &mut self.buffer[have..], self.base + have as u64)?;
        self.buffer.truncate(have + read);
        Ok(self.buffer.len() >= need)
    }
}
