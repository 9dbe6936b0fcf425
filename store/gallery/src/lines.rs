//! Memory for many rows that begin where lines of the caches do.
//!
//! A row that begins elsewhere takes one line more of a memory that is read line by line.

use std::ops::Range;

use memmap2::{Advice, MmapMut};
use zeroize::Zeroize;

/// Bytes of a line of the caches: what one read brings.
pub(super) const LINE: usize = 64;
/// Bytes of a large page. What lies in one is found with one look into the tables of addresses, and not with five
/// hundred; but a large page takes all of its memory with the first byte.
const LARGE: usize = 2 << 20;

/// Bytes that are zero until they are written; wiped when they go. They never move, and what was not written yet takes
/// no memory, as far as the system gives it page by page.
#[derive(Default)]
pub(super) struct Lines {
    memory: Memory,
    first: usize,
    /// Where all that was ever written ends.
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

impl Lines {
    /// So many bytes, in large pages where that is asked for and the system has them.
    pub(super) fn new(length: usize, in_large_pages: bool) -> Self {
        let mapped = in_large_pages.then(|| MmapMut::map_anon(length + LARGE - 1).ok()).flatten();
        let (memory, unit) = match mapped {
            Some(mapped) => (Memory::Mapped(mapped), LARGE),
            None => (Memory::Allocated(vec![0; length + LINE - 1]), LINE),
        };
        let first = memory.bytes().as_ptr().align_offset(unit).min(unit - 1);
        if let Memory::Mapped(mapped) = &memory {
            // A system without large pages serves as well, only slower.
            drop(mapped.advise_range(Advice::HugePage, first, length));
        }
        let mut lines = Self { memory, first, end: first };
        if let Memory::Allocated(bytes) = &mut lines.memory {
            bytes.truncate(first + length);
        }
        lines
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.memory.bytes().is_empty()
    }

    /// All of it; of large pages some more.
    #[inline(always)]
    pub(super) fn all(&self) -> &[u8] {
        &self.memory.bytes()[self.first..]
    }

    /// A part of it, to be written.
    pub(super) fn part(&mut self, part: Range<usize>) -> &mut [u8] {
        let part = self.first + part.start..self.first + part.end;
        self.end = self.end.max(part.end);
        &mut self.memory.bytes_mut()[part]
    }
}

impl Drop for Lines {
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
            let mut lines = Lines::new(length, in_large_pages);
            let unit = if in_large_pages { LARGE } else { LINE };
            assert_eq!(lines.all().as_ptr().align_offset(unit), 0);
            assert!(lines.all().len() >= length && lines.all().iter().all(|byte| *byte == 0));
            lines.part(length - 1..length).fill(7);
            assert_eq!(lines.all()[length - 1], 7);
        }
        assert!(Lines::default().is_empty() && Lines::default().all().is_empty());
    }
}
