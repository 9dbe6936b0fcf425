//! Templates on disk: protected, sealed, and renewable.
//!
//! A template is an encoding after the transform of the deployment's template key
//! ([`gatehouse_gallery::transform`]). It is sealed with a key that is derived from the person's key and the
//! template key, so both are required to open it. On disk: the id of the template key, 16 bytes, then the
//! output of [`DataKey::seal`], bound to that id and to the gallery. Plain encodings exist in memory only,
//! until the answer.
//!
//! Renewal ([`People::rotate_templates`]) replaces the template key without new samples of any person:
//! 1. The new key is created, durable. A crash here leaves a key that seals nothing; the next opening retires
//!    it.
//! 2. A record puts it in force. From here on every opening continues the renewal.
//! 3. Person by person the samples are re-sealed under it, and a record replaces the old ones. Each template
//!    names its key, both keys exist, and opening converts all templates into the space of the key in force.
//!    Memory never holds two generations, and after a crash all people are recognised. Opening then replaces
//!    the remaining ones.
//! 4. Once all of it is durable, the galleries in memory are switched one by one, each atomically. A probe
//!    sees either the old or the new state.
//! 5. A record retires the old key, and the applier destroys it. After a crash in between the replay
//!    completes this.
//!
//! Afterwards all older templates are unusable, also in old journal segments and their backups, and even with
//! the person's key. A person who cannot be read at that time (a damaged slot or view) would be lost with the
//! old key. The old key is therefore kept while there is such a person, and each opening retries.
//!
//! Enrollments and erasures wait for a renewal, about a second for ten thousand templates. Answers do not
//! wait.

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

/// A template key with its transforms.
pub(in crate::store) struct TemplateKey {
    pub(in crate::store) mark: TemplateMark,
    data: Arc<DataKey>,
    /// By the length of encodings: one or two entries.
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
        self.seal_as(Binding { role: SAMPLE, gallery }, person, templates)
    }

    /// Seals faces that were wrongly matched to a person.
    pub(in crate::store) fn seal_negatives(
        &self,
        person: &DataKey,
        gallery: u8,
        templates: &[Protected],
    ) -> Result<Vec<Vec<u8>>, SealError> {
        self.seal_as(Binding { role: NEGATIVE, gallery }, person, templates)
    }

    /// Whether a stored template of a person is intact. True for a template under another key, which this key
    /// cannot check.
    pub(in crate::store) fn can_open(&self, person: &DataKey, gallery: u8, stored: &[u8]) -> bool {
        let Some((id, sealed)) = stored.split_first_chunk::<ID_BYTES>() else { return false };
        if id != self.mark.key.as_bytes() {
            return true;
        }
        let opens = |key: DataKey| {
            let bindings = [SAMPLE, NEGATIVE].map(|role| Binding { role, gallery });
            bindings.iter().any(|binding| key.open(&binding.bytes(id), sealed).is_ok())
        };
        person.joined(&self.data).is_ok_and(opens)
    }

    fn seal_as(
        &self,
        binding: Binding,
        person: &DataKey,
        templates: &[Protected],
    ) -> Result<Vec<Vec<u8>>, SealError> {
        let (key, id) = (person.joined(&self.data)?, self.mark.key.as_bytes());
        let seal = |template: &Protected| {
            Ok([id.as_slice(), &key.seal(&binding.bytes(id), &template.to_bytes())?].concat())
        };
        templates.iter().map(seal).collect()
    }
}

/// Role of a sample of the person.
const SAMPLE: &[u8] = b"template ";
/// Role of a face that was wrongly matched to the person.
const NEGATIVE: &[u8] = b"negative ";

/// What a template is bound to when it is sealed, in addition to the id of its template key.
#[derive(Clone, Copy)]
struct Binding {
    role: &'static [u8],
    gallery: u8,
}

impl Binding {
    /// The associated data of a template under the template key with this id.
    fn bytes(&self, id: &[u8; ID_BYTES]) -> Vec<u8> {
        let gallery = self.gallery;
        // Templates of the first gallery have no number: they were sealed before there were several
        // galleries.
        let number = if gallery == 0 { &[][..] } else { &[gallery] };
        [self.role, number, id].concat()
    }
}

/// The template key in force, and the keys of stored templates.
pub(in crate::store) struct TemplateKeys {
    pub(in crate::store) now: Arc<TemplateKey>,
    /// Whether there is no record of `now` yet.
    is_new: bool,
    table: Arc<KeyTable>,
    /// The existing galleries.
    galleries: Numbers,
    others: HashMap<KeyId, Arc<TemplateKey>>,
}

/// Galleries by their numbers.
#[derive(Default)]
pub(in crate::store) struct Numbers {
    /// Lengths of encodings of the existing galleries.
    pub(in crate::store) dimensions: BTreeMap<u8, usize>,
    /// Removed galleries, whose remaining templates must be removed.
    pub(in crate::store) gone: BTreeSet<u8>,
}

/// All stored templates of a person, in the space of the key in force. All data that is sealed under a
/// template key must be part of it, so that opening loads it and a renewal re-seals it.
pub(in crate::store) struct Known {
    person: KeyId,
    key: Arc<DataKey>,
    /// By gallery; empty for a removed gallery that still has templates on disk.
    galleries: BTreeMap<u8, Part>,
    /// Galleries with templates but without a record, which damage destroyed.
    pub(in crate::store) lost: BTreeSet<u8>,
    /// Whether any template is under another key than the one in force, or of a removed gallery.
    pub(in crate::store) is_behind: bool,
}

/// What is stored of a person for one gallery.
#[derive(Default)]
struct Part {
    templates: Vec<Protected>,
    /// Faces that were wrongly matched to the person.
    negatives: Vec<Protected>,
}

impl Known {
    /// Templates in all galleries.
    pub(in crate::store) fn templates(&self) -> usize {
        self.galleries.values().map(|part| part.templates.len()).sum()
    }

    /// Loads the templates of the gallery with this number.
    pub(in crate::store) fn load_into(&self, number: u8, gallery: &Gallery) {
        let Some(part) = self.galleries.get(&number) else { return };
        gallery.load(self.person, &part.templates);
        gallery.correct(self.person, &part.negatives);
    }

    /// The records that re-seal all templates under the key in force.
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
    /// Opens the key that the views name. Where they name none (a new state directory, or damage), an
    /// existing key is used, else a new one. A new key is also created where the named one is lost: the
    /// appliance must keep working.
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

    /// Reads the stored templates of a person.
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
            let (plain, list) = match both.open(&Binding { role: SAMPLE, gallery }.bytes(id), sealed) {
                Ok(plain) => (plain, &mut part.templates),
                Err(_) => {
                    let binding = Binding { role: NEGATIVE, gallery };
                    (both.open(&binding.bytes(id), sealed)?, &mut part.negatives)
                }
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

    /// Appends the records that re-seal templates under the key in force. All other keys are retired, unless
    /// a person could not be read: that person may need them.
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

/// Appends a record. Tests replace it to inject failures.
pub(in crate::store) type Append<'a> = dyn FnMut(&Record) -> Result<Pending, StoreError> + 'a;

/// Appends to the journal, from a thread that may block.
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
    /// Replaces the template key and re-seals all templates, while probes are answered. On return the old key
    /// is destroyed, and all older templates are unusable.
    ///
    /// # Errors
    /// Where the disk, the journal or the views fail. The next opening of the store completes an interrupted
    /// renewal.
    pub async fn rotate_templates(&self) -> Result<TemplatesRotated, StoreError> {
        let people = self.clone();
        let handle = Handle::current();
        let rotation = tokio::task::spawn_blocking(move || {
            people.rotate_with(&handle, &mut append_to(&people.core.journal))
        });
        rotation.await.map_err(|_| StoreError::Stopping)?
    }

    /// As [`People::rotate_templates`], on a thread that may block.
    fn rotate_with(&self, handle: &Handle, append: &mut Append<'_>) -> Result<TemplatesRotated, StoreError> {
        let core = &*self.core;
        let _lock = core.people_lock.blocking_lock();
        // The templates are read from the views, so they must have all durable records.
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
        // One unreadable person more than there are: the old keys stay until memory uses the new one.
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
