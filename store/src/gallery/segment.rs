//! The sketches of a run of chunks, one after another in memory.
//!
//! They do not lie in the chunks, since every search reads all of them: memory is read at its full speed in long runs
//! only, and at half of it in runs as short as the sketches of one chunk.

use std::sync::Arc;

use zeroize::{Zeroize, Zeroizing};

use super::sketch::{Lens, SKETCH};
use super::table::CHUNK_ROWS;

/// Rows whose sketches lie together, coordinate after coordinate, so that all of them are compared at once.
pub(super) const BLOCK: usize = 64;
/// Blocks of sketches per chunk.
pub(super) const CHUNK_BLOCKS: usize = CHUNK_ROWS / BLOCK;
/// Chunks per segment: 640 KiB of sketches, of which only those of chunks in use take memory.
pub(super) const SEGMENT_CHUNKS: usize = 64;
/// Bytes of a chunk's sketches.
const CHUNK_BYTES: usize = CHUNK_ROWS * SKETCH;

/// Sketches of a block, coordinate after coordinate.
pub(super) type Block = [[u8; BLOCK]; SKETCH];

/// The sketches of [`SEGMENT_CHUNKS`] chunks.
pub(super) struct Segment {
    /// Empty until a chunk is sketched.
    sketches: Zeroizing<Vec<u8>>,
    /// What those of each chunk were made with.
    lenses: [Option<Arc<Lens>>; SEGMENT_CHUNKS],
}

impl Segment {
    pub(super) fn new() -> Self {
        Self { sketches: Zeroizing::default(), lenses: [const { None }; SEGMENT_CHUNKS] }
    }

    /// What a chunk's sketches were made with; none where it has none.
    pub(super) fn lens(&self, chunk: usize) -> Option<&Arc<Lens>> {
        self.lenses.get(chunk)?.as_ref()
    }

    /// Whether a chunk's sketches were made with this lens.
    #[inline(always)]
    pub(super) fn is_through(&self, lens: &Arc<Lens>, chunk: usize) -> bool {
        self.lens(chunk).is_some_and(|own| Arc::ptr_eq(own, lens))
    }

    /// A chunk's sketches, of no rows where there are none.
    #[inline(always)]
    pub(super) fn blocks(&self, chunk: usize) -> &[Block] {
        let bytes = self.sketches.get(chunk * CHUNK_BYTES..(chunk + 1) * CHUNK_BYTES).unwrap_or_default();
        bytes.as_chunks::<BLOCK>().0.as_chunks::<SKETCH>().0
    }

    /// Makes room for a chunk's sketches through a lens, all rows as free ones.
    pub(super) fn begin(&mut self, chunk: usize, lens: &Arc<Lens>) {
        if self.sketches.is_empty() {
            self.sketches = Zeroizing::new(vec![0; CHUNK_BYTES * SEGMENT_CHUNKS]);
        }
        if self.lenses[chunk].replace(Arc::clone(lens)).is_some() {
            self.sketches[chunk * CHUNK_BYTES..(chunk + 1) * CHUNK_BYTES].zeroize();
        }
    }

    /// Sets a row's sketch; zeros are those of a free row.
    pub(super) fn set(&mut self, chunk: usize, row: usize, sketch: [u8; SKETCH]) {
        let block = chunk * CHUNK_BYTES + row / BLOCK * (BLOCK * SKETCH);
        if let Some(block) = self.sketches.get_mut(block..block + BLOCK * SKETCH) {
            let rows = block.iter_mut().skip(row % BLOCK).step_by(BLOCK);
            rows.zip(sketch).for_each(|(to, coordinate)| *to = coordinate);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_has_its_place_and_is_wiped_there() {
        let mut random = fastrand::Rng::with_seed(9);
        let sample: Vec<f32> = (0..64 * 200).map(|_| random.f32()).collect();
        let lens = || Arc::new(Lens::new(&sample, 64).unwrap());
        let mut segment = Segment::new();
        assert!(segment.lens(3).is_none() && segment.blocks(3).is_empty());
        let first = lens();
        segment.begin(3, &first);
        for row in 0..CHUNK_ROWS {
            segment.set(3, row, std::array::from_fn(|i| (row + i) as u8));
        }
        for (number, block) in segment.blocks(3).iter().enumerate() {
            for (i, rows) in block.iter().enumerate() {
                assert!((0..BLOCK).all(|row| rows[row] == (number * BLOCK + row + i) as u8));
            }
        }
        assert_eq!(segment.blocks(3).len(), CHUNK_BLOCKS);
        assert!(segment.blocks(2).iter().chain(segment.blocks(4)).flatten().flatten().all(|byte| *byte == 0));
        let second = lens();
        segment.begin(3, &second);
        assert!(segment.is_through(&second, 3) && !segment.is_through(&first, 3));
        assert!(segment.blocks(3).iter().flatten().flatten().all(|byte| *byte == 0));
    }
}
