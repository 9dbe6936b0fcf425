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
//! 7. The journal records the result. Sync signs it and sends it to the central services.
//!
//! After a crash between 2 and 7, [`People::finish_erasures`] repeats the steps from 3, or from 6 if 5 is recorded. A crash
//! before 2 leaves the person enrolled, and the caller has received no response.

use gatehouse_gallery::Encoding;
use gatehouse_model::{EventKey, Identification, KeyId, OrderId, Timestamp, VisitRef};
use gatehouse_receipt::By;
use gatehouse_vault::keys::KeyKind;
use gatehouse_vault::seal::DataKey;
use serde::{Deserialize, Serialize};

use super::super::core::{FILES_PER_BATCH, blocking};
use super::super::{Refusal, RequestError, StoreError};
use super::People;
use crate::people::refers_to;
use crate::record::{Erasure, ErasureAccount, ErasureChecks, ErasureFound, ErasureNotice, Record};
use crate::views::entries::{self, FileEntry, Key, MediaState};

/// Associated data of the sealed person id in an erasure notice.
pub(in crate::store) const NOTICE_AD: &[u8] = b"erasure notice";
/// Copies of a key in the key table.
const SLOT_COPIES: u64 = 2;
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
    pub visits: u64,
    /// Pictures and clips of these visits that were removed.
    pub files: u64,
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
    /// Who ordered it.
    pub(in crate::store) by: By,
}

/// What links a person to the past.
#[derive(Debug, Default)]
struct Visits {
    count: u64,
    /// Of those with sealed attributes.
    attributes: u64,
    files: Vec<KeyId>,
}

/// What was in memory before an erasure, to verify its result.
#[derive(Debug, Default)]
struct Witness {
    /// A template of the person in the gallery in use.
    template: Option<Encoding>,
    /// Files of the person's visits.
    files: Vec<KeyId>,
}

impl People {
    /// Erases a person, with the pictures in which they were recognized. Answers change immediately. On return the key
    /// is destroyed, and with it every template and the link to every past visit.
    ///
    /// # Errors
    /// A refusal for an unknown id. [`StoreError::Erasure`] if the person can still be read.
    pub async fn erase(&self, id: &str, by: By) -> Result<Erased, RequestError> {
        let _lock = self.core.people_lock.lock().await;
        let person = self.core.people().key_of(id).ok_or_else(|| Refusal::UnknownPerson(id.to_owned()))?;
        let ordered = Ordered { order: OrderId::random(), person, id, at: self.core.stamp(), by };
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
            self.carry_out(erasure, Witness::default()).await?;
        }
        Ok(under_way.len())
    }

    /// As [`People::erase`], for an enrolled person. The caller must hold `people_lock`.
    pub(in crate::store) async fn erase_member(
        &self,
        Ordered { order, person, id, at, by }: Ordered<'_>,
    ) -> Result<Erased, StoreError> {
        let notice = match self.core.settings.central_rows {
            true => Some(self.notice(id).await?),
            false => None,
        };
        let witness = Witness { template: self.template_of(&person), files: Vec::new() };
        self.core.people_mut().remove(id);
        let samples = self.core.galleries().all().map(|slot| slot.gallery.remove(&person)).sum();
        self.galleries.forget_matches_of(id);
        let reference = self.core.deployment().map(|key| key.reference(id));
        let erasure = Erasure { order, person, at, by, found: None, reference, notice };
        self.core.change(&Record::ErasureOrdered(erasure.clone())).await?;
        let found = self.carry_out(&erasure, witness).await?;
        let (order, erased_at) = (order.to_string(), at.to_string());
        Ok(Erased {
            id: id.to_owned(),
            order,
            samples,
            visits: found.references,
            files: found.files,
            erased_at,
        })
    }

    /// From the recorded order to the recorded result.
    async fn carry_out(&self, erasure: &Erasure, mut witness: Witness) -> Result<ErasureFound, StoreError> {
        let found = match erasure.found {
            // The person's key is destroyed: nothing more can be found.
            Some(found) => found,
            None => {
                let (found, files) = self.destroy(erasure).await?;
                witness.files = files;
                found
            }
        };
        let (people, person) = (self.clone(), erasure.person);
        let checks = blocking(move || people.verify_erased(&person, &found, &witness)).await?;
        let Erasure { order, at, by, reference, .. } = *erasure;
        let account = ErasureAccount { found, checks, reference, ..self.core.account(order, at, by)? };
        self.core.change(&Record::ErasureVerified { person: Some(person), account }).await?;
        Ok(found)
    }

    /// Removes the files of the person's visits, then the person. Returns what was found, and the files.
    async fn destroy(&self, erasure: &Erasure) -> Result<(ErasureFound, Vec<KeyId>), StoreError> {
        // The person's last visits may be on their way into the journal.
        self.core.caught_up().await?;
        let (people, person) = (self.clone(), erasure.person);
        let visits = blocking(move || people.visits_of(&person)).await?;
        let mut found = ErasureFound {
            templates: self.core.views.scan(entries::templates_of(&person), false).count() as u64,
            references: visits.count,
            attributes: visits.attributes,
            ..ErasureFound::default()
        };
        for files in visits.files.chunks(FILES_PER_BATCH) {
            // The lock is released after each batch, so that an arriving picture waits for one batch at most.
            let _lock = self.core.media_lock.lock().await;
            let mut records = Vec::new();
            for id in files {
                // Its state may have changed since the journal was read.
                if let Some(file) = self.core.views.get::<FileEntry>(&Key::File(*id))? {
                    found.files += 1;
                    found.bytes += file.media.size;
                    records.extend(removal(&file));
                }
            }
            self.core.change_all(records).await?;
        }
        self.core.change(&Record::Erased(Erasure { found: Some(found), ..erasure.clone() })).await?;
        Ok((found, visits.files))
    }

    /// A template of a shared person in the gallery in use.
    fn template_of(&self, person: &KeyId) -> Option<Encoding> {
        let (deployment, galleries) = (self.core.deployment()?, self.core.galleries());
        let gallery = &galleries.in_use.gallery;
        let transform = deployment.transform(galleries.in_use.mark.model.dimensions);
        deployment.encoding(gallery.samples_in(person, &transform).first()?)
    }

    /// Reads the journal once. Blocking: a million events take seconds.
    fn visits_of(&self, person: &KeyId) -> Result<Visits, StoreError> {
        let mut visits = Visits::default();
        let Ok(key) = self.core.keys.key(person) else { return Ok(visits) };
        let first = self.core.journal.segments().list().first().map_or(0, |segment| segment.first);
        let mut reader = self.core.journal.reader(first.saturating_sub(1));
        while let Some(committed) = reader.next()? {
            // A damaged record names no person.
            let Ok(Record::Event { event, identification, attributes }) = Record::decode(&committed.payload)
            else {
                continue;
            };
            if is_visit_of(&key, &event.key, &identification) {
                visits.count += 1;
                visits.attributes += u64::from(attributes.is_some());
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

    /// Fails if anything of the person can still be opened, or identifies the person. Blocking: reads the key table.
    fn verify_erased(
        &self,
        person: &KeyId,
        found: &ErasureFound,
        witness: &Witness,
    ) -> Result<ErasureChecks, StoreError> {
        let (views, keys, galleries) = (&self.core.views, &self.core.keys, self.core.galleries());
        let in_use = &galleries.in_use.gallery;
        let reviews =
            witness.template.iter().flat_map(|probe| in_use.review(None, std::slice::from_ref(probe)));
        let is_found = reviews.filter_map(|review| review.other).any(|(nearest, _)| nearest == *person);
        let open_files = witness.files.iter().filter(|id| keys.key(id).is_ok()).count();
        let is_left = keys.key(person).is_ok()
            || keys.copies_on_disk(person)? > 0
            || views.stored(&Key::Profile(*person).bytes())?.is_some()
            || views.scan(entries::templates_of(person), false).next().is_some()
            || galleries.all().any(|slot| slot.gallery.samples(person) > 0)
            || is_found
            || open_files > 0;
        if is_left {
            return Err(StoreError::Erasure);
        }
        Ok(ErasureChecks {
            free_slots: SLOT_COPIES,
            profiles: 1,
            templates: found.templates,
            searches: u64::from(witness.template.is_some()),
            files: witness.files.len() as u64,
        })
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
