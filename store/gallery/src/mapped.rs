//! Numbers in an anonymous mapping.
//!
//! Memory that is freed to the allocator often stays with the process, and zeroed memory from it is often
//! written. A mapping is returned to the system as a whole, and its pages take no memory until they are
//! written.

use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

use bytemuck::Pod;
use memmap2::MmapMut;
use zeroize::Zeroize;

/// Numbers in a mapping, wiped on drop.
pub(super) struct Mapped<T> {
    memory: MmapMut,
    /// In bytes: a mapping takes whole pages.
    length: usize,
    kind: PhantomData<T>,
}

impl<T: Pod> Mapped<T> {
    /// `count` zeros; none if there is no memory for them.
    pub(super) fn new(count: usize) -> Option<Self> {
        let length = count.checked_mul(size_of::<T>())?;
        let memory = MmapMut::map_anon(length).ok()?;
        Some(Self { memory, length, kind: PhantomData })
    }
}

impl<T: Pod> Deref for Mapped<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        bytemuck::cast_slice(&self.memory[..self.length])
    }
}

impl<T: Pod> DerefMut for Mapped<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        bytemuck::cast_slice_mut(&mut self.memory[..self.length])
    }
}

impl<T> Drop for Mapped<T> {
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
            let mut mapped = Mapped::<f64>::new(count).unwrap();
            assert_eq!(mapped.len(), count);
            assert!(mapped.iter().all(|number| *number == 0.0));
            mapped.fill(2.5);
            assert!(mapped.iter().all(|number| *number == 2.5));
        }
        assert!(Mapped::<f64>::new(usize::MAX).is_none());
    }
}
