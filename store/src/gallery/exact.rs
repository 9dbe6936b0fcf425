//! The exact engine: a scan of quantised templates that looks at the full ones only where it must.
//!
//! Why it is exact: with `x = x' + e` (quantised and error) for template and probe, the triangle inequality gives
//! `|p - x| >= |p' - x'| - |e_p| - |e_x|`. Both error norms are known, and `|p' - x'|` follows from the dot product
//! of the quantised vectors. A template is passed over only where this lower bound lies beyond the second
//! person's distance so far; every other one is measured in `f32`. So the answer is, bit for bit, that of a scan
//! over the full vectors, whatever the data; how many templates are measured depends on the data, and is small.

use pulp::NullaryFnOnce;

use super::engine::{Engine, Nearest};
use super::table::{CHUNK_ROWS, Chunk, Table};
use super::vector::{Probe, dot, square_distance};

/// Rounding of `|p'|^2 + |x'|^2 - 2 p'x'` in `f32`, relative to `|p'|^2 + |x'|^2`: seven roundings of half an
/// epsilon each, of terms at most twice as large; doubled, since a few more measured templates cost nothing.
const ROUNDING: f32 = 16.0 * f32::EPSILON;

/// Rows that are looked at together after the vectorised loop; most blocks have none within reach.
const BLOCK: usize = 32;

/// The exact engine. It has no state: the table is its index.
pub(super) struct Exact {
    arch: pulp::Arch,
}

impl Exact {
    /// Looks at the processor once.
    pub(super) fn new() -> Self {
        Self { arch: pulp::Arch::new() }
    }
}

/// What happens for every template: how near the rows of a chunk may be, and which blocks have any within reach.
///
/// A type of its own and not a closure: a closure that changes what it captures is called through a shim that the
/// compiler does not inline, and then loses the processor's vector instructions.
struct Sift<'a> {
    probe: &'a Probe,
    chunk: &'a Chunk,
    reach: f32,
    sieve: &'a mut Sieve,
}

impl NullaryFnOnce for Sift<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { probe, chunk, reach, sieve: Sieve { products, bounds, any } } = self;
        let quantised = &probe.quantised[..];
        for (row, product) in chunk.quantised(quantised.len()).zip(products.iter_mut()) {
            *product = dot(quantised, row, |x| *x, |y| *y);
        }
        for row in 0..CHUNK_ROWS {
            #[expect(clippy::cast_precision_loss, reason = "the loss is part of ROUNDING")]
            let product = products[row] as f32 * (2.0 * probe.coarse.scale * chunk.scales[row]);
            let squares = probe.coarse.square + chunk.squares[row];
            bounds[row] = squares - product - ROUNDING * squares;
        }
        let errors = chunk.errors.as_chunks::<BLOCK>().0;
        for (any, (bounds, errors)) in any.iter_mut().zip(bounds.as_chunks::<BLOCK>().0.iter().zip(errors)) {
            // Without a short cut, so that all of a block are compared at once.
            *any = bounds.iter().zip(errors).fold(false, |any, (b, e)| any | is_within(*b, reach, *e));
        }
    }
}

/// What the scan of one chunk finds.
struct Sieve {
    products: [i32; CHUNK_ROWS],
    /// Squared distances of the quantised vectors, less what rounding may have added.
    bounds: [f32; CHUNK_ROWS],
    any: [bool; CHUNK_ROWS / BLOCK],
}

/// Whether a template may be near enough to matter.
#[inline(always)]
fn is_within(bound: f32, reach: f32, error: f32) -> bool {
    let limit = reach + error;
    // A free row has an infinite square, so its bound is `inf - inf`: NaN, which is not below.
    bound <= limit * limit
}

impl Engine for Exact {
    fn nearest(&self, table: &Table, probe: &Probe) -> Option<Nearest> {
        let mut nearest = Nearest::default();
        let mut sieve =
            Sieve { products: [0; CHUNK_ROWS], bounds: [0.0; CHUNK_ROWS], any: [false; CHUNK_ROWS / BLOCK] };
        let mut reach = reach(&nearest, probe);
        for chunk in table.chunks() {
            self.arch.dispatch(Sift { probe, chunk, reach, sieve: &mut sieve });
            let blocks = sieve.any.iter().enumerate().filter(|(_, any)| **any);
            for row in blocks.flat_map(|(block, _)| block * BLOCK..(block + 1) * BLOCK) {
                if is_within(sieve.bounds[row], reach, chunk.errors[row])
                    && let Some((owner, fine)) = chunk.fine(row, probe.fine.len())
                {
                    nearest.offer(owner, square_distance(&probe.fine, fine));
                    reach = self::reach(&nearest, probe);
                }
            }
        }
        Some(nearest)
    }
}

/// How far from the quantised probe a quantised template of no error may lie and still matter.
fn reach(nearest: &Nearest, probe: &Probe) -> f32 {
    // `f32` sums of this many terms may err by this share: a template counts as its computed distance says.
    #[expect(clippy::cast_precision_loss, reason = "dimensions are few")]
    let slack = 1.0 + probe.fine.len() as f32 * f32::EPSILON;
    nearest.bound().sqrt() * slack + probe.coarse.error
}
