//! People that the appliances of a deployment share: export of a person, and merge of received changes.
//!
//! A person is merged field by field. All appliances and the central services use the same rules. The later
//! name wins, and samples are a grow-only set. An erasure applies to all earlier enrollments. "Later" is
//! defined by stamps: the appliance's clock, advanced beyond every stamp that it has received. This is a
//! hybrid logical clock (Kulkarni and others, "Logical physical clocks", 2014) with the counter in the lowest
//! digits of the microseconds. A change that is made after another one was received therefore always has the
//! later stamp, even where clocks are wrong.
//!
//! A received person is enrolled like a local one: key, journal, memory. The journal then sends the change
//! back to the central services, where it changes nothing.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use gatehouse_gallery::transform::Protected;
use gatehouse_gallery::{Encoding, Verdict};
use gatehouse_model::{KeyId, OrderId, Person, SAMPLES_MAX, Timestamp};
use gatehouse_receipt::By;
use gatehouse_vault::keys::KeyKind;
use gatehouse_vault::seal::SealError;

use super::super::core::blocking;
use super::super::galleries::Slot;
use super::super::{RequestError, StoreError};
use super::People;
use super::erasure::Ordered;
use crate::deployment::{DeploymentKey, Reference};
use crate::people::{self, Profile};
use crate::record::{ErasureAccount, Record};
use crate::terms::{Term, TermKind, Terms};
use crate::views::entries::{self, ErasureOrder, Key, PeopleCursor};

/// How far a stamp may be ahead of the central clock, in microseconds. A stamp further ahead is of a wrong
/// clock and counts as older than all others.
const AHEAD_MAX: i64 = 5 * 60 * 1_000_000;

/// A person as the appliances of a deployment share them.
#[derive(Debug, Clone, PartialEq)]
pub struct Shared {
    /// The keyed hash of their id.
    pub reference: Reference,
    /// Operator's id and name.
    pub person: Person,
    /// Stamp of the first enrollment: a later erasure applies to this person.
    pub born: Timestamp,
    /// Stamp of the name.
    pub named_at: Timestamp,
    /// Id and name, sealed by [`DeploymentKey::seal`].
    pub sealed: Vec<u8>,
    /// Consent and suspension, as far as they were ever changed.
    pub terms: Vec<SharedTerm>,
    /// The samples of all models.
    pub samples: Vec<SharedSample>,
}

/// A term of a person.
#[derive(Debug, Clone, PartialEq)]
pub struct SharedTerm {
    /// Which term.
    pub kind: TermKind,
    /// The term.
    pub term: Term,
    /// Its content, sealed by [`DeploymentKey::seal_term`].
    pub sealed: Vec<u8>,
}

impl SharedTerm {
    /// Seals the terms of a person that were ever changed.
    ///
    /// # Errors
    /// [`SealError::Refused`], which does not happen for validated terms.
    pub fn seal_all(
        key: &DeploymentKey,
        reference: Reference,
        terms: &Terms,
    ) -> Result<Vec<Self>, SealError> {
        let changed = TermKind::ALL.into_iter().filter(|kind| terms.term(*kind).changed_at.0 > 0);
        let sealed = changed.map(|kind| {
            let term = terms.term(kind).clone();
            Ok(Self { kind, sealed: key.seal_term(reference, kind, &term)?, term })
        });
        sealed.collect()
    }
}

/// A sample of a person.
#[derive(Debug, Clone, PartialEq)]
pub struct SharedSample {
    /// Name of the model.
    pub model: String,
    /// In the space of the deployment's key.
    pub template: Protected,
}

impl People {
    /// Shares people under this key from now on. The first key stays in force until the process ends.
    pub fn share(&self, key: Arc<DeploymentKey>) {
        let _ = self.core.deployment.set(key);
    }

    /// The key under which people are shared.
    pub fn deployment(&self) -> Option<&Arc<DeploymentKey>> {
        self.core.deployment.get()
    }

    /// The shared data of a person; none where people are not shared or the person was erased.
    pub fn shared(&self, key_id: &KeyId) -> Option<Shared> {
        let deployment = self.core.deployment()?;
        let Profile { person, enrolled_at, named_at, terms, .. } =
            self.core.people().member(key_id)?.profile.clone();
        let mut samples = Vec::new();
        for slot in self.core.galleries().all() {
            let model = &slot.mark.model;
            let transform = deployment.transform(model.dimensions);
            let of_model = slot.gallery.samples_in(key_id, &transform).into_iter();
            samples.extend(of_model.map(|template| SharedSample { model: model.name.clone(), template }));
        }
        let (reference, sealed) = (deployment.reference(&person.id), deployment.seal(&person).ok()?);
        let terms = SharedTerm::seal_all(deployment, reference, &terms).ok()?;
        Some(Shared { reference, person, born: enrolled_at, named_at, sealed, terms, samples })
    }

    /// The key ids of all people, for [`People::shared`].
    pub fn keys(&self) -> Vec<KeyId> {
        self.core.people().ids().map(|(key_id, _)| *key_id).collect()
    }

    /// The ids of all people by their references; empty where people are not shared.
    pub fn ids_by_reference(&self) -> HashMap<Reference, String> {
        let Some(deployment) = self.core.deployment() else { return HashMap::new() };
        self.core.people().ids().map(|(_, id)| (deployment.reference(id), id.to_owned())).collect()
    }

    /// How far the central changes of people were merged. Blocking.
    ///
    /// # Errors
    /// [`StoreError`] where the views cannot be read.
    pub fn cursor(&self) -> Result<PeopleCursor, StoreError> {
        Ok(self.core.views.get(&Key::PeopleTaken)?.unwrap_or_default())
    }

    /// Every erasure of a shared person that was carried out here. Blocking.
    ///
    /// # Errors
    /// [`StoreError`] where the views cannot be read.
    pub fn erasures(&self) -> Result<Vec<ErasureOrder>, StoreError> {
        let mut orders = Vec::new();
        for entry in self.core.views.scan(vec![entries::ERASURE_ORDER], false) {
            let (name, value) = entry?;
            orders.push(self.core.views.unseal(&name, &value)?);
        }
        Ok(orders)
    }

    /// Advances the cursor from `before` to `now`. It is unchanged where it was reset meanwhile.
    ///
    /// # Errors
    /// [`StoreError`] where the journal failed.
    pub async fn advance_cursor(&self, before: PeopleCursor, now: PeopleCursor) -> Result<(), StoreError> {
        let _lock = self.core.people_lock.lock().await;
        let people = self.clone();
        let current = blocking(move || people.cursor()).await?;
        match current == before && now != before {
            true => self.set_cursor(now).await,
            false => Ok(()),
        }
    }

    async fn set_cursor(&self, cursor: PeopleCursor) -> Result<(), StoreError> {
        let PeopleCursor { upto, change, newest } = cursor;
        self.core.stamps.fetch_max(newest.0, Ordering::Relaxed);
        self.core.change(&Record::PeopleTaken { upto, change, newest }).await.map(drop)
    }

    /// Merges the central state of a person at the central time `now`. Returns whether anything changed.
    /// Samples of models without a gallery here are skipped.
    ///
    /// # Errors
    /// As [`People::enroll`].
    pub async fn merge(&self, theirs: &Shared, now: Timestamp) -> Result<bool, RequestError> {
        people::check(&theirs.person)?;
        let _lock = self.core.people_lock.lock().await;
        let samples = self.missing_samples(theirs);
        let known = self.core.people().key_of(&theirs.person.id);
        let Some(key_id) = known else {
            let mut profile = Profile {
                enrolled_at: theirs.born,
                named_at: theirs.named_at,
                ..Profile::new(theirs.person.clone(), self.core.stamp())
            };
            merge_terms(&mut profile.terms, &theirs.terms, now);
            self.require_reference(&profile)?;
            let key_id = self.core.create_key(KeyKind::Person).await?;
            self.put_person(key_id, profile, samples).await?;
            return Ok(true);
        };
        let Some(ours) = self.core.people().member(&key_id).map(|member| member.profile.clone()) else {
            return Ok(false);
        };
        let merged = merged(&ours, theirs, now);
        if merged == ours && samples.is_empty() {
            return Ok(false);
        }
        self.put_person(key_id, Profile { updated_at: self.core.stamp(), ..merged }, samples).await?;
        Ok(true)
    }

    /// Merges an erasure of the person with this id at the central time `now`: a person who was enrolled before it
    /// is erased here, too. Returns whether a person was erased.
    ///
    /// # Errors
    /// [`StoreError`] where the journal failed.
    pub async fn merge_erasure(
        &self,
        id: &str,
        order: OrderId,
        erased_at: Timestamp,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let _lock = self.core.people_lock.lock().await;
        let known = {
            let people = self.core.people();
            people.key_of(id).and_then(|key_id| Some((key_id, people.member(&key_id)?.profile.enrolled_at)))
        };
        match known {
            Some((person, born)) if believed(born, now) <= erased_at => {
                let ordered = Ordered { order, person, id, at: erased_at, by: By::Central };
                self.erase_member(ordered).await.map(|_| true)
            }
            _ => Ok(false),
        }
    }

    /// Records erasures of people who are not enrolled here, so that this appliance can repeat them as well. Of those in
    /// `due` it states that it has nothing of the person.
    ///
    /// # Errors
    /// [`StoreError`] where the journal or the views failed.
    pub async fn record_erasures(
        &self,
        orders: Vec<ErasureOrder>,
        due: &HashSet<OrderId>,
    ) -> Result<(), StoreError> {
        let mut records = Vec::new();
        for order in orders {
            if self.core.views.get::<ErasureOrder>(&Key::ErasureOrder(order.order))?.is_none() {
                records.push(Record::ErasureKnown(order));
                if due.contains(&order.order) {
                    let nothing = self.core.account(order.order, order.at, By::Central)?;
                    let account = ErasureAccount { reference: Some(order.reference), ..nothing };
                    records.push(Record::ErasureVerified { person: None, account });
                }
            }
        }
        if records.is_empty() { Ok(()) } else { self.core.change_all(records).await.map(drop) }
    }

    /// Received samples that are not stored here, by gallery.
    fn missing_samples(&self, theirs: &Shared) -> Vec<(Arc<Slot>, Vec<Encoding>)> {
        let Some(deployment) = self.core.deployment() else { return Vec::new() };
        let known = self.core.people().key_of(&theirs.person.id);
        let mut missing = Vec::new();
        for slot in self.core.galleries().all() {
            let model = &slot.mark.model;
            let fits = |sample: &&SharedSample| {
                sample.model == model.name && sample.template.as_slice().len() == model.dimensions
            };
            let of_model = theirs.samples.iter().filter(fits);
            let encodings: Vec<Encoding> =
                of_model.filter_map(|sample| deployment.encoding(&sample.template)).collect();
            let reviews = slot.gallery.review(known.as_ref(), &encodings);
            let fresh =
                encodings.into_iter().zip(reviews).filter(|(_, review)| review.verdict != Verdict::Repeated);
            let have = known.map_or(0, |key_id| slot.gallery.samples(&key_id));
            let fresh: Vec<_> =
                fresh.map(|(encoding, _)| encoding).take(SAMPLES_MAX.saturating_sub(have)).collect();
            if !fresh.is_empty() {
                missing.push((Arc::clone(slot), fresh));
            }
        }
        missing
    }
}

/// The effective value of a stamp at the central time `now`.
fn believed(stamp: Timestamp, now: Timestamp) -> Timestamp {
    if stamp.0 > now.0.saturating_add(AHEAD_MAX) { Timestamp(i64::MIN) } else { stamp }
}

/// The merged profile. Of two names with equal stamps the greater one wins, so that all appliances agree.
fn merged(ours: &Profile, theirs: &Shared, now: Timestamp) -> Profile {
    let our_name = (believed(ours.named_at, now), ours.person.name.as_str());
    let mut merged = ours.clone();
    if (theirs.named_at, theirs.person.name.as_str()) > our_name {
        merged.person.name.clone_from(&theirs.person.name);
        merged.named_at = theirs.named_at;
    }
    merge_terms(&mut merged.terms, &theirs.terms, now);
    // The earlier enrollment: an erasure of either must erase both.
    if believed(ours.enrolled_at, now) != ours.enrolled_at || theirs.born < ours.enrolled_at {
        merged.enrolled_at = theirs.born;
    }
    merged
}

fn merge_terms(ours: &mut Terms, theirs: &[SharedTerm], now: Timestamp) {
    for SharedTerm { kind, term: theirs, .. } in theirs {
        let ours = ours.term_mut(*kind);
        let changed_at = believed(ours.changed_at, now);
        if *theirs > (Term { changed_at, ..ours.clone() }) {
            ours.clone_from(theirs);
        }
    }
}

#[cfg(test)]
mod tests;
