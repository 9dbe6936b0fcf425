//! The sketches of a table, and the rows that they leave.
//!
//! Runs of chunks, one after another: all sketches of a run are compared without a branch, then the rows that are left
//! are noted. A run's results stay in the first-level cache. The noted rows of several runs are looked at together: they
//! lie all over a large memory, are asked for as they are noted, and have come by then; and what they tighten holds for the
//! runs after them. Where nothing is known yet, the rows with the nearest sketches of the first run are
//! measured at once, so that the bound is tight from the beginning.

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
/// Bytes by which sketches are asked for before they are compared, line by line: a processor that looks ahead by itself
/// stays behind a memory that is as fast as this. Behind the end of a segment that does nothing.
const AHEAD: usize = 16 * 1024;
/// Rows that are noted before they are looked at: many times what a processor can wait for at once, and of 128 dimensions
/// what is fetched for so many fits a first cache of 48 KiB. The last run may add all of its own.
const NOTED: usize = 256;
/// Blocks whose nearest row is measured while no second person is known: one person's samples may lie in several.
const SEEDS: usize = 8;
/// Sketches are given up for a probe once they leave more than one in so many rows of a run.
const USELESS: usize = 3;

/// Consecutive chunks of a segment.
struct Run<'a> {
    lens: &'a Arc<Lens>,
    segment: &'a Segment,
    /// Place of the first one in the segment.
    first: usize,
    chunks: usize,
    /// Slot of the first row.
    slot: u32,
}

/// What the sketches of a run say: squared distances in steps, row by row and the least of every block.
struct Compared {
    squares: [[u16; BLOCK]; RUN_BLOCKS],
    least: [u16; RUN_BLOCKS],
}

/// Rows that are left, and what their sketches say.
struct Noted {
    slots: [u32; NOTED + RUN_ROWS],
    squares: [u16; NOTED + RUN_ROWS],
    count: usize,
}

impl Scan<'_> {
    /// Everything that has sketches of this lens; `sketch` is the probe's, none where it lies too far away.
    #[inline(always)]
    pub(super) fn through(&mut self, lens: &Arc<Lens>, sketch: Option<&Sketch>, table: &Table) {
        let mut compared =
            Compared { squares: [[u16::MAX; BLOCK]; RUN_BLOCKS], least: [u16::MAX; RUN_BLOCKS] };
        let mut noted = Noted { slots: [0; NOTED + RUN_ROWS], squares: [0; NOTED + RUN_ROWS], count: 0 };
        let mut useful = sketch;
        let mut slot = 0;
        for segment in table.segments() {
            for first in (0..segment.chunks()).step_by(RUN_CHUNKS) {
                let chunks = RUN_CHUNKS.min(segment.chunks() - first);
                let run = Run { lens, segment, first, chunks, slot };
                // Not as a closure, see `Search`.
                let left = match useful {
                    Some(sketch) => self.sift(&mut compared, &mut noted, sketch, table, &run),
                    None => None,
                };
                if left.is_none_or(|left| left > chunks * CHUNK_ROWS / USELESS) {
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
            self.look_at(&mut noted, sketch, table);
        }
    }

    /// Notes the rows whose sketches are near enough; how many those were, none where sketches exclude nothing.
    #[inline(always)]
    fn sift(
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
        if noted.count >= NOTED {
            self.look_at(noted, sketch, table);
        }
        Some(left)
    }

    /// Looks at the rows that were noted, and forgets them.
    #[inline(always)]
    fn look_at(&mut self, noted: &mut Noted, sketch: &Sketch, table: &Table) {
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
    /// Compares a probe's sketch with all of a run's; rows without one are as far as can be.
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
    /// Notes the rows of a run within the limit, and asks for them.
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
        prefetch_index(rows, AHEAD);
        let coordinate = u16::from(*coordinate);
        for i in 0..BLOCK {
            // Below zero it wraps, and its square wraps back.
            let difference = u16::from(rows[i]).wrapping_sub(coordinate);
            squares[i] = squares[i].saturating_add(difference.wrapping_mul(difference));
        }
    }
    squares
}

/// The least of all, and where it is.
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
