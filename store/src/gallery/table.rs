//! The templates in memory: quantised and full, or quantised alone, in chunks that never move.
//!
//! A chunk is allocated once and wiped when it goes, so growth leaves no unwiped copy behind; a row that is
//! removed is wiped at once and its slot is used again. A slot stays what it is for as long as its template lives.

use std::sync::Arc;

use zeroize::{Zeroize, Zeroizing};

use super::segment::{SEGMENT_CHUNKS, Segment};
use super::sketch::{Lens, SKETCH};
use super::vector::{Coarse, Probe, rest, square_distance, square_distance_told, told};

/// Rows per chunk: 32 KiB of quantised 128-d templates, which a first-level cache holds, and at most 168 KiB of
/// unused memory.
pub(super) const CHUNK_ROWS: usize = 256;

/// Templates from which on sketches pay; below it the full scan takes a few microseconds.
pub(super) const LENS_MINIMUM: usize = 512;
/// A gallery that has grown by this factor gets a new lens: its widest directions may be others.
const LENS_GROWTH: usize = 4;
/// Templates that a lens is made from: the widest directions of many thousands show in as many.
const LENS_SAMPLE: usize = 1024;

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
    /// The full vectors; empty in a table of rounded templates.
    fine: Zeroizing<Vec<f32>>,
    /// What makes rounded templates of quantised ones; empty in a table of full ones.
    rests: Zeroizing<Vec<i8>>,
    /// What is known of their quantisation: together, since a look at one row takes all three.
    pub coarse: [Coarse; CHUNK_ROWS],
    owners: [u32; CHUNK_ROWS],
}

impl Chunk {
    fn new(dimensions: usize, is_rounded: bool) -> Self {
        let (fine, rests) =
            if is_rounded { (0, CHUNK_ROWS * dimensions) } else { (CHUNK_ROWS * dimensions, 0) };
        Self {
            quantised: Zeroizing::new(vec![0; CHUNK_ROWS * dimensions]),
            fine: Zeroizing::new(vec![0.0; fine]),
            rests: Zeroizing::new(vec![0; rests]),
            coarse: [FREE; CHUNK_ROWS],
            owners: [NOBODY; CHUNK_ROWS],
        }
    }

    /// The person whose row it is; none for a free one.
    #[inline(always)]
    fn owner(&self, row: usize) -> Option<u32> {
        self.owners.get(row).copied().filter(|owner| *owner != NOBODY)
    }

    /// Owner of a row and its squared distance, the one that counts; none for a free one.
    #[inline(always)]
    pub(super) fn square(&self, row: usize, probe: &[f32]) -> Option<(u32, f32)> {
        let owner = self.owner(row)?;
        let fields = row * probe.len()..(row + 1) * probe.len();
        let square = match (self.fine.get(fields.clone()), self.rests.get(fields.clone())) {
            (None, Some(rests)) => {
                square_distance_told(probe, &self.quantised[fields], rests, self.coarse[row].scale)
            }
            (fine, _) => square_distance(probe, fine?),
        };
        Some((owner, square))
    }

    /// A copy of the vector of a row.
    fn vector(&self, row: usize, dimensions: usize) -> Zeroizing<Vec<f32>> {
        let fields = row * dimensions..(row + 1) * dimensions;
        let quantised = &self.quantised[fields.clone()];
        let rests = self.rests.get(fields.clone()).into_iter().flatten();
        Zeroizing::new(match self.fine.get(fields) {
            Some(fine) => fine.to_vec(),
            None => {
                quantised.iter().zip(rests).map(|(q, rest)| told(*q, *rest, self.coarse[row].scale)).collect()
            }
        })
    }

    fn set(&mut self, row: usize, owner: u32, coarse: Coarse) {
        self.owners[row] = owner;
        self.coarse[row] = coarse;
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
    /// Whether templates are kept in sixteen bits per component.
    is_rounded: bool,
    chunks: Vec<Box<Chunk>>,
    /// Their sketches.
    segments: Vec<Segment>,
    free: Vec<u32>,
    taken: usize,
    /// The lenses that chunks have, and last the one that all will have.
    lenses: Vec<Arc<Lens>>,
    /// Templates at which the last attempt at a lens was made, successful or not.
    lens_tried: usize,
    /// Whether chunks are on their way to the last lens.
    is_looking: bool,
    /// The most by which a sketch was rounded, in steps.
    sketch_error: f32,
}

impl Table {
    /// An empty table.
    pub(super) fn new(dimensions: usize) -> Self {
        Self {
            dimensions,
            is_rounded: false,
            chunks: Vec::new(),
            segments: Vec::new(),
            free: Vec::new(),
            taken: 0,
            lenses: Vec::new(),
            lens_tried: 0,
            is_looking: false,
            sketch_error: 0.0,
        }
    }

    /// An empty table of templates that are [rounded](Probe::rounded): two thirds less memory.
    pub(super) fn rounded(dimensions: usize) -> Self {
        Self { is_rounded: true, ..Self::new(dimensions) }
    }

    /// Templates held.
    pub(super) fn taken(&self) -> usize {
        self.taken
    }

    /// The chunks in order of slots.
    pub(super) fn chunks(&self) -> &[Box<Chunk>] {
        &self.chunks
    }

    /// The chunks with their sketches, in runs of [`SEGMENT_CHUNKS`].
    #[inline(always)]
    pub(super) fn segments(&self) -> impl Iterator<Item = (&Segment, &[Box<Chunk>])> {
        self.segments.iter().zip(self.chunks.chunks(SEGMENT_CHUNKS))
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
        if let Some(fine) = chunk.fine.get_mut(fields.clone()) {
            fine.copy_from_slice(&template.fine);
        }
        if let Some(rests) = chunk.rests.get_mut(fields) {
            let components = template.fine.iter().zip(&*template.quantised);
            rests
                .iter_mut()
                .zip(components)
                .for_each(|(to, (x, q))| *to = rest(*x, *q, template.coarse.scale));
        }
        chunk.set(row, owner, template.coarse);
        self.sketch(place(slot));
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
        if let Some(fine) = chunk.fine.get_mut(fields.clone()) {
            fine.zeroize();
        }
        if let Some(rests) = chunk.rests.get_mut(fields) {
            rests.zeroize();
        }
        self.segments[place(slot).0 / SEGMENT_CHUNKS].set(place(slot).0 % SEGMENT_CHUNKS, row, [0; SKETCH]);
        self.free.push(slot);
        self.taken -= 1;
    }

    /// Squared distance of the template in a slot; none for a free one.
    pub(super) fn square(&self, slot: u32, probe: &[f32]) -> Option<f32> {
        let (chunk, row) = place(slot);
        self.chunks.get(chunk)?.square(row, probe).map(|(_, square)| square)
    }

    /// The template in a slot; none for a free one, and where templates are rounded.
    pub(super) fn get(&self, slot: u32) -> Option<Template<'_>> {
        let (chunk, row) = place(slot);
        let chunk = self.chunks.get(chunk)?;
        let owner = chunk.owner(row)?;
        let fine = chunk.fine.get(row * self.dimensions..(row + 1) * self.dimensions)?;
        let quantised = chunk.quantised_row(row, self.dimensions);
        Some(Template { owner, coarse: chunk.coarse[row], quantised, fine })
    }

    /// The lenses in use.
    pub(super) fn lenses(&self) -> &[Arc<Lens>] {
        &self.lenses
    }

    /// No sketch was rounded by more than this, in steps.
    pub(super) fn sketch_error(&self) -> f32 {
        self.sketch_error
    }

    /// Whether a lens is due, or the chunks are not through with the last one.
    pub(super) fn wants_lens(&self) -> bool {
        self.is_looking || self.taken >= LENS_MINIMUM.max(self.lens_tried * LENS_GROWTH)
    }

    /// Whether the chunks are not through with the last lens.
    pub(super) fn is_looking(&self) -> bool {
        self.is_looking
    }

    /// Vectors to make a lens from, spread over all templates.
    pub(super) fn lens_sample(&self) -> Zeroizing<Vec<f32>> {
        let stride = self.taken.div_ceil(LENS_SAMPLE).max(1);
        let mut sample = Zeroizing::new(Vec::with_capacity((self.taken / stride + 1) * self.dimensions));
        let rows = self.chunks.iter().flat_map(|chunk| (0..CHUNK_ROWS).map(move |row| (chunk, row)));
        let taken = rows.filter(|(chunk, row)| chunk.owner(*row).is_some());
        for (chunk, row) in taken.step_by(stride) {
            sample.extend_from_slice(&chunk.vector(row, self.dimensions));
        }
        sample
    }

    /// Takes a new lens, for new chunks at once and for the others with [`Table::look_through`]; with none, notes
    /// that these templates have none.
    pub(super) fn set_lens(&mut self, lens: Option<Arc<Lens>>) {
        self.lens_tried = self.taken;
        self.is_looking = lens.is_some();
        self.lenses.extend(lens);
    }

    /// Sketches a chunk anew; false behind the last one, after which only the last lens is in use.
    pub(super) fn look_through(&mut self, chunk: usize) -> bool {
        let Some(lens) = self.lenses.last() else { return false };
        if chunk >= self.chunks.len() {
            self.lenses.drain(..self.lenses.len() - 1);
            self.is_looking = false;
            return false;
        }
        let (segment, place) = (&mut self.segments[chunk / SEGMENT_CHUNKS], chunk % SEGMENT_CHUNKS);
        if !segment.is_through(lens, place) {
            segment.begin(place, lens);
            (0..CHUNK_ROWS).for_each(|row| self.sketch((chunk, row)));
        }
        true
    }

    /// Makes a lens where one is due and sketches everything at once: for a table on which no probe waits.
    pub(super) fn sketch_all(&mut self) {
        if self.wants_lens() {
            self.set_lens(Lens::new(&self.lens_sample(), self.dimensions).map(Arc::new));
            (0..).take_while(|chunk| self.look_through(*chunk)).for_each(drop);
        }
    }

    /// Sketches a row where its chunk has sketches.
    fn sketch(&mut self, (chunk, row): (usize, usize)) {
        let (segment, place) = (&mut self.segments[chunk / SEGMENT_CHUNKS], chunk % SEGMENT_CHUNKS);
        if let (Some(lens), Some(_)) = (segment.lens(place), self.chunks[chunk].owner(row)) {
            let (sketch, error) = lens.template(&self.chunks[chunk].vector(row, self.dimensions));
            segment.set(place, row, sketch);
            self.sketch_error = self.sketch_error.max(error);
        }
    }

    /// Adds a chunk and returns its first slot, leaving the others free, the lowest to be used first.
    fn grow(&mut self) -> Option<u32> {
        let first = u32::try_from(self.chunks.len() * CHUNK_ROWS).ok()?;
        let end = first.checked_add(u32::try_from(CHUNK_ROWS).ok()?).filter(|end| *end < NOBODY)?;
        let chunk = self.chunks.len();
        if chunk.is_multiple_of(SEGMENT_CHUNKS) {
            self.segments.push(Segment::new());
        }
        if let (Some(segment), Some(lens)) = (self.segments.last_mut(), self.lenses.last()) {
            segment.begin(chunk % SEGMENT_CHUNKS, lens);
        }
        self.chunks.push(Box::new(Chunk::new(self.dimensions, self.is_rounded)));
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
