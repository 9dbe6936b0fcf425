//! The enrolled people in RAM, and the sealed references by which a stored visit points to one of them.
//!
//! A person is known on disk only by the id of their key. Whoever wants to know whose visit it was must hold that
//! key: [`PeopleTable::refer`] makes the reference, [`PeopleTable::resolve`] reads it, and once the key is destroyed neither
//! name nor id nor the link between the visits of different days can be had back.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use gatehouse_model::{EventKey, KeyId, Person, Timestamp, VisitRef};
use gatehouse_vault::seal::DataKey;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Longest person id, in bytes.
pub const PERSON_ID_BYTES_MAX: usize = 128;
/// Longest person name, in bytes.
pub const PERSON_NAME_BYTES_MAX: usize = 256;
/// Days whose lookup tags are kept in RAM; a list of events or a catch-up walks through the days in order.
const DAYS_CACHED: usize = 8;

/// What is known of a person beside the templates; lies on disk sealed with the person's key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    /// The operator's id and name.
    pub person: Person,
    /// When the person was enrolled first.
    pub enrolled_at: Timestamp,
    /// When profile or samples changed last.
    pub updated_at: Timestamp,
    /// When the name was given: of two appliances the later one's holds.
    pub named_at: Timestamp,
    /// When the person was at the door, as far as it is written down: see [`crate::store::SEEN_GRAIN`]. 0: never.
    pub seen_at: Timestamp,
}

impl Profile {
    /// Of somebody who is enrolled now.
    pub(crate) fn new(person: Person, now: Timestamp) -> Self {
        Self { person, enrolled_at: now, updated_at: now, named_at: now, seen_at: Timestamp(0) }
    }

    /// Reads what was sealed.
    pub(crate) fn read(plain: &[u8]) -> Result<Self, postcard::Error> {
        postcard::from_bytes(plain)
    }
}

/// A person as the operator sees them.
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
    /// Matches that were corrected: "not this person".
    pub corrections: usize,
    /// RFC 3339.
    pub enrolled_at: String,
    /// RFC 3339.
    pub updated_at: String,
}

/// What the galleries have of a person.
pub(crate) struct Counted {
    /// Templates in the gallery in use.
    pub(crate) samples: usize,
    /// Corrections there.
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
    fn summary(&self, Counted { samples, corrections, galleries }: Counted) -> PersonSummary {
        PersonSummary {
            id: self.profile.person.id.clone(),
            name: self.profile.person.name.clone(),
            samples,
            galleries,
            corrections,
            enrolled_at: self.profile.enrolled_at.to_string(),
            updated_at: self.profile.updated_at.to_string(),
        }
    }
}

type DayTags = HashMap<i32, HashMap<[u8; 8], KeyId>>;

/// Everybody in the gallery, by id and by key.
#[derive(Default)]
pub(crate) struct PeopleTable {
    members: HashMap<KeyId, Member>,
    by_id: HashMap<String, KeyId>,
    tags: Mutex<DayTags>,
    /// Who was at the door since the start, and when last.
    seen: Mutex<HashMap<KeyId, Timestamp>>,
}

impl PeopleTable {
    /// Adds a person or replaces what is known of them.
    pub(crate) fn put(&mut self, key_id: KeyId, member: Member) {
        self.by_id.insert(member.profile.person.id.clone(), key_id);
        self.members.insert(key_id, member);
        self.forget_tags();
    }

    /// Forgets a person.
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

    /// Everybody's key.
    pub(crate) fn keys(&self) -> Vec<(KeyId, Arc<DataKey>)> {
        self.members.iter().map(|(key_id, member)| (*key_id, Arc::clone(&member.key))).collect()
    }

    /// Everybody's key and id.
    pub(crate) fn ids(&self) -> impl Iterator<Item = (&KeyId, &str)> {
        self.members.iter().map(|(key_id, member)| (key_id, member.profile.person.id.as_str()))
    }

    /// The latest stamp of anybody's, in microseconds; 0 where there is nobody.
    pub(crate) fn newest_stamp(&self) -> i64 {
        let stamps = self.members.values().map(|member| {
            let Profile { enrolled_at, named_at, .. } = member.profile;
            enrolled_at.0.max(named_at.0)
        });
        stamps.max().unwrap_or_default()
    }

    /// One person; `count` counts what galleries have by key.
    pub(crate) fn summary(&self, id: &str, count: impl Fn(&KeyId) -> Counted) -> Option<PersonSummary> {
        let key_id = self.key_of(id)?;
        self.member(&key_id).map(|member| member.summary(count(&key_id)))
    }

    /// All people by id.
    pub(crate) fn summaries(&self, count: impl Fn(&KeyId) -> Counted) -> Vec<PersonSummary> {
        let told = self.members.iter().map(|(key_id, member)| member.summary(count(key_id)));
        let mut all: Vec<_> = told.collect();
        all.sort_by(|a, b| a.id.cmp(&b.id));
        all
    }

    /// The reference that a stored event of this time holds instead of the person; none where the person was erased
    /// meanwhile.
    pub(crate) fn refer(&self, person: &Person, event: &EventKey, at: Timestamp) -> Option<VisitRef> {
        let key_id = self.key_of(&person.id)?;
        let member = self.member(&key_id)?;
        let sealed = member.key.seal(&bound_to(event), person.id.as_bytes()).ok()?;
        self.seen().entry(key_id).and_modify(|last| *last = at.max(*last)).or_insert(at);
        let day = at.day();
        Some(VisitRef { day, tag: day_tag(&member.key, day), sealed })
    }

    /// When each was there last, by profile, changes and what was seen since the start; of times that are not yet, none.
    pub(crate) fn last_there(&self, now: Timestamp) -> Vec<(KeyId, Option<Timestamp>)> {
        let seen = self.seen();
        let last = |(key_id, member): (&KeyId, &Member)| {
            let Profile { updated_at, seen_at, .. } = member.profile;
            let times = [Some(updated_at), Some(seen_at), seen.get(key_id).copied()];
            (*key_id, times.into_iter().flatten().filter(|at| *at <= now).max())
        };
        self.members.iter().map(last).collect()
    }

    /// The person of a reference; none where they were erased or the reference belongs to another event.
    pub(crate) fn resolve(&self, visit: &VisitRef, event: &EventKey) -> Option<Person> {
        let member = self.member(&self.tagged(visit.day, &visit.tag)?)?;
        let id = member.key.open(&bound_to(event), &visit.sealed).ok()?;
        (id.as_slice() == member.profile.person.id.as_bytes()).then(|| member.profile.person.clone())
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

/// Why a person cannot have an id or a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum PersonFault {
    /// The id cannot be used.
    #[error("person id: 1 to {PERSON_ID_BYTES_MAX} bytes without control characters or spaces at the ends")]
    Id,
    /// The name cannot be used.
    #[error(
        "person name: 1 to {PERSON_NAME_BYTES_MAX} bytes without control characters or spaces at the ends"
    )]
    Name,
}

/// Checks an id and a name.
///
/// # Errors
/// [`PersonFault`].
pub fn check(person: &Person) -> Result<(), PersonFault> {
    fits(&person.id, PERSON_ID_BYTES_MAX).then_some(()).ok_or(PersonFault::Id)?;
    fits(&person.name, PERSON_NAME_BYTES_MAX).then_some(()).ok_or(PersonFault::Name)
}

fn fits(text: &str, longest: usize) -> bool {
    !text.is_empty() && text.len() <= longest && text.trim() == text && !text.chars().any(char::is_control)
}

fn day_tag(key: &DataKey, day: i32) -> [u8; 8] {
    let mut tag = [0; 8];
    tag.copy_from_slice(&key.tag("visit day", &day.to_le_bytes())[..8]);
    tag
}

fn bound_to(event: &EventKey) -> Vec<u8> {
    [b"visit ".as_slice(), &event.digest()].concat()
}
