//! Faces that are kept in memory after the answer, and for how long. They are never written to disk.
//!
//! - Strangers of today, where labels are enabled: see [`gatehouse_gallery::StrangerMark`].
//! - The faces of the last events with a match, so that a wrong match can be corrected: [`MATCHES_MAX`]
//!   events, for [`MATCHES_HOURS`] hours. Faces that were not matched are not kept for this.

use std::collections::VecDeque;
use std::sync::{MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use chrono::{Datelike, Local};
use gatehouse_gallery::{Encoding, MatchRule, Moment, StrangerMark, Strangers};
use gatehouse_model::{EventKey, Identification, Metric, Outcome, Person};

use super::super::people::corrections::CorrectionFault;
use super::{Galleries, ProbeFace};

/// Events with a match whose faces are kept: a busy day of one door, and less than 1 MB.
pub const MATCHES_MAX: usize = 256;
/// Hours for which they are kept: a wrong match is usually reported on the same day.
pub const MATCHES_HOURS: u64 = 24;

/// How an event arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// Immediately.
    Fresh,
    /// For the first time but delayed: the broker had retained it, or redelivered it.
    Late,
    /// Again: it is stored already.
    Known,
}

/// Faces that are kept in memory; see the module.
#[derive(Default)]
pub(in crate::store) struct RecentFaces {
    strangers: Strangers,
    /// The model of the strangers' encodings.
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
    /// The model of the matching gallery and of the encoding.
    pub(in crate::store) model: String,
    pub(in crate::store) encoding: Encoding,
    corrected: bool,
}

impl Galleries {
    /// Takes the faces of an answered event and returns for each the mark of a known stranger. Faces that are
    /// not kept are zeroized.
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
        let (mut marks, mut matched) = (Vec::new(), Vec::new());
        for (at, (ProbeFace { encoding, .. }, face)) in faces.into_iter().zip(&answer.faces).enumerate() {
            let is_stranger = face.outcome == Outcome::Stranger;
            let rule = MatchRule { metric, threshold: face.threshold };
            let mut mark = || recent.strangers.visit(&encoding, rule, now, arrival == Arrival::Fresh);
            marks.push(is_stranger.then(&mut mark).flatten());
            // A person who was erased since must not be kept. An erasure takes the lock that is held here.
            let is_there = |person: &&Person| self.core.people().key_of(&person.id).is_some();
            if let (Outcome::Match, Some(person)) = (face.outcome, face.person.as_ref().filter(is_there)) {
                let (person, model) = (person.id.clone(), answer.model.clone());
                matched.push(Matched { nth: at + 1, person, model, encoding, corrected: false });
            }
        }
        // A redelivered event is answered again. Corrections must refer to the first answer.
        if arrival != Arrival::Known {
            recent.keep(event, matched, now.at);
        }
        marks
    }

    /// Enables or disables labels for strangers. Disabling removes all labels at once.
    pub fn label_strangers(&self, on: bool) {
        self.recent_faces().strangers.switch(on);
    }

    /// Removes expired faces. Call it periodically: an expired face is removed at the next call.
    pub fn forget_old(&self) {
        let now = moment();
        let mut recent = self.recent_faces();
        recent.strangers.sweep(now);
        recent.drop_old(now.at);
    }

    /// Removes the faces that were matched to a person.
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

    /// Marks a match as corrected.
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
    /// Removes the strangers whose encodings have another model: they cannot be compared.
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

/// The current moment. Its day is that of the local time zone, so that days change at local midnight.
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
