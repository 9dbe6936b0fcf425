//! "Not this person": faces that were taken for somebody and are not them.
//!
//! A correction gives a person a negative sample: the face of a wrong match. From then on it speaks against every
//! match of that person with a face like it. The rule, in the metric of the gallery, for a probe that would be
//! named as a person, with `s` its distance to the nearest sample of that person, `n` to the nearest negative one:
//!
//! **the person is out of the question where `n <= s`, or `n <= r`, with `r` half of the threshold** (a quarter for
//! the cosine, which grows with the square of the Euclidean distance).
//!
//! The mean template has no part in this: a mean is nearer to everything, and the comparison would not be of like
//! with like.
//!
//! The first says that the face is more like the one that was wrong than like the person; the second, that it is
//! the face that was wrong, however well it may fit. The decision is then made over everybody else as if the
//! person were not enrolled: it may name another person, and the one who is out makes nothing ambiguous.
//!
//! Measured on synthetic people with 1 to 10 samples, each with a look-alike half as far away as strangers are: one
//! correction takes two thirds to nine tenths of the look-alike's matches away, and at most one in a hundred of the
//! person's own. A correction is not taken back on its own: whoever corrects a true match weakens the person, and
//! the way back is to erase and to enrol.

use std::collections::HashMap;

use gatehouse_model::KeyId;

use super::Metric;
use super::engine::Nearest;
use super::segment::SEGMENT_ROWS;
use super::table::Table;
use super::vector::{Probe, square_distance};

/// Negative samples of one person. Somebody who is mistaken for more needs better pictures, not more corrections.
pub const CORRECTIONS_MAX: usize = 32;
/// How near to a negative sample a face is the same face, as a share of the threshold: nearer than this lie
/// pictures of one moment, while samples of one person lie as far apart as the threshold.
pub const CORRECTION_RATIO: f32 = 0.5;

/// The distance within which a face is that of a negative sample.
fn reach(metric: Metric, threshold: f32) -> f32 {
    match metric {
        Metric::Euclidean => CORRECTION_RATIO * threshold,
        // It grows with the square of the Euclidean distance.
        Metric::Cosine => CORRECTION_RATIO * CORRECTION_RATIO * threshold,
    }
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

    /// Whether a negative sample speaks against a match; `own` is the squared distance of the nearest own sample.
    pub(super) fn speak_against(
        &self,
        person: &KeyId,
        probe: &Probe,
        own: f32,
        (metric, threshold): (Metric, f32),
    ) -> bool {
        let Some(samples) = self.0.get(person) else { return false };
        let limit = metric.distance(own).max(reach(metric, threshold));
        samples.iter().any(|sample| metric.distance(square_distance(&probe.fine, &sample.fine)) <= limit)
    }
}

/// The two nearest people of those who are not left out, by looking at every template. Slow, and rare.
pub(super) fn nearest_but(table: &Table, probe: &Probe, left_out: &[u32]) -> Nearest {
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
