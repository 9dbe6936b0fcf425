//! What an export of a person needs: their encodings, the words that it must not contain, and its signature.

use gatehouse_gallery::Encoding;
use gatehouse_model::KeyId;
use gatehouse_receipt::{Export, Place};

use super::super::StoreError;
use super::privacy::Privacy;

/// Encodings of a person in one gallery.
#[derive(Debug)]
pub struct OwnTemplates {
    /// Name of the model.
    pub model: String,
    /// Numbers in one encoding.
    pub dimensions: usize,
    /// The encodings in the space of the model, but for the last digits.
    pub encodings: Vec<Encoding>,
}

impl Privacy {
    /// The encodings of a person by gallery. Blocking.
    pub fn encodings(&self, id: &str) -> Vec<OwnTemplates> {
        let Some(key_id) = self.people.core.people().key_of(id) else { return Vec::new() };
        let templates = self.people.core.templates();
        let of_gallery = |slot: &std::sync::Arc<super::Slot>| {
            let model = &slot.mark.model;
            let transform = templates.transform(model.dimensions);
            let protected = slot.gallery.samples_in(&key_id, &transform);
            let encodings = protected.iter().filter_map(|template| transform.reveal(template)).collect();
            OwnTemplates { model: model.name.clone(), dimensions: model.dimensions, encodings }
        };
        self.people.core.galleries().all().map(of_gallery).collect()
    }

    /// A signed note about an export that is made now, with the SHA-256 of its list of files. None if the id of the
    /// appliance cannot be on a receipt. Blocking.
    ///
    /// # Errors
    /// [`StoreError`] where the key table failed.
    pub fn sign_export(
        &self,
        environment: &str,
        device: &str,
        manifest: [u8; 32],
    ) -> Result<Option<String>, StoreError> {
        let core = &self.people.core;
        let Ok(place) = Place::device(environment, device, KeyId::parse(&core.state_id)) else {
            return Ok(None);
        };
        let signer = core.signer(place.key_name())?;
        let export = Export { place, issued: core.time(), manifest };
        Ok(export.sign(&signer).ok().map(|note| note.to_string()))
    }

    /// The ids and names of all people but one, in lower case. Blocking: there may be 200,000.
    pub fn words_of_others(&self, id: &str) -> Vec<String> {
        let people = self.people.core.people();
        let others = people.persons().filter(|person| person.id != id);
        others.flat_map(|person| [person.id.to_lowercase(), person.name.to_lowercase()]).collect()
    }
}
