//! What the pipeline does for each message: answer from RAM, then append.

use std::time::Instant;

use super::galleries::Slot;
use super::{Galleries, Store, StoreError};
use crate::gallery::Encoding;
use crate::journal::Pending;
use crate::names::{CameraName, EventKey};
use crate::record::{Effort, Event, Face, Identification, Item, Outcome, Person, Record};

/// One face of an event on its way through RAM.
#[derive(Debug)]
pub struct ProbeFace {
    /// The validated encoding.
    pub encoding: Encoding,
    /// The camera's quality of the face, 0 to 1.
    pub quality: Option<f32>,
}

impl Store {
    /// Says who the faces are, by the gallery in use. Touches no disk.
    pub fn identify(&self, camera: &CameraName, faces: &[ProbeFace]) -> Identification<Person> {
        self.identify_in(&self.galleries(), camera, faces)
    }

    /// The same by the gallery that was in use when `galleries` were taken.
    pub fn identify_in(
        &self,
        galleries: &Galleries,
        camera: &CameraName,
        faces: &[ProbeFace],
    ) -> Identification<Person> {
        self.identify_with(&galleries.in_use, camera, faces)
    }

    /// The same by a gallery of this name; without one by the one in use.
    ///
    /// # Errors
    /// [`StoreError::UnknownGallery`].
    pub fn identify_named(
        &self,
        galleries: &Galleries,
        gallery: Option<&str>,
        camera: &CameraName,
        faces: &[ProbeFace],
    ) -> Result<Identification<Person>, StoreError> {
        Ok(self.identify_with(galleries.named(gallery)?, camera, faces))
    }

    pub(super) fn identify_with(
        &self,
        slot: &Slot,
        camera: &CameraName,
        faces: &[ProbeFace],
    ) -> Identification<Person> {
        let begin = Instant::now();
        let gallery = &slot.gallery;
        let found: Vec<Face<_>> =
            faces.iter().map(|face| gallery.identify(camera, &face.encoding, face.quality)).collect();
        let people = self.inner.people();
        let identification = Identification {
            gallery_size: u32::try_from(gallery.people()).unwrap_or(u32::MAX),
            model: slot.name().to_owned(),
            faces: found,
            effort: None,
        };
        let mut answer = identification
            .map_person(|key_id| people.member(&key_id).map(|member| member.profile.person.clone()));
        // Somebody erased between the two steps is nobody.
        for face in &mut answer.faces {
            if face.outcome == Outcome::Match && face.person.is_none() {
                face.outcome = Outcome::Stranger;
            }
        }
        let micros = u64::try_from(begin.elapsed().as_micros()).unwrap_or(u64::MAX);
        answer.effort = Some(Effort { engine: gallery.engine(), micros });
        answer
    }

    /// Whether everybody whom an answer of before names is still enrolled, under this name.
    pub fn knows_all(&self, answer: &Identification<Person>) -> bool {
        let people = self.inner.people();
        let member = |person: &Person| people.member(&people.key_of(&person.id)?);
        let is_known = |person| member(person).is_some_and(|member| member.profile.person == *person);
        answer.faces.iter().filter_map(|face| face.person.as_ref()).all(is_known)
    }

    /// Whether this event was taken before: at least the last million events are remembered, across restarts.
    ///
    /// # Errors
    /// [`StoreError`] where neither RAM nor the journal can tell.
    pub async fn seen(&self, key: &EventKey) -> Result<bool, StoreError> {
        if !self.inner.events.is_recent(key) {
            return Ok(false);
        }
        // A fingerprint may lie, a visitor must not be lost for it: the journal knows the whole key.
        if self.known(key)? {
            return Ok(true);
        }
        self.caught_up().await?;
        self.known(key)
    }

    fn known(&self, key: &EventKey) -> Result<bool, StoreError> {
        Ok(self.inner.events.find(key, u64::MAX)?.is_some())
    }

    /// Appends an event with its answer. Durable once the [`Pending`] resolves.
    ///
    /// # Errors
    /// [`StoreError`] where the journal does not take it; then the daemon has to end.
    pub async fn record_event(
        &self,
        event: Event,
        answer: Identification<Person>,
    ) -> Result<Pending, StoreError> {
        if let Ok(slot) = self.galleries().named(Some(&answer.model)) {
            slot.impostors().take(&event.key.camera, event.received_at, &answer);
        }
        let identification = {
            let people = self.inner.people();
            answer.map_person(|person| people.refer(&person, &event.key, event.received_at))
        };
        self.inner.events.remember(&event.key);
        self.append(&Record::Event { event, identification }).await
    }

    /// Counts a message that was delivered again.
    ///
    /// # Errors
    /// As [`Store::record_event`].
    pub async fn record_duplicate(&self, item: Item, bytes: u64) -> Result<Pending, StoreError> {
        self.append(&Record::Duplicate { item, bytes }).await
    }

    /// Counts a message that was refused.
    ///
    /// # Errors
    /// As [`Store::record_event`].
    pub async fn record_refused(&self, item: Item, reason: &str, bytes: u64) -> Result<Pending, StoreError> {
        self.append(&Record::Refused { item, reason: reason.to_owned(), bytes }).await
    }
}
