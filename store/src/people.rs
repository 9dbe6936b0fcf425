//! The enrolled people in RAM, and the sealed references from stored visits to them.
//!
//! On disk a person is identified only by the id of their key. Linking a visit to a person requires that key.
//! [`PeopleTable::refer`] creates the reference and [`PeopleTable::resolve`] reads it. After the key is
//! destroyed, the name, the id and the link between visits of different days cannot be recovered.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use gatehouse_model::{Event, EventKey, Identification, KeyId, Person, Timestamp, VisitRef};
use gatehouse_vault::seal::{DataKey, SealError};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::terms::Terms;

/// Longest person id, in bytes.
pub const PERSON_ID_BYTES_MAX: usize = 128;
/// Longest person name, in bytes.
pub const PERSON_NAME_BYTES_MAX: usize = 256;
/// Days whose lookup tags are cached in RAM. A list of events or a catch-up reads the days in order.
const DAYS_CACHED: usize = 8;

/// Data of a person apart from the templates. On disk it is sealed with the person's key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    /// The operator's id and name.
    pub person: Person,
    /// Time of the first enrollment.
    pub enrolled_at: Timestamp,
    /// Time of the last change of profile or samples.
    pub updated_at: Timestamp,
    /// Time when the name was set. If two appliances differ, the later name is kept.
    pub named_at: Timestamp,
    /// Last recorded visit of the person, see [`crate::store::LAST_SEEN_RESOLUTION`]. 0: never.
    pub seen_at: Timestamp,
    /// Consent, suspension, and an erasure that is ordered.
    pub terms: Terms,
}

/// A profile without terms, as records of version 1 have it. Later versions append the terms.
#[derive(Serialize, Deserialize)]
struct ProfileBase {
    person: Person,
    enrolled_at: Timestamp,
    updated_at: Timestamp,
    named_at: Timestamp,
    seen_at: Timestamp,
}

impl Profile {
    /// The profile of a person who is enrolled now.
    pub(crate) fn new(person: Person, now: Timestamp) -> Self {
        Self {
            person,
            enrolled_at: now,
            updated_at: now,
            named_at: now,
            seen_at: Timestamp(0),
            terms: Terms::default(),
        }
    }

    /// Decodes the plaintext of a sealed profile, with or without terms.
    pub(crate) fn read(plain: &[u8]) -> Result<Self, postcard::Error> {
        let (base, rest) = postcard::take_from_bytes::<ProfileBase>(plain)?;
        let terms = if rest.is_empty() { Terms::default() } else { postcard::from_bytes(rest)? };
        let ProfileBase { person, enrolled_at, updated_at, named_at, seen_at } = base;
        Ok(Self { person, enrolled_at, updated_at, named_at, seen_at, terms })
    }
}

/// A person as shown to the operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PersonSummary {
    /// The operator's id.
    pub id: String,
    /// The display name.
    pub name: String,
    /// Templates in the gallery in use.
    pub samples: usize,
    /// Templates in each gallery, by its name.
    pub galleries: BTreeMap<String, usize>,
    /// Corrected matches ("not this person").
    pub corrections: usize,
    /// RFC 3339.
    pub enrolled_at: String,
    /// RFC 3339.
    pub updated_at: String,
    /// Reference of the consent.
    #[serde(default)]
    pub consent: Option<String>,
    /// When the person is erased, RFC 3339.
    #[serde(default)]
    pub expires_at: Option<String>,
    /// Whether an erasure is ordered, which can be cancelled until then.
    #[serde(default)]
    pub erasure_ordered: bool,
    /// Since when the person is suspended, RFC 3339. None: not suspended.
    #[serde(default)]
    pub suspended_at: Option<String>,
    /// Reason of the suspension.
    #[serde(default)]
    pub suspension_reason: Option<String>,
}

/// Counts of a person's data in the galleries.
pub(crate) struct Counted {
    /// Templates in the gallery in use.
    pub(crate) samples: usize,
    /// Corrections in the gallery in use.
    pub(crate) corrections: usize,
    /// Templates by gallery.
    pub(crate) galleries: BTreeMap<String, usize>,
}

/// One person in RAM.
pub(crate) struct Member {
    pub(crate) profile: Profile,
    pub(crate) key: Arc<DataKey>,
}

impl Member {
    /// Whether the person is answered as a stranger.
    pub(crate) fn is_stranger(&self) -> bool {
        self.profile.terms.is_stranger()
    }

    fn summary(&self, Counted { samples, corrections, galleries }: Counted) -> PersonSummary {
        PersonSummary {
            id: self.profile.person.id.clone(),
            name: self.profile.person.name.clone(),
            samples,
            galleries,
            corrections,
            enrolled_at: self.profile.enrolled_at.to_string(),
            updated_at: self.profile.updated_at.to_string(),
            consent: self.profile.terms.consent.text.clone(),
            expires_at: self.profile.terms.ends_at().map(|at| at.to_string()),
            erasure_ordered: self.profile.terms.erasure.time.is_some(),
            suspended_at: self.profile.terms.suspension.time.map(|at| at.to_string()),
            suspension_reason: self.profile.terms.suspension.text.clone(),
        }
    }
}

type DayTags = HashMap<i32, HashMap<[u8; 8], KeyId>>;

/// All enrolled people, by id and by key.
#[derive(Default)]
pub(crate) struct PeopleTable {
    members: HashMap<KeyId, Member>,
    by_id: HashMap<String, KeyId>,
    tags: Mutex<DayTags>,
    /// The last visit of each person since the start.
    seen: Mutex<HashMap<KeyId, Timestamp>>,
}

impl PeopleTable {
    /// Adds or replaces a person.
    pub(crate) fn put(&mut self, key_id: KeyId, member: Member) {
        self.by_id.insert(member.profile.person.id.clone(), key_id);
        self.members.insert(key_id, member);
        self.forget_tags();
    }

    /// Removes a person.
    pub(crate) fn remove(&mut self, id: &str) -> Option<(KeyId, Member)> {
        let key_id = self.by_id.remove(id)?;
        self.forget_tags();
        self.seen().remove(&key_id);
        self.members.remove(&key_id).map(|member| (key_id, member))
    }

    pub(crate) fn key_of(&self, id: &str) -> Option<KeyId> {
        self.by_id.get(id).copied()
    }

    pub(crate) fn member(&self, key_id: &KeyId) -> Option<&Member> {
        self.members.get(key_id)
    }

    /// The keys of all people.
    pub(crate) fn keys(&self) -> Vec<(KeyId, Arc<DataKey>)> {
        self.members.iter().map(|(key_id, member)| (*key_id, Arc::clone(&member.key))).collect()
    }

    /// The key ids and ids of all people.
    pub(crate) fn ids(&self) -> impl Iterator<Item = (&KeyId, &str)> {
        self.members.iter().map(|(key_id, member)| (key_id, member.profile.person.id.as_str()))
    }

    /// The latest time stamp among all people, in microseconds; 0 without people.
    pub(crate) fn newest_stamp(&self) -> i64 {
        let stamps = self.members.values().map(|member| {
            let Profile { enrolled_at, named_at, ref terms, .. } = member.profile;
            enrolled_at.max(named_at).max(terms.newest_stamp()).0
        });
        stamps.max().unwrap_or_default()
    }

    /// Ids and names of all people.
    pub(crate) fn persons(&self) -> impl Iterator<Item = &Person> {
        self.members.values().map(|member| &member.profile.person)
    }

    /// The people whose consent or grace period ended before `now`.
    pub(crate) fn expired(&self, now: Timestamp) -> Vec<(KeyId, Profile)> {
        let is_expired = |profile: &Profile| profile.terms.ends_at().is_some_and(|end| end <= now);
        let expired = self.members.iter().filter(|(_, member)| is_expired(&member.profile));
        expired.map(|(key_id, member)| (*key_id, member.profile.clone())).collect()
    }

    /// The summary of one person. `count` gives the counts in the galleries by key.
    pub(crate) fn summary(&self, id: &str, count: impl Fn(&KeyId) -> Counted) -> Option<PersonSummary> {
        let key_id = self.key_of(id)?;
        self.member(&key_id).map(|member| member.summary(count(&key_id)))
    }

    /// The summaries of all people, ordered by id.
    pub(crate) fn summaries(&self, count: impl Fn(&KeyId) -> Counted) -> Vec<PersonSummary> {
        let summaries = self.members.iter().map(|(key_id, member)| member.summary(count(key_id)));
        let mut all: Vec<_> = summaries.collect();
        all.sort_by(|a, b| a.id.cmp(&b.id));
        all
    }

    /// The reference to a person for a stored event of this time; none if the person was erased meanwhile.
    pub(crate) fn refer(&self, person: &Person, event: &EventKey, at: Timestamp) -> Option<VisitRef> {
        let key_id = self.key_of(&person.id)?;
        let member = self.member(&key_id)?;
        let sealed = member.key.seal(&bound_to(event), person.id.as_bytes()).ok()?;
        self.seen().entry(key_id).and_modify(|last| *last = at.max(*last)).or_insert(at);
        let day = at.day();
        Some(VisitRef { day, tag: day_tag(&member.key, day), sealed })
    }

    /// The last visit of each person, by profile, changes and visits since the start. Times in the future are
    /// ignored.
    pub(crate) fn last_there(&self, now: Timestamp) -> Vec<(KeyId, Option<Timestamp>)> {
        let seen = self.seen();
        let last = |(key_id, member): (&KeyId, &Member)| {
            let Profile { updated_at, seen_at, .. } = member.profile;
            let times = [Some(updated_at), Some(seen_at), seen.get(key_id).copied()];
            (*key_id, times.into_iter().flatten().filter(|at| *at <= now).max())
        };
        self.members.iter().map(last).collect()
    }

    /// The attributes of an event, sealed with the keys of all people who were recognized, one inside the other. So they
    /// cannot be read after any of these people was erased. None for an event without a recognized person.
    pub(crate) fn seal_attributes(
        &self,
        identification: &Identification<VisitRef>,
        event: &Event,
    ) -> Result<Option<Vec<u8>>, SealError> {
        let mut sealed = None;
        for visit in visits_in(identification) {
            let Some(member) = self.referred(visit, &event.key) else { continue };
            let plain = sealed.unwrap_or_else(|| event.attributes.clone().into_bytes());
            sealed = Some(member.key.seal(&attributes_of(&event.key), &plain)?);
        }
        Ok(sealed)
    }

    /// The attributes that [`PeopleTable::seal_attributes`] sealed; none if one of the people was erased.
    pub(crate) fn open_attributes(
        &self,
        identification: &Identification<VisitRef>,
        event: &EventKey,
        mut sealed: Vec<u8>,
    ) -> Option<String> {
        let visits: Vec<&VisitRef> = visits_in(identification).collect();
        for visit in visits.into_iter().rev() {
            sealed = self.referred(visit, event)?.key.open(&attributes_of(event), &sealed).ok()?.to_vec();
        }
        String::from_utf8(sealed).ok()
    }

    fn referred(&self, visit: &VisitRef, event: &EventKey) -> Option<&Member> {
        let member = self.member(&self.tagged(visit.day, &visit.tag)?)?;
        refers_to(&member.key, visit, event).then_some(member)
    }

    /// The person of a reference; none if they were erased or the reference belongs to another event.
    pub(crate) fn resolve(&self, visit: &VisitRef, event: &EventKey) -> Option<Person> {
        self.referred(visit, event).map(|member| member.profile.person.clone())
    }

    fn tagged(&self, day: i32, tag: &[u8; 8]) -> Option<KeyId> {
        let mut days = self.tags.lock().unwrap_or_else(PoisonError::into_inner);
        if days.len() >= DAYS_CACHED && !days.contains_key(&day) {
            days.clear();
        }
        let of_day = days.entry(day).or_insert_with(|| {
            self.members.iter().map(|(key_id, member)| (day_tag(&member.key, day), *key_id)).collect()
        });
        of_day.get(tag).copied()
    }

    fn seen(&self) -> MutexGuard<'_, HashMap<KeyId, Timestamp>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn forget_tags(&mut self) {
        self.tags.get_mut().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// Why an id or a name is invalid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum PersonFault {
    /// The id is invalid.
    #[error("person id: 1 to {PERSON_ID_BYTES_MAX} bytes without control characters or spaces at the ends")]
    Id,
    /// The name is invalid.
    #[error(
        "person name: 1 to {PERSON_NAME_BYTES_MAX} bytes without control characters or spaces at the ends"
    )]
    Name,
}

/// Validates an id and a name.
///
/// # Errors
/// [`PersonFault`].
pub fn check(person: &Person) -> Result<(), PersonFault> {
    fits(&person.id, PERSON_ID_BYTES_MAX).then_some(()).ok_or(PersonFault::Id)?;
    fits(&person.name, PERSON_NAME_BYTES_MAX).then_some(()).ok_or(PersonFault::Name)
}

pub(crate) fn fits(text: &str, longest: usize) -> bool {
    !text.is_empty() && text.len() <= longest && text.trim() == text && !text.chars().any(char::is_control)
}

fn day_tag(key: &DataKey, day: i32) -> [u8; 8] {
    let mut tag = [0; 8];
    tag.copy_from_slice(&key.tag("visit day", &day.to_le_bytes())[..8]);
    tag
}

/// Whether a reference is to the person with this key.
pub(crate) fn refers_to(key: &DataKey, visit: &VisitRef, event: &EventKey) -> bool {
    day_tag(key, visit.day) == visit.tag && key.open(&bound_to(event), &visit.sealed).is_ok()
}

fn visits_in(identification: &Identification<VisitRef>) -> impl Iterator<Item = &VisitRef> {
    identification.faces.iter().filter_map(|face| face.person.as_ref())
}

fn attributes_of(event: &EventKey) -> Vec<u8> {
    [b"attributes ".as_slice(), &event.digest()].concat()
}

fn bound_to(event: &EventKey) -> Vec<u8> {
    [b"visit ".as_slice(), &event.digest()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A profile as version 1 of the records has it.
    const FIRST: &[u8] = b"\x04anna\x04Anna\x02\x04\x06\x08";

    #[test]
    fn a_profile_without_terms_is_read_and_terms_are_appended() {
        let mut profile = Profile::read(FIRST).unwrap();
        assert_eq!((profile.person.id.as_str(), profile.seen_at), ("anna", Timestamp(4)));
        assert_eq!(profile.terms, Terms::default());
        profile.terms.suspension.time = Some(Timestamp(5));
        profile.terms.consent.text = Some("form 7".into());
        let plain = postcard::to_stdvec(&profile).unwrap();
        assert!(plain.starts_with(FIRST));
        assert_eq!(Profile::read(&plain).unwrap(), profile);
        assert!(Profile::read(&plain[..plain.len() - 1]).is_err(), "a cut profile is not one without terms");
    }
}
