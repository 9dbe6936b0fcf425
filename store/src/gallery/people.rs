//! What the gallery's lock protects: people, templates, index and settings, changed together.

use std::collections::HashMap;
use std::sync::Arc;

use super::GallerySettings;
use super::graph::Graph;
use super::indexer::Index;
use super::table::Table;
use super::transform::Transform;
use super::vector::Probe;
use crate::keys::KeyId;

/// A person and where their templates lie.
struct Owner {
    key: KeyId,
    slots: Vec<u32>,
}

/// Everything behind the lock.
pub(super) struct State {
    /// The settings in force.
    pub settings: GallerySettings,
    /// What every encoding passes before it is compared.
    pub transform: Arc<Transform>,
    /// The templates.
    pub table: Table,
    /// The graph, where there is one.
    pub index: Index,
    /// People by their place, which rows of the table name; empty places are used again.
    owners: Vec<Option<Owner>>,
    empty: Vec<u32>,
    places: HashMap<KeyId, u32>,
}

impl State {
    /// An empty gallery.
    pub(super) fn new(settings: GallerySettings, transform: Arc<Transform>) -> Self {
        let table = Table::new(settings.dimensions);
        let (owners, empty, places) = (Vec::new(), Vec::new(), HashMap::new());
        Self { settings, transform, table, index: Index::default(), owners, empty, places }
    }

    /// Takes over everything from `fresh` but settings and index, which goes with the old templates; `fresh` has
    /// the old ones then. The caller drops both where no lock is held.
    #[must_use]
    pub(super) fn take_over(&mut self, fresh: &mut Self) -> Option<Arc<Graph>> {
        std::mem::swap(self, fresh);
        std::mem::swap(&mut self.settings, &mut fresh.settings);
        std::mem::swap(&mut self.index, &mut fresh.index);
        self.index.give_up()
    }

    /// People with at least one template.
    pub(super) fn people(&self) -> usize {
        self.places.len()
    }

    /// The person at a place.
    pub(super) fn key(&self, owner: u32) -> Option<KeyId> {
        self.owners.get(owner as usize)?.as_ref().map(|owner| owner.key)
    }

    /// Adds a template of a person, new or known.
    pub(super) fn add(&mut self, person: KeyId, template: &Probe) {
        let Some(place) = self.place(person) else { return };
        let Some(slot) = self.table.insert(place, template) else { return };
        if let Some(Some(owner)) = self.owners.get_mut(place as usize) {
            owner.slots.push(slot);
        }
        self.index.added(slot);
    }

    /// Removes a person and wipes their templates; how many there were.
    pub(super) fn remove(&mut self, person: &KeyId) -> usize {
        let Some(place) = self.places.remove(person) else { return 0 };
        let Some(owner) = self.owners.get_mut(place as usize).and_then(Option::take) else { return 0 };
        for slot in &owner.slots {
            self.table.remove(*slot);
        }
        self.empty.push(place);
        self.index.removals += owner.slots.len() as u64;
        owner.slots.len()
    }

    /// Gives the graph up where the gallery has become too small for one. Half the limit, so that a gallery that
    /// lies at the limit does not build one after another. The caller drops it where no lock is held.
    #[must_use]
    pub(super) fn give_up_small_index(&mut self) -> Option<Arc<Graph>> {
        let is_small = self.table.taken() <= self.settings.exact_limit / 2;
        is_small.then(|| self.index.give_up()).flatten()
    }

    /// The place of a person, made where they are new; none where 32-bit places are used up.
    fn place(&mut self, person: KeyId) -> Option<u32> {
        if let Some(place) = self.places.get(&person) {
            return Some(*place);
        }
        let owner = Some(Owner { key: person, slots: Vec::new() });
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
