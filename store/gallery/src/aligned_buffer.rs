//! A buffer that is aligned to cache lines.
//!
//! A row that is not aligned touches one more cache line per read.

use std::ops::Range;

use memmap2::{Advice, MmapMut};
use zeroize::Zeroize;

/// Bytes of a cache line.
pub(super) const CACHE_LINE_BYTES: usize = 64;
/// Bytes of a large page. It needs one entry of the address translation cache instead of 512, but takes all
/// of its memory with the first written byte.
const LARGE_PAGE_BYTES: usize = 2 << 20;

/// Bytes that are zero until they are written, and wiped on drop. They never move. Unwritten pages take no
/// memory.
#[derive(Default)]
pub(super) struct AlignedBuffer {
    memory: Memory,
    first: usize,
    /// End of all bytes ever written.
    end: usize,
}

enum Memory {
    Allocated(Vec<u8>),
    Mapped(MmapMut),
}

impl Default for Memory {
    fn default() -> Self {
        Self::Allocated(Vec::new())
    }
}

impl Memory {
    #[inline(always)]
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Allocated(bytes) => bytes,
            Self::Mapped(bytes) => bytes,
        }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        match self {
            Self::Allocated(bytes) => bytes,
            Self::Mapped(bytes) => bytes,
        }
    }
}

impl AlignedBuffer {
    /// A buffer of `length` bytes, in large pages if requested and available.
    pub(super) fn new(length: usize, in_large_pages: bool) -> Self {
        let mapped = in_large_pages.then(|| MmapMut::map_anon(length + LARGE_PAGE_BYTES - 1).ok()).flatten();
        let (memory, unit) = match mapped {
            Some(mapped) => (Memory::Mapped(mapped), LARGE_PAGE_BYTES),
            None => (Memory::Allocated(vec![0; length + CACHE_LINE_BYTES - 1]), CACHE_LINE_BYTES),
        };
        let first = memory.bytes().as_ptr().align_offset(unit).min(unit - 1);
        if let Memory::Mapped(mapped) = &memory {
            // Without large pages it is only slower.
            drop(mapped.advise_range(Advice::HugePage, first, length));
        }
        let mut buffer = Self { memory, first, end: first };
        if let Memory::Allocated(bytes) = &mut buffer.memory {
            bytes.truncate(first + length);
        }
        buffer
    }

    /// Whether it has no bytes.
    pub(super) fn is_empty(&self) -> bool {
        self.memory.bytes().is_empty()
    }

    /// All bytes; large pages are rounded up.
    #[inline(always)]
    pub(super) fn all(&self) -> &[u8] {
        &self.memory.bytes()[self.first..]
    }

    /// A part, to be written.
    pub(super) fn part(&mut self, part: Range<usize>) -> &mut [u8] {
        let part = self.first + part.start..self.first + part.end;
        self.end = self.end.max(part.end);
        &mut self.memory.bytes_mut()[part]
    }
}

impl Drop for AlignedBuffer {
    fn drop(&mut self) {
        let (first, end) = (self.first, self.end);
        self.memory.bytes_mut()[first..end].zeroize();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_begins_with_a_line_and_is_as_long_as_asked_for() {
        for (length, in_large_pages) in [(1, false), (64, true), (1_000_000, false), (5_000_000, true)] {
            let mut buffer = AlignedBuffer::new(length, in_large_pages);
            let unit = if in_large_pages { LARGE_PAGE_BYTES } else { CACHE_LINE_BYTES };
            assert_eq!(buffer.all().as_ptr().align_offset(unit), 0);
            assert!(buffer.all().len() >= length && buffer.all().iter().all(|byte| *byte == 0));
            buffer.part(length - 1..length).fill(7);
            assert_eq!(buffer.all()[length - 1], 7);
        }
        assert!(AlignedBuffer::default().is_empty() && AlignedBuffer::default().all().is_empty());
    }
}
