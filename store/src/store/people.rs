//! Enroll and rename. [`erasure`] erases, [`suspension`] suspends, [`expiry`] erases at the end of a consent.
//!
//! Order of an enrollment: the person's key is durable, then the sealed profile and templates are in the
//! journal, then the state in memory changes. A crash in between leaves an unreferenced key, which opening
//! destroys.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use gatehouse_gallery::{Encoding, EncodingFault};
use gatehouse_model::{GalleryMark, KeyId, Person, SAMPLES_MAX};
use gatehouse_vault::keys::KeyKind;
use gatehouse_vault::seal::DataKey;
use zeroize::Zeroizing;

use super::core::Core;
use super::galleries::{Galleries, Slot};
use super::{Refusal, RequestError, StoreError};
use crate::people::{self, Member, PersonSummary, Profile};
use crate::record::Record;
use crate::terms::{Consent, TermFault};

pub(in crate::store) mod absence;
pub(in crate::store) mod corrections;
pub(in crate::store) mod enrollment;
pub(in crate::store) mod erasure;
pub(in crate::store) mod expiry;
pub(in crate::store) mod export;
pub(in crate::store) mod privacy;
pub(in crate::store) mod shared;
pub(in crate::store) mod statements;
pub(in crate::store) mod suspension;
pub(in crate::store) mod templates;

/// Associated data of a sealed profile.
pub(in crate::store) const PROFILE_AD: &[u8] = b"profile";

/// Enrolled people: enrollment, erasure, corrections, and people of other appliances. Cheap to clone.
#[derive(Clone)]
pub struct People {
    core: Arc<Core>,
    galleries: Galleries,
}

impl People {
    pub(in crate::store) fn new(core: &Arc<Core>, galleries: &Galleries) -> Self {
        Self { core: Arc::clone(core), galleries: galleries.clone() }
    }

    /// Adds encodings to a person in the gallery in use. The person is created where the id is new. Answers
    /// change immediately.
    ///
    /// # Errors
    /// A refusal for a bad id or name, a name that differs from the enrolled one, or too many samples.
    pub async fn enroll(
        &self,
        id: &str,
        name: &str,
        encodings: Vec<Encoding>,
    ) -> Result<PersonSummary, RequestError> {
        let slot = Arc::clone(&self.core.galleries().in_use);
        let person = Person { id: id.to_owned(), name: name.to_owned() };
        self.enroll_into(&slot, person, encodings, &Consent::default()).await
    }

    pub(in crate::store) async fn enroll_into(
        &self,
        slot: &Arc<Slot>,
        person: Person,
        encodings: Vec<Encoding>,
        consent: &Consent,
    ) -> Result<PersonSummary, RequestError> {
        people::check(&person)?;
        consent.check(self.core.time())?;
        let id = person.id.clone();
        let _lock = self.core.people_lock.lock().await;
        // The gallery may have been removed meanwhile.
        if !self.core.galleries().all().any(|now| Arc::ptr_eq(now, slot)) {
            return Err(Refusal::UnknownGallery(slot.name().to_owned()).into());
        }
        let now = self.core.stamp();
        let known = self.known_person(&person)?;
        let samples = known.as_ref().map_or(0, |(key_id, _)| slot.gallery.samples(key_id)) + encodings.len();
        if encodings.is_empty() || samples > SAMPLES_MAX {
            return Err(Refusal::Samples(samples).into());
        }
        let (key_id, mut profile) = match known {
            Some((key_id, profile)) => (Some(key_id), Profile { updated_at: now, ..profile }),
            None => (None, Profile::new(person, now)),
        };
        profile.terms.give(consent, now);
        self.require_reference(&profile)?;
        let key_id = match key_id {
            Some(key_id) => key_id,
            None => self.core.create_key(KeyKind::Person).await?,
        };
        self.put_person(key_id, profile, vec![(Arc::clone(slot), encodings)]).await?;
        Ok(self.get(&id).ok_or(Refusal::UnknownPerson(id))?)
    }

    /// Applies a consent to an enrolled person without new samples.
    pub(in crate::store) async fn enroll_again(
        &self,
        person: &Person,
        consent: &Consent,
    ) -> Result<PersonSummary, RequestError> {
        consent.check(self.core.time())?;
        let unknown = || Refusal::UnknownPerson(person.id.clone());
        let _lock = self.core.people_lock.lock().await;
        let (key_id, mut profile) = self.known_person(person)?.ok_or_else(unknown)?;
        let now = self.core.stamp();
        let is_changed = profile.terms.give(consent, now);
        self.require_reference(&profile)?;
        if is_changed {
            self.put_person(key_id, Profile { updated_at: now, ..profile }, Vec::new()).await?;
        }
        Ok(self.get(&person.id).ok_or_else(unknown)?)
    }

    /// Refuses a person without the reference of a consent, if the settings require one.
    pub(in crate::store) fn require_reference(&self, profile: &Profile) -> Result<(), TermFault> {
        let is_missing = profile.terms.consent.text.is_none();
        match is_missing && self.core.consent_required.load(Ordering::Relaxed) {
            true => Err(TermFault::NoConsent),
            false => Ok(()),
        }
    }

    /// Makes a profile and new samples durable, then updates the state in memory. The caller must hold
    /// `people_lock`.
    pub(in crate::store) async fn put_person(
        &self,
        key_id: KeyId,
        profile: Profile,
        samples: Vec<(Arc<Slot>, Vec<Encoding>)>,
    ) -> Result<(), RequestError> {
        let key = self.core.keys.key(&key_id)?;
        let record = |(slot, encodings): &(Arc<Slot>, Vec<Encoding>)| {
            self.samples_record(slot, key_id, &key, encodings)
        };
        let mut records = samples.iter().map(record).collect::<Result<Vec<_>, _>>()?;
        records.insert(0, profile_record(key_id, &key, &profile)?);
        self.core.change_all(records).await?;
        self.core.people_mut().put(key_id, Member { profile, key });
        for (slot, encodings) in &samples {
            slot.gallery.add(key_id, encodings);
        }
        Ok(())
    }

    /// Changes a person's display name.
    ///
    /// # Errors
    /// A refusal for an unknown id or a bad name.
    pub async fn rename(&self, id: &str, name: &str) -> Result<PersonSummary, RequestError> {
        people::check(&Person { id: id.to_owned(), name: name.to_owned() })?;
        let _lock = self.core.people_lock.lock().await;
        let unknown = || Refusal::UnknownPerson(id.to_owned());
        let (key_id, mut profile, key) = {
            let people = self.core.people();
            let key_id = people.key_of(id).ok_or_else(unknown)?;
            let member = people.member(&key_id).ok_or_else(unknown)?;
            (key_id, member.profile.clone(), member.key.clone())
        };
        name.clone_into(&mut profile.person.name);
        profile.named_at = self.core.stamp();
        profile.updated_at = profile.named_at;
        self.core.change(&profile_record(key_id, &key, &profile)?).await?;
        self.core.people_mut().put(key_id, Member { profile, key });
        Ok(self.get(id).ok_or_else(unknown)?)
    }

    /// All people, by id.
    pub fn list(&self) -> Vec<PersonSummary> {
        let galleries = self.core.galleries();
        self.core.people().summaries(|key| galleries.count(key))
    }

    /// One person.
    pub fn get(&self, id: &str) -> Option<PersonSummary> {
        let galleries = self.core.galleries();
        self.core.people().summary(id, |key| galleries.count(key))
    }

    fn known_person(&self, person: &Person) -> Result<Option<(KeyId, Profile)>, Refusal> {
        let people = self.core.people();
        let Some(key_id) = people.key_of(&person.id) else { return Ok(None) };
        let Some(member) = people.member(&key_id) else { return Ok(None) };
        if member.profile.person.name != person.name {
            return Err(Refusal::OtherName(person.id.clone()));
        }
        Ok(Some((key_id, member.profile.clone())))
    }

    fn samples_record(
        &self,
        slot: &Slot,
        person: KeyId,
        key: &DataKey,
        encodings: &[Encoding],
    ) -> Result<Record, RequestError> {
        let now = self.core.templates();
        let GalleryMark { number: gallery, model } = &slot.mark;
        let transform = now.transform(model.dimensions);
        let protect = |(at, encoding): (usize, &Encoding)| {
            let nth = at + 1;
            if model.normalised && !encoding.is_unit() {
                return Err(RequestError::from(Refusal::NotNormalised { nth }));
            }
            let fault = EncodingFault::Length { have: encoding.as_slice().len(), want: model.dimensions };
            Ok(transform.protect(encoding).ok_or(Refusal::Encoding { nth, fault })?)
        };
        let templates = encodings.iter().enumerate().map(protect).collect::<Result<Vec<_>, _>>()?;
        let sealed = now.seal(key, *gallery, &templates)?;
        Ok(Record::Templates { gallery: *gallery, person, sealed, replaces: false })
    }
}

pub(in crate::store) fn profile_record(
    person: KeyId,
    key: &DataKey,
    profile: &Profile,
) -> Result<Record, StoreError> {
    let plain = postcard::to_stdvec(profile).map_err(|_| crate::record::RecordError::Encode)?;
    let plain = Zeroizing::new(plain);
    Ok(Record::Profile { person, sealed: key.seal(PROFILE_AD, &plain)? })
}
