//! Memory for many rows that begin where lines of the caches do.
//!
//! A row that begins elsewhere takes one line more of a memory that is read line by line.

use std::ops::Range;

use zeroize::Zeroize;

/// Bytes of a line of the caches: what one read brings.
pub(super) const LINE: usize = 64;

/// Zeros until they are written; wiped when they go. It never moves, and what was not written yet takes no memory, as
/// far as the system gives it page by page.
pub(super) struct Lines<T: Zeroize> {
    all: Vec<T>,
    first: usize,
    /// Where all that was ever written ends.
    end: usize,
}

impl<T: Zeroize> Default for Lines<T> {
    fn default() -> Self {
        Self { all: Vec::new(), first: 0, end: 0 }
    }
}

impl<T: Copy + Default + Zeroize> Lines<T> {
    /// Memory for so many values of a byte each.
    pub(super) fn new(length: usize) -> Self {
        let mut all = vec![T::default(); length + LINE - 1];
        let first = all.as_ptr().align_offset(LINE).min(LINE - 1);
        all.truncate(first + length);
        Self { all, first, end: first }
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// All of it.
    #[inline(always)]
    pub(super) fn all(&self) -> &[T] {
        &self.all[self.first..]
    }

    /// A part of it, to be written.
    pub(super) fn part(&mut self, part: Range<usize>) -> &mut [T] {
        let part = self.first + part.start..self.first + part.end;
        self.end = self.end.max(part.end);
        &mut self.all[part]
    }
}

impl<T: Zeroize> Drop for Lines<T> {
    fn drop(&mut self) {
        self.all.truncate(self.end);
        self.all.iter_mut().zeroize();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_begins_with_a_line_and_is_as_long_as_asked_for() {
        for length in [1, 64, 1_000_000] {
            let mut lines = Lines::<u8>::new(length);
            assert_eq!(lines.all().as_ptr().align_offset(LINE), 0);
            assert!(lines.all().len() == length && lines.all().iter().all(|byte| *byte == 0));
            lines.part(length - 1..length).fill(7);
            assert_eq!(lines.all()[length - 1], 7);
        }
        assert!(Lines::<u8>::default().is_empty() && Lines::<u8>::default().all().is_empty());
    }
}
