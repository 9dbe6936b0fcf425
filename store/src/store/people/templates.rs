//! Templates on disk: protected, sealed, and renewable.
//!
//! A template passes the transform of the deployment's template key ([`gatehouse_gallery::transform`]) and is sealed
//! with a key that is derived from the person's key and the template key together: whoever lacks either has
//! nothing. On disk: the id of the template key, 16 bytes, then what [`DataKey::seal`] makes, bound to that id and to
//! the gallery.
//! Plain encodings exist in RAM only, between the door and the answer.
//!
//! Renewal ([`People::rotate_templates`]) goes over to a new template key without anybody coming to the door again:
//! 1. The new key is made, durable. A crash here leaves a key that seals nothing; the next opening retires it.
//! 2. A record says that it is in force. From here on every opening goes forward.
//! 3. Person by person the samples are re-sealed under it, and a record replaces the old ones. Each template says
//!    which key it is under, both keys are there, and opening brings all into the space of the key in force: RAM
//!    never holds two generations, and after a crash everybody is known. What had been left over is replaced then.
//! 4. Once all of it is durable, RAM goes over gallery by gallery, each in one step; a probe sees the old or the new
//!    state as a whole.
//! 5. A record retires the old key, and the views' thread destroys it. A crash in between is finished by the replay.
//!
//! From then on every template of before is noise, in old journal segments and in backups of them as well, for
//! whoever has the person's key too. A person who cannot be read when this happens (a damaged slot or view) would be
//! lost with the old key; so it is kept while there is one, and each opening tries again.
//!
//! Enrolments and erasures wait for a renewal, a second or so for ten thousand templates; answers do not wait.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use gatehouse_gallery::Gallery;
use gatehouse_gallery::transform::{Protected, Transform};
use gatehouse_journal as journal;
use gatehouse_journal::{Journal, Pending};
use gatehouse_model::{KeyId, Timestamp};
use gatehouse_vault::keys::{KeyError, KeyKind, KeyTable};
use gatehouse_vault::seal::{DataKey, SealError};
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;

use super::super::StoreError;
use super::People;
use crate::record::{Record, TemplateMark};
use crate::views::Views;
use crate::views::entries::{Key, gallery_in, templates_of};

/// Bytes of the key id in front of a sealed template.
const ID_BYTES: usize = 16;

/// A template key with what follows from it.
pub(in crate::store) struct TemplateKey {
    pub(in crate::store) mark: TemplateMark,
    data: Arc<DataKey>,
    /// By the length of encodings: one or two.
    transforms: Mutex<HashMap<usize, Arc<Transform>>>,
}

impl TemplateKey {
    fn open(table: &KeyTable, mark: TemplateMark) -> Result<Arc<Self>, KeyError> {
        let data = table.key(&mark.key)?;
        Ok(Arc::new(Self { mark, data, transforms: Mutex::default() }))
    }

    /// The transform of encodings of a length.
    pub(in crate::store) fn transform(&self, dimensions: usize) -> Arc<Transform> {
        let mut transforms = self.transforms.lock().unwrap_or_else(PoisonError::into_inner);
        let made = transforms.entry(dimensions);
        Arc::clone(made.or_insert_with(|| Arc::new(Transform::of(&self.data, dimensions))))
    }

    /// Seals a person's templates of a gallery, which are in this key's space.
    pub(in crate::store) fn seal(
        &self,
        person: &DataKey,
        gallery: u8,
        templates: &[Protected],
    ) -> Result<Vec<Vec<u8>>, SealError> {
        self.seal_as((SAMPLE, gallery), person, templates)
    }

    /// Seals faces that were taken for a person and are not them.
    pub(in crate::store) fn seal_negatives(
        &self,
        person: &DataKey,
        gallery: u8,
        templates: &[Protected],
    ) -> Result<Vec<Vec<u8>>, SealError> {
        self.seal_as((NEGATIVE, gallery), person, templates)
    }

    /// Whether a stored template of a person is what was written, as far as this key can tell: of a template under
    /// another one it cannot.
    pub(in crate::store) fn can_open(&self, person: &DataKey, gallery: u8, stored: &[u8]) -> bool {
        let Some((id, sealed)) = stored.split_first_chunk::<ID_BYTES>() else { return false };
        if id != self.mark.key.as_bytes() {
            return true;
        }
        let opens = |key: DataKey| {
            [SAMPLE, NEGATIVE].iter().any(|role| key.open(&bound_to((role, gallery), id), sealed).is_ok())
        };
        person.joined(&self.data).is_ok_and(opens)
    }

    fn seal_as(
        &self,
        role: (&[u8], u8),
        person: &DataKey,
        templates: &[Protected],
    ) -> Result<Vec<Vec<u8>>, SealError> {
        let (key, id) = (person.joined(&self.data)?, self.mark.key.as_bytes());
        let seal = |template: &Protected| {
            Ok([id.as_slice(), &key.seal(&bound_to(role, id), &template.to_bytes())?].concat())
        };
        templates.iter().map(seal).collect()
    }
}

/// What a template is bound to beside its key: a sample of the person.
const SAMPLE: &[u8] = b"template ";
/// Or a face that was taken for the person and is not them.
const NEGATIVE: &[u8] = b"negative ";

fn bound_to((role, gallery): (&[u8], u8), id: &[u8; ID_BYTES]) -> Vec<u8> {
    // The first gallery's were sealed before there were several.
    let number = if gallery == 0 { &[][..] } else { &[gallery] };
    [role, number, id].concat()
}

/// The template key in force, and those that stored templates still name.
pub(in crate::store) struct TemplateKeys {
    pub(in crate::store) now: Arc<TemplateKey>,
    /// Whether no record tells of `now` yet.
    is_new: bool,
    table: Arc<KeyTable>,
    /// The galleries that there are.
    galleries: Numbers,
    others: HashMap<KeyId, Arc<TemplateKey>>,
}

/// Galleries by their numbers.
#[derive(Default)]
pub(in crate::store) struct Numbers {
    /// Lengths of encodings of those that there are.
    pub(in crate::store) dimensions: BTreeMap<u8, usize>,
    /// Those that were removed: what is left of them is to go.
    pub(in crate::store) gone: BTreeSet<u8>,
}

/// All that is stored of a person in the space of the key in force. Whatever else comes to be sealed under a
/// template key belongs in here, so that opening loads it and a renewal takes it along.
pub(in crate::store) struct Known {
    person: KeyId,
    key: Arc<DataKey>,
    /// By gallery; empty for one that was removed while not all of it is gone from the disk.
    galleries: BTreeMap<u8, Part>,
    /// Galleries of which there are templates and nothing else is known: damage took it.
    pub(in crate::store) lost: BTreeSet<u8>,
    /// Whether some of it lies under another key than the one in force, or is of a removed gallery.
    pub(in crate::store) is_behind: bool,
}

/// What is stored of a person for one gallery.
#[derive(Default)]
struct Part {
    templates: Vec<Protected>,
    /// Faces that were taken for the person and are not them.
    negatives: Vec<Protected>,
}

impl Known {
    /// Templates in all galleries.
    pub(in crate::store) fn templates(&self) -> usize {
        self.galleries.values().map(|part| part.templates.len()).sum()
    }

    /// Loads what is of the gallery of this number.
    pub(in crate::store) fn load_into(&self, number: u8, gallery: &Gallery) {
        let Some(part) = self.galleries.get(&number) else { return };
        gallery.load(self.person, &part.templates);
        gallery.correct(self.person, &part.negatives);
    }

    /// The records that put what is known under the key in force.
    fn records(&self, now: &TemplateKey) -> Result<Vec<Record>, StoreError> {
        let record = |(gallery, part): (&u8, &Part)| {
            let mut sealed = now.seal(&self.key, *gallery, &part.templates)?;
            sealed.extend(now.seal_negatives(&self.key, *gallery, &part.negatives)?);
            Ok(Record::Templates { gallery: *gallery, person: self.person, sealed, replaces: true })
        };
        self.galleries.iter().map(record).collect()
    }
}

impl TemplateKeys {
    /// The key that the views name. Where they name none, as in a new state directory or after damage, one that is
    /// there, else a new one; also where the named one is lost, for the door must go on.
    pub(in crate::store) fn open(
        views: &Views,
        table: &Arc<KeyTable>,
        galleries: Numbers,
    ) -> Result<Self, StoreError> {
        let named: Option<TemplateMark> = views.get(&Key::TemplateMark)?;
        let generation = named.as_ref().map_or(1, |mark| mark.generation.saturating_add(1));
        let mark = |key| TemplateMark { key, generation, since: Timestamp::now() };
        let found = match (named, table.ids(KeyKind::Template).first()) {
            (Some(named), _) => Some((TemplateKey::open(table, named), false)),
            (None, Some(key)) => Some((TemplateKey::open(table, mark(*key)), true)),
            (None, None) => None,
        };
        let (now, is_new) = match found {
            Some((Ok(now), is_new)) => (now, is_new),
            Some((Err(KeyError::Destroyed(_) | KeyError::Damaged(_)), _)) | None => {
                let key = table.create(KeyKind::Template)?;
                (TemplateKey::open(table, mark(key))?, true)
            }
            Some((Err(error), _)) => return Err(error.into()),
        };
        Ok(Self { now, is_new, table: Arc::clone(table), galleries, others: HashMap::new() })
    }

    /// What is stored of a person.
    pub(in crate::store) fn read(
        &mut self,
        views: &Views,
        person: KeyId,
        key: &Arc<DataKey>,
    ) -> Result<Known, StoreError> {
        let (galleries, lost) = (BTreeMap::new(), BTreeSet::new());
        let mut known = Known { person, key: Arc::clone(key), galleries, lost, is_behind: false };
        // The keys that seal this person's templates: one, during a renewal two.
        let mut joined: HashMap<KeyId, (Arc<TemplateKey>, DataKey)> = HashMap::new();
        for stored in views.scan(templates_of(&person), false) {
            let (name, stored) = stored?;
            let gallery = gallery_in(&name);
            let Some(dimensions) = self.galleries.dimensions.get(&gallery).copied() else {
                if self.galleries.gone.contains(&gallery) {
                    known.galleries.entry(gallery).or_default();
                    known.is_behind = true;
                } else {
                    known.lost.insert(gallery);
                }
                continue;
            };
            let part = known.galleries.entry(gallery).or_default();
            let (id, sealed) = stored.split_first_chunk::<ID_BYTES>().ok_or(SealError::Open)?;
            let named = KeyId::from_bytes(*id);
            let (of, both) = match joined.entry(named) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(new) => {
                    let of = self.of(named)?;
                    let both = key.joined(&of.data)?;
                    new.insert((of, both))
                }
            };
            let (plain, list) = match both.open(&bound_to((SAMPLE, gallery), id), sealed) {
                Ok(plain) => (plain, &mut part.templates),
                Err(_) => (both.open(&bound_to((NEGATIVE, gallery), id), sealed)?, &mut part.negatives),
            };
            let nth = list.len() + 1;
            let template = Protected::from_bytes(&plain, dimensions)
                .map_err(|fault| StoreError::Template { nth, fault })?;
            known.is_behind |= named != self.now.mark.key;
            list.push(match named == self.now.mark.key {
                true => template,
                false => {
                    let (from, to) = (of.transform(dimensions), self.now.transform(dimensions));
                    from.rekey(&template, &to).ok_or(SealError::Refused)?
                }
            });
        }
        Ok(known)
    }

    /// The records that bring what is stored to the key in force, and retire all others unless somebody is still to
    /// be read with them.
    pub(in crate::store) fn finish(
        &self,
        behind: &[Known],
        unreadable: usize,
        append: &mut Append<'_>,
    ) -> Result<(), StoreError> {
        let mut last = None;
        if self.is_new {
            last = Some(append(&Record::TemplateKey(self.now.mark.clone()))?);
        }
        for records in behind.iter().map(|known| known.records(&self.now)) {
            for record in records? {
                last = Some(append(&record)?);
            }
        }
        for key in self.others().into_iter().filter(|_| unreadable == 0) {
            last = Some(append(&Record::TemplateKeyRetired { key })?);
        }
        last.map_or(Ok(()), |pending| pending.wait_blocking().map(drop).map_err(StoreError::from))
    }

    fn others(&self) -> Vec<KeyId> {
        self.table.ids(KeyKind::Template).into_iter().filter(|id| *id != self.now.mark.key).collect()
    }

    fn of(&mut self, id: KeyId) -> Result<Arc<TemplateKey>, StoreError> {
        if id == self.now.mark.key {
            return Ok(Arc::clone(&self.now));
        }
        if let Some(known) = self.others.get(&id) {
            return Ok(Arc::clone(known));
        }
        let mark = TemplateMark { key: id, generation: 0, since: Timestamp::now() };
        let opened = TemplateKey::open(&self.table, mark)?;
        self.others.insert(id, Arc::clone(&opened));
        Ok(opened)
    }
}

/// Appends a record; what tests let fail.
pub(in crate::store) type Append<'a> = dyn FnMut(&Record) -> Result<Pending, StoreError> + 'a;

/// Appends to the journal, from a thread that may wait.
pub(in crate::store) fn append_to(journal: &Journal) -> impl FnMut(&Record) -> Result<Pending, StoreError> {
    |record| {
        let entry = journal::Entry { payload: record.encode()?, is_event: false };
        Ok(journal.append_blocking(entry)?)
    }
}

/// A finished renewal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TemplatesRotated {
    /// Counts the template keys of this deployment, from 1.
    pub generation: u32,
    /// People whose templates are renewed.
    pub people: usize,
    /// Their templates.
    pub templates: usize,
    /// People who could not be read. While there are any, the old key is kept for them.
    pub unreadable: usize,
}

impl People {
    /// Goes over to a new template key, with all templates, while probes are answered. When this returns the old
    /// key is destroyed, and every template of before is worthless.
    ///
    /// # Errors
    /// Where the disk, the journal or the views fail. What was begun is finished when the store is opened again.
    pub async fn rotate_templates(&self) -> Result<TemplatesRotated, StoreError> {
        let people = self.clone();
        let handle = Handle::current();
        let rotation = tokio::task::spawn_blocking(move || {
            people.rotate_with(&handle, &mut append_to(&people.core.journal))
        });
        rotation.await.map_err(|_| StoreError::Stopping)?
    }

    /// As [`People::rotate_templates`], on a thread that may wait.
    fn rotate_with(&self, handle: &Handle, append: &mut Append<'_>) -> Result<TemplatesRotated, StoreError> {
        let core = &*self.core;
        let _lock = core.people_lock.blocking_lock();
        // What is durable is to be in the views, from which the templates are read.
        handle.block_on(self.core.wait_applied(core.journal.head()))?;
        let generation = core.templates().mark.generation.saturating_add(1);
        let mark =
            TemplateMark { key: core.keys.create(KeyKind::Template)?, generation, since: Timestamp::now() };
        let galleries = core.galleries();
        let dimensions = galleries.all().map(|slot| (slot.mark.number, slot.mark.model.dimensions)).collect();
        let numbers = Numbers { dimensions, ..Numbers::default() };
        let now = TemplateKey::open(&core.keys, mark)?;
        let table = Arc::clone(&core.keys);
        let mut keys = TemplateKeys { now, is_new: true, table, galleries: numbers, others: HashMap::new() };

        let members = core.people().keys();
        let unreadable = core.views.person_keys().count().saturating_sub(members.len());
        let mut all = Vec::with_capacity(members.len());
        for (person, key) in members {
            all.push(keys.read(&core.views, person, &key)?);
        }
        // One more than needed: the old keys stay until RAM has gone over.
        keys.finish(&all, 1, append)?;

        for slot in galleries.all() {
            slot.gallery.rekey(keys.now.transform(slot.mark.model.dimensions), |fresh| {
                all.iter().for_each(|known| known.load_into(slot.mark.number, fresh));
            });
        }
        core.set_templates(Arc::clone(&keys.now));
        keys.is_new = false;
        keys.finish(&[], unreadable, append)?;
        handle.block_on(self.core.wait_applied(core.journal.head()))?;
        let (people, templates) = (all.len(), all.iter().map(Known::templates).sum());
        Ok(TemplatesRotated { generation, people, templates, unreadable })
    }
}

#[cfg(test)]
mod tests;
