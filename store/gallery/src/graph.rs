//! The approximate engine for galleries beyond the crossover: a graph of `hnsw_rs` over quantized templates.
//!
//! How the crate is used:
//! - A point is a quantized template, followed by its scale and square ([`Cell`]): 136 bytes at 128-d. Full
//!   vectors stay in the table, where the `f32` distance of every hit is computed. So distances are exact,
//!   and a removed template cannot be returned.
//! - Points are identified by slot. The distance of a reused slot is that of its present template.
//! - Identical points hide each other and their neighbors in the graph. So there is one point per distinct
//!   vector, and a list of the other slots with it.
//! - Points cannot be removed or changed: the graph is built again, see the indexer. Insertion is sequential
//!   (parallel insertion loses points). Its dump and loader must not be called (plaintext, `exit`).
//! - It contains assertions: a panic is caught, and the exact engine is used instead.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError, RwLock};

use hnsw_rs::prelude::{Distance, Hnsw};
use pulp::NullaryFnOnce;
use zeroize::Zeroize;

use super::engine::{Engine, Nearest};
use super::table::Table;
use super::vector::{Coarse, Probe, dot, square_distance};

/// Links per point and layer (twice as many in the lowest): below 24 recall falls under 0.99 at 100,000
/// templates.
const CONNECTIONS: usize = 24;
/// Candidates per insertion: with fewer than 200, points become hard to reach.
const CONSTRUCTION_WIDTH: usize = 200;
/// Layers: more than any gallery that fits in memory fills.
const LAYERS: usize = 16;
/// Candidates per search: enough for the same decisions as the exact engine, as the benchmark shows.
const SEARCH_WIDTH: usize = 128;
/// Hits measured in `f32` per search: enough for all samples of one person and for the second person.
const HITS: usize = 64;
/// Cells after the components of a point: scale and square, four bytes each.
const TAIL: usize = 8;

/// One byte of a point. It is wiped on drop, because `hnsw_rs` has no other way to wipe freed memory.
#[derive(Clone)]
pub(super) struct Cell(i8);

impl Drop for Cell {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// The point of a template.
pub(super) fn point(quantised: &[i8], coarse: Coarse) -> Vec<Cell> {
    let tail = coarse.scale.to_le_bytes().into_iter().chain(coarse.square.to_le_bytes());
    let mut cells = Vec::with_capacity(quantised.len() + TAIL);
    cells.extend(quantised.iter().copied().chain(tail.map(u8::cast_signed)).map(Cell));
    cells
}

/// Components, scale and square of a point.
#[inline(always)]
fn parts(cells: &[Cell]) -> Option<(&[Cell], f32, f32)> {
    let (rest, square) = cells.split_last_chunk::<4>()?;
    let (components, scale) = rest.split_last_chunk::<4>()?;
    let number = |bytes: &[Cell; 4]| {
        f32::from_le_bytes([bytes[0].0, bytes[1].0, bytes[2].0, bytes[3].0].map(i8::cast_unsigned))
    };
    Some((components, number(scale), number(square)))
}

/// Dot product of two points. Not a closure: see the exact engine.
struct Product<'a> {
    a: &'a [Cell],
    b: &'a [Cell],
}

impl NullaryFnOnce for Product<'_> {
    type Output = i32;

    #[inline(always)]
    fn call(self) -> i32 {
        dot(self.a, self.b, |x| x.0, |y| y.0)
    }
}

/// Squared distance of two points.
struct Kernel(pulp::Arch);

impl Distance<Cell> for Kernel {
    fn eval(&self, a: &[Cell], b: &[Cell]) -> f32 {
        // Every point is created by `point`, so both have all parts; infinity would only hide a point.
        let (Some((a, scale_a, square_a)), Some((b, scale_b, square_b))) = (parts(a), parts(b)) else {
            return f32::INFINITY;
        };
        let product = self.0.dispatch(Product { a, b });
        #[expect(clippy::cast_precision_loss, reason = "hits are measured again in full")]
        let product = product as f32 * (2.0 * scale_a * scale_b);
        // Rounding may make it negative, which violates an assertion of the graph.
        (square_a + square_b - product).max(0.0)
    }
}

/// The graph. Searches may run during an insertion; only one thread may insert.
pub(super) struct Graph {
    hnsw: Hnsw<'static, Cell, Kernel>,
    /// Other slots of the same point, by the slot that identifies it.
    twins: RwLock<HashMap<u32, Vec<u32>>>,
    /// Slot that identifies a point, by a keyed 64-bit hash of its content. A collision would hide a
    /// template.
    names: Mutex<HashMap<u64, u32>>,
    hasher: RandomState,
}

impl Graph {
    /// An empty graph; `expected` templates are a hint.
    pub(super) fn new(expected: usize) -> Self {
        let kernel = Kernel(pulp::Arch::new());
        Self {
            hnsw: Hnsw::new(CONNECTIONS, expected, LAYERS, CONSTRUCTION_WIDTH, kernel),
            twins: RwLock::default(),
            names: Mutex::default(),
            hasher: RandomState::new(),
        }
    }

    /// Adds a point; false if the graph panicked and must be dropped.
    pub(super) fn insert(&self, slot: u32, point: &[Cell]) -> bool {
        let mut hasher = self.hasher.build_hasher();
        point.iter().for_each(|cell| hasher.write_i8(cell.0));
        let content = hasher.finish();
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(&name) = names.get(&content) {
            let mut twins = self.twins.write().unwrap_or_else(PoisonError::into_inner);
            twins.entry(name).or_default().push(slot);
            return true;
        }
        names.insert(content, slot);
        drop(names);
        catch_unwind(AssertUnwindSafe(|| self.hnsw.insert((point, slot as usize)))).is_ok()
    }
}

impl Engine for Graph {
    fn nearest(&self, table: &Table, probe: &Probe) -> Option<Nearest> {
        let point = point(&probe.quantised, probe.coarse);
        let hits = catch_unwind(AssertUnwindSafe(|| self.hnsw.search(&point, HITS, SEARCH_WIDTH))).ok()?;
        let mut nearest = Nearest::default();
        let mut measure = |slot: u32| {
            if let Some(template) = table.get(slot) {
                nearest.offer(template.owner, square_distance(&probe.fine, template.fine));
            }
        };
        let twins = self.twins.read().unwrap_or_else(PoisonError::into_inner);
        for hit in &hits {
            let Ok(slot) = u32::try_from(hit.d_id) else { continue };
            measure(slot);
            twins.get(&slot).into_iter().flatten().for_each(|twin| measure(*twin));
        }
        // All hits are of one person or removed: a nearer person may be beyond the hits.
        nearest.second.is_some().then_some(nearest)
    }
}
