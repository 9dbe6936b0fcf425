//! Measures on the device, with the gallery's own templates, which engine is faster. This happens before a
//! graph is built, because building one takes minutes.
//!
//! The exact engine is timed. The time of a graph is estimated from random reads of templates, which dominate
//! a graph search. So the estimate depends on processor and memory of the device. A wrong estimate costs an
//! unneeded build: once a graph exists, both engines are timed with the same probes, and a slower graph is
//! dropped.

use std::hint::black_box;
use std::time::{Duration, Instant};

use super::engine::Engine;
use super::exact::Exact;
use super::people::State;
use super::vector::{Probe, dot};

/// Value of `exact_limit` for a limit that the device measures.
pub const EXACT_LIMIT_MEASURED: usize = usize::MAX - 1;
/// Templates up to which nothing is measured: on no known device is a graph faster there.
pub(super) const MEASURED_TEMPLATES_MIN: usize = 50_000;
/// Number of timed probes; the median is used.
pub(super) const PROBES: usize = 9;
/// Random template reads with dot product that take as long as one graph search. A graph search reads a few
/// thousand templates, one after another, each at the cost of about ten independent reads, as `./run bench
/// identify` shows. Too large a number keeps the exact search longer than needed. Too small a number builds a
/// graph that is dropped again.
const READS_PER_SEARCH: usize = 40_000;

/// Time of one probe with the exact engine and with the graph, which is estimated if there is none. None for
/// an empty gallery.
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
    for _ in 0..READS_PER_SEARCH {
        if let Some(template) = some(random) {
            black_box(dot(&probe.quantised, template.quantised, |x| *x, |y| *y));
        }
    }
    Some((scan, begin.elapsed()))
}

/// Whether a graph is the faster engine, by the median of the measurements.
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
    fn medians_are_compared() {
        let micros = |(scan, visits)| (Duration::from_micros(scan), Duration::from_micros(visits));
        assert!(!is_graph_faster([(10, 20), (900, 20), (11, 1)].map(micros).to_vec()));
        assert!(is_graph_faster([(30, 20), (1, 20), (31, 900)].map(micros).to_vec()));
        assert!(!is_graph_faster(Vec::new()));
    }

    #[test]
    fn a_limit_that_is_given_holds_and_one_that_is_not_begins_at_the_floor() {
        let index = crate::indexer::Index::default();
        assert_eq!((index.limit(7), index.limit(EXACT_LIMIT_MEASURED)), (7, MEASURED_TEMPLATES_MIN));
    }
}
