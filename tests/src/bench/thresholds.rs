//! Whether a derived threshold keeps its word: strangers accepted and enrolled people missed, on real encodings.
//!
//! For each draw people are enrolled at random and every face of all others comes as a stranger's. A calibration is
//! measured on two thirds of the people and used on the others, so that no person is on both sides; where a set has too
//! few people for that, the calibration that comes with the program is used and the table says so.

mod enrollment;
mod mishaps;
mod sets;

use std::sync::Arc;

use anyhow::{Result, ensure};
use fastrand::Rng;
use gatehouse_gallery::calibration::CALIBRATION_PEOPLE_MIN;
use gatehouse_gallery::{Basis, Encoding, Gallery, GallerySettings};
use gatehouse_model::{CameraName, KeyId};
use serde_json::{Value, json};

use super::table::Table;
pub use sets::EncodingSet;
use sets::People;

/// Draws of each case.
const DRAWS: usize = 20;
/// Splits of a set into two halves.
const SPLITS: u64 = 4;
/// People enrolled.
const ENROLLED: [usize; 5] = [3, 5, 10, 50, 150];
/// Samples of each.
const SAMPLES: [usize; 3] = [1, 3, 5];
/// Shares of strangers that may be accepted.
const TARGETS: [f64; 3] = [0.0001, 0.001, 0.01];
/// Faces of one enrolled person that come as probes.
const PROBES_MAX: usize = 20;
/// Far beyond any distance.
const NO_LIMIT: f32 = 1e9;

/// What a draw gave at one target.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Outcome {
    /// Share of strangers' faces within the threshold.
    pub(crate) accepted: f64,
    /// Share of strangers, by person, who are accepted so often that chance does not explain it.
    pub(crate) is_over: bool,
    /// Whether there was no threshold.
    pub(crate) is_closed: bool,
    /// Share of enrolled people's faces that are missed, each person weighing the same.
    pub(crate) missed: f64,
    /// The same at the best fixed threshold of this draw.
    pub(crate) missed_at_best: f64,
    pub(crate) threshold: f64,
    pub(crate) best: f64,
}

/// A gallery with the people in it.
pub(crate) struct House {
    pub(crate) gallery: Gallery,
    settings: GallerySettings,
    /// Faces of each enrolled person that are not enrolled.
    rest: Vec<Vec<Encoding>>,
    /// Faces of strangers with the number of their person.
    pub(crate) strangers: Vec<(usize, Encoding)>,
}

/// The table over all sets, and the one of what may go wrong.
///
/// # Errors
/// Where a file cannot be read or holds too few people.
pub fn run(sets: &[EncodingSet]) -> Result<Vec<Table>> {
    ensure!(!sets.is_empty(), "name encodings with names: --encodings MODEL,METRIC,FILE.csv");
    let mut table = Table::new(
        "Derived thresholds on real encodings: strangers accepted (FPIR) and enrolled people missed (FNIR)",
        &[
            "encodings",
            "statistics of",
            "enrolled",
            "samples",
            "target",
            "draws over, %",
            "over by chance, %",
            "FPIR / target",
            "FNIR, %",
            "FNIR at best fixed, %",
            "threshold",
            "best fixed",
        ],
    );
    table.notes.push("over: draws in which the share of strangers' faces within the threshold exceeds the target. Over by chance: draws in which it does so by more than one accepted stranger's face explains".into());
    table.notes.push("the best fixed threshold is known only after all strangers came; statistics of other people: measured on the two thirds of the people from whom nothing is drawn".into());
    let mut mishaps = mishaps::table();
    let mut enrollment = enrollment::table();
    for set in sets {
        let people = set.read()?;
        normal(set, &people, &mut table)?;
        mishaps::run(set, &people, &mut mishaps)?;
        enrollment::run(set, &people, &mut enrollment);
    }
    Ok(vec![table, mishaps, enrollment])
}

/// What one line is about.
#[derive(Debug, Clone, Copy)]
struct Case {
    enrolled: usize,
    samples: usize,
}

fn normal(set: &EncodingSet, people: &People, table: &mut Table) -> Result<()> {
    let cases: Vec<Case> =
        ENROLLED.into_iter().flat_map(|enrolled| SAMPLES.map(|samples| Case { enrolled, samples })).collect();
    let mut outcomes: Vec<Vec<Vec<Outcome>>> = vec![vec![Vec::new(); TARGETS.len()]; cases.len()];
    let mut statistics = "other people";
    for split in 0..SPLITS {
        let mut random = Rng::with_seed(split);
        let (one, other) = people.parts(&mut random);
        let is_split = one.len() >= CALIBRATION_PEOPLE_MIN;
        let calibration = if is_split { Some(Arc::new(people.calibrate(set, &one)?)) } else { None };
        let drawn_from = if is_split { other } else { [one, other].concat() };
        statistics = if is_split { "other people" } else { "program" };
        for (case, outcomes) in cases.iter().zip(&mut outcomes) {
            for _ in 0..DRAWS.div_ceil(SPLITS as usize) {
                let Some(house) = House::draw(set, people, &drawn_from, *case, &mut random)? else { break };
                house.gallery.thresholds().calibrate(calibration.clone())?;
                for (list, target) in outcomes.iter_mut().zip(TARGETS) {
                    list.push(house.outcome(target));
                }
            }
        }
    }
    for (case, outcomes) in cases.iter().zip(&outcomes) {
        for (list, target) in outcomes.iter().zip(TARGETS).filter(|(list, _)| !list.is_empty()) {
            table.rows.push(row(set, statistics, *case, target, list));
        }
    }
    Ok(())
}

fn row(set: &EncodingSet, statistics: &str, case: Case, target: f64, outcomes: &[Outcome]) -> Vec<Value> {
    let mean = |of: &dyn Fn(&Outcome) -> f64| outcomes.iter().map(of).sum::<f64>() / outcomes.len() as f64;
    vec![
        json!(set.name()),
        json!(statistics),
        json!(case.enrolled),
        json!(case.samples),
        json!(format!("{target}")),
        json!(100.0 * mean(&|outcome| f64::from(u8::from(outcome.accepted > target)))),
        json!(100.0 * mean(&|outcome| f64::from(u8::from(outcome.is_over)))),
        json!(mean(&|outcome| outcome.accepted / target)),
        json!(100.0 * mean(&|outcome| outcome.missed)),
        json!(100.0 * mean(&|outcome| outcome.missed_at_best)),
        json!(format!("{:.3}", mean(&|outcome| outcome.threshold))),
        json!(format!("{:.3}", mean(&|outcome| outcome.best))),
    ]
}

impl House {
    /// Enrolls people at random from a list; all others of the list are strangers. None where they are too few.
    fn draw(
        set: &EncodingSet,
        people: &People,
        from: &[usize],
        case: Case,
        random: &mut Rng,
    ) -> Result<Option<Self>> {
        let Case { enrolled, samples } = case;
        let mut fit: Vec<usize> =
            from.iter().copied().filter(|person| people.faces(*person).len() > samples).collect();
        if fit.len() < enrolled || from.len() < enrolled + enrolled / 2 {
            return Ok(None);
        }
        random.shuffle(&mut fit);
        fit.truncate(enrolled);
        Self::of(set, people, &fit, from, samples, random).map(Some)
    }

    /// Enrolls these people; all others of `from` are strangers.
    pub(crate) fn of(
        set: &EncodingSet,
        people: &People,
        enrolled: &[usize],
        from: &[usize],
        samples: usize,
        random: &mut Rng,
    ) -> Result<Self> {
        let settings = set.settings(people.dimensions());
        let gallery = Gallery::new(settings.clone());
        let mut rest = Vec::new();
        for (number, person) in enrolled.iter().enumerate() {
            let mut faces = people.faces(*person).to_vec();
            random.shuffle(&mut faces);
            let mut others = faces.split_off(samples.min(faces.len()));
            others.truncate(PROBES_MAX);
            gallery.add(key(number), &faces);
            rest.push(others);
        }
        let is_stranger = |person: &&usize| !enrolled.contains(person);
        let faces = |person: &usize| {
            people.faces(*person).iter().map(|face| (*person, face.clone())).collect::<Vec<_>>()
        };
        let strangers = from.iter().filter(is_stranger).flat_map(faces).collect();
        Ok(Self { gallery, settings, rest, strangers })
    }

    /// The gallery derives its threshold for a target, and all strangers and enrolled people come.
    pub(crate) fn outcome(&self, target: f64) -> Outcome {
        self.gallery.thresholds().follow(Some(target));
        self.gallery.thresholds().derive([].iter());
        self.outcome_as_is(target)
    }

    /// The same at the threshold that is in force.
    pub(crate) fn outcome_as_is(&self, target: f64) -> Outcome {
        let derived = self.gallery.thresholds().derived(None);
        let threshold = self.gallery.threshold();
        let distance =
            |face: &Encoding| self.gallery.identify(&door(), face, None).distance.unwrap_or(f32::INFINITY);
        let mut distances: Vec<f32> = self.strangers.iter().map(|(_, face)| distance(face)).collect();
        let is_closed = derived.basis == Basis::Unknown;
        let within =
            if is_closed { 0 } else { distances.iter().filter(|distance| **distance <= threshold).count() };
        distances.sort_by(f32::total_cmp);
        let count = distances.len().max(1) as f64;
        let accepted = within as f64 / count;
        let best = distances.get((target * count) as usize).copied().unwrap_or(NO_LIMIT).next_down();
        let missed = self.missed();
        self.gallery.thresholds().follow(None);
        self.gallery.apply(GallerySettings { threshold: best, ..self.settings.clone() });
        let missed_at_best = self.missed();
        Outcome {
            accepted,
            // Two accepted faces where less than one was to be expected may be a wrong label.
            is_over: within as f64 > (target * count).max(1.0),
            is_closed,
            missed,
            missed_at_best,
            threshold: f64::from(threshold),
            best: f64::from(best),
        }
    }

    /// Share of the enrolled people's other faces that are not recognized as theirs.
    fn missed(&self) -> f64 {
        let mut sum = 0.0;
        let mut people = 0.0_f64;
        for (number, faces) in self.rest.iter().enumerate().filter(|(_, faces)| !faces.is_empty()) {
            let is_missed =
                |face: &&Encoding| self.gallery.identify(&door(), face, None).person != Some(key(number));
            sum += faces.iter().filter(is_missed).count() as f64 / faces.len() as f64;
            people += 1.0;
        }
        sum / people.max(1.0)
    }
}

pub(crate) fn door() -> CameraName {
    // A constant that is a name.
    CameraName::try_from("door").unwrap_or_else(|_| unreachable!())
}

pub(crate) fn key(number: usize) -> KeyId {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&(number as u64).to_le_bytes());
    KeyId::from_bytes(bytes)
}
