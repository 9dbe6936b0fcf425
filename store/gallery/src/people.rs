//! The state under the gallery's lock: people, templates, index and settings, which change together.

use std::collections::HashMap;
use std::sync::Arc;

use gatehouse_model::KeyId;

use super::adaptive_threshold::AdaptiveThreshold;
use super::calibration::{Calibration, known};
use super::corrections::{Corrections, MatchRule, nearest_except};
use super::engine::{Near, Nearest};
use super::graph::Graph;
use super::indexer::Index;
use super::norms::{Norms, OwnNorms};
use super::slots::Slots;
use super::table::Table;
use super::transform::Transform;
use super::vector::{Probe, square_distance};
use super::{GallerySettings, Metric};

/// A person and the slots of their templates.
struct Owner {
    key: KeyId,
    slots: Slots,
    /// Slot of the mean template; none if there is only one template.
    mean: Option<u32>,
    /// Norms of the templates before normalization.
    norms: OwnNorms,
}

impl Owner {
    /// Number and norms of the templates.
    fn norms(&self) -> Norms {
        self.norms.among(self.slots.as_slice().len())
    }
}

/// All state under the lock.
pub(super) struct State {
    /// The settings in force.
    pub settings: GallerySettings,
    /// Derived thresholds, if they are derived.
    pub adaptive: Option<AdaptiveThreshold>,
    /// Impostor statistics of the model, if they are known.
    pub calibration: Option<Arc<Calibration>>,
    /// Norms of all templates.
    pub norms: Norms,
    /// The transform of every encoding before a comparison.
    pub transform: Arc<Transform>,
    /// The templates.
    pub table: Table,
    /// Negative samples.
    pub corrections: Corrections,
    /// The mean template of every person with several templates, which probes are compared with as well.
    /// Rounded, because a mean is not more accurate anyway.
    pub means: Table,
    /// The graph, if there is one.
    pub index: Index,
    /// People by index, which rows of the table refer to; empty entries are reused.
    owners: Vec<Option<Owner>>,
    empty: Vec<u32>,
    places: HashMap<KeyId, u32>,
}

impl State {
    /// An empty gallery.
    pub(super) fn new(settings: GallerySettings, transform: Arc<Transform>) -> Self {
        let (table, means) = (Table::new(settings.dimensions), Table::rounded(settings.dimensions));
        let (owners, empty, places) = (Vec::new(), Vec::new(), HashMap::new());
        let (corrections, index) = (Corrections::default(), Index::default());
        let calibration = known::known_calibration(&settings.model, settings.dimensions, settings.metric);
        let (adaptive, norms) = (None, Norms::default());
        Self {
            settings,
            adaptive,
            calibration,
            norms,
            transform,
            table,
            corrections,
            means,
            index,
            owners,
            empty,
            places,
        }
    }

    /// Swaps all state with `fresh` except the settings. The index is discarded with the old templates. The
    /// caller must drop it and `fresh` without a lock.
    #[must_use]
    pub(super) fn take_over(&mut self, fresh: &mut Self) -> Option<Arc<Graph>> {
        std::mem::swap(self, fresh);
        std::mem::swap(&mut self.settings, &mut fresh.settings);
        std::mem::swap(&mut self.adaptive, &mut fresh.adaptive);
        std::mem::swap(&mut self.calibration, &mut fresh.calibration);
        std::mem::swap(&mut self.index, &mut fresh.index);
        self.index.give_up()
    }

    /// People with at least one template.
    pub(super) fn people(&self) -> usize {
        self.places.len()
    }

    /// The person at an index.
    pub(super) fn key(&self, owner: u32) -> Option<KeyId> {
        self.owners.get(owner as usize)?.as_ref().map(|owner| owner.key)
    }

    /// Whether templates are to be sketched, or sketched again.
    pub(super) fn wants_lens(&self) -> bool {
        self.table.wants_lens() || self.means.is_looking()
    }

    /// Adds templates of a person, new or known.
    pub(super) fn add(&mut self, person: KeyId, templates: &[Probe]) {
        if templates.is_empty() {
            return;
        }
        let Some(place) = self.place(person) else { return };
        for template in templates {
            let Some(slot) = self.table.insert(place, template) else {
                tracing::error!(
                    "no memory for a template: this person may not be recognised until a restart"
                );
                break;
            };
            if let Some(Some(owner)) = self.owners.get_mut(place as usize) {
                let before = owner.norms();
                owner.slots.push(slot);
                owner.norms = owner.norms.with(template.norms);
                self.norms.change(before, owner.norms());
            }
            self.index.added(slot);
        }
        self.renew_mean(place);
    }

    /// The indexes of all people, in order.
    pub(super) fn all_places(&self) -> Vec<u32> {
        let mut places: Vec<u32> = self.places.values().copied().collect();
        places.sort_unstable();
        places
    }

    /// The index of an enrolled person.
    pub(super) fn place_of(&self, person: &KeyId) -> Option<u32> {
        self.places.get(person).copied()
    }

    /// The templates of the person at an index.
    pub(super) fn samples_of(&self, place: u32) -> impl Iterator<Item = &[f32]> {
        let owner = self.owners.get(place as usize).and_then(Option::as_ref);
        let slots = owner.into_iter().flat_map(|owner| owner.slots.as_slice());
        slots.filter_map(|slot| self.table.get(*slot)).map(|template| template.fine)
    }

    /// Recomputes the mean template of a person.
    fn renew_mean(&mut self, place: u32) {
        let is_unit = self.settings.metric == Metric::Cosine;
        let mut mean = None;
        if self.samples_of(place).nth(1).is_some() {
            mean = Probe::mean(self.samples_of(place), self.settings.dimensions, is_unit);
        }
        let Some(Some(owner)) = self.owners.get_mut(place as usize) else { return };
        if let Some(slot) = owner.mean.take() {
            self.means.remove(slot);
        }
        owner.mean = mean.and_then(|mean| self.means.insert(place, &mean));
    }

    /// Removes a person and wipes their templates; returns their number.
    pub(super) fn remove(&mut self, person: &KeyId) -> usize {
        self.corrections.remove(person);
        let Some(place) = self.places.remove(person) else { return 0 };
        let Some(owner) = self.owners.get_mut(place as usize).and_then(Option::take) else { return 0 };
        for slot in owner.slots.as_slice() {
            self.table.remove(*slot);
        }
        if let Some(slot) = owner.mean {
            self.means.remove(slot);
        }
        self.norms.change(owner.norms(), Norms::default());
        self.empty.push(place);
        let removed = owner.slots.as_slice().len();
        self.index.removals += removed as u64;
        removed
    }

    /// The two nearest people, without those that a correction excludes.
    pub(super) fn corrected(&self, nearest: Nearest, probe: &Probe, rule: MatchRule) -> Nearest {
        let is_out = |near: Option<Near>| {
            let near = near.filter(|near| rule.metric.distance(near.square) <= rule.threshold);
            let person =
                near.and_then(|near| Some((self.key(near.owner)?, self.nearest_sample(near.owner, probe)?)));
            person.is_some_and(|(key, own)| self.corrections.exclude(&key, probe, own, rule))
        };
        if !is_out(nearest.best) && !is_out(nearest.second) {
            return nearest;
        }
        // The next person may be excluded as well: check all people with corrections, and search again.
        let places = self.corrections.people().filter_map(|person| self.places.get(person));
        let out = places.copied().filter(|place| is_out(self.near(*place, probe)));
        let out: Vec<_> = out.collect();
        let mut nearest = nearest_except(&self.table, probe, &out);
        nearest.merge(nearest_except(&self.means, probe, &out));
        nearest
    }

    /// A person with the nearest of their templates, including the mean template.
    fn near(&self, owner: u32, probe: &Probe) -> Option<Near> {
        let mean = self.owners.get(owner as usize)?.as_ref()?.mean;
        let mean = mean.and_then(|slot| self.means.square(slot, &probe.fine));
        let squares = self.nearest_sample(owner, probe).into_iter().chain(mean);
        squares.min_by(f32::total_cmp).map(|square| Near { owner, square })
    }

    /// Squared distance of a person's nearest sample.
    fn nearest_sample(&self, owner: u32, probe: &Probe) -> Option<f32> {
        self.samples_of(owner).map(|sample| square_distance(&probe.fine, sample)).min_by(f32::total_cmp)
    }

    /// Discards the graph if the gallery has become too small for one: below half of the limit, so that a
    /// gallery near the limit does not build graphs repeatedly. The caller must drop it without a lock.
    #[must_use]
    pub(super) fn give_up_small_index(&mut self) -> Option<Arc<Graph>> {
        let is_small = self.table.taken() <= self.index.limit(self.settings.exact_limit) / 2;
        is_small.then(|| self.index.give_up()).flatten()
    }

    /// The index of a person, who is added if new; none if all 32-bit indexes are used.
    fn place(&mut self, person: KeyId) -> Option<u32> {
        if let Some(place) = self.places.get(&person) {
            return Some(*place);
        }
        let owner =
            Some(Owner { key: person, slots: Slots::default(), mean: None, norms: OwnNorms::default() });
        let place = match self.empty.pop() {
            Some(place) => {
                *self.owners.get_mut(place as usize)? = owner;
                place
            }
            None => {
                let place = u32::try_from(self.owners.len()).ok().filter(|place| *place != u32::MAX)?;
                self.owners.push(owner);
                place
            }
        };
        self.places.insert(person, place);
        Some(place)
    }
}
