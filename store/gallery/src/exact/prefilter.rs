//! Prefilter: compares the sketches of a table and selects candidate rows.
//!
//! Chunks are processed in runs. All sketches of a run are compared without branches, then candidate rows are
//! noted. The results of a run stay in the first-level cache. Candidates of several runs are examined
//! together: they are at random addresses, are prefetched when they are noted, and are in the cache by then.
//! They tighten the bound for later runs. At the start, the rows with the nearest sketches of the first run
//! are measured at once, for a tight first bound.

use std::sync::Arc;

use prefetch_index::prefetch_index;

use super::Scan;
use crate::segment::{BLOCK, Block, CHUNK_BLOCKS, CHUNK_ROWS, SEGMENT_ROWS, Segment};
use crate::sketch::{Lens, SKETCH, Sketch};
use crate::table::Table;

/// Chunks per run: their results take 8 KiB, a quarter of a small first-level cache.
const RUN_CHUNKS: usize = 16;
/// Blocks per run.
const RUN_BLOCKS: usize = RUN_CHUNKS * CHUNK_BLOCKS;
/// Rows per run.
const RUN_ROWS: usize = RUN_CHUNKS * CHUNK_ROWS;
/// Prefetch distance of sketches in bytes: the processor's own prefetching is too slow for the memory. Beyond
/// the end of a segment, a prefetch has no effect.
const PREFETCH_BYTES: usize = 16 * 1024;
/// Candidates that are noted before they are examined: many more than a processor's outstanding reads, and at
/// 128 dimensions they fit a first-level cache of 48 KiB. The last run may add all of its rows.
const CANDIDATES: usize = 256;
/// Blocks whose nearest row is measured while no second person is known: one person's samples may be in
/// several.
const SEEDS: usize = 8;
/// Sketches are not used for the rest of a probe once they leave more than one in so many rows of a run.
const USELESS_RATIO: usize = 3;

/// Consecutive chunks of a segment.
struct Run<'a> {
    lens: &'a Arc<Lens>,
    segment: &'a Segment,
    /// Index of the first one in the segment.
    first: usize,
    chunks: usize,
    /// Slot of the first row.
    slot: u32,
}

/// Squared distances of the sketches of a run in steps: of each row, and the least of each block.
struct Compared {
    squares: [[u16; BLOCK]; RUN_BLOCKS],
    least: [u16; RUN_BLOCKS],
}

/// Candidate rows and the distances of their sketches.
struct Noted {
    slots: [u32; CANDIDATES + RUN_ROWS],
    squares: [u16; CANDIDATES + RUN_ROWS],
    count: usize,
}

impl Scan<'_> {
    /// All chunks with sketches of this lens; `sketch` is that of the probe, none if the probe is too far
    /// away.
    #[inline(always)]
    pub(super) fn through(&mut self, lens: &Arc<Lens>, sketch: Option<&Sketch>, table: &Table) {
        let mut compared =
            Compared { squares: [[u16::MAX; BLOCK]; RUN_BLOCKS], least: [u16::MAX; RUN_BLOCKS] };
        let mut noted =
            Noted { slots: [0; CANDIDATES + RUN_ROWS], squares: [0; CANDIDATES + RUN_ROWS], count: 0 };
        let mut useful = sketch;
        let mut slot = 0;
        for segment in table.segments() {
            for first in (0..segment.chunks()).step_by(RUN_CHUNKS) {
                let chunks = RUN_CHUNKS.min(segment.chunks() - first);
                let run = Run { lens, segment, first, chunks, slot };
                // Not as a closure, see `Search`.
                let left = match useful {
                    Some(sketch) => self.note_candidates(&mut compared, &mut noted, sketch, table, &run),
                    None => None,
                };
                if left.is_none_or(|left| left > chunks * CHUNK_ROWS / USELESS_RATIO) {
                    useful = None;
                }
                if left.is_none() {
                    for number in run.own() {
                        self.plain(segment, first + number);
                    }
                }
                #[expect(clippy::cast_possible_truncation, reason = "slots have 32 bits")]
                {
                    slot += (chunks * CHUNK_ROWS) as u32;
                }
            }
        }
        if let Some(sketch) = sketch {
            self.examine(&mut noted, sketch, table);
        }
    }

    /// Notes candidate rows. Returns their number, none if sketches exclude no row.
    #[inline(always)]
    fn note_candidates(
        &mut self,
        compared: &mut Compared,
        noted: &mut Noted,
        sketch: &Sketch,
        table: &Table,
        run: &Run<'_>,
    ) -> Option<usize> {
        compared.compare(sketch, run);
        if self.nearest.second.is_none() {
            self.seed(compared, run);
        }
        let before = noted.count;
        noted.take(compared, sketch.limit(self.reach, table.sketch_error())?, run);
        let left = noted.count - before;
        if noted.count >= CANDIDATES {
            self.examine(noted, sketch, table);
        }
        Some(left)
    }

    /// Examines and clears the noted rows.
    #[inline(always)]
    fn examine(&mut self, noted: &mut Noted, sketch: &Sketch, table: &Table) {
        let count = std::mem::take(&mut noted.count);
        let mut limit = sketch.limit(self.reach, table.sketch_error());
        for (slot, square) in noted.slots[..count].iter().zip(&noted.squares[..count]) {
            let slot = *slot as usize;
            if limit.is_none_or(|limit| *square <= limit)
                && self.look(&table.segments()[slot / SEGMENT_ROWS], slot % SEGMENT_ROWS)
            {
                limit = sketch.limit(self.reach, table.sketch_error());
            }
        }
    }

    /// Measures the nearest rows by their sketches.
    #[inline(always)]
    fn seed(&mut self, compared: &Compared, run: &Run<'_>) {
        let mut least = compared.least;
        for _ in 0..SEEDS {
            let (block, square) = least_of(&least);
            least[block] = u16::MAX;
            if let Some(row) = compared.squares[block].iter().position(|s| *s == square) {
                self.measure(run.segment, run.first * CHUNK_ROWS + block * BLOCK + row);
            }
        }
    }
}

impl Run<'_> {
    /// The chunks whose sketches are of the lens.
    #[inline(always)]
    fn own(&self) -> impl Iterator<Item = usize> {
        (0..self.chunks).filter(|number| self.segment.is_through(self.lens, self.first + number))
    }
}

impl Compared {
    /// Compares a probe's sketch with all sketches of a run; rows without one have the largest distance.
    #[inline(always)]
    fn compare(&mut self, sketch: &Sketch, run: &Run<'_>) {
        self.least = [u16::MAX; RUN_BLOCKS];
        for number in run.own() {
            let first = number * CHUNK_BLOCKS;
            for (block, sketches) in run.segment.blocks(run.first + number).iter().enumerate() {
                let squares = block_squares(&sketch.steps, sketches);
                self.least[first + block] = squares.iter().fold(u16::MAX, |least, square| least.min(*square));
                self.squares[first + block] = squares;
            }
        }
    }
}

impl Noted {
    /// Notes and prefetches the rows of a run within the limit.
    #[inline(always)]
    fn take(&mut self, compared: &Compared, limit: u16, run: &Run<'_>) {
        let blocks = compared.squares.iter().zip(&compared.least);
        for (first, (squares, least)) in (0..).step_by(BLOCK).zip(blocks) {
            if *least > limit {
                continue;
            }
            let mut rows = mask(squares, limit);
            while rows != 0 {
                let row = rows.trailing_zeros();
                run.segment.fetch(run.first * CHUNK_ROWS + (first + row) as usize);
                self.slots[self.count] = run.slot + first + row;
                self.squares[self.count] = squares[row as usize];
                self.count += 1;
                rows &= rows - 1;
            }
        }
    }
}

/// Squared distances of a probe's sketch to those of a block, 65,535 where they are larger.
#[inline(always)]
fn block_squares(probe: &[u8; SKETCH], block: &Block) -> [u16; BLOCK] {
    let mut squares = [0_u16; BLOCK];
    for (rows, coordinate) in block.iter().zip(probe) {
        prefetch_index(rows, PREFETCH_BYTES);
        let coordinate = u16::from(*coordinate);
        for i in 0..BLOCK {
            // A negative difference wraps, and its square wraps back.
            let difference = u16::from(rows[i]).wrapping_sub(coordinate);
            squares[i] = squares[i].saturating_add(difference.wrapping_mul(difference));
        }
    }
    squares
}

/// The least value and its index.
#[inline(always)]
fn least_of(values: &[u16]) -> (usize, u16) {
    let least = values.iter().fold(u16::MAX, |least, value| least.min(*value));
    (values.iter().position(|value| *value == least).unwrap_or(0), least)
}

/// Which rows are within the limit, a bit each.
#[inline(always)]
fn mask(squares: &[u16; BLOCK], limit: u16) -> u64 {
    let mut mask = 0;
    for (row, square) in squares.iter().enumerate() {
        mask |= u64::from(*square <= limit) << row;
    }
    mask
}
