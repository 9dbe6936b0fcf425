//! The templates in memory: quantized and full, or quantized and rounded, in segments that never move.
//!
//! A part of a segment is allocated once and wiped on drop, so that growth leaves no unwiped copy. A removed
//! row is wiped at once and its slot is reused. The slot of a template never changes.

use std::sync::Arc;

use super::mapped::Mapped;
use super::segment::{CHUNK_ROWS, NO_OWNER, SEGMENT_CHUNKS, SEGMENT_ROWS, Segment};
use super::sketch::Lens;
use super::vector::{Coarse, Probe};

/// Components of all templates from which on sketches are worthwhile. Below it, a full scan takes about ten
/// microseconds, and a lens would take much memory compared with the templates.
const LENS_MINIMUM: usize = 500_000;
/// Growth of the gallery after which a new lens is computed, because its principal axes may have changed.
const LENS_GROWTH: usize = 4;
/// Templates from which a lens is computed: enough for the principal axes of many thousands.
const LENS_SAMPLE: usize = 1024;

/// The template of a slot.
pub(super) struct Template<'a> {
    /// Index of the person in the list of people.
    pub owner: u32,
    /// Its quantization.
    pub coarse: Coarse,
    /// The quantized vector.
    pub quantised: &'a [i8],
    /// The full vector.
    pub fine: &'a [f32],
}

/// All templates.
pub(super) struct Table {
    dimensions: usize,
    /// Whether templates have sixteen bits per component.
    is_rounded: bool,
    segments: Vec<Segment>,
    free: Vec<u32>,
    taken: usize,
    /// The lenses of all chunks, and last the one that all chunks will get.
    lenses: Vec<Arc<Lens>>,
    /// Number of templates at the last attempt to compute a lens, successful or not.
    lens_tried: usize,
    /// Whether chunks are still to be sketched with the last lens.
    is_looking: bool,
    /// Largest rounding error of a sketch, in steps.
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

    /// Number of templates.
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
        u32::try_from(self.chunks() * CHUNK_ROWS).unwrap_or(NO_OWNER)
    }

    /// Stores a template in a free slot; none if all 32-bit slots are used or there is no memory for another
    /// chunk.
    pub(super) fn insert(&mut self, owner: u32, template: &Probe) -> Option<u32> {
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => self.grow()?,
        };
        let (segment, row) = place(slot);
        self.segments.get_mut(segment)?.put(row, owner, template);
        self.sketch(segment, row);
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

    /// The template in a slot; none for a free one, and if templates are rounded.
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

    /// Largest rounding error of a sketch, in steps.
    pub(super) fn sketch_error(&self) -> f32 {
        self.sketch_error
    }

    /// Whether a new lens is due, or chunks are still to be sketched with the last one.
    pub(super) fn wants_lens(&self) -> bool {
        let minimum = LENS_MINIMUM.div_ceil(self.dimensions.max(1));
        self.is_looking || self.taken >= minimum.max(self.lens_tried * LENS_GROWTH)
    }

    /// Whether chunks are still to be sketched with the last lens.
    pub(super) fn is_looking(&self) -> bool {
        self.is_looking
    }

    /// Vectors for a new lens, spread over all templates; none if there is no memory for them.
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

    /// Sets a new lens, for new chunks at once and for the others with [`Table::resketch_chunk`]. None
    /// records a failed attempt.
    pub(super) fn set_lens(&mut self, lens: Option<Arc<Lens>>) {
        self.lens_tried = self.taken;
        self.is_looking = lens.is_some();
        self.lenses.extend(lens);
    }

    /// Sketches a chunk again; false after the last one, when only the last lens is in use.
    pub(super) fn resketch_chunk(&mut self, chunk: usize) -> bool {
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
            (first..first + CHUNK_ROWS).for_each(|row| self.sketch(number, row));
        }
        true
    }

    /// Computes a lens if one is due and sketches all templates at once, for a table that is not in use yet.
    pub(super) fn sketch_all(&mut self) {
        if self.wants_lens() {
            let lens = self.lens_sample().and_then(|sample| Lens::new(&sample, self.dimensions));
            self.set_lens(lens.map(Arc::new));
            (0..).take_while(|chunk| self.resketch_chunk(*chunk)).for_each(drop);
        }
    }

    /// Sketches a row if its chunk has sketches.
    fn sketch(&mut self, segment: usize, row: usize) {
        if let Some(error) = self.segments[segment].sketch(row) {
            self.sketch_error = self.sketch_error.max(error);
        }
    }

    /// Adds a chunk and returns its first slot. The others are free, and the lowest is used first.
    fn grow(&mut self) -> Option<u32> {
        let first = u32::try_from(self.chunks() * CHUNK_ROWS).ok()?;
        let end = first.checked_add(u32::try_from(CHUNK_ROWS).ok()?).filter(|end| *end < NO_OWNER)?;
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
