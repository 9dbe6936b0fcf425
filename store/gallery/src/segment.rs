//! The rows of a part of a table: templates, their quantization, and their sketches.
//!
//! Data that every search reads is stored by kind: all sketches of the segment are contiguous, because memory
//! is fastest in long runs. The address of a quantized template follows from its row, so that the processor
//! can prefetch many of them. Full templates are read rarely and stored in chunks. Unused parts of a chunk
//! take no memory.

use std::sync::Arc;

use prefetch_index::prefetch_index;
use zeroize::{Zeroize, Zeroizing};

use super::aligned_buffer::{AlignedBuffer, CACHE_LINE_BYTES};
use super::mapped::Mapped;
use super::sketch::{Lens, SKETCH};
use super::vector::{Coarse, Probe, residual, restored, square_distance, square_distance_restored};

/// Rows whose sketches are stored coordinate by coordinate, so that vector instructions compare all of them
/// at once.
pub(super) const BLOCK: usize = 64;
/// Blocks of sketches per chunk.
pub(super) const CHUNK_BLOCKS: usize = CHUNK_ROWS / BLOCK;
/// Rows by which a segment grows and is sketched: 32 KiB of quantized 128-d templates, which fit a
/// first-level cache.
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
pub(super) const NO_OWNER: u32 = u32::MAX;
/// A free row: without an owner, and infinitely far from every probe.
const FREE: RowInfo =
    RowInfo { coarse: Coarse { scale: 0.0, square: f32::INFINITY, error: 0.0 }, owner: NO_OWNER };

/// Metadata of a row, in one cache line, because nearly all of it is read together.
#[derive(Clone, Copy)]
#[repr(align(16))]
pub(super) struct RowInfo {
    /// Quantization of the template.
    pub coarse: Coarse,
    /// Index of the person.
    owner: u32,
}

/// The data that completes quantized templates, row by row.
enum Full {
    /// The full vectors.
    Fine(Mapped<f32>),
    /// Quantization residuals of rounded vectors.
    Residuals(Mapped<i8>),
}

/// At most [`SEGMENT_ROWS`] rows, free or taken.
pub(super) struct Segment {
    dimensions: usize,
    /// Whether data that every search reads is in large pages: in tables with many rows.
    is_large: bool,
    quantised: AlignedBuffer,
    row_info: Vec<RowInfo>,
    /// By chunk.
    full: Vec<Full>,
    /// Empty until a chunk is sketched.
    sketches: AlignedBuffer,
    /// The lens of each chunk's sketches.
    lenses: [Option<Arc<Lens>>; SEGMENT_CHUNKS],
}

impl Segment {
    /// Without rows. With `is_large`, in large pages: faster, but with memory for rows that may never be
    /// used.
    pub(super) fn new(dimensions: usize, is_large: bool) -> Self {
        Self {
            dimensions,
            is_large,
            quantised: AlignedBuffer::new(SEGMENT_ROWS * dimensions, is_large),
            row_info: Vec::with_capacity(SEGMENT_ROWS),
            full: Vec::with_capacity(SEGMENT_CHUNKS),
            sketches: AlignedBuffer::default(),
            lenses: [const { None }; SEGMENT_CHUNKS],
        }
    }

    /// Chunks in use.
    #[inline(always)]
    pub(super) fn chunks(&self) -> usize {
        self.full.len()
    }

    /// Adds a chunk of free rows for full or rounded templates, with sketches if there is a lens. None if
    /// there is no memory for it.
    pub(super) fn grow(&mut self, is_rounded: bool, lens: Option<&Arc<Lens>>) -> Option<()> {
        let length = CHUNK_ROWS * self.dimensions;
        let full = if is_rounded {
            Mapped::new(length).map(Full::Residuals)
        } else {
            Mapped::new(length).map(Full::Fine)
        };
        self.full.push(full?);
        self.row_info.resize(self.full.len() * CHUNK_ROWS, FREE);
        if let Some(lens) = lens {
            self.begin(self.full.len() - 1, lens);
        }
        Some(())
    }

    /// The owner of a row; none for a free one.
    #[inline(always)]
    pub(super) fn owner(&self, row: usize) -> Option<u32> {
        self.row_info.get(row).map(|row_info| row_info.owner).filter(|owner| *owner != NO_OWNER)
    }

    /// Quantization of a row.
    #[inline(always)]
    pub(super) fn coarse(&self, row: usize) -> &Coarse {
        &self.row_info[row].coarse
    }

    /// Metadata of the rows of a block that begins with this row.
    #[inline(always)]
    pub(super) fn row_info(&self, first: usize) -> &[RowInfo; BLOCK] {
        &self.row_info.as_chunks::<BLOCK>().0[first / BLOCK]
    }

    /// The quantized vector of a row; zeros for a free one.
    #[inline(always)]
    pub(super) fn quantised(&self, row: usize) -> &[i8] {
        bytemuck::cast_slice(&self.quantised.all()[row * self.dimensions..(row + 1) * self.dimensions])
    }

    /// The quantized vectors of a chunk, one after another.
    #[inline(always)]
    pub(super) fn quantised_chunk(&self, chunk: usize) -> &[i8] {
        let length = CHUNK_ROWS * self.dimensions;
        bytemuck::cast_slice(&self.quantised.all()[chunk * length..(chunk + 1) * length])
    }

    /// Range of a row in the full templates of its chunk.
    #[inline(always)]
    fn fields(&self, row: usize) -> std::ops::Range<usize> {
        let row = row % CHUNK_ROWS;
        row * self.dimensions..(row + 1) * self.dimensions
    }

    /// Owner and exact squared distance of a row; none for a free one.
    #[inline(always)]
    pub(super) fn square(&self, row: usize, probe: &[f32]) -> Option<(u32, f32)> {
        let owner = self.owner(row)?;
        let square = match &self.full[row / CHUNK_ROWS] {
            Full::Fine(fine) => square_distance(probe, &fine[self.fields(row)]),
            Full::Residuals(residuals) => {
                let residuals = &residuals[self.fields(row)];
                square_distance_restored(probe, self.quantised(row), residuals, self.coarse(row).scale)
            }
        };
        Some((owner, square))
    }

    /// The full vector of a row; none if templates are rounded.
    pub(super) fn fine(&self, row: usize) -> Option<&[f32]> {
        match self.full.get(row / CHUNK_ROWS)? {
            Full::Fine(fine) => fine.get(self.fields(row)),
            Full::Residuals(_) => None,
        }
    }

    /// A copy of the vector of a row.
    pub(super) fn vector(&self, row: usize) -> Zeroizing<Vec<f32>> {
        Zeroizing::new(match &self.full[row / CHUNK_ROWS] {
            Full::Fine(fine) => fine[self.fields(row)].to_vec(),
            Full::Residuals(residuals) => {
                let (scale, residuals) = (self.coarse(row).scale, &residuals[self.fields(row)]);
                self.quantised(row)
                    .iter()
                    .zip(residuals)
                    .map(|(q, residual)| restored(*q, *residual, scale))
                    .collect()
            }
        })
    }

    /// Stores a template in a row.
    pub(super) fn put(&mut self, row: usize, owner: u32, template: &Probe) {
        let fields = self.fields(row);
        match &mut self.full[row / CHUNK_ROWS] {
            Full::Fine(fine) => fine[fields].copy_from_slice(&template.fine),
            Full::Residuals(residuals) => {
                let components = template.fine.iter().zip(&*template.quantised);
                let residuals = residuals[fields].iter_mut().zip(components);
                residuals.for_each(|(to, (x, q))| *to = residual(*x, *q, template.coarse.scale));
            }
        }
        let place = row * self.dimensions..(row + 1) * self.dimensions;
        self.quantised.part(place).copy_from_slice(bytemuck::cast_slice(&template.quantised));
        self.row_info[row] = RowInfo { coarse: template.coarse, owner };
    }

    /// Wipes a row and frees it.
    pub(super) fn clear(&mut self, row: usize) {
        self.row_info[row] = FREE;
        self.quantised.part(row * self.dimensions..(row + 1) * self.dimensions).zeroize();
        let fields = self.fields(row);
        match &mut self.full[row / CHUNK_ROWS] {
            Full::Fine(fine) => fine[fields].zeroize(),
            Full::Residuals(residuals) => residuals[fields].zeroize(),
        }
        self.set(row, [0; SKETCH]);
    }

    /// The lens of a chunk's sketches; none without sketches.
    pub(super) fn lens(&self, chunk: usize) -> Option<&Arc<Lens>> {
        self.lenses.get(chunk)?.as_ref()
    }

    /// Whether a chunk's sketches were computed with this lens.
    #[inline(always)]
    pub(super) fn is_through(&self, lens: &Arc<Lens>, chunk: usize) -> bool {
        self.lens(chunk).is_some_and(|own| Arc::ptr_eq(own, lens))
    }

    /// A chunk's sketches; empty if there are none.
    #[inline(always)]
    pub(super) fn blocks(&self, chunk: usize) -> &[Block] {
        let bytes = self.sketches.all().get(chunk * CHUNK_BYTES..(chunk + 1) * CHUNK_BYTES);
        bytes.unwrap_or_default().as_chunks::<BLOCK>().0.as_chunks::<SKETCH>().0
    }

    /// Prefetches the data of a row.
    #[inline(always)]
    pub(super) fn fetch(&self, row: usize) {
        let place = row * self.dimensions..(row + 1) * self.dimensions;
        place.step_by(CACHE_LINE_BYTES).for_each(|at| prefetch_index(self.quantised.all(), at));
        prefetch_index(&self.row_info, row);
    }

    /// Prepares a chunk's sketches for a lens, with all rows free.
    pub(super) fn begin(&mut self, chunk: usize, lens: &Arc<Lens>) {
        if self.sketches.is_empty() {
            self.sketches = AlignedBuffer::new(CHUNK_BYTES * SEGMENT_CHUNKS, self.is_large);
        }
        if self.lenses[chunk].replace(Arc::clone(lens)).is_some() {
            self.sketches.part(chunk * CHUNK_BYTES..(chunk + 1) * CHUNK_BYTES).zeroize();
        }
    }

    /// Sketches a row if it is taken and its chunk has sketches; returns the rounding error in steps.
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
