//! The rows of a part of a table: templates, what is known of them, and their sketches.
//!
//! What a search reads lies by kind, each kind of the whole segment together: all sketches in one run, since memory is
//! read at its full speed in long runs only; and quantised templates where their place follows from the row alone, so
//! that a processor can wait for many of them at once. The full templates, which hardly any search reads, lie in chunks,
//! and what of a chunk was never used takes no memory.

use std::sync::Arc;

use prefetch_index::prefetch_index;
use zeroize::{Zeroize, Zeroizing};

use super::lines::{LINE, Lines};
use super::mapped::Mapped;
use super::sketch::{Lens, SKETCH};
use super::vector::{Coarse, Probe, rest, square_distance, square_distance_told, told};

/// Rows whose sketches lie together, coordinate after coordinate, so that all of them are compared at once.
pub(super) const BLOCK: usize = 64;
/// Blocks of sketches per chunk.
pub(super) const CHUNK_BLOCKS: usize = CHUNK_ROWS / BLOCK;
/// Rows by which a segment grows and is sketched: 32 KiB of quantised 128-d templates, which a first-level cache holds.
pub(super) const CHUNK_ROWS: usize = 256;
/// Chunks per segment: 2.5 MiB of sketches, of which only those of chunks in use take memory.
pub(super) const SEGMENT_CHUNKS: usize = 256;
/// Rows of a segment.
pub(super) const SEGMENT_ROWS: usize = SEGMENT_CHUNKS * CHUNK_ROWS;
/// Bytes of a chunk's sketches.
const CHUNK_BYTES: usize = CHUNK_ROWS * SKETCH;

/// Sketches of a block, coordinate after coordinate.
pub(super) type Block = [[u8; BLOCK]; SKETCH];

/// Owner of a free row.
pub(super) const NOBODY: u32 = u32::MAX;
/// A free row: nobody's, and infinitely far from everything.
const FREE: Known = Known { coarse: Coarse { scale: 0.0, square: f32::INFINITY, error: 0.0 }, owner: NOBODY };

/// What is known of a row: together and in one line of the caches, since a look at it takes nearly all.
#[derive(Clone, Copy)]
#[repr(align(16))]
pub(super) struct Known {
    /// Of the quantisation.
    pub coarse: Coarse,
    /// Whose it is.
    owner: u32,
}

/// What makes full templates of quantised ones, row after row.
enum Full {
    /// The full vectors themselves.
    Fine(Mapped<f32>),
    /// What quantisation left of rounded ones.
    Rests(Mapped<i8>),
}

/// At most [`SEGMENT_ROWS`] rows, free or taken.
pub(super) struct Segment {
    dimensions: usize,
    /// Whether what every search reads lies in large pages: where there are many rows already.
    is_large: bool,
    quantised: Lines,
    known: Vec<Known>,
    /// By chunk.
    full: Vec<Full>,
    /// Empty until a chunk is sketched.
    sketches: Lines,
    /// What those of each chunk were made with.
    lenses: [Option<Arc<Lens>>; SEGMENT_CHUNKS],
}

impl Segment {
    /// Without rows; `is_large` in large pages, which is faster, and takes memory for more than there may be.
    pub(super) fn new(dimensions: usize, is_large: bool) -> Self {
        Self {
            dimensions,
            is_large,
            quantised: Lines::new(SEGMENT_ROWS * dimensions, is_large),
            known: Vec::with_capacity(SEGMENT_ROWS),
            full: Vec::with_capacity(SEGMENT_CHUNKS),
            sketches: Lines::default(),
            lenses: [const { None }; SEGMENT_CHUNKS],
        }
    }

    /// Chunks in use.
    #[inline(always)]
    pub(super) fn chunks(&self) -> usize {
        self.full.len()
    }

    /// Adds a chunk of free rows, of full templates or rounded ones, to be sketched through a lens where there is one;
    /// none where the system has no memory for it.
    pub(super) fn grow(&mut self, is_rounded: bool, lens: Option<&Arc<Lens>>) -> Option<()> {
        let length = CHUNK_ROWS * self.dimensions;
        let full = if is_rounded {
            Mapped::new(length).map(Full::Rests)
        } else {
            Mapped::new(length).map(Full::Fine)
        };
        self.full.push(full?);
        self.known.resize(self.full.len() * CHUNK_ROWS, FREE);
        if let Some(lens) = lens {
            self.begin(self.full.len() - 1, lens);
        }
        Some(())
    }

    /// The person whose row it is; none for a free one.
    #[inline(always)]
    pub(super) fn owner(&self, row: usize) -> Option<u32> {
        self.known.get(row).map(|known| known.owner).filter(|owner| *owner != NOBODY)
    }

    /// What is known of the quantisation of a row.
    #[inline(always)]
    pub(super) fn coarse(&self, row: usize) -> &Coarse {
        &self.known[row].coarse
    }

    /// What is known of the rows of a block, which begins with this row.
    #[inline(always)]
    pub(super) fn known(&self, first: usize) -> &[Known; BLOCK] {
        &self.known.as_chunks::<BLOCK>().0[first / BLOCK]
    }

    /// The quantised vector of a row, of a free one zeros.
    #[inline(always)]
    pub(super) fn quantised(&self, row: usize) -> &[i8] {
        bytemuck::cast_slice(&self.quantised.all()[row * self.dimensions..(row + 1) * self.dimensions])
    }

    /// The quantised vectors of a chunk, one after another.
    #[inline(always)]
    pub(super) fn quantised_chunk(&self, chunk: usize) -> &[i8] {
        let length = CHUNK_ROWS * self.dimensions;
        bytemuck::cast_slice(&self.quantised.all()[chunk * length..(chunk + 1) * length])
    }

    /// Place of a row in the full templates of its chunk.
    #[inline(always)]
    fn fields(&self, row: usize) -> std::ops::Range<usize> {
        let row = row % CHUNK_ROWS;
        row * self.dimensions..(row + 1) * self.dimensions
    }

    /// Owner of a row and its squared distance, the one that counts; none for a free one.
    #[inline(always)]
    pub(super) fn square(&self, row: usize, probe: &[f32]) -> Option<(u32, f32)> {
        let owner = self.owner(row)?;
        let square = match &self.full[row / CHUNK_ROWS] {
            Full::Fine(fine) => square_distance(probe, &fine[self.fields(row)]),
            Full::Rests(rests) => {
                let rests = &rests[self.fields(row)];
                square_distance_told(probe, self.quantised(row), rests, self.coarse(row).scale)
            }
        };
        Some((owner, square))
    }

    /// The full vector of a row; none where templates are rounded.
    pub(super) fn fine(&self, row: usize) -> Option<&[f32]> {
        match self.full.get(row / CHUNK_ROWS)? {
            Full::Fine(fine) => fine.get(self.fields(row)),
            Full::Rests(_) => None,
        }
    }

    /// A copy of the vector of a row.
    pub(super) fn vector(&self, row: usize) -> Zeroizing<Vec<f32>> {
        Zeroizing::new(match &self.full[row / CHUNK_ROWS] {
            Full::Fine(fine) => fine[self.fields(row)].to_vec(),
            Full::Rests(rests) => {
                let (scale, rests) = (self.coarse(row).scale, &rests[self.fields(row)]);
                self.quantised(row).iter().zip(rests).map(|(q, rest)| told(*q, *rest, scale)).collect()
            }
        })
    }

    /// Puts a template into a row.
    pub(super) fn put(&mut self, row: usize, owner: u32, template: &Probe) {
        let fields = self.fields(row);
        match &mut self.full[row / CHUNK_ROWS] {
            Full::Fine(fine) => fine[fields].copy_from_slice(&template.fine),
            Full::Rests(rests) => {
                let components = template.fine.iter().zip(&*template.quantised);
                let rests = rests[fields].iter_mut().zip(components);
                rests.for_each(|(to, (x, q))| *to = rest(*x, *q, template.coarse.scale));
            }
        }
        let place = row * self.dimensions..(row + 1) * self.dimensions;
        self.quantised.part(place).copy_from_slice(bytemuck::cast_slice(&template.quantised));
        self.known[row] = Known { coarse: template.coarse, owner };
    }

    /// Wipes a row and frees it.
    pub(super) fn clear(&mut self, row: usize) {
        self.known[row] = FREE;
        self.quantised.part(row * self.dimensions..(row + 1) * self.dimensions).zeroize();
        let fields = self.fields(row);
        match &mut self.full[row / CHUNK_ROWS] {
            Full::Fine(fine) => fine[fields].zeroize(),
            Full::Rests(rests) => rests[fields].zeroize(),
        }
        self.set(row, [0; SKETCH]);
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
        let bytes = self.sketches.all().get(chunk * CHUNK_BYTES..(chunk + 1) * CHUNK_BYTES);
        bytes.unwrap_or_default().as_chunks::<BLOCK>().0.as_chunks::<SKETCH>().0
    }

    /// Asks the memory for what a look at a row reads, and does not wait for it.
    #[inline(always)]
    pub(super) fn fetch(&self, row: usize) {
        let place = row * self.dimensions..(row + 1) * self.dimensions;
        place.step_by(LINE).for_each(|at| prefetch_index(self.quantised.all(), at));
        prefetch_index(&self.known, row);
    }

    /// Makes room for a chunk's sketches through a lens, all rows as free ones.
    pub(super) fn begin(&mut self, chunk: usize, lens: &Arc<Lens>) {
        if self.sketches.is_empty() {
            self.sketches = Lines::new(CHUNK_BYTES * SEGMENT_CHUNKS, self.is_large);
        }
        if self.lenses[chunk].replace(Arc::clone(lens)).is_some() {
            self.sketches.part(chunk * CHUNK_BYTES..(chunk + 1) * CHUNK_BYTES).zeroize();
        }
    }

    /// Sketches a row where it is taken and its chunk has sketches; by how much that was rounded, in steps.
    pub(super) fn sketch(&mut self, row: usize) -> Option<f32> {
        self.owner(row)?;
        let (sketch, error) = self.lens(row / CHUNK_ROWS)?.template(&self.vector(row));
        self.set(row, sketch);
        Some(error)
    }

    /// Sets a row's sketch; zeros are those of a free row.
    fn set(&mut self, row: usize, sketch: [u8; SKETCH]) {
        if !self.sketches.is_empty() {
            let block = row / BLOCK * (BLOCK * SKETCH);
            let rows = self.sketches.part(block..block + BLOCK * SKETCH).iter_mut();
            let coordinates = rows.skip(row % BLOCK).step_by(BLOCK).zip(sketch);
            coordinates.for_each(|(to, coordinate)| *to = coordinate);
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
        let mut segment = Segment::new(64, false);
        assert!(segment.lens(3).is_none() && segment.blocks(3).is_empty());
        let first = lens();
        segment.begin(3, &first);
        for row in 0..CHUNK_ROWS {
            segment.set(3 * CHUNK_ROWS + row, std::array::from_fn(|i| (row + i) as u8));
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
