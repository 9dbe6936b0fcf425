//! Which engine would be the faster one here: measured on the device and on the gallery's own templates, before a
//! graph is built, since building one takes minutes.
//!
//! The exact engine is simply timed. What a graph would take is estimated from what its time goes into: visits of
//! templates all over the memory, one after another. So the answer follows the processor and the memory of the device.
//! That is a guess, and what it costs when it is wrong is a graph that was built in vain: once one is there, both
//! engines are timed on the same probes, and the slower one goes.

use std::hint::black_box;
use std::time::{Duration, Instant};

use super::engine::Engine;
use super::exact::Exact;
use super::people::State;
use super::vector::{Probe, dot};

/// As `exact_limit`: let the device find out.
pub const EXACT_LIMIT_MEASURED: usize = usize::MAX - 1;
/// Templates up to which nothing is measured: no device is known on which a graph would be the faster one.
pub(super) const FLOOR: usize = 50_000;
/// Probes that are timed; the middle one counts.
pub(super) const PROBES: usize = 9;
/// Visits that one search of the graph is taken to be worth: reads of a template anywhere in memory with the dot
/// product of it, in the time of which the graph's own book-keeping is included. Neither people nor strangers. A search
/// looks at a few thousand templates, each of which costs as much as ten such visits, which do not wait for each other:
/// `./run bench identify` has what graphs take. Too large only keeps the exact search a little longer, which is slower
/// there but never wrong; too small builds a graph for nothing.
const VISITS: usize = 40_000;

/// What one probe takes with the exact engine, and with the graph: with the one that serves or, where there is none, as
/// is to be expected of one. None in an empty gallery.
pub(super) fn times(
    exact: &Exact,
    state: &State,
    random: &mut fastrand::Rng,
) -> Option<(Duration, Duration)> {
    let slots = state.table.slots();
    let some = |random: &mut fastrand::Rng| state.table.get(random.u32(..slots.max(1)));
    let probe = Probe::new((0..PROBES * 8).find_map(|_| some(random))?.fine, false);
    let begin = Instant::now();
    black_box(exact.nearest(&state.table, &probe));
    let scan = begin.elapsed();
    let begin = Instant::now();
    if let Some(graph) = &state.index.graph {
        black_box(graph.nearest(&state.table, &probe));
        return Some((scan, begin.elapsed()));
    }
    for _ in 0..VISITS {
        if let Some(template) = some(random) {
            black_box(dot(&probe.quantised, template.quantised, |x| *x, |y| *y));
        }
    }
    Some((scan, begin.elapsed()))
}

/// Whether a graph would be the faster engine, by the middle of what was measured.
pub(super) fn is_graph_faster(mut times: Vec<(Duration, Duration)>) -> bool {
    let middle = times.len() / 2;
    times.sort_by_key(|(scan, _)| *scan);
    let scan = times.get(middle).map(|(scan, _)| *scan);
    times.sort_by_key(|(_, visits)| *visits);
    scan.zip(times.get(middle)).is_some_and(|(scan, (_, visits))| scan > *visits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_of_each_decides() {
        let micros = |(scan, visits)| (Duration::from_micros(scan), Duration::from_micros(visits));
        assert!(!is_graph_faster([(10, 20), (900, 20), (11, 1)].map(micros).to_vec()));
        assert!(is_graph_faster([(30, 20), (1, 20), (31, 900)].map(micros).to_vec()));
        assert!(!is_graph_faster(Vec::new()));
    }

    #[test]
    fn a_limit_that_is_given_holds_and_one_that_is_not_begins_at_the_floor() {
        let index = crate::indexer::Index::default();
        assert_eq!((index.limit(7), index.limit(EXACT_LIMIT_MEASURED)), (7, FLOOR));
    }
}
