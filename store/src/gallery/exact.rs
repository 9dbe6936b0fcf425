//! The exact engine: a scan of sketches, then of quantised templates, that measures only what it must.
//!
//! Why it is exact: a template is passed over only where a proven lower bound of its distance lies beyond the second
//! person's distance so far; every other one is measured in `f32`. So the answer is, bit for bit, that of a scan
//! over the full vectors, whatever the data; how many templates are measured depends on the data, and is small.
//! There are two bounds. The distance of the sketches is the cheaper one, see [`super::sketch`]. The better one is
//! the triangle inequality: with `x = x' + e` (quantised and error) for template and probe,
//! `|p - x| >= |p' - x'| - |e_p| - |e_x|`; both error norms are known, and `|p' - x'|` follows from the dot product
//! of the quantised vectors.
//!
//! A segment's sketches are compared first, without a branch. The nearest of them are measured at once, so that the
//! bound is tight from the beginning. Chunks without sketches (a small gallery), and everything where sketches turn
//! out to leave too much, go through the quantised templates row by row.

use std::sync::Arc;

use pulp::NullaryFnOnce;

use super::engine::{Engine, Nearest};
use super::segment::{BLOCK, Block, CHUNK_BLOCKS, SEGMENT_CHUNKS, Segment};
use super::sketch::{Lens, SKETCH, Sketch};
use super::table::{CHUNK_ROWS, Chunk, Table};
use super::vector::{Coarse, Probe, dot};

/// Rounding of `|p'|^2 + |x'|^2 - 2 p'x'` in `f32`, relative to `|p'|^2 + |x'|^2`: seven roundings of half an
/// epsilon each, of terms at most twice as large; doubled, since a few more measured templates cost nothing.
const ROUNDING: f32 = 16.0 * f32::EPSILON;

/// Blocks per segment whose nearest row is measured at once.
const SEEDS: usize = 4;
/// The same while no second person is known: one person's samples may lie in several blocks.
const FIRST_SEEDS: usize = 8;
/// Sketches are given up for a probe once they leave more than one in so many rows of a segment.
const USELESS: usize = 3;

/// The exact engine. It has no state: the table is its index.
pub(super) struct Exact {
    arch: pulp::Arch,
}

impl Exact {
    /// Looks at the processor once.
    pub(super) fn new() -> Self {
        Self { arch: pulp::Arch::new() }
    }

    /// Goes on in another table with what was found in the first, which lets it pass over more.
    pub(super) fn further(&self, table: &Table, probe: &Probe, nearest: Nearest) -> Nearest {
        self.arch.dispatch(Search { table, probe, nearest })
    }
}

impl Engine for Exact {
    fn nearest(&self, table: &Table, probe: &Probe) -> Option<Nearest> {
        Some(self.further(table, probe, Nearest::default()))
    }
}

/// The whole search, compiled once per kind of processor.
///
/// A type and not a closure: a closure that changes what it captures is called through a shim that the compiler
/// does not inline, and then loses the processor's vector instructions. For the same reason everything below is
/// inlined.
struct Search<'a> {
    table: &'a Table,
    probe: &'a Probe,
    nearest: Nearest,
}

impl NullaryFnOnce for Search<'_> {
    type Output = Nearest;

    #[inline(always)]
    fn call(self) -> Nearest {
        let mut scan = Scan::new(self.probe, self.nearest);
        for lens in self.table.lenses() {
            scan.through(lens, self.table);
        }
        for (segment, chunks) in self.table.segments() {
            for (number, chunk) in chunks.iter().enumerate() {
                if segment.lens(number).is_none() {
                    scan.plain(chunk);
                }
            }
        }
        scan.nearest
    }
}

/// What the sketches of a segment say: squared distances in steps, row by row and the least of every block.
struct Compared {
    squares: [[u16; BLOCK]; SEGMENT_CHUNKS * CHUNK_BLOCKS],
    least: [u16; SEGMENT_CHUNKS * CHUNK_BLOCKS],
    /// Rows that are left, by their place in the segment.
    left: [u16; SEGMENT_CHUNKS * CHUNK_ROWS],
}

/// A search under way.
struct Scan<'a> {
    probe: &'a Probe,
    nearest: Nearest,
    /// How far from the probe a template may lie and still matter.
    reach: f32,
}

impl<'a> Scan<'a> {
    #[inline(always)]
    fn new(probe: &'a Probe, nearest: Nearest) -> Self {
        let reach = reach(&nearest, probe);
        Self { probe, nearest, reach }
    }

    /// Everything that has sketches of this lens.
    #[inline(always)]
    fn through(&mut self, lens: &Arc<Lens>, table: &Table) {
        let sketch = lens.probe(&self.probe.fine);
        let mut compared = Compared {
            squares: [[u16::MAX; BLOCK]; SEGMENT_CHUNKS * CHUNK_BLOCKS],
            least: [u16::MAX; SEGMENT_CHUNKS * CHUNK_BLOCKS],
            left: [0; SEGMENT_CHUNKS * CHUNK_ROWS],
        };
        let mut is_useful = true;
        for (segment, chunks) in table.segments() {
            let left = match sketch.as_ref().filter(|_| is_useful) {
                Some(sketch) => {
                    compared.compare(sketch, lens, segment);
                    self.seed(&compared, chunks);
                    self.sift(&mut compared, sketch, chunks)
                }
                None => None,
            };
            is_useful = left.is_some_and(|left| left <= chunks.len() * CHUNK_ROWS / USELESS);
            if left.is_none() {
                for (number, chunk) in chunks.iter().enumerate() {
                    if segment.is_through(lens, number) {
                        self.plain(chunk);
                    }
                }
            }
        }
    }

    /// Measures the nearest rows by their sketches.
    #[inline(always)]
    fn seed(&mut self, compared: &Compared, chunks: &[Box<Chunk>]) {
        let mut least = compared.least;
        for _ in 0..if self.nearest.second.is_none() { FIRST_SEEDS } else { SEEDS } {
            let (block, square) = least_of(&least);
            least[block] = u16::MAX;
            if let Some(row) = compared.squares[block].iter().position(|s| *s == square)
                && let Some(chunk) = chunks.get(block / CHUNK_BLOCKS)
            {
                self.measure(chunk, block % CHUNK_BLOCKS * BLOCK + row);
            }
        }
    }

    /// Looks at the rows whose sketches are near enough; how many those were, none where sketches exclude nothing.
    #[inline(always)]
    fn sift(&mut self, compared: &mut Compared, sketch: &Sketch, chunks: &[Box<Chunk>]) -> Option<usize> {
        let mut limit = sketch.limit(self.reach)?;
        let left = compared.list(limit);
        // In a loop of its own: the processor fetches many of these rows at a time where no branch stands between.
        for place in &compared.left[..left] {
            let place = usize::from(*place);
            if compared.squares[place / BLOCK][place % BLOCK] <= limit
                && self.look(&chunks[place / CHUNK_ROWS], place % CHUNK_ROWS)
            {
                limit = sketch.limit(self.reach)?;
            }
        }
        Some(left)
    }

    /// Every row of a chunk.
    #[inline(always)]
    fn plain(&mut self, chunk: &Chunk) {
        let quantised = &self.probe.quantised[..];
        let mut products = [0; CHUNK_ROWS];
        for (row, product) in chunk.quantised(quantised.len()).zip(products.iter_mut()) {
            *product = dot(quantised, row, |x| *x, |y| *y);
        }
        for (block, products) in products.as_chunks::<BLOCK>().0.iter().enumerate() {
            let first = block * BLOCK;
            let reach = self.reach + self.probe.coarse.error;
            let is_near = |row: usize, reach: f32| {
                let coarse = &chunk.coarse[first + row];
                is_within(bound(self.probe, coarse, products[row]), reach, coarse.error)
            };
            // Without a short cut, so that all of a block are compared at once.
            if (0..BLOCK).fold(false, |any, row| any | is_near(row, reach)) {
                for row in 0..BLOCK {
                    if is_near(row, self.reach + self.probe.coarse.error) {
                        self.measure(chunk, first + row);
                    }
                }
            }
        }
    }

    /// One row, by its quantised vector first; whether that changed the reach.
    #[inline(always)]
    fn look(&mut self, chunk: &Chunk, row: usize) -> bool {
        let quantised = &self.probe.quantised[..];
        let fields = chunk.quantised_row(row, quantised.len());
        let product = dot(quantised, fields, |x| *x, |y| *y);
        let coarse = &chunk.coarse[row];
        let bound = bound(self.probe, coarse, product);
        is_within(bound, self.reach + self.probe.coarse.error, coarse.error) && self.measure(chunk, row)
    }

    /// One row in full; whether that changed the reach.
    #[inline(always)]
    fn measure(&mut self, chunk: &Chunk, row: usize) -> bool {
        let Some((owner, square)) = chunk.square(row, &self.probe.fine) else { return false };
        let before = self.nearest.bound();
        self.nearest.offer(owner, square);
        let is_nearer = self.nearest.bound() < before;
        if is_nearer {
            self.reach = reach(&self.nearest, self.probe);
        }
        is_nearer
    }
}

impl Compared {
    /// Compares a probe's sketch with all of a segment's; rows without one are as far as can be.
    #[inline(always)]
    fn compare(&mut self, sketch: &Sketch, lens: &Arc<Lens>, segment: &Segment) {
        self.least = [u16::MAX; SEGMENT_CHUNKS * CHUNK_BLOCKS];
        let results =
            self.squares.chunks_exact_mut(CHUNK_BLOCKS).zip(self.least.chunks_exact_mut(CHUNK_BLOCKS));
        for (chunk, (squares, least)) in
            results.enumerate().filter(|(chunk, _)| segment.is_through(lens, *chunk))
        {
            for (block, (squares, least)) in segment.blocks(chunk).iter().zip(squares.iter_mut().zip(least)) {
                *squares = block_squares(&sketch.steps, block);
                *least = squares.iter().fold(u16::MAX, |least, square| least.min(*square));
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
                #[expect(clippy::cast_possible_truncation, reason = "a segment has fewer rows")]
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

/// Squared distance of the quantised vectors, less what rounding may have added.
#[inline(always)]
fn bound(probe: &Probe, coarse: &Coarse, product: i32) -> f32 {
    #[expect(clippy::cast_precision_loss, reason = "the loss is part of ROUNDING")]
    let product = product as f32 * (2.0 * probe.coarse.scale * coarse.scale);
    let squares = probe.coarse.square + coarse.square;
    squares - product - ROUNDING * squares
}

/// How far from the probe a template may lie and still matter.
#[inline(always)]
fn reach(nearest: &Nearest, probe: &Probe) -> f32 {
    // `f32` sums of this many terms may err by this share: a template counts as its computed distance says.
    #[expect(clippy::cast_precision_loss, reason = "dimensions are few")]
    let slack = 1.0 + probe.fine.len() as f32 * f32::EPSILON;
    nearest.bound().sqrt() * slack
}

/// Whether a template may be near enough to matter.
#[inline(always)]
fn is_within(bound: f32, reach: f32, error: f32) -> bool {
    let limit = reach + error;
    // A free row has an infinite square, so its bound is `inf - inf`: NaN, which is not below.
    bound <= limit * limit
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gallery::tests::synthetic::People;

    /// Every kind of processor that this one can stand for, the portable one first.
    fn kinds() -> Vec<pulp::Arch> {
        #[cfg_attr(not(target_arch = "x86_64"), expect(unused_mut, reason = "only x86 has a third kind"))]
        let mut kinds = vec![pulp::Arch::Scalar, pulp::Arch::new()];
        #[cfg(target_arch = "x86_64")]
        kinds.extend(pulp::x86::V3::try_new().map(pulp::Arch::V3));
        kinds
    }

    #[test]
    fn every_kind_of_processor_finds_the_same() {
        for (dimensions, has_sketches) in [(128, false), (128, true), (100, true)] {
            let mut people = People::new(dimensions, 41);
            let mut table = Table::new(dimensions);
            for owner in 0..3_000 {
                table.insert(owner, &Probe::new(people.stranger().as_slice(), false));
            }
            if has_sketches {
                table.sketch_all();
                assert_eq!(table.lenses().len(), 1);
            }
            for _ in 0..40 {
                let probe = Probe::new(people.stranger().as_slice(), false);
                let mut found = kinds().into_iter().map(|arch| Exact { arch }.nearest(&table, &probe));
                let first = found.next().flatten();
                assert!(first.is_some_and(|nearest| nearest.second.is_some()));
                assert!(found.all(|other| other == first));
            }
        }
    }
}
