//! Corrections: "not this person", for faces that were matched with the wrong person.
//!
//! A correction adds a negative sample to a person: the face of a wrong match. It prevents matches of that
//! person with similar faces. For a probe, let `s` be its distance to the nearest sample of the person, and
//! `n` the distance to the nearest negative sample. Both are in the metric of the gallery.
//!
//! **The person is excluded if `n <= s`, or `n <= r`, with `r` half of the threshold.** For the cosine, `r`
//! is a quarter of it, because the cosine grows with the square of the Euclidean distance.
//!
//! The first condition means that the face is more similar to the wrong match than to the person. The second
//! means that it is the face of the wrong match. The decision is then made as if the person were not
//! enrolled: another person may match, and the excluded person makes no match ambiguous. The mean template is
//! not used here, because a mean is nearer to every probe than a sample is.
//!
//! Measured with synthetic people with 1 to 10 samples, each with a look-alike half as far away as strangers.
//! One correction prevents two thirds to nine tenths of the look-alike's matches, and at most one in a
//! hundred of the person's own. A correction cannot be undone: after the correction of a true match, erase
//! and enroll the person again.

use std::collections::HashMap;

use gatehouse_model::KeyId;

use super::Metric;
use super::engine::Nearest;
use super::segment::SEGMENT_ROWS;
use super::table::Table;
use super::vector::{Probe, square_distance};

/// Most negative samples of one person. A person with more wrong matches needs better pictures, not more
/// corrections.
pub const CORRECTIONS_MAX: usize = 32;
/// Distance within which a face counts as that of a negative sample, as a share of the threshold. Pictures of
/// one moment are nearer than this, while different samples of one person are about as far apart as the
/// threshold.
pub const CORRECTION_RATIO: f32 = 0.5;

/// The distance within which a face counts as that of a negative sample.
fn reach(metric: Metric, threshold: f32) -> f32 {
    match metric {
        Metric::Euclidean => CORRECTION_RATIO * threshold,
        // It grows with the square of the Euclidean distance.
        Metric::Cosine => CORRECTION_RATIO * CORRECTION_RATIO * threshold,
    }
}

/// The rule by which a distance is a match.
#[derive(Debug, Clone, Copy)]
pub struct MatchRule {
    /// How encodings are compared.
    pub metric: Metric,
    /// Largest distance of a match, in the metric.
    pub threshold: f32,
}

/// Negative samples by person; wiped on drop.
#[derive(Default)]
pub(super) struct Corrections(HashMap<KeyId, Vec<Probe>>);

impl Corrections {
    pub(super) fn add(&mut self, person: KeyId, sample: Probe) {
        self.0.entry(person).or_default().push(sample);
    }

    pub(super) fn remove(&mut self, person: &KeyId) {
        self.0.remove(person);
    }

    /// Negative samples of a person.
    pub(super) fn count(&self, person: &KeyId) -> usize {
        self.0.get(person).map_or(0, Vec::len)
    }

    /// People with negative samples.
    pub(super) fn people(&self) -> impl Iterator<Item = &KeyId> {
        self.0.keys()
    }

    /// Whether a negative sample excludes a match; `own` is the squared distance to the nearest sample of the
    /// person.
    pub(super) fn exclude(&self, person: &KeyId, probe: &Probe, own: f32, rule: MatchRule) -> bool {
        let MatchRule { metric, threshold } = rule;
        let Some(samples) = self.0.get(person) else { return false };
        let limit = metric.distance(own).max(reach(metric, threshold));
        samples.iter().any(|sample| metric.distance(square_distance(&probe.fine, &sample.fine)) <= limit)
    }
}

/// The two nearest people except those in `left_out`, by a full scan. Slow, and rarely needed.
pub(super) fn nearest_except(table: &Table, probe: &Probe, left_out: &[u32]) -> Nearest {
    let mut nearest = Nearest::default();
    for segment in table.segments() {
        for row in 0..SEGMENT_ROWS {
            if let Some((owner, square)) = segment.square(row, &probe.fine)
                && !left_out.contains(&owner)
            {
                nearest.offer(owner, square);
            }
        }
    }
    nearest
}

#[cfg(test)]
mod tests;
