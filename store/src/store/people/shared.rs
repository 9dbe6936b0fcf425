//! People that the appliances of a deployment share: what leaves of a person, and how what comes is taken in.
//!
//! A person is merged field by field, and every appliance and the central side merge alike: the later name holds, samples
//! are a set to which everybody adds, and an erasure holds against everything that was enrolled before it. "Later" is by
//! stamps: the appliance's clock, moved past every stamp that it has seen (a hybrid logical clock, Kulkarni and others,
//! "Logical physical clocks", 2014, with the counter in the lowest digits of the microseconds). So whoever has
//! seen a change and makes another is later, whatever the clocks say.
//!
//! What is taken in is enrolled as if it had been enrolled here: key, journal, RAM. The journal then tells the
//! central side what it knows already, which changes nothing there.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use gatehouse_gallery::transform::Protected;
use gatehouse_gallery::{Encoding, Verdict};
use gatehouse_model::{KeyId, Person, SAMPLES_MAX, Timestamp};
use gatehouse_vault::keys::KeyKind;

use super::super::galleries::Slot;
use super::super::{RequestError, StoreError};
use super::People;
use crate::deployment::{DeploymentKey, Reference};
use crate::people::{self, Profile};
use crate::record::Record;
use crate::views::entries::Key;

/// How far a stamp may be ahead of the central side's clock in microseconds; one further ahead is of a clock that is
/// wrong, and counts as older than anything.
const AHEAD_MAX: i64 = 5 * 60 * 1_000_000;

/// A person as the appliances of a deployment know them.
#[derive(Debug, Clone, PartialEq)]
pub struct Shared {
    /// The keyed hash of their id.
    pub reference: Reference,
    /// Operator's id and name.
    pub person: Person,
    /// Stamp of the first enrolment: an erasure after it is of this person.
    pub born: Timestamp,
    /// Stamp of the name.
    pub named_at: Timestamp,
    /// Id and name as [`DeploymentKey::seal`] gives them.
    pub sealed: Vec<u8>,
    /// The samples of all models.
    pub samples: Vec<SharedSample>,
}

/// A sample of a person.
#[derive(Debug, Clone, PartialEq)]
pub struct SharedSample {
    /// Name of the model.
    pub model: String,
    /// In the space of the deployment's key.
    pub template: Protected,
}

/// How far the people of the central side were taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeopleCursor {
    /// Number of the last change that was taken in; 0: none.
    pub upto: u64,
    /// The latest stamp among all changes.
    pub newest: Timestamp,
}

impl People {
    /// Shares people under this key from now on; the first key holds until the end.
    pub fn share(&self, key: Arc<DeploymentKey>) {
        let _ = self.core.deployment.set(key);
    }

    /// The key under which people are shared.
    pub fn deployment(&self) -> Option<&Arc<DeploymentKey>> {
        self.core.deployment.get()
    }

    /// What the others may know of a person; none where people are not shared or this one was erased.
    pub fn shared(&self, key_id: &KeyId) -> Option<Shared> {
        let deployment = self.core.deployment()?;
        let Profile { person, enrolled_at, named_at, .. } =
            self.core.people().member(key_id)?.profile.clone();
        let mut samples = Vec::new();
        for slot in self.core.galleries().all() {
            let model = &slot.mark.model;
            let transform = deployment.transform(model.dimensions);
            let of_model = slot.gallery.samples_in(key_id, &transform).into_iter();
            samples.extend(of_model.map(|template| SharedSample { model: model.name.clone(), template }));
        }
        let (reference, sealed) = (deployment.reference(&person.id), deployment.seal(&person).ok()?);
        Some(Shared { reference, person, born: enrolled_at, named_at, sealed, samples })
    }

    /// Everybody's key id, for [`People::shared`].
    pub fn keys(&self) -> Vec<KeyId> {
        self.core.people().ids().map(|(key_id, _)| *key_id).collect()
    }

    /// The ids of all people by their references; empty where people are not shared.
    pub fn ids_by_reference(&self) -> HashMap<Reference, String> {
        let Some(deployment) = self.core.deployment() else { return HashMap::new() };
        self.core.people().ids().map(|(_, id)| (deployment.reference(id), id.to_owned())).collect()
    }

    /// How far the people of the central side were taken in.
    ///
    /// # Errors
    /// [`StoreError`] where the views cannot be read.
    pub fn cursor(&self) -> Result<PeopleCursor, StoreError> {
        let taken: Option<(u64, Timestamp)> = self.core.views.get(&Key::PeopleTaken)?;
        let (upto, newest) = taken.unwrap_or((0, Timestamp(0)));
        Ok(PeopleCursor { upto, newest })
    }

    /// Notes that they were taken in on from `before` up to `now`; nothing where somebody has meanwhile let all of
    /// them come again.
    ///
    /// # Errors
    /// [`StoreError`] where the journal failed.
    pub async fn advance_cursor(&self, before: PeopleCursor, now: PeopleCursor) -> Result<(), StoreError> {
        let _lock = self.core.people_lock.lock().await;
        match self.cursor()? == before && now != before {
            true => self.set_cursor(now).await,
            false => Ok(()),
        }
    }

    async fn set_cursor(&self, PeopleCursor { upto, newest }: PeopleCursor) -> Result<(), StoreError> {
        self.core.stamps.fetch_max(newest.0, Ordering::Relaxed);
        self.core.change(&Record::PeopleTaken { upto, newest }).await.map(drop)
    }

    /// Requests all people again. To be called after a gallery was added: until then samples of its model were left out.
    ///
    /// # Errors
    /// [`StoreError`] where journal or views failed.
    pub async fn reset_cursor(&self) -> Result<(), StoreError> {
        let _lock = self.core.people_lock.lock().await;
        match self.cursor()? {
            PeopleCursor { upto: 0, .. } => Ok(()),
            cursor => self.set_cursor(PeopleCursor { upto: 0, ..cursor }).await,
        }
    }

    /// Takes in what the central side knows of a person, at its time `now`; whether anything changed by it. Samples of
    /// models that no gallery here is of are left out.
    ///
    /// # Errors
    /// As [`People::enroll`].
    pub async fn merge(&self, theirs: &Shared, now: Timestamp) -> Result<bool, RequestError> {
        people::check(&theirs.person)?;
        let _lock = self.core.people_lock.lock().await;
        let samples = self.missing_samples(theirs);
        let known = self.core.people().key_of(&theirs.person.id);
        let Some(key_id) = known else {
            let key_id = self.core.create_key(KeyKind::Person).await?;
            let profile = Profile {
                enrolled_at: theirs.born,
                named_at: theirs.named_at,
                ..Profile::new(theirs.person.clone(), self.core.stamp())
            };
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

    /// Takes in an erasure, at the central side's time `now`: whoever was enrolled before it is erased here, too.
    /// Whether somebody was.
    ///
    /// # Errors
    /// [`StoreError`] where the journal failed.
    pub async fn merge_erasure(
        &self,
        id: &str,
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
                self.erase_member(person, id, erased_at).await.map(|_| true)
            }
            _ => Ok(false),
        }
    }

    /// Their samples that are not here, by gallery.
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
                encodings.into_iter().zip(reviews).filter(|(_, told)| told.verdict != Verdict::Repeated);
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

/// A stamp as it counts at the central side's time `now`.
fn believed(stamp: Timestamp, now: Timestamp) -> Timestamp {
    if stamp.0 > now.0.saturating_add(AHEAD_MAX) { Timestamp(i64::MIN) } else { stamp }
}

/// Both together. Of two names with one stamp the greater one holds, so that all choose alike.
fn merged(ours: &Profile, theirs: &Shared, now: Timestamp) -> Profile {
    let our_name = (believed(ours.named_at, now), ours.person.name.as_str());
    let mut merged = ours.clone();
    if (theirs.named_at, theirs.person.name.as_str()) > our_name {
        merged.person.name.clone_from(&theirs.person.name);
        merged.named_at = theirs.named_at;
    }
    // The earlier one: an erasure of either is one of both.
    if believed(ours.enrolled_at, now) != ours.enrolled_at || theirs.born < ours.enrolled_at {
        merged.enrolled_at = theirs.born;
    }
    merged
}

#[cfg(test)]
mod tests;
