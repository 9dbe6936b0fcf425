//! The dual run: while there are two galleries, the candidate gallery identifies each event, too.
//!
//! Only events whose faces have encodings of both models are compared. The journal keeps a verdict per event.
//! The views derive the counts and the newest differing events from the verdicts. Neither contains who was
//! recognised. A switch or another gallery restarts the comparison. An event that is redelivered after a
//! crash may count twice.

use std::collections::BTreeSet;

use gatehouse_model::{Compared, EventKey, Identification, Person, Timestamp, Verdict};
use serde::{Deserialize, Serialize};

use super::super::{Refusal, RequestError};
use super::{Galleries, GallerySet, ProbeFace};
use crate::views::entries::{Comparison, Key};

/// Maximum length of the list of people; the rest is only counted.
const PEOPLE_MAX: usize = 1000;

/// How the two galleries compare.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GalleryComparison {
    /// Name of the gallery in use.
    pub in_use: String,
    /// Name of the other.
    pub other: String,
    /// Events in which both recognised the same people, or none.
    pub same: u64,
    /// Events in which only the gallery in use recognised a person.
    pub only_in_use: u64,
    /// Events in which only the other recognised a person.
    pub only_other: u64,
    /// Events in which each recognised a person whom the other did not.
    pub different: u64,
    /// Events that could not be compared: a face lacks a readable encoding of one of the models.
    pub incomplete: u64,
    /// The newest events in which they differ, the newest first.
    pub differing: Vec<Differing>,
    /// People in the gallery in use who are not in the other: ids, up to a thousand of them.
    pub missing: Vec<String>,
    /// How many there are.
    pub missing_people: usize,
}

/// An event in which the galleries differ.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Differing {
    /// `camera/event id`.
    pub event: String,
    /// The verdict.
    pub verdict: Verdict,
}

/// Faces of an event, encoded by the model of the other gallery.
#[derive(Debug, Default)]
pub struct Others {
    /// The faces, in the order of the camera.
    pub faces: Vec<ProbeFace>,
    /// Whether there were unreadable encodings. They never cause a refusal of the event.
    pub unreadable: bool,
}

impl Galleries {
    /// Compares an answer with the answer of the other gallery for the same faces. None where there is no
    /// other gallery or the event has no face for it. Accesses no disk.
    pub fn compare(
        &self,
        galleries: &GallerySet,
        event: &EventKey,
        answer: &Identification<Person>,
        others: &Others,
    ) -> Option<Compared> {
        let candidate = galleries.candidate.as_ref()?;
        if others.faces.is_empty() && !others.unreadable {
            return None;
        }
        let theirs = self.identify_with(candidate, &event.camera, &others.faces);
        candidate.impostors().take(&event.camera, Timestamp::now(), &theirs);
        let is_whole = !others.unreadable && others.faces.len() == answer.faces.len();
        let verdict = if is_whole { verdict(&people(answer), &people(&theirs)) } else { Verdict::Incomplete };
        let (in_use, other) = (galleries.in_use.name().to_owned(), candidate.name().to_owned());
        Some(Compared { event: event.clone(), in_use, other, verdict })
    }

    /// How the two galleries compare so far.
    ///
    /// # Errors
    /// [`Refusal::OneGallery`] where there is no second one, or where the views cannot be read.
    pub fn comparison(&self) -> Result<GalleryComparison, RequestError> {
        let galleries = self.core.galleries();
        let in_use = &galleries.in_use;
        let candidate = galleries.candidate.as_ref().ok_or(Refusal::OneGallery)?;
        let stored: Option<Comparison> = self.core.views.get(&Key::Comparison)?;
        let is_of_these =
            |stored: &Comparison| stored.in_use == in_use.name() && stored.other == candidate.name();
        let stored = stored.filter(is_of_these).unwrap_or_default();
        let count = |verdict| {
            stored.counts.iter().find(|(known, _)| *known == verdict).map_or(0, |(_, count)| *count)
        };
        let line = |(event, verdict): &(EventKey, Verdict)| Differing {
            event: format!("{}/{}", event.camera, event.id),
            verdict: *verdict,
        };
        let mut missing = self.missing_in(candidate, in_use);
        let missing_people = missing.len();
        missing.truncate(PEOPLE_MAX);
        Ok(GalleryComparison {
            in_use: in_use.name().to_owned(),
            other: candidate.name().to_owned(),
            same: count(Verdict::Same),
            only_in_use: count(Verdict::OnlyInUse),
            only_other: count(Verdict::OnlyOther),
            different: count(Verdict::Different),
            incomplete: count(Verdict::Incomplete),
            differing: stored.differing.iter().rev().map(line).collect(),
            missing,
            missing_people,
        })
    }
}

/// Ids of the people who were recognised.
fn people(answer: &Identification<Person>) -> BTreeSet<&str> {
    answer.faces.iter().filter_map(|face| face.person.as_ref()).map(|person| person.id.as_str()).collect()
}

fn verdict(ours: &BTreeSet<&str>, theirs: &BTreeSet<&str>) -> Verdict {
    match (ours.is_subset(theirs), theirs.is_subset(ours)) {
        (true, true) => Verdict::Same,
        (false, true) => Verdict::OnlyInUse,
        (true, false) => Verdict::OnlyOther,
        (false, false) => Verdict::Different,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_says_who_recognised_more() {
        let compared = |ours: &[&'static str], theirs: &[&'static str]| {
            verdict(&ours.iter().copied().collect(), &theirs.iter().copied().collect())
        };
        assert_eq!(compared(&[], &[]), Verdict::Same);
        assert_eq!(compared(&["a", "b"], &["b", "a"]), Verdict::Same);
        assert_eq!(compared(&["a"], &[]), Verdict::OnlyInUse);
        assert_eq!(compared(&["a"], &["a", "b"]), Verdict::OnlyOther);
        assert_eq!(compared(&["a", "c"], &["a", "b"]), Verdict::Different);
    }
}
