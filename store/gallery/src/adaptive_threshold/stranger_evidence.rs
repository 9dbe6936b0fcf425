//! Evidence from observed strangers: whether they are nearer than those of the calibration.

use std::collections::HashMap;

use gatehouse_model::CameraName;

use crate::Gallery;
use crate::calibration::{Calibration, Enrolled};

/// Minimum number of strangers' visits that can lower the threshold of all cameras.
pub(super) const VISITS_MIN: f64 = 30.0;
/// Minimum number of strangers' visits for a separate threshold of a camera.
pub const CAMERA_VISITS_MIN: f64 = 100.0;
/// Maximum number of compared visits; of more, every n-th is used.
const VISITS_MAX: usize = 4096;
/// Faces of strangers at one camera within this time belong to one visit, in seconds.
const SAME_VISIT_WINDOW_S: i64 = 600;
/// Lower bound of the factor by which strangers can lower a threshold: one frequent visitor must not make all
/// enrolled people unrecognizable.
const STRANGERS_FACTOR_MIN: f64 = 0.8;
/// Minimum share of strangers beyond the clear distance for valid evidence.
const CLEAR_SHARE_MIN: f64 = 0.05;
/// An observed face of a stranger, as numbers.
#[derive(Debug, Clone)]
pub struct StrangerFace {
    /// The camera.
    pub camera: CameraName,
    /// Time of the event, in seconds since 1970.
    pub at_s: i64,
    /// Number of people enrolled at that time.
    pub people: u32,
    /// Distance to the nearest person.
    pub distance: f32,
}

/// The evidence of observed strangers: a factor on distances, and the number of visits behind it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Strangers {
    pub(super) factor: f64,
    pub(super) visits: f64,
}

impl Gallery {
    /// The factor by which observed strangers are nearer than those of the calibration; none with too few
    /// visits.
    pub(super) fn strangers(
        &self,
        of: &Calibration,
        enrolled: Enrolled,
        visits: &[&StrangerFace],
        least: f64,
    ) -> Option<Strangers> {
        let clear = of.clear(enrolled)?;
        let nearest = Nearest { calibration: of, samples: enrolled.samples };
        let is_evidence = |seen: &&&StrangerFace| {
            self.metric.euclidean(seen.distance) > clear
                && 1.0 - nearest.share(seen.people, clear) >= CLEAR_SHARE_MIN
        };
        let every = visits.len().div_ceil(VISITS_MAX).max(1);
        let evidence: Vec<&StrangerFace> =
            visits.iter().step_by(every).filter(is_evidence).copied().collect();
        let visits = evidence.len() as f64;
        if visits < least {
            return None;
        }
        let is_below = |factor: f64| {
            let conditional = |seen: &&StrangerFace| {
                let beyond = nearest.share(seen.people, clear / factor);
                let within = nearest.share(seen.people, self.metric.euclidean(seen.distance) / factor);
                (within - beyond) / (1.0 - beyond).max(f64::MIN_POSITIVE)
            };
            let nearer = evidence.iter().filter(|seen| conditional(seen) < 0.5).count();
            nearer as f64 > visits / 2.0
        };
        // The factor at which half of the strangers are nearer than their median.
        let (mut low, mut high) = (STRANGERS_FACTOR_MIN, 1.0);
        for _ in 0..20 {
            let middle = f64::midpoint(low, high);
            if is_below(middle) { high = middle } else { low = middle }
        }
        Some(Strangers { factor: high, visits })
    }
}

/// The distribution of a stranger's distance to the nearest of several people.
struct Nearest<'a> {
    calibration: &'a Calibration,
    samples: f64,
}

impl Nearest<'_> {
    /// Share of strangers within a Euclidean distance of the nearest person.
    fn share(&self, people: u32, distance: f64) -> f64 {
        let enrolled = Enrolled { people: people.max(1) as usize, samples: self.samples };
        self.calibration.expected_share(enrolled, distance)
    }
}

/// The nearest face of each visit of strangers, by camera.
pub(super) fn visits<'a>(
    strangers: impl Iterator<Item = &'a StrangerFace>,
) -> HashMap<&'a str, Vec<&'a StrangerFace>> {
    let mut by_camera: HashMap<&str, Vec<&StrangerFace>> = HashMap::new();
    for seen in strangers {
        let visits = by_camera.entry(seen.camera.as_str()).or_default();
        match visits.last_mut().filter(|last| (seen.at_s - last.at_s).abs() < SAME_VISIT_WINDOW_S) {
            Some(last) if seen.distance < last.distance => *last = seen,
            Some(_) => {}
            None => visits.push(seen),
        }
    }
    by_camera
}
