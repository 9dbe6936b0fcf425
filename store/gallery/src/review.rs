//! Reviews samples before enrollment: duplicates of known samples, and samples that resemble another person.

use gatehouse_model::KeyId;

use super::encoding::norm;
use super::engine::Engine;
use super::people::State;
use super::vector::{Probe, square_distance};
use super::{Encoding, Gallery};

/// Two samples of one person that are nearer than this share of their norm are duplicates: one picture
/// encoded twice, or consecutive frames of a video. Two pictures of one person are at least five times as far
/// apart.
const REPEATED_SHARE: f64 = 0.03;

/// A foreign sample's distance to the other person is below this share of the distance to its own person.
const FOREIGN_RATIO: f64 = 0.8;
/// The same for a model whose impostor distances are not known.
const FOREIGN_RATIO_UNKNOWN: f64 = 0.6;

/// The Euclidean distance to a sample within which another sample of the same person is a duplicate.
pub fn repeat_radius(sample: &[f32]) -> f64 {
    REPEATED_SHARE * norm(sample)
}

/// Whether two samples of one person, in one space, are duplicates.
pub fn repeats(one: &[f32], other: &[f32]) -> bool {
    one.len() == other.len() && f64::from(square_distance(one, other)).sqrt() <= repeat_radius(one)
}

/// How a sample compares with all enrolled people and the other samples of the same enrollment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Review {
    /// The result of the review.
    pub verdict: Verdict,
    /// Distance to the person's nearest other sample, known or of the same enrollment.
    pub own: Option<f32>,
    /// The nearest other person and the distance to their nearest sample.
    pub other: Option<(KeyId, f32)>,
}

/// The result of a [`Review`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// A new sample of the person.
    Good,
    /// A duplicate of another sample of the same person.
    Repeated,
    /// Nearer to another person than to its own. Without other samples of its person: within the threshold of
    /// another person. The operator should check it.
    Doubtful,
    /// Probably of another person: near to their samples and much farther from its own. Nine of ten such
    /// samples are wrong (`gatehouse-bench thresholds`).
    Foreign,
}

impl Gallery {
    /// Reviews samples before they are added to a person, new (`None`) or known. Returns one review per
    /// sample, in order. A sample with other dimensions is reported as [`Verdict::Repeated`], because it
    /// cannot be added.
    pub fn review(&self, person: Option<&KeyId>, samples: &[Encoding]) -> Vec<Review> {
        let state = self.read();
        let place = person.and_then(|person| state.place_of(person));
        let mut known: Vec<Probe> = Vec::new();
        let mut fresh: Vec<Option<(usize, Probe)>> = Vec::new();
        for sample in samples {
            let Some(probe) = self.prepare(&state.transform, sample) else {
                fresh.push(None);
                continue;
            };
            let near = repeat_radius(&probe.fine);
            let enrolled = place.into_iter().flat_map(|place| state.samples_of(place));
            let others = enrolled.chain(known.iter().map(|probe| &probe.fine[..]));
            let nearest = others.map(|other| square_distance(&probe.fine, other)).min_by(f32::total_cmp);
            if nearest.is_some_and(|square| f64::from(square).sqrt() <= near) {
                fresh.push(None);
                continue;
            }
            let copy = Probe::new(&probe.fine, false);
            fresh.push(Some((known.len(), probe)));
            known.push(copy);
        }
        let look = |entry: &Option<(usize, Probe)>| {
            let Some((at, probe)) = entry else {
                return Review { verdict: Verdict::Repeated, own: None, other: None };
            };
            let rest =
                known.iter().enumerate().filter(|(other, _)| other != at).map(|(_, probe)| &probe.fine[..]);
            self.look(&state, place, probe, rest)
        };
        fresh.iter().map(look).collect()
    }

    fn look<'a>(
        &self,
        state: &'a State,
        place: Option<u32>,
        probe: &Probe,
        rest: impl Iterator<Item = &'a [f32]>,
    ) -> Review {
        let own = place.into_iter().flat_map(|place| state.samples_of(place)).chain(rest);
        let own = own.map(|other| square_distance(&probe.fine, other)).min_by(f32::total_cmp);
        let own = own.map(|square| self.metric.distance(square));
        let nearest = self.exact.nearest(&state.table, probe).unwrap_or_default();
        let other =
            [nearest.best, nearest.second].into_iter().flatten().find(|near| Some(near.owner) != place);
        let other = other.and_then(|near| Some((state.key(near.owner)?, self.metric.distance(near.square))));
        let verdict = other.map_or(Verdict::Good, |(_, other)| self.verdict(state, own, other));
        Review { verdict, own, other }
    }

    fn verdict(&self, state: &State, own: Option<f32>, other: f32) -> Verdict {
        let distance = self.metric.euclidean(other);
        let limit = match &state.calibration {
            Some(calibration) => calibration.mistaken(state.enrolled(), own.is_some()).unwrap_or(0.0),
            None => f64::INFINITY,
        };
        let ratio = if state.calibration.is_some() { FOREIGN_RATIO } else { FOREIGN_RATIO_UNKNOWN };
        let is_foreign = match own {
            Some(own) => distance <= limit && distance < ratio * self.metric.euclidean(own),
            None => distance <= limit && state.calibration.is_some(),
        };
        let doubtful_below = own.unwrap_or(state.threshold(None).next_up());
        match (is_foreign, other < doubtful_below) {
            (true, _) => Verdict::Foreign,
            (false, true) => Verdict::Doubtful,
            (false, false) => Verdict::Good,
        }
    }
}
