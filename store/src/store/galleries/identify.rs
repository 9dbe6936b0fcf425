//! Identification of faces by a gallery, in memory only.

use std::time::Instant;

use gatehouse_gallery::Encoding;
use gatehouse_model::{CameraName, Effort, Face, Identification, KeyId, Outcome, Person};

use super::super::Refusal;
use super::{Galleries, GallerySet, Slot};

/// One face of an event. It exists in memory only.
#[derive(Debug)]
pub struct ProbeFace {
    /// The validated encoding.
    pub encoding: Encoding,
    /// The camera's quality of the face, 0 to 1.
    pub quality: Option<f32>,
}

impl Galleries {
    /// Identifies faces with the gallery in use. Accesses no disk.
    pub fn identify(&self, camera: &CameraName, faces: &[ProbeFace]) -> Identification<Person> {
        self.identify_in(&self.core.galleries(), camera, faces)
    }

    /// As [`Galleries::identify`], with the gallery that is in use in `galleries`.
    pub fn identify_in(
        &self,
        galleries: &GallerySet,
        camera: &CameraName,
        faces: &[ProbeFace],
    ) -> Identification<Person> {
        self.identify_with(&galleries.in_use, camera, faces)
    }

    /// As [`Galleries::identify`], with the gallery of this name, or the one in use.
    ///
    /// # Errors
    /// [`Refusal::UnknownGallery`].
    pub fn identify_named(
        &self,
        galleries: &GallerySet,
        gallery: Option<&str>,
        camera: &CameraName,
        faces: &[ProbeFace],
    ) -> Result<Identification<Person>, Refusal> {
        Ok(self.identify_with(galleries.named(gallery)?, camera, faces))
    }

    pub(in crate::store) fn identify_with(
        &self,
        slot: &Slot,
        camera: &CameraName,
        faces: &[ProbeFace],
    ) -> Identification<Person> {
        let begin = Instant::now();
        let gallery = &slot.gallery;
        let found: Vec<Face<_>> =
            faces.iter().map(|face| gallery.identify(camera, &face.encoding, face.quality)).collect();
        let people = self.core.people();
        let identification = Identification {
            gallery_size: u32::try_from(gallery.people()).unwrap_or(u32::MAX),
            model: slot.name().to_owned(),
            faces: found,
            effort: None,
        };
        let answerable = |key_id: KeyId| people.member(&key_id).filter(|member| !member.is_stranger());
        let mut answer = identification
            .map_person(|key_id| answerable(key_id).map(|member| member.profile.person.clone()));
        // The person may have been erased since the search, or is suspended: report a stranger.
        for face in &mut answer.faces {
            if face.outcome == Outcome::Match && face.person.is_none() {
                face.outcome = Outcome::Stranger;
                // A distance below the threshold would reveal that the person is enrolled.
                (face.distance, face.margin) = (None, None);
            }
        }
        let micros = u64::try_from(begin.elapsed().as_micros()).unwrap_or(u64::MAX);
        answer.effort = Some(Effort { engine: gallery.engine(), micros });
        answer
    }

    /// Whether all people in an earlier answer are still enrolled under the same names.
    pub fn still_valid(&self, answer: &Identification<Person>) -> bool {
        let people = self.core.people();
        let member = |person: &Person| people.member(&people.key_of(&person.id)?);
        let is_known = |person| {
            member(person).is_some_and(|member| !member.is_stranger() && member.profile.person == *person)
        };
        answer.faces.iter().filter_map(|face| face.person.as_ref()).all(is_known)
    }
}
