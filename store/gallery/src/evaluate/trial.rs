//! One trial: some people are enrolled, all others are strangers, and every encoding is a probe.
//!
//! A probe of an enrolled person is compared with the person's other samples (leave one out). The nearest
//! other person comes from the exact engine, as in the daemon. The distance to the own person is computed
//! directly, so that no sample has to be removed.

use std::sync::atomic::{AtomicUsize, Ordering};

use fastrand::Rng;

use super::{METHODS, Method, Samples};
use crate::engine::{Engine, Nearest};
use crate::exact::Exact;
use crate::rates::Score;
use crate::table::Table;
use crate::vector::{Probe, square_distance};
use crate::{Encoding, Metric};

/// Maximum threads of an evaluation: each has its own gallery.
const THREADS_MAX: usize = 8;

/// The encodings, prepared for comparison.
pub(super) struct Prepared {
    metric: Metric,
    dimensions: usize,
    probes: Vec<(u32, Probe)>,
    /// Encodings of each person, by number.
    people: Vec<Vec<u32>>,
}

/// Which people are enrolled in a trial.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rule {
    /// People enrolled.
    pub people: usize,
    /// Maximum samples of each.
    pub samples: usize,
    /// Whether only people with more samples than this are enrolled.
    pub is_strict: bool,
}

/// Distances of one or more trials, by [`Method`].
#[derive(Default)]
pub(super) struct Found {
    /// Distances of strangers to the nearest person.
    pub strangers: [Vec<Score>; METHODS],
    /// Distances of enrolled people to their own samples; infinite if another person is nearer.
    pub enrolled: [Vec<Score>; METHODS],
    /// Probes whose vector also occurs under another name.
    pub twins: usize,
}

impl Found {
    pub(super) fn append(&mut self, mut other: Self) {
        for method in 0..METHODS {
            self.strangers[method].append(&mut other.strangers[method]);
            self.enrolled[method].append(&mut other.enrolled[method]);
        }
        self.twins += other.twins;
    }
}

impl Prepared {
    pub(super) fn new(samples: &Samples, metric: Metric) -> Self {
        let mut people = vec![Vec::new(); samples.people()];
        let mut probes = Vec::with_capacity(samples.list().len());
        let ours = |encoding: &Encoding| encoding.as_slice().len() == samples.dimensions();
        for (person, encoding) in samples.list().iter().filter(|(_, encoding)| ours(encoding)) {
            people[*person as usize].push(u32::try_from(probes.len()).unwrap_or(u32::MAX));
            probes.push((*person, Probe::new(encoding.as_slice(), metric == Metric::Cosine)));
        }
        Self { metric, dimensions: samples.dimensions(), probes, people }
    }

    /// Number of people who can be enrolled under a strict rule with `samples`.
    pub(super) fn people_with_more_than(&self, samples: usize) -> usize {
        self.people.iter().filter(|own| own.len() > samples).count()
    }

    /// Number of encodings.
    pub(super) fn len(&self) -> usize {
        self.probes.len()
    }

    /// Runs trials in parallel, one per seed.
    pub(super) fn trials(&self, rule: Rule, seeds: &[u64]) -> Found {
        let next = AtomicUsize::new(0);
        let run = || {
            let mut found = Found::default();
            while let Some(seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed)) {
                found.append(Trial::new(self, rule, *seed).run());
            }
            found
        };
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = threads.min(THREADS_MAX).min(seeds.len());
        let mut all = Found::default();
        std::thread::scope(|scope| {
            let running: Vec<_> = (1..threads).map(|_| scope.spawn(run)).collect();
            all.append(run());
            for thread in running {
                // A panic in a trial is a bug in this module: propagate it.
                all.append(thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
            }
        });
        all
    }

    fn fine(&self, at: u32) -> &[f32] {
        &self.probes[at as usize].1.fine
    }

    /// The mean template of some encodings, computed as in the gallery.
    fn mean(&self, of: &[u32]) -> Option<Probe> {
        Probe::mean(of.iter().map(|at| self.fine(*at)), self.dimensions, self.metric == Metric::Cosine)
    }
}

struct Trial<'a> {
    all: &'a Prepared,
    rule: Rule,
    /// Samples of each enrolled person in random order, by person; empty for a stranger.
    orders: Vec<Vec<u32>>,
    samples: Table,
    means: Table,
    exact: Exact,
}

impl<'a> Trial<'a> {
    fn new(all: &'a Prepared, rule: Rule, seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let least = if rule.is_strict { rule.samples + 1 } else { 1 };
        let mut fit: Vec<usize> = (0..all.people.len()).filter(|p| all.people[*p].len() >= least).collect();
        rng.shuffle(&mut fit);
        let mut orders = vec![Vec::new(); all.people.len()];
        let (mut samples, mut means) = (Table::new(all.dimensions), Table::rounded(all.dimensions));
        for &person in fit.iter().take(rule.people) {
            let mut order = all.people[person].clone();
            rng.shuffle(&mut order);
            let taken = &order[..order.len().min(rule.samples)];
            let owner = person as u32;
            for at in taken {
                samples.insert(owner, &all.probes[*at as usize].1);
            }
            if let Some(mean) = all.mean(taken) {
                means.insert(owner, &mean);
            }
            orders[person] = order;
        }
        samples.sketch_all();
        means.sketch_all();
        Self { all, rule, orders, samples, means, exact: Exact::new() }
    }

    fn run(&self) -> Found {
        let mut found = Found::default();
        for (at, (person, probe)) in self.all.probes.iter().enumerate() {
            let others = self.others(*person, probe);
            if self.orders[*person as usize].is_empty() {
                for (list, distance) in found.strangers.iter_mut().zip(others) {
                    list.push(Score { person: *person, distance });
                }
            } else if let Some(own) = self.own(*person, at as u32, probe) {
                found.twins += usize::from(others[Method::Nearest as usize] == 0.0);
                for ((list, own), other) in found.enrolled.iter_mut().zip(own).zip(others) {
                    let distance = if own < other { own } else { f32::INFINITY };
                    list.push(Score { person: *person, distance });
                }
            }
        }
        found
    }

    /// Distance of the nearest other person, by method.
    fn others(&self, person: u32, probe: &Probe) -> [f32; METHODS] {
        let other = |table: &Table| {
            let nearest: Nearest = self.exact.nearest(table, probe).unwrap_or_default();
            let other =
                [nearest.best, nearest.second].into_iter().flatten().find(|near| near.owner != person);
            other.map_or(f32::INFINITY, |near| self.all.metric.distance(near.square))
        };
        Method::all(other(&self.samples), other(&self.means))
    }

    /// Distance to the person's own other samples, by method; none if there are no others.
    fn own(&self, person: u32, at: u32, probe: &Probe) -> Option<[f32; METHODS]> {
        let order = &self.orders[person as usize];
        let rest: Vec<u32> = order.iter().copied().filter(|own| *own != at).take(self.rule.samples).collect();
        let squares = rest.iter().map(|own| square_distance(&probe.fine, self.all.fine(*own)));
        let nearest = squares.min_by(f32::total_cmp)?;
        let mean =
            self.all.mean(&rest).map_or(f32::INFINITY, |mean| square_distance(&probe.fine, &mean.fine));
        Some(Method::all(self.all.metric.distance(nearest), self.all.metric.distance(mean)))
    }
}
