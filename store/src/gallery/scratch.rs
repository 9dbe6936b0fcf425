//! Numbers that are needed for a moment only.
//!
//! What is taken from the common memory and given back often stays with the process, beside what was taken after it. A
//! mapping of its own goes back to the system whole.

use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

use bytemuck::Pod;
use memmap2::MmapMut;
use zeroize::Zeroize;

/// Numbers in memory of their own, wiped when they go.
pub(super) struct Scratch<T> {
    memory: MmapMut,
    /// In bytes: a mapping takes whole pages.
    length: usize,
    kind: PhantomData<T>,
}

impl<T: Pod> Scratch<T> {
    /// So many zeros; none where the system has no memory for them.
    pub(super) fn new(count: usize) -> Option<Self> {
        let length = count.checked_mul(size_of::<T>())?;
        let memory = MmapMut::map_anon(length).ok()?;
        Some(Self { memory, length, kind: PhantomData })
    }
}

impl<T: Pod> Deref for Scratch<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        bytemuck::cast_slice(&self.memory[..self.length])
    }
}

impl<T: Pod> DerefMut for Scratch<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        bytemuck::cast_slice_mut(&mut self.memory[..self.length])
    }
}

impl<T> Drop for Scratch<T> {
    fn drop(&mut self) {
        self.memory.zeroize();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_as_long_as_asked_for_and_keeps_what_is_written() {
        for count in [0, 1, 511, 100_000] {
            let mut scratch = Scratch::<f64>::new(count).unwrap();
            assert_eq!(scratch.len(), count);
            assert!(scratch.iter().all(|number| *number == 0.0));
            scratch.fill(2.5);
            assert!(scratch.iter().all(|number| *number == 2.5));
        }
        assert!(Scratch::<f64>::new(usize::MAX).is_none());
    }
}
