//! The exact engine: a scan of sketches, then of quantized templates, with exact distances for few
//! candidates.
//!
//! Why it is exact: a template is skipped only if a proven lower bound of its distance is larger than the
//! second person's distance so far. The distance of every other template is computed in `f32`. So the result
//! equals that of a scan of the full vectors, bit for bit. The number of computed distances depends on the
//! data and is small. There are two bounds. The distance of the sketches is the cheaper one, see
//! [`super::sketch`]. The tighter one is the triangle inequality: with `x = x' + e` (quantized and error) for
//! template and probe, `|p - x| >= |p' - x'| - |e_p| - |e_x|`; both error norms are stored, and `|p' - x'|`
//! follows from the dot product of the quantized vectors.
//!
//! Sketches are compared first, see [`prefilter`]. Chunks without sketches (in a small gallery), and all
//! chunks if the sketches leave too many candidates, are scanned by quantized templates. Of several tables,
//! the one with the likely nearest templates comes first, because a tight bound skips most of the others.

mod prefilter;

use std::sync::Arc;

use pulp::NullaryFnOnce;

use super::engine::{Engine, Nearest};
use super::segment::{BLOCK, CHUNK_ROWS, Segment};
use super::sketch::{Lens, Sketch};
use super::table::Table;
use super::vector::{Coarse, Probe, dot, dots};

/// Rounding of `|p'|^2 + |x'|^2 - 2 p'x'` in `f32`, relative to `|p'|^2 + |x'|^2`: seven roundings of half an
/// epsilon each, of terms at most twice as large. It is doubled, because a few more candidates cost little.
const ROUNDING: f32 = 16.0 * f32::EPSILON;

/// The exact engine. It has no state: the table is its index.
pub(super) struct Exact {
    arch: pulp::Arch,
}

impl Exact {
    /// Detects the processor once.
    pub(super) fn new() -> Self {
        Self { arch: pulp::Arch::new() }
    }

    /// The two nearest people in several tables, one after another. `nearest` is an earlier result, with
    /// which more templates are skipped.
    pub(super) fn among(&self, tables: &[&Table], probe: &Probe, nearest: Nearest) -> Nearest {
        self.arch.dispatch(Search { tables, probe, nearest })
    }
}

impl Engine for Exact {
    fn nearest(&self, table: &Table, probe: &Probe) -> Option<Nearest> {
        Some(self.among(&[table], probe, Nearest::default()))
    }
}

/// The whole search, compiled once per kind of processor.
///
/// A type, not a closure: a closure with mutable captures is called through a shim that the compiler does not
/// inline, which loses the processor's vector instructions. All functions below are inlined for the same
/// reason.
struct Search<'a> {
    tables: &'a [&'a Table],
    probe: &'a Probe,
    nearest: Nearest,
}

impl NullaryFnOnce for Search<'_> {
    type Output = Nearest;

    #[inline(always)]
    fn call(self) -> Nearest {
        let mut scan = Scan::new(self.probe, self.nearest);
        // Tables share their lens, except while one of them is sketched before the other.
        let mut seen: Option<(&Arc<Lens>, Option<Sketch>)> = None;
        for table in self.tables {
            for lens in table.lenses() {
                if !seen.as_ref().is_some_and(|(own, _)| Arc::ptr_eq(own, lens)) {
                    seen = Some((lens, lens.probe(&self.probe.fine)));
                }
                scan.through(lens, seen.as_ref().and_then(|(_, sketch)| sketch.as_ref()), table);
            }
            for segment in table.segments() {
                for chunk in 0..segment.chunks() {
                    if segment.lens(chunk).is_none() {
                        scan.plain(segment, chunk);
                    }
                }
            }
        }
        scan.nearest
    }
}

/// State of a search.
struct Scan<'a> {
    probe: &'a Probe,
    nearest: Nearest,
    /// Largest distance of a template that can change the result.
    reach: f32,
}

impl<'a> Scan<'a> {
    #[inline(always)]
    fn new(probe: &'a Probe, nearest: Nearest) -> Self {
        let reach = reach(&nearest, probe);
        Self { probe, nearest, reach }
    }

    /// Every row of a chunk.
    #[inline(always)]
    fn plain(&mut self, segment: &Segment, chunk: usize) {
        let start = chunk * CHUNK_ROWS;
        let mut products = [0; CHUNK_ROWS];
        dots(&self.probe.quantised, segment.quantised_chunk(chunk), &mut products);
        for (block, products) in products.as_chunks::<BLOCK>().0.iter().enumerate() {
            let first = start + block * BLOCK;
            let reach = self.reach + self.probe.coarse.error;
            let rows_info = segment.row_info(first);
            let is_near = |row: usize, reach: f32| {
                let coarse = &rows_info[row].coarse;
                is_within(bound(self.probe, coarse, products[row]), reach, coarse.error)
            };
            // Without an early exit, so that a whole block is compared with vector instructions.
            if (0..BLOCK).fold(false, |any, row| any | is_near(row, reach)) {
                for row in 0..BLOCK {
                    if is_near(row, self.reach + self.probe.coarse.error) {
                        self.measure(segment, first + row);
                    }
                }
            }
        }
    }

    /// One row, by its quantized vector first; returns whether the reach changed.
    #[inline(always)]
    fn look(&mut self, segment: &Segment, row: usize) -> bool {
        let product = dot(&self.probe.quantised[..], segment.quantised(row), |x| *x, |y| *y);
        let coarse = segment.coarse(row);
        let bound = bound(self.probe, coarse, product);
        is_within(bound, self.reach + self.probe.coarse.error, coarse.error) && self.measure(segment, row)
    }

    /// The exact distance of one row; returns whether the reach changed.
    #[inline(always)]
    fn measure(&mut self, segment: &Segment, row: usize) -> bool {
        let Some((owner, square)) = segment.square(row, &self.probe.fine) else { return false };
        let before = self.nearest.bound();
        self.nearest.offer(owner, square);
        let is_nearer = self.nearest.bound() < before;
        if is_nearer {
            self.reach = reach(&self.nearest, self.probe);
        }
        is_nearer
    }
}

/// Squared distance of the quantized vectors, minus the largest rounding error.
#[inline(always)]
fn bound(probe: &Probe, coarse: &Coarse, product: i32) -> f32 {
    #[expect(clippy::cast_precision_loss, reason = "the loss is part of ROUNDING")]
    let product = product as f32 * (2.0 * probe.coarse.scale * coarse.scale);
    let squares = probe.coarse.square + coarse.square;
    squares - product - ROUNDING * squares
}

/// Largest distance of a template that can change the result.
#[inline(always)]
fn reach(nearest: &Nearest, probe: &Probe) -> f32 {
    // Relative error of `f32` sums of this many terms: the computed distance of a template is decisive.
    #[expect(clippy::cast_precision_loss, reason = "dimensions are few")]
    let slack = 1.0 + probe.fine.len() as f32 * f32::EPSILON;
    nearest.bound().sqrt() * slack
}

/// Whether a template can be near enough to change the result.
#[inline(always)]
fn is_within(bound: f32, reach: f32, error: f32) -> bool {
    let limit = reach + error;
    // A free row has an infinite square, so its bound is `inf - inf`: NaN, which is not smaller.
    bound <= limit * limit
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::synthetic::People;

    /// Every instruction set of this processor, the portable one first.
    fn kinds() -> Vec<pulp::Arch> {
        #[cfg_attr(not(target_arch = "x86_64"), expect(unused_mut, reason = "only x86 has a third kind"))]
        let mut kinds = vec![pulp::Arch::Scalar, pulp::Arch::new()];
        #[cfg(target_arch = "x86_64")]
        kinds.extend(pulp::x86::V3::try_new().map(pulp::Arch::V3));
        kinds
    }

    #[test]
    fn every_instruction_set_finds_the_same() {
        for (dimensions, has_sketches) in [(128, false), (128, true), (100, true)] {
            let mut people = People::new(dimensions, 41);
            let mut table = Table::new(dimensions);
            for owner in 0..5_000 {
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
