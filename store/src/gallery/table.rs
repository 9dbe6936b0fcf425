//! The templates in memory: quantised and full, in chunks that never move.
//!
//! A chunk is allocated once and wiped when it goes, so growth leaves no unwiped copy behind; a row that is
//! removed is wiped at once and its slot is used again. A slot stays what it is for as long as its template lives.

use std::sync::Arc;

use zeroize::{Zeroize, Zeroizing};

use super::sketch::{Lens, SKETCH};
use super::vector::{Coarse, Probe};

/// Rows per chunk: 32 KiB of quantised 128-d templates, which a first-level cache holds, and at most 168 KiB of
/// unused memory.
pub(super) const CHUNK_ROWS: usize = 256;

/// Rows whose sketches lie together, coordinate after coordinate, so that all of them are compared at once.
pub(super) const BLOCK: usize = 32;

/// Templates from which on sketches pay; below it the full scan takes a few microseconds.
pub(super) const LENS_MINIMUM: usize = 1024;
/// A gallery that has grown by this factor gets a new lens: its widest directions may be others.
const LENS_GROWTH: usize = 4;
/// Templates that a lens is made from: the widest directions of many thousands show in as many.
const LENS_SAMPLE: usize = 1024;

/// Sketches of a block, coordinate after coordinate.
pub(super) type Block = [[u8; BLOCK]; SKETCH];

/// Owner of a free row.
const NOBODY: u32 = u32::MAX;

/// The quantisation of a free row: infinitely far from everything.
const FREE: Coarse = Coarse { scale: 0.0, square: f32::INFINITY, error: 0.0 };

/// The template of a slot.
pub(super) struct Template<'a> {
    /// The person's place in the list of people.
    pub owner: u32,
    /// What is known of the quantisation.
    pub coarse: Coarse,
    /// The quantised vector.
    pub quantised: &'a [i8],
    /// The full vector.
    pub fine: &'a [f32],
}

/// [`CHUNK_ROWS`] rows, free or taken. One array per property, so that a scan reads only what it needs.
pub(super) struct Chunk {
    quantised: Zeroizing<Vec<i8>>,
    fine: Zeroizing<Vec<f32>>,
    /// See [`Coarse`], row by row.
    pub scales: [f32; CHUNK_ROWS],
    /// See [`Coarse`]; infinite for a free row.
    pub squares: [f32; CHUNK_ROWS],
    /// See [`Coarse`].
    pub errors: [f32; CHUNK_ROWS],
    owners: [u32; CHUNK_ROWS],
    sketches: Zeroizing<Vec<Block>>,
    /// What they were made with.
    lens: Option<Arc<Lens>>,
}

impl Chunk {
    fn new(dimensions: usize) -> Self {
        Self {
            quantised: Zeroizing::new(vec![0; CHUNK_ROWS * dimensions]),
            fine: Zeroizing::new(vec![0.0; CHUNK_ROWS * dimensions]),
            scales: [FREE.scale; CHUNK_ROWS],
            squares: [FREE.square; CHUNK_ROWS],
            errors: [FREE.error; CHUNK_ROWS],
            owners: [NOBODY; CHUNK_ROWS],
            sketches: Zeroizing::new(Vec::new()),
            lens: None,
        }
    }

    /// The sketches, where they were made with this lens.
    #[inline]
    pub(super) fn sketches(&self, lens: &Arc<Lens>) -> Option<&[Block]> {
        self.lens.as_ref().is_some_and(|own| Arc::ptr_eq(own, lens)).then_some(&self.sketches)
    }

    /// Whether there are no sketches.
    pub(super) fn is_plain(&self) -> bool {
        self.lens.is_none()
    }

    /// Sketches every row anew.
    fn look_through(&mut self, lens: &Arc<Lens>, dimensions: usize) {
        self.sketches = Zeroizing::new(vec![[[0; BLOCK]; SKETCH]; CHUNK_ROWS / BLOCK]);
        self.lens = Some(Arc::clone(lens));
        for row in 0..CHUNK_ROWS {
            if self.owners[row] != NOBODY {
                self.sketch(row, dimensions);
            }
        }
    }

    /// Sketches a row.
    fn sketch(&mut self, row: usize, dimensions: usize) {
        let Some(lens) = &self.lens else { return };
        let sketch = lens.template(&self.fine[row * dimensions..(row + 1) * dimensions]);
        self.set_sketch(row, sketch);
    }

    fn set_sketch(&mut self, row: usize, sketch: [u8; SKETCH]) {
        if let Some(block) = self.sketches.get_mut(row / BLOCK) {
            block.iter_mut().zip(sketch).for_each(|(rows, coordinate)| rows[row % BLOCK] = coordinate);
        }
    }

    /// Owner and full vector of a row; none for a free one.
    #[inline]
    pub(super) fn fine(&self, row: usize, dimensions: usize) -> Option<(u32, &[f32])> {
        let owner = *self.owners.get(row).filter(|owner| **owner != NOBODY)?;
        Some((owner, &self.fine[row * dimensions..(row + 1) * dimensions]))
    }

    fn set(&mut self, row: usize, owner: u32, Coarse { scale, square, error }: Coarse) {
        self.owners[row] = owner;
        self.scales[row] = scale;
        self.squares[row] = square;
        self.errors[row] = error;
    }

    /// The quantised vector of a row.
    #[inline(always)]
    pub(super) fn quantised_row(&self, row: usize, dimensions: usize) -> &[i8] {
        &self.quantised[row * dimensions..(row + 1) * dimensions]
    }

    /// The quantised vectors, row after row, free ones as zeros.
    #[inline(always)]
    pub(super) fn quantised(&self, dimensions: usize) -> std::slice::ChunksExact<'_, i8> {
        self.quantised.chunks_exact(dimensions)
    }
}

/// All templates.
pub(super) struct Table {
    dimensions: usize,
    chunks: Vec<Box<Chunk>>,
    free: Vec<u32>,
    taken: usize,
    /// The lenses that chunks have, and last the one that all will have.
    lenses: Vec<Arc<Lens>>,
    /// Templates at which the last attempt at a lens was made, successful or not.
    lens_tried: usize,
}

impl Table {
    /// An empty table.
    pub(super) fn new(dimensions: usize) -> Self {
        let (chunks, free, lenses) = (Vec::new(), Vec::new(), Vec::new());
        Self { dimensions, chunks, free, taken: 0, lenses, lens_tried: 0 }
    }

    /// Templates held.
    pub(super) fn taken(&self) -> usize {
        self.taken
    }

    /// The chunks in order of slots.
    pub(super) fn chunks(&self) -> &[Box<Chunk>] {
        &self.chunks
    }

    /// Slots, free or taken.
    pub(super) fn slots(&self) -> u32 {
        u32::try_from(self.chunks.len() * CHUNK_ROWS).unwrap_or(NOBODY)
    }

    /// Puts a template into a free slot; none where there is no room for another chunk in 32-bit slots.
    pub(super) fn insert(&mut self, owner: u32, template: &Probe) -> Option<u32> {
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => self.grow()?,
        };
        let (chunk, row) = place(slot);
        let fields = row * self.dimensions..(row + 1) * self.dimensions;
        let chunk = self.chunks.get_mut(chunk)?;
        chunk.quantised[fields.clone()].copy_from_slice(&template.quantised);
        chunk.fine[fields].copy_from_slice(&template.fine);
        chunk.set(row, owner, template.coarse);
        chunk.sketch(row, self.dimensions);
        self.taken += 1;
        Some(slot)
    }

    /// Wipes a template and frees its slot.
    pub(super) fn remove(&mut self, slot: u32) {
        let (chunk, row) = place(slot);
        let fields = row * self.dimensions..(row + 1) * self.dimensions;
        let Some(chunk) = self.chunks.get_mut(chunk).filter(|chunk| chunk.owners[row] != NOBODY) else {
            return;
        };
        chunk.set(row, NOBODY, FREE);
        chunk.quantised[fields.clone()].zeroize();
        chunk.fine[fields].zeroize();
        chunk.set_sketch(row, [0; SKETCH]);
        self.free.push(slot);
        self.taken -= 1;
    }

    /// The template in a slot; none for a free one.
    pub(super) fn get(&self, slot: u32) -> Option<Template<'_>> {
        let (chunk, row) = place(slot);
        let chunk = self.chunks.get(chunk)?;
        let (owner, fine) = chunk.fine(row, self.dimensions)?;
        let quantised = &chunk.quantised[row * self.dimensions..(row + 1) * self.dimensions];
        let coarse =
            Coarse { scale: chunk.scales[row], square: chunk.squares[row], error: chunk.errors[row] };
        Some(Template { owner, coarse, quantised, fine })
    }

    /// The lenses in use.
    pub(super) fn lenses(&self) -> &[Arc<Lens>] {
        &self.lenses
    }

    /// Whether a lens is due, or the chunks are not through with the last one.
    pub(super) fn wants_lens(&self) -> bool {
        self.lenses.len() > 1 || self.taken >= LENS_MINIMUM.max(self.lens_tried * LENS_GROWTH)
    }

    /// Vectors to make a lens from, spread over all templates.
    pub(super) fn lens_sample(&self) -> Zeroizing<Vec<f32>> {
        let stride = (self.taken / LENS_SAMPLE).max(1);
        let mut sample = Zeroizing::new(Vec::with_capacity((self.taken / stride + 1) * self.dimensions));
        let taken = (0..self.slots()).filter_map(|slot| self.get(slot));
        taken.step_by(stride).for_each(|template| sample.extend_from_slice(template.fine));
        sample
    }

    /// Takes a new lens, for new chunks at once and for the others with [`Table::look_through`]; with none, notes
    /// that these templates have none.
    pub(super) fn set_lens(&mut self, lens: Option<Lens>) {
        self.lens_tried = self.taken;
        self.lenses.extend(lens.map(Arc::new));
    }

    /// Sketches a chunk anew; false behind the last one, after which only the last lens is in use.
    pub(super) fn look_through(&mut self, chunk: usize) -> bool {
        let Some(lens) = self.lenses.last() else { return false };
        match self.chunks.get_mut(chunk) {
            Some(chunk) if chunk.sketches(lens).is_none() => chunk.look_through(lens, self.dimensions),
            Some(_) => {}
            None => {
                self.lenses.drain(..self.lenses.len() - 1);
                return false;
            }
        }
        true
    }

    /// Adds a chunk and returns its first slot, leaving the others free, the lowest to be used first.
    fn grow(&mut self) -> Option<u32> {
        let first = u32::try_from(self.chunks.len() * CHUNK_ROWS).ok()?;
        let end = first.checked_add(u32::try_from(CHUNK_ROWS).ok()?).filter(|end| *end < NOBODY)?;
        let mut chunk = Box::new(Chunk::new(self.dimensions));
        if let Some(lens) = self.lenses.last() {
            chunk.look_through(lens, self.dimensions);
        }
        self.chunks.push(chunk);
        self.free.extend((first + 1..end).rev());
        Some(first)
    }
}

/// Chunk and row of a slot.
fn place(slot: u32) -> (usize, usize) {
    let slot = slot as usize;
    (slot / CHUNK_ROWS, slot % CHUNK_ROWS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn removed_template_leaves_no_byte_behind() {
        let mut table = Table::new(3);
        let slot = table.insert(0, &Probe::new(&[0.1, 0.2, 0.3], false)).unwrap();
        let other = table.insert(1, &Probe::new(&[0.4, 0.5, 0.6], false)).unwrap();
        table.remove(slot);
        table.remove(slot);
        assert!(table.get(slot).is_none());
        assert_eq!(table.get(other).unwrap().fine, [0.4, 0.5, 0.6]);
        let chunk = &table.chunks[0];
        assert_eq!(chunk.fine[..3], [0.0; 3]);
        assert_eq!(chunk.quantised[..3], [0; 3]);
        assert_eq!(table.taken(), 1);
    }

    #[test]
    fn free_slots_are_used_before_the_table_grows() {
        let mut table = Table::new(2);
        let template = Probe::new(&[0.1, 0.2], false);
        let slots: Vec<u32> = (0..300).map(|i| table.insert(i, &template).unwrap()).collect();
        assert_eq!(slots, (0..300).collect::<Vec<u32>>());
        table.remove(17);
        assert_eq!(table.insert(9, &template), Some(17));
        assert_eq!(table.slots(), 512);
    }
}
