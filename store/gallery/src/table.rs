//! The templates in memory: quantised and full, or quantised and rounded, in segments that never move.
//!
//! A part of a segment is allocated once and wiped when it goes, so growth leaves no unwiped copy behind; a row that is
//! removed is wiped at once and its slot is used again. A slot stays what it is for as long as its template lives.

use std::sync::Arc;

use super::mapped::Mapped;
use super::segment::{CHUNK_ROWS, NOBODY, SEGMENT_CHUNKS, SEGMENT_ROWS, Segment};
use super::sketch::Lens;
use super::vector::{Coarse, Probe};

/// Components of all templates from which on sketches pay; below it the full scan takes ten microseconds or so, and a lens
/// and the thread that makes it would be a good part of the memory of all templates.
const LENS_MINIMUM: usize = 500_000;
/// A gallery that has grown by this factor gets a new lens: its widest directions may be others.
const LENS_GROWTH: usize = 4;
/// Templates that a lens is made from: the widest directions of many thousands show in as many.
const LENS_SAMPLE: usize = 1024;

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

/// All templates.
pub(super) struct Table {
    dimensions: usize,
    /// Whether templates are kept in sixteen bits per component.
    is_rounded: bool,
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

    /// The segments in order of slots; all but the last one are full.
    #[inline(always)]
    pub(super) fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// Chunks of all segments.
    fn chunks(&self) -> usize {
        self.segments.iter().map(Segment::chunks).sum()
    }

    /// Slots, free or taken.
    pub(super) fn slots(&self) -> u32 {
        u32::try_from(self.chunks() * CHUNK_ROWS).unwrap_or(NOBODY)
    }

    /// Puts a template into a free slot; none where there is no room for another chunk, in 32-bit slots or in
    /// the system's memory.
    pub(super) fn insert(&mut self, owner: u32, template: &Probe) -> Option<u32> {
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => self.grow()?,
        };
        let (segment, row) = place(slot);
        self.segments.get_mut(segment)?.put(row, owner, template);
        self.sketch(place(slot));
        self.taken += 1;
        Some(slot)
    }

    /// Wipes a template and frees its slot.
    pub(super) fn remove(&mut self, slot: u32) {
        let (segment, row) = place(slot);
        let Some(segment) = self.segments.get_mut(segment).filter(|segment| segment.owner(row).is_some())
        else {
            return;
        };
        segment.clear(row);
        self.free.push(slot);
        self.taken -= 1;
    }

    /// Squared distance of the template in a slot; none for a free one.
    pub(super) fn square(&self, slot: u32, probe: &[f32]) -> Option<f32> {
        let (segment, row) = place(slot);
        self.segments.get(segment)?.square(row, probe).map(|(_, square)| square)
    }

    /// The template in a slot; none for a free one, and where templates are rounded.
    pub(super) fn get(&self, slot: u32) -> Option<Template<'_>> {
        let (segment, row) = place(slot);
        let segment = self.segments.get(segment)?;
        let (owner, fine) = (segment.owner(row)?, segment.fine(row)?);
        Some(Template { owner, coarse: *segment.coarse(row), quantised: segment.quantised(row), fine })
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
        let minimum = LENS_MINIMUM.div_ceil(self.dimensions.max(1));
        self.is_looking || self.taken >= minimum.max(self.lens_tried * LENS_GROWTH)
    }

    /// Whether the chunks are not through with the last lens.
    pub(super) fn is_looking(&self) -> bool {
        self.is_looking
    }

    /// Vectors to make a lens from, spread over all templates; none where the system has no memory for them.
    pub(super) fn lens_sample(&self) -> Option<Mapped<f32>> {
        let stride = self.taken.div_ceil(LENS_SAMPLE).max(1);
        let mut sample = Mapped::new(self.taken.div_ceil(stride) * self.dimensions)?;
        let rows = self.segments.iter().flat_map(|segment| (0..SEGMENT_ROWS).map(move |row| (segment, row)));
        let taken = rows.filter(|(segment, row)| segment.owner(*row).is_some());
        for ((segment, row), vector) in taken.step_by(stride).zip(sample.chunks_exact_mut(self.dimensions)) {
            vector.copy_from_slice(&segment.vector(row));
        }
        Some(sample)
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
        if chunk >= self.chunks() {
            self.lenses.drain(..self.lenses.len() - 1);
            self.is_looking = false;
            return false;
        }
        let (segment, place) = (&mut self.segments[chunk / SEGMENT_CHUNKS], chunk % SEGMENT_CHUNKS);
        if !segment.is_through(lens, place) {
            segment.begin(place, lens);
            let (number, first) = (chunk / SEGMENT_CHUNKS, place * CHUNK_ROWS);
            (first..first + CHUNK_ROWS).for_each(|row| self.sketch((number, row)));
        }
        true
    }

    /// Makes a lens where one is due and sketches everything at once: for a table on which no probe waits.
    pub(super) fn sketch_all(&mut self) {
        if self.wants_lens() {
            let lens = self.lens_sample().and_then(|sample| Lens::new(&sample, self.dimensions));
            self.set_lens(lens.map(Arc::new));
            (0..).take_while(|chunk| self.look_through(*chunk)).for_each(drop);
        }
    }

    /// Sketches a row where its chunk has sketches.
    fn sketch(&mut self, (segment, row): (usize, usize)) {
        if let Some(error) = self.segments[segment].sketch(row) {
            self.sketch_error = self.sketch_error.max(error);
        }
    }

    /// Adds a chunk and returns its first slot, leaving the others free, the lowest to be used first.
    fn grow(&mut self) -> Option<u32> {
        let first = u32::try_from(self.chunks() * CHUNK_ROWS).ok()?;
        let end = first.checked_add(u32::try_from(CHUNK_ROWS).ok()?).filter(|end| *end < NOBODY)?;
        if self.segments.last().is_none_or(|segment| segment.chunks() == SEGMENT_CHUNKS) {
            self.segments.push(Segment::new(self.dimensions, !self.segments.is_empty()));
        }
        self.segments.last_mut()?.grow(self.is_rounded, self.lenses.last())?;
        self.free.extend((first + 1..end).rev());
        Some(first)
    }
}

/// Segment and row of a slot.
fn place(slot: u32) -> (usize, usize) {
    let slot = slot as usize;
    (slot / SEGMENT_ROWS, slot % SEGMENT_ROWS)
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
        let segment = &table.segments[0];
        assert_eq!(segment.fine(0).unwrap(), [0.0; 3]);
        assert_eq!(segment.quantised(0), [0; 3]);
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

    #[test]
    fn rows_behind_the_first_segment_are_found_and_wiped() {
        let mut table = Table::new(2);
        let (first, second) = (Probe::new(&[0.1, 0.2], false), Probe::new(&[0.3, 0.4], false));
        let count = u32::try_from(SEGMENT_ROWS).unwrap();
        assert!((0..count).all(|owner| table.insert(owner, &first) == Some(owner)));
        assert_eq!(table.insert(7, &second), Some(count));
        assert_eq!(table.get(count).map(|row| (row.owner, row.fine.to_vec())), Some((7, vec![0.3, 0.4])));
        assert_eq!(table.get(0).unwrap().fine, [0.1, 0.2]);
        table.remove(count);
        assert!(table.get(count).is_none() && table.segments[1].quantised(0) == [0; 2]);
        assert_eq!(table.taken(), SEGMENT_ROWS);
    }
}
