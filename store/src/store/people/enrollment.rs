//! Enrollment with a review of the samples: repeated ones are skipped, foreign ones are refused.

use std::sync::Arc;

use gatehouse_gallery::{Encoding, Review, Verdict};
use gatehouse_model::Person;
use serde::{Deserialize, Serialize};

use super::super::galleries::Slot;
use super::super::{Refusal, RequestError};
use super::People;
use crate::people::PersonSummary;
use crate::terms::Consent;

/// What is to be enrolled.
#[derive(Debug)]
pub struct Enrollment<'a> {
    /// Id of the person.
    pub id: &'a str,
    /// Display name; that of an enrolled person must be the same.
    pub name: &'a str,
    /// The samples.
    pub encodings: Vec<Encoding>,
    /// Name of the gallery; none for the one in use.
    pub gallery: Option<&'a str>,
    /// Whether samples that look more like another person are enrolled as well.
    pub force: bool,
    /// The consent, as far as it is given.
    pub consent: Consent,
}

/// A finished enrollment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Enrolled {
    /// The person now.
    #[serde(flatten)]
    pub person: PersonSummary,
    /// Samples that were added.
    pub added: usize,
    /// Samples that were skipped, since they repeat others of the person.
    pub repeated: usize,
    /// People who look so much alike that one may be taken for the other.
    pub alike: Vec<Alike>,
    /// Samples that are nearer to another person than to their own, numbered from 1; the operator should
    /// check them.
    pub doubtful: Vec<Doubt>,
    /// Why no face is recognized at present, and what to do.
    pub no_threshold: Option<String>,
}

/// A sample that is nearer to another person.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Doubt {
    /// Which sample, from 1.
    pub nth: usize,
    /// The other person's id.
    pub id: String,
    /// Distance to the other person.
    pub distance: f32,
}

/// Another person, and how near.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Alike {
    /// The other person's id.
    pub id: String,
    /// Distance of the nearest two samples.
    pub distance: f32,
}

impl People {
    /// Enrolls after a review of the samples. A sample that repeats another of the person is skipped. Where
    /// one looks more like another person, the whole enrollment is refused, unless `force` is set.
    ///
    /// # Errors
    /// As [`People::enroll`]; [`Refusal::Foreign`] for the first sample that looks more like another person.
    pub async fn enroll_reviewed(&self, enrollment: Enrollment<'_>) -> Result<Enrolled, RequestError> {
        let Enrollment { id, name, encodings, gallery, force, consent } = enrollment;
        let slot = Arc::clone(self.core.galleries().named(gallery)?);
        let known = self.core.people().key_of(id);
        let reviews = slot.gallery.review(known.as_ref(), &encodings);
        if !force && let Some(at) = reviews.iter().position(|review| review.verdict == Verdict::Foreign) {
            return Err(self.foreign(at, reviews[at]).into());
        }
        let given = encodings.len();
        let fresh =
            encodings.into_iter().zip(&reviews).filter(|(_, review)| review.verdict != Verdict::Repeated);
        let fresh: Vec<Encoding> = fresh.map(|(encoding, _)| encoding).collect();
        let added = fresh.len();
        let named = Person { id: id.to_owned(), name: name.to_owned() };
        let person = match known.is_some() && fresh.is_empty() && given > 0 {
            true => self.enroll_again(&named, &consent).await?,
            false => self.enroll_into(&slot, named, fresh, &consent).await?,
        };
        Ok(Enrolled {
            person,
            added,
            repeated: given - added,
            alike: self.alike_to(&slot, &reviews),
            doubtful: self.doubtful(&reviews),
            no_threshold: slot.gallery.thresholds().derived(None).no_threshold.map(|cause| cause.to_string()),
        })
    }

    fn foreign(&self, at: usize, review: Review) -> Refusal {
        let (key, other) = review.other.unzip();
        let people = self.core.people();
        let person = key.and_then(|key| people.member(&key)).map(|member| member.profile.person.id.clone());
        Refusal::Foreign {
            nth: at + 1,
            person: person.unwrap_or_else(|| "another person".to_owned()),
            other: other.unwrap_or_default(),
            own: review.own,
        }
    }

    fn doubtful(&self, reviews: &[Review]) -> Vec<Doubt> {
        let people = self.core.people();
        let doubt = |(at, review): (usize, &Review)| {
            let (key, distance) = review.other.filter(|_| review.verdict == Verdict::Doubtful)?;
            Some(Doubt { nth: at + 1, id: people.member(&key)?.profile.person.id.clone(), distance })
        };
        reviews.iter().enumerate().filter_map(doubt).collect()
    }

    /// All people within the threshold of one of the samples, the nearest first.
    fn alike_to(&self, slot: &Slot, reviews: &[Review]) -> Vec<Alike> {
        let threshold = slot.gallery.threshold();
        let mut near: Vec<_> = reviews.iter().filter_map(|review| review.other).collect();
        near.retain(|(_, distance)| *distance <= threshold);
        near.sort_by(|a, b| a.1.total_cmp(&b.1));
        let people = self.core.people();
        let mut alike: Vec<Alike> = Vec::new();
        for (key, distance) in near {
            let Some(member) = people.member(&key) else { continue };
            let id = &member.profile.person.id;
            if alike.iter().all(|known| known.id != *id) {
                alike.push(Alike { id: id.clone(), distance });
            }
        }
        alike
    }
}
