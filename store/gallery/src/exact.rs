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
//! Sketches are compared first, see [`sift`]. Chunks without sketches (a small gallery), and everything where sketches
//! turn out to leave too much, go through the quantised templates row by row. Of several tables the one whose
//! templates are the likelier ones to be near comes first: what is found there spares most of the others.

mod sift;

use std::sync::Arc;

use pulp::NullaryFnOnce;

use super::engine::{Engine, Nearest};
use super::segment::{BLOCK, CHUNK_ROWS, Segment};
use super::sketch::{Lens, Sketch};
use super::table::Table;
use super::vector::{Coarse, Probe, dot, dots};

/// Rounding of `|p'|^2 + |x'|^2 - 2 p'x'` in `f32`, relative to `|p'|^2 + |x'|^2`: seven roundings of half an
/// epsilon each, of terms at most twice as large; doubled, since a few more measured templates cost nothing.
const ROUNDING: f32 = 16.0 * f32::EPSILON;

/// The exact engine. It has no state: the table is its index.
pub(super) struct Exact {
    arch: pulp::Arch,
}

impl Exact {
    /// Looks at the processor once.
    pub(super) fn new() -> Self {
        Self { arch: pulp::Arch::new() }
    }

    /// The two nearest people of several tables, one after another. `nearest` is what is known already, which lets it
    /// pass over more.
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
/// A type and not a closure: a closure that changes what it captures is called through a shim that the compiler
/// does not inline, and then loses the processor's vector instructions. For the same reason everything below is
/// inlined.
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
        // Tables share their lens, but for the moments in which one of them is ahead of the other.
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

    /// Every row of a chunk.
    #[inline(always)]
    fn plain(&mut self, segment: &Segment, chunk: usize) {
        let start = chunk * CHUNK_ROWS;
        let mut products = [0; CHUNK_ROWS];
        dots(&self.probe.quantised, segment.quantised_chunk(chunk), &mut products);
        for (block, products) in products.as_chunks::<BLOCK>().0.iter().enumerate() {
            let first = start + block * BLOCK;
            let reach = self.reach + self.probe.coarse.error;
            let known = segment.known(first);
            let is_near = |row: usize, reach: f32| {
                let coarse = &known[row].coarse;
                is_within(bound(self.probe, coarse, products[row]), reach, coarse.error)
            };
            // Without a short cut, so that all of a block are compared at once.
            if (0..BLOCK).fold(false, |any, row| any | is_near(row, reach)) {
                for row in 0..BLOCK {
                    if is_near(row, self.reach + self.probe.coarse.error) {
                        self.measure(segment, first + row);
                    }
                }
            }
        }
    }

    /// One row, by its quantised vector first; whether that changed the reach.
    #[inline(always)]
    fn look(&mut self, segment: &Segment, row: usize) -> bool {
        let product = dot(&self.probe.quantised[..], segment.quantised(row), |x| *x, |y| *y);
        let coarse = segment.coarse(row);
        let bound = bound(self.probe, coarse, product);
        is_within(bound, self.reach + self.probe.coarse.error, coarse.error) && self.measure(segment, row)
    }

    /// One row in full; whether that changed the reach.
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
    use crate::tests::synthetic::People;

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
