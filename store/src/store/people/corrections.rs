//! Corrections: an operator marks a match as wrong.
//!
//! The face of the match comes from memory ([`crate::store::galleries::recent_faces`]), since no event has an
//! encoding on disk. It is sealed like a template of the matched person, in its own record, and is erased
//! with that person. Order: the record is durable, then answers change. A crash in between loses nothing:
//! opening loads it.

use gatehouse_gallery::CORRECTIONS_MAX;
use gatehouse_model::{EventKey, Person};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::super::galleries::recent_faces::{MATCHES_HOURS, MATCHES_MAX};
use super::super::{Refusal, RequestError};
use super::People;
use crate::record::Record;

/// Why a match cannot be corrected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum CorrectionFault {
    /// No person was recognised in the face, or the face does not exist.
    #[error("no person was recognized in this face of the event; see `gatehouse event show`")]
    NoMatch,
    /// More than one face was recognised.
    #[error("{0} people were recognized in this event; select the wrong one with --face")]
    Several(usize),
    /// It was corrected before.
    #[error("this match is corrected already")]
    Corrected,
    /// The face is not in memory any more.
    #[error(
        "the face of this event is gone: for corrections the last {MATCHES_MAX} events with a match are kept \
         for {MATCHES_HOURS} hours, in memory only, so not across a restart; correct the next wrong match \
         sooner"
    )]
    TooOld,
    /// The gallery that recognised the person is removed.
    #[error("the gallery that recognized this face is removed; there is nothing to correct any more")]
    NoGallery,
    /// The person has the maximum number of corrections.
    #[error("a person has at most {CORRECTIONS_MAX} corrections; erase them and enroll better pictures")]
    Full,
}

/// A correction that was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Corrected {
    /// The person who was matched by mistake.
    pub person: Person,
    /// Corrections of that person so far.
    pub corrections: usize,
}

impl People {
    /// Corrects a match: face number `face` of the event, from 1, is not the matched person. Similar faces
    /// are not matched to that person from now on. Without `face` the only match of the event is corrected.
    ///
    /// # Errors
    /// A [`CorrectionFault`], or a refusal where the person is not enrolled any more.
    pub async fn correct(&self, event: &EventKey, face: Option<usize>) -> Result<Corrected, RequestError> {
        let _lock = self.core.people_lock.lock().await;
        let found = self.galleries.kept_match(event, face)?;
        let id = &found.person;
        let unknown = || Refusal::UnknownPerson(id.clone());
        let (key_id, person, key) = {
            let people = self.core.people();
            let key_id = people.key_of(id).ok_or_else(unknown)?;
            let member = people.member(&key_id).ok_or_else(unknown)?;
            (key_id, member.profile.person.clone(), member.key.clone())
        };
        let galleries = self.core.galleries();
        let slot = galleries.named(Some(&found.model)).map_err(|_| CorrectionFault::NoGallery)?;
        let gallery = &slot.gallery;
        if gallery.corrections(&key_id) >= CORRECTIONS_MAX {
            return Err(CorrectionFault::Full.into());
        }
        let templates = self.core.templates();
        let Some(negative) = templates.transform(slot.mark.model.dimensions).protect(&found.encoding) else {
            return Err(CorrectionFault::TooOld.into());
        };
        let negative = [negative];
        let number = slot.mark.number;
        let sealed = templates.seal_negatives(&key, number, &negative)?;
        let added = Record::Templates { gallery: number, person: key_id, sealed, replaces: false };
        self.core.change(&added).await?;
        gallery.correct(key_id, &negative);
        self.galleries.match_corrected(event, found.nth);
        Ok(Corrected { person, corrections: gallery.corrections(&key_id) })
    }
}
