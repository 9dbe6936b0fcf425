//! The sketches of a table, and the rows that they leave.
//!
//! Runs of chunks, one after another: all sketches of a run are compared without a branch, then the rows that are left
//! are looked at. A run's results stay in the first-level cache, and what its rows tighten holds for the next run.
//! Where nothing is known yet, the rows with the nearest sketches of the first run are measured at once, so that the
//! bound is tight from the beginning.

use std::sync::Arc;

use super::Scan;
use crate::gallery::segment::{BLOCK, Block, CHUNK_BLOCKS, Segment};
use crate::gallery::sketch::{Lens, SKETCH, Sketch};
use crate::gallery::table::{CHUNK_ROWS, Chunk, Table};

/// Chunks per run: their results take a third of a first-level cache.
const RUN_CHUNKS: usize = 16;
/// Blocks per run.
const RUN_BLOCKS: usize = RUN_CHUNKS * CHUNK_BLOCKS;
/// Rows per run.
const RUN_ROWS: usize = RUN_CHUNKS * CHUNK_ROWS;
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
    chunks: &'a [Box<Chunk>],
}

/// What the sketches of a run say: squared distances in steps, row by row and the least of every block.
struct Compared {
    squares: [[u16; BLOCK]; RUN_BLOCKS],
    least: [u16; RUN_BLOCKS],
    /// Rows that are left, by their place in the run.
    left: [u16; RUN_ROWS],
}

impl Scan<'_> {
    /// Everything that has sketches of this lens; `sketch` is the probe's, none where it lies too far away.
    #[inline(always)]
    pub(super) fn through(&mut self, lens: &Arc<Lens>, sketch: Option<&Sketch>, table: &Table) {
        let mut compared = Compared {
            squares: [[u16::MAX; BLOCK]; RUN_BLOCKS],
            least: [u16::MAX; RUN_BLOCKS],
            left: [0; RUN_ROWS],
        };
        let mut useful = sketch;
        for (segment, chunks) in table.segments() {
            for (number, chunks) in chunks.chunks(RUN_CHUNKS).enumerate() {
                let run = Run { lens, segment, first: number * RUN_CHUNKS, chunks };
                // Not as a closure, see `Search`.
                let left = match useful {
                    Some(sketch) => self.sift(&mut compared, sketch, &run),
                    None => None,
                };
                if left.is_none_or(|left| left > chunks.len() * CHUNK_ROWS / USELESS) {
                    useful = None;
                }
                if left.is_none() {
                    for number in run.own() {
                        self.plain(&chunks[number]);
                    }
                }
            }
        }
    }

    /// Looks at the rows whose sketches are near enough; how many those were, none where sketches exclude nothing.
    #[inline(always)]
    fn sift(&mut self, compared: &mut Compared, sketch: &Sketch, run: &Run<'_>) -> Option<usize> {
        compared.compare(sketch, run);
        if self.nearest.second.is_none() {
            self.seed(compared, run.chunks);
        }
        let mut limit = sketch.limit(self.reach)?;
        let left = compared.list(limit);
        // In a loop of its own: the processor fetches many of these rows at a time where no branch stands between.
        for place in &compared.left[..left] {
            let place = usize::from(*place);
            if compared.squares[place / BLOCK][place % BLOCK] <= limit
                && self.look(&run.chunks[place / CHUNK_ROWS], place % CHUNK_ROWS)
            {
                limit = sketch.limit(self.reach)?;
            }
        }
        Some(left)
    }

    /// Measures the nearest rows by their sketches.
    #[inline(always)]
    fn seed(&mut self, compared: &Compared, chunks: &[Box<Chunk>]) {
        let mut least = compared.least;
        for _ in 0..SEEDS {
            let (block, square) = least_of(&least);
            least[block] = u16::MAX;
            if let Some(row) = compared.squares[block].iter().position(|s| *s == square)
                && let Some(chunk) = chunks.get(block / CHUNK_BLOCKS)
            {
                self.measure(chunk, block % CHUNK_BLOCKS * BLOCK + row);
            }
        }
    }
}

impl Run<'_> {
    /// The chunks whose sketches are of the lens.
    #[inline(always)]
    fn own(&self) -> impl Iterator<Item = usize> {
        (0..self.chunks.len()).filter(|number| self.segment.is_through(self.lens, self.first + number))
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

    /// Lists the rows within the limit; how many there are.
    #[inline(always)]
    fn list(&mut self, limit: u16) -> usize {
        let mut left = 0;
        for (block, (squares, least)) in self.squares.iter().zip(&self.least).enumerate() {
            if *least > limit {
                continue;
            }
            let mut rows = mask(squares, limit);
            while rows != 0 {
                #[expect(clippy::cast_possible_truncation, reason = "a run has fewer rows")]
                let place = (block * BLOCK) as u16 + rows.trailing_zeros() as u16;
                self.left[left] = place;
                left += 1;
                rows &= rows - 1;
            }
        }
        left
    }
}

/// Squared distances of a probe's sketch to those of a block, 65,535 where they are larger.
#[inline(always)]
fn block_squares(probe: &[u8; SKETCH], block: &Block) -> [u16; BLOCK] {
    let mut squares = [0_u16; BLOCK];
    for (rows, coordinate) in block.iter().zip(probe) {
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
