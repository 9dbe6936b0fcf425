//! What strangers at the door show: whether they come nearer than those of the calibration.

use std::collections::HashMap;

use gatehouse_model::CameraName;

use crate::Gallery;
use crate::calibration::{Calibration, Enrolled};

/// Visits of strangers from which on they can lower the threshold of all cameras.
pub(super) const VISITS_MIN: f64 = 30.0;
/// Visits of strangers from which on a camera has a threshold of its own.
pub const CAMERA_VISITS_MIN: f64 = 100.0;
/// Visits that are compared; of more, every second or third.
const VISITS_MAX: usize = 4096;
/// Faces of strangers at one camera within this time belong to one visit, in seconds.
const SAME_VISIT_WINDOW_S: i64 = 600;
/// How far strangers at the door can lower a threshold, as a factor: one visitor who comes again and again must not close
/// the door to all people.
const STRANGERS_FACTOR_MIN: f64 = 0.8;
/// Share of strangers that must lie beyond the clear distance for those to say anything.
const CLEAR_SHARE_MIN: f64 = 0.05;
/// A stranger's face at the door, as numbers.
#[derive(Debug, Clone)]
pub struct StrangerFace {
    /// The camera.
    pub camera: CameraName,
    /// When the event came, in seconds since 1970.
    pub at_s: i64,
    /// People enrolled then.
    pub people: u32,
    /// Distance of the nearest person.
    pub distance: f32,
}

/// What strangers at the door show: a factor on distances, and how many visits it rests on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Strangers {
    pub(super) factor: f64,
    pub(super) visits: f64,
}

impl Gallery {
    /// By how much strangers at the door come nearer than those of the calibration; none where too few came.
    pub(super) fn strangers(
        &self,
        of: &Calibration,
        enrolled: Enrolled,
        visits: &[&StrangerFace],
        least: f64,
    ) -> Option<Strangers> {
        let clear = of.clear(enrolled)?;
        let nearest = Nearest { calibration: of, samples: enrolled.samples };
        let is_telling = |seen: &&&StrangerFace| {
            self.metric.euclidean(seen.distance) > clear
                && 1.0 - nearest.share(seen.people, clear) >= CLEAR_SHARE_MIN
        };
        let every = visits.len().div_ceil(VISITS_MAX).max(1);
        let telling: Vec<&StrangerFace> = visits.iter().step_by(every).filter(is_telling).copied().collect();
        let visits = telling.len() as f64;
        if visits < least {
            return None;
        }
        let is_below = |factor: f64| {
            let conditional = |seen: &&StrangerFace| {
                let beyond = nearest.share(seen.people, clear / factor);
                let within = nearest.share(seen.people, self.metric.euclidean(seen.distance) / factor);
                (within - beyond) / (1.0 - beyond).max(f64::MIN_POSITIVE)
            };
            let nearer = telling.iter().filter(|seen| conditional(seen) < 0.5).count();
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

/// Faces of strangers by camera, one of each visit: the nearest.
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
