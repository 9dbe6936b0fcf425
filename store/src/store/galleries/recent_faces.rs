//! What RAM keeps of faces after the answer, and for how long; nothing of it is ever on disk.
//!
//! - Strangers of today, where labels are switched on: see [`gatehouse_gallery::StrangerMark`].
//! - The faces of the last events with a match, so that a wrong match can be corrected: [`MATCHES_MAX`] events, for
//!   [`MATCHES_HOURS`] hours. Faces that were not matched are not kept for this.

use std::collections::VecDeque;
use std::sync::{MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use chrono::{Datelike, Local};
use gatehouse_gallery::{Encoding, Moment, StrangerMark, Strangers};
use gatehouse_model::{EventKey, Identification, Metric, Outcome, Person};

use super::super::people::corrections::CorrectionFault;
use super::{Galleries, ProbeFace};

/// Events with a match whose faces are kept: a busy day of a door, and below 1 MB.
pub const MATCHES_MAX: usize = 256;
/// Hours for which they are kept: who is told of a wrong match tells so on the same day.
pub const MATCHES_HOURS: u64 = 24;

/// How an event came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// As it happened.
    Fresh,
    /// For the first time, but not as it happened: the broker had kept it, or sends it again.
    Late,
    /// It is stored already.
    Known,
}

/// See the module.
#[derive(Default)]
pub(in crate::store) struct RecentFaces {
    strangers: Strangers,
    /// The model of their faces.
    model: String,
    /// Oldest first.
    matches: VecDeque<Kept>,
}

/// An event with a match.
struct Kept {
    event: EventKey,
    at: Instant,
    faces: Vec<Matched>,
}

/// A face that was matched.
#[derive(Clone)]
pub(in crate::store) struct Matched {
    /// Which face of the event, from 1.
    pub(in crate::store) nth: usize,
    /// Id of the person it was taken for.
    pub(in crate::store) person: String,
    /// The model of the gallery that did, and of the encoding.
    pub(in crate::store) model: String,
    pub(in crate::store) encoding: Encoding,
    corrected: bool,
}

impl Galleries {
    /// Takes the faces of an event after the gallery has answered, and tells for each what is known of a stranger.
    /// Everything that is not kept is wiped.
    pub fn take_faces(
        &self,
        event: &EventKey,
        faces: Vec<ProbeFace>,
        answer: &Identification<Person>,
        arrival: Arrival,
    ) -> Vec<Option<StrangerMark>> {
        let metric =
            self.core.galleries().model(Some(&answer.model)).map_or(Metric::Euclidean, |model| model.metric);
        let now = moment();
        let mut recent = self.recent_faces();
        recent.strangers_of(&answer.model);
        let (mut told, mut matched) = (Vec::new(), Vec::new());
        for (at, (ProbeFace { encoding, .. }, face)) in faces.into_iter().zip(&answer.faces).enumerate() {
            let is_stranger = face.outcome == Outcome::Stranger;
            let mut mark = || {
                recent.strangers.visit(&encoding, (metric, face.threshold), now, arrival == Arrival::Fresh)
            };
            told.push(is_stranger.then(&mut mark).flatten());
            // Whoever was erased meanwhile is not kept: that forgets under the lock that is held here.
            let is_there = |person: &&Person| self.core.people().key_of(&person.id).is_some();
            if let (Outcome::Match, Some(person)) = (face.outcome, face.person.as_ref().filter(is_there)) {
                let (person, model) = (person.id.clone(), answer.model.clone());
                matched.push(Matched { nth: at + 1, person, model, encoding, corrected: false });
            }
        }
        // An event that comes again was answered again; what was corrected is the first answer.
        if arrival != Arrival::Known {
            recent.keep(event, matched, now.at);
        }
        told
    }

    /// Switches labels for strangers on or off; off forgets all of them at once.
    pub fn label_strangers(&self, on: bool) {
        self.recent_faces().strangers.switch(on);
    }

    /// Forgets what has had its time. To be called often: what is due goes at the next call.
    pub fn forget_old(&self) {
        let now = moment();
        let mut recent = self.recent_faces();
        recent.strangers.sweep(now);
        recent.drop_old(now.at);
    }

    /// Forgets the faces that were taken for a person.
    pub(in crate::store) fn forget_matches_of(&self, person: &str) {
        self.recent_faces().forget(person);
    }

    /// The face of a match, where it is kept.
    pub(in crate::store) fn kept_match(
        &self,
        event: &EventKey,
        face: Option<usize>,
    ) -> Result<Matched, CorrectionFault> {
        self.recent_faces().find(event, face, Instant::now()).cloned()
    }

    /// Notes that a match is corrected.
    pub(in crate::store) fn match_corrected(&self, event: &EventKey, nth: usize) {
        let mut recent = self.recent_faces();
        let kept = recent.matches.iter_mut().filter(|kept| kept.event == *event);
        for face in kept.flat_map(|kept| &mut kept.faces).filter(|face| face.nth == nth) {
            face.corrected = true;
        }
    }

    fn recent_faces(&self) -> MutexGuard<'_, RecentFaces> {
        self.core.recent_faces.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RecentFaces {
    /// Forgets the strangers whose faces are of another model: they cannot be compared.
    fn strangers_of(&mut self, model: &str) {
        if self.model != model {
            self.strangers.forget();
            model.clone_into(&mut self.model);
        }
    }

    fn keep(&mut self, event: &EventKey, faces: Vec<Matched>, now: Instant) {
        self.drop_old(now);
        if faces.is_empty() {
            return;
        }
        while self.matches.len() >= MATCHES_MAX {
            self.matches.pop_front();
        }
        self.matches.push_back(Kept { event: event.clone(), at: now, faces });
    }

    fn drop_old(&mut self, now: Instant) {
        let limit = Duration::from_secs(MATCHES_HOURS * 3600);
        self.matches.retain(|kept| now.saturating_duration_since(kept.at) < limit);
    }

    fn forget(&mut self, person: &str) {
        for kept in &mut self.matches {
            kept.faces.retain(|face| face.person != person);
        }
        self.matches.retain(|kept| !kept.faces.is_empty());
    }

    fn find(
        &mut self,
        event: &EventKey,
        face: Option<usize>,
        now: Instant,
    ) -> Result<&Matched, CorrectionFault> {
        self.drop_old(now);
        let kept = self.matches.iter().rev().find(|kept| kept.event == *event);
        let faces = &kept.ok_or(CorrectionFault::TooOld)?.faces;
        let found = match (face, faces.as_slice()) {
            (Some(nth), faces) => faces.iter().find(|face| face.nth == nth),
            (None, [only]) => Some(only),
            (None, several) => return Err(CorrectionFault::Several(several.len())),
        };
        let found = found.ok_or(CorrectionFault::NoMatch)?;
        if found.corrected { Err(CorrectionFault::Corrected) } else { Ok(found) }
    }
}

/// Now, with the day of the machine's time zone: midnight is that of the people at the door.
fn moment() -> Moment {
    Moment { day: Local::now().num_days_from_ce(), at: Instant::now() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(number: usize) -> EventKey {
        EventKey { camera: "door".try_into().unwrap(), id: number.to_string().try_into().unwrap() }
    }

    fn face(nth: usize, person: &str) -> Matched {
        let encoding = Encoding::new(vec![1.0; 4], 4).unwrap();
        let (person, model) = (person.to_owned(), "m".to_owned());
        Matched { nth, person, model, encoding, corrected: false }
    }

    fn found(recent: &mut RecentFaces, number: usize, face: Option<usize>) -> Result<usize, CorrectionFault> {
        recent.find(&event(number), face, Instant::now()).map(|face| face.nth)
    }

    #[test]
    fn matches_are_kept_up_to_a_count_and_an_age() {
        let (mut recent, now) = (RecentFaces::default(), Instant::now());
        for number in 0..=MATCHES_MAX {
            recent.keep(&event(number), vec![face(1, "a")], now);
        }
        assert_eq!(recent.matches.len(), MATCHES_MAX);
        assert_eq!(found(&mut recent, 0, None), Err(CorrectionFault::TooOld));
        assert_eq!(found(&mut recent, 1, None), Ok(1));
        recent.drop_old(now + Duration::from_secs(MATCHES_HOURS * 3600));
        assert!(recent.matches.is_empty());
        recent.keep(&event(1), Vec::new(), now);
        assert!(recent.matches.is_empty(), "an event without a match is not kept");
    }

    #[test]
    fn the_face_must_be_named_where_several_were_matched() {
        let mut recent = RecentFaces::default();
        recent.keep(&event(1), vec![face(1, "a"), face(3, "b")], Instant::now());
        assert_eq!(found(&mut recent, 1, None), Err(CorrectionFault::Several(2)));
        assert_eq!(found(&mut recent, 1, Some(2)), Err(CorrectionFault::NoMatch));
        assert_eq!(found(&mut recent, 1, Some(3)), Ok(3));
        recent.forget("b");
        assert_eq!(found(&mut recent, 1, None), Ok(1));
        recent.forget("a");
        assert!(recent.matches.is_empty());
    }
}
