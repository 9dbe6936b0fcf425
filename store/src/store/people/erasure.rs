//! Erasure of a person, with the pictures in which they were recognized.
//!
//! Only the person's key links a visit to the person, so the pictures are found before it is destroyed:
//!
//! 1. The person is removed from memory: answers change immediately.
//! 2. The journal records the order. From here on a crash does not stop the erasure.
//! 3. The journal is read once: the key resolves the references of the visits, which name the files.
//! 4. The journal records the removal of each file. Its key is destroyed.
//! 5. The journal records the erasure. The person's key is destroyed.
//! 6. The result is verified: key, profile and templates cannot be opened any more.
//!
//! After a crash between 2 and 5, [`People::finish_erasures`] repeats the steps from 3 on. A crash before 2 leaves the
//! person enrolled, and the caller has received no response.

use gatehouse_model::{EventKey, Identification, KeyId, OrderId, Timestamp, VisitRef};
use gatehouse_vault::keys::KeyKind;
use gatehouse_vault::seal::DataKey;
use serde::{Deserialize, Serialize};

use super::super::core::{FILES_PER_BATCH, blocking};
use super::super::{Refusal, RequestError, StoreError};
use super::People;
use crate::people::refers_to;
use crate::record::{Erasure, ErasureNotice, Record};
use crate::views::entries::{self, FileEntry, Key, MediaState};

/// Associated data of the sealed person id in an erasure notice.
pub(in crate::store) const NOTICE_AD: &[u8] = b"erasure notice";
/// Drop reason in the ledger: a picture of an erased person.
const ERASURE: &str = "erasure";

/// A finished erasure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Erased {
    /// The requested id.
    pub id: String,
    /// Id of the order, in all places that carry it out.
    pub order: String,
    /// Templates that were removed.
    pub samples: usize,
    /// Visits on this appliance that referred to the person.
    pub visits: usize,
    /// Pictures and clips of these visits that were removed.
    pub files: usize,
    /// Time of the erasure, RFC 3339.
    pub erased_at: String,
}

/// An erasure to carry out.
#[derive(Debug, Clone, Copy)]
pub(in crate::store) struct Ordered<'a> {
    /// The order.
    pub(in crate::store) order: OrderId,
    /// The person's key.
    pub(in crate::store) person: KeyId,
    /// The operator's id of the person.
    pub(in crate::store) id: &'a str,
    /// When it was ordered.
    pub(in crate::store) at: Timestamp,
}

/// What an erasure found.
#[derive(Debug, Default)]
struct Visits {
    count: usize,
    files: Vec<KeyId>,
}

impl People {
    /// Erases a person, with the pictures in which they were recognized. Answers change immediately. On return the key
    /// is destroyed, and with it every template and the link to every past visit.
    ///
    /// # Errors
    /// A refusal for an unknown id. [`StoreError::Erasure`] if the person can still be read.
    pub async fn erase(&self, id: &str) -> Result<Erased, RequestError> {
        let _lock = self.core.people_lock.lock().await;
        let person = self.core.people().key_of(id).ok_or_else(|| Refusal::UnknownPerson(id.to_owned()))?;
        let ordered = Ordered { order: OrderId::random(), person, id, at: self.core.stamp() };
        Ok(self.erase_member(ordered).await?)
    }

    /// As [`Upkeep::finish_erasures`](crate::store::Upkeep::finish_erasures).
    pub(in crate::store) async fn finish_erasures(&self) -> Result<usize, StoreError> {
        let _lock = self.core.people_lock.lock().await;
        let mut under_way = Vec::new();
        for entry in self.core.views.scan(vec![entries::ERASURE_UNDER_WAY], false) {
            let (name, value) = entry?;
            under_way.push(self.core.views.unseal::<Erasure>(&name, &value)?);
        }
        for erasure in &under_way {
            self.carry_out(erasure).await?;
        }
        Ok(under_way.len())
    }

    /// As [`People::erase`], for an enrolled person. The caller must hold `people_lock`.
    pub(in crate::store) async fn erase_member(
        &self,
        Ordered { order, person, id, at }: Ordered<'_>,
    ) -> Result<Erased, StoreError> {
        let notice = match self.core.settings.central_rows {
            true => Some(self.notice(id).await?),
            false => None,
        };
        self.core.people_mut().remove(id);
        let samples = self.core.galleries().all().map(|slot| slot.gallery.remove(&person)).sum();
        self.galleries.forget_matches_of(id);
        let reference = self.core.deployment().map(|key| key.reference(id));
        let erasure = Erasure { order, person, at, reference, notice };
        self.core.change(&Record::ErasureOrdered(erasure.clone())).await?;
        let Visits { count: visits, files } = self.carry_out(&erasure).await?;
        let (order, erased_at) = (order.to_string(), at.to_string());
        Ok(Erased { id: id.to_owned(), order, samples, visits, files: files.len(), erased_at })
    }

    /// From the recorded order to the verified end.
    async fn carry_out(&self, erasure: &Erasure) -> Result<Visits, StoreError> {
        // The person's last visits may be on their way into the journal.
        self.core.caught_up().await?;
        let (people, person) = (self.clone(), erasure.person);
        let visits = blocking(move || people.visits_of(&person)).await?;
        for files in visits.files.chunks(FILES_PER_BATCH) {
            // The lock is released after each batch, so that an arriving picture waits for one batch at most.
            let _lock = self.core.media_lock.lock().await;
            let mut records = Vec::new();
            for id in files {
                // Its state may have changed since the journal was read.
                let file: Option<FileEntry> = self.core.views.get(&Key::File(*id))?;
                records.extend(file.iter().flat_map(removal));
            }
            self.core.change_all(records).await?;
        }
        self.core.change(&Record::Erased(erasure.clone())).await?;
        let people = self.clone();
        blocking(move || people.verify_erased(&person)).await?;
        Ok(visits)
    }

    /// Reads the journal once. Blocking: a million events take seconds.
    fn visits_of(&self, person: &KeyId) -> Result<Visits, StoreError> {
        let mut visits = Visits::default();
        let Ok(key) = self.core.keys.key(person) else { return Ok(visits) };
        let first = self.core.journal.segments().list().first().map_or(0, |segment| segment.first);
        let mut reader = self.core.journal.reader(first.saturating_sub(1));
        while let Some(committed) = reader.next()? {
            // A damaged record names no person.
            let Ok(Record::Event { event, identification, .. }) = Record::decode(&committed.payload) else {
                continue;
            };
            if is_visit_of(&key, &event.key, &identification) {
                visits.count += 1;
                self.add_files(&event.key, &mut visits.files)?;
            }
        }
        Ok(visits)
    }

    fn add_files(&self, event: &EventKey, files: &mut Vec<KeyId>) -> Result<(), StoreError> {
        for entry in self.core.views.scan(entries::files_of(event), false) {
            let (name, value) = entry?;
            files.push(self.core.views.unseal(&name, &value)?);
        }
        Ok(())
    }

    /// Fails if anything of the person can still be opened.
    fn verify_erased(&self, person: &KeyId) -> Result<(), StoreError> {
        let views = &self.core.views;
        let is_left = self.core.keys.key(person).is_ok()
            || views.stored(&Key::Profile(*person).bytes())?.is_some()
            || views.scan(entries::templates_of(person), false).next().is_some()
            || self.core.galleries().all().any(|slot| slot.gallery.samples(person) > 0);
        if is_left { Err(StoreError::Erasure) } else { Ok(()) }
    }

    async fn notice(&self, id: &str) -> Result<ErasureNotice, StoreError> {
        let key = self.core.create_key(KeyKind::Erasure).await?;
        let sealed = self.core.keys.key(&key)?.seal(NOTICE_AD, id.as_bytes())?;
        Ok(ErasureNotice { key, sealed })
    }
}

fn is_visit_of(key: &DataKey, event: &EventKey, identification: &Identification<VisitRef>) -> bool {
    let mut people = identification.faces.iter().filter_map(|face| face.person.as_ref());
    people.any(|visit| refers_to(key, visit, event))
}

/// The records that remove a file here, and then its object from the central services.
fn removal(file: &FileEntry) -> Vec<Record> {
    let (id, bytes) = (file.media.id, file.media.size);
    let mut records = Vec::new();
    match file.state {
        MediaState::Waiting | MediaState::Pending => {
            records.push(Record::MediaDropped { id, bytes, reason: ERASURE.to_owned() });
        }
        MediaState::Delivered(_) if file.on_disk => records.push(Record::MediaEvicted { id, bytes }),
        MediaState::Delivered(_) | MediaState::Dropped(_) => {}
    }
    records.push(Record::MediaErased { id });
    records
}

#[cfg(test)]
mod tests;
