//! The templates in memory: quantised and full, in chunks that never move.
//!
//! A chunk is allocated once and wiped when it goes, so growth leaves no unwiped copy behind; a row that is
//! removed is wiped at once and its slot is used again. A slot stays what it is for as long as its template lives.

use zeroize::{Zeroize, Zeroizing};

use super::vector::{Coarse, Probe};

/// Rows per chunk: 32 KiB of quantised 128-d templates, which a first-level cache holds, and at most 168 KiB of
/// unused memory.
pub(super) const CHUNK_ROWS: usize = 256;

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
}

impl Table {
    /// An empty table.
    pub(super) fn new(dimensions: usize) -> Self {
        Self { dimensions, chunks: Vec::new(), free: Vec::new(), taken: 0 }
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

    /// Adds a chunk and returns its first slot, leaving the others free, the lowest to be used first.
    fn grow(&mut self) -> Option<u32> {
        let first = u32::try_from(self.chunks.len() * CHUNK_ROWS).ok()?;
        let end = first.checked_add(u32::try_from(CHUNK_ROWS).ok()?).filter(|end| *end < NOBODY)?;
        self.chunks.push(Box::new(Chunk::new(self.dimensions)));
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
