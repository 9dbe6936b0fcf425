//! Walks the frames of a segment and finds the next good one behind a damaged place.

use gatehouse_vault::disk::{DiskFile, read_around_damage};

use super::frame::{self, FRAME_BYTES_MAX, Head, MAGIC};

/// Bytes read at once: few enough for a small appliance with several readers, enough to be sequential.
const CHUNK_BYTES: usize = 256 * 1024;

/// What lies at the scanner's place.
pub(super) enum Found<'a> {
    /// A whole frame.
    Frame { offset: u64, head: Head, body: &'a [u8] },
    /// Bytes that are no frame, up to the next good one or the end.
    Bad { offset: u64 },
    /// Nothing more before the limit.
    End,
}

/// A place in a segment's file and what was read ahead of it.
pub(super) struct Scanner {
    segment: u64,
    buffer: Vec<u8>,
    /// Offset in the file of the buffer's first byte.
    base: u64,
    /// The place, within the buffer.
    at: usize,
}

impl Scanner {
    pub(super) fn new(segment: u64, offset: u64) -> Self {
        Self { segment, buffer: Vec::new(), base: offset, at: 0 }
    }

    /// Offset in the file of what comes next.
    pub(super) fn offset(&self) -> u64 {
        self.base + self.at as u64
    }

    /// The next frame or damaged place. Bytes before `limit` no longer change; those behind it are not looked at.
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

    /// The header of the frame at the place, where a whole one is.
    fn frame_here(&mut self, file: &dyn DiskFile, limit: u64) -> std::io::Result<Option<Head>> {
        if !self.ahead(file, frame::HEADER_BYTES, limit)? {
            return Ok(None);
        }
        let Some(head) = Head::read(&self.buffer[self.at..]) else { return Ok(None) };
        if !self.ahead(file, head.frame_bytes(), limit)? {
            return Ok(None);
        }
        let body = self.at + frame::HEADER_BYTES;
        let whole = head.holds(self.segment, &self.buffer[body..body + head.body]);
        Ok(whole.then_some(head))
    }

    /// Moves on to the next bytes that could begin a frame; to the limit and false where there are none.
    fn seek_magic(&mut self, file: &dyn DiskFile, limit: u64) -> std::io::Result<bool> {
        while self.ahead(file, frame::HEADER_BYTES, limit)? {
            let ahead = &self.buffer[self.at..];
            if let Some(found) = ahead.windows(MAGIC.len()).position(|w| w == MAGIC) {
                self.at += found;
                return Ok(true);
            }
            // The last bytes may be the beginning of one.
            self.at += ahead.len() - (MAGIC.len() - 1);
        }
        // Behind the limit or the end of the file: there is nothing between here and the limit.
        self.base = limit;
        self.at = 0;
        self.buffer.clear();
        Ok(false)
    }

    /// Makes sure that `need` bytes from the place on are in the buffer; false where there are not as many.
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
        let room = limit - (self.base + have as u64);
        let want = CHUNK_BYTES.max(need - have).min(usize::try_from(room).unwrap_or(FRAME_BYTES_MAX));
        self.buffer.resize(have + want, 0);
        let read = read_around_damage(file, &mut self.buffer[have..], self.base + have as u64)?;
        self.buffer.truncate(have + read);
        Ok(self.buffer.len() >= need)
    }
}
