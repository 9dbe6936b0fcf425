//! Wrong settings and unusual people: the target must be met, or no face may be accepted.

use std::collections::HashMap;
use std::sync::Arc;

use anyhow::Result;
use fastrand::Rng;
use gatehouse_gallery::calibration::Measured;
use gatehouse_gallery::{Encoding, StrangerFace};
use gatehouse_model::Metric;
use serde_json::json;

use super::draw::{Case, House, Outcome, door, key};
use super::rates::interval;
use super::sets::{EncodingSet, Parts, People, Split, metric_name};
use super::{DRAWS_PER_SPLIT, SPLITS};
use crate::bench::table::Table;

/// Samples of each enrolled person.
const SAMPLES: usize = 3;
/// Share of strangers that may be accepted.
const TARGET: f64 = 0.001;
/// Numbers of enrolled people.
const ENROLLED: [usize; 2] = [10, 60];
/// Number of visits of one stranger.
const VISITS: usize = 500;
/// Distance between two similar people.
const TWIN_DISTANCE: f32 = 0.3;
/// Number of strangers in a family.
const FAMILY: usize = 40;

/// The fault that is simulated.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Mishap {
    OtherName,
    OtherMetric,
    UnitNorm,
    EnrolledTwice,
    OneStrangerOften,
    Twins,
    StrangersOfOneFamily,
}

impl Mishap {
    const ALL: [Self; 7] = [
        Self::OtherName,
        Self::OtherMetric,
        Self::UnitNorm,
        Self::EnrolledTwice,
        Self::OneStrangerOften,
        Self::Twins,
        Self::StrangersOfOneFamily,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::OtherName => "model name wrong",
            Self::OtherMetric => "metric wrong",
            Self::UnitNorm => "encodings scaled to length 1",
            Self::EnrolledTwice => "one person enrolled under two names",
            Self::OneStrangerOften => "500 visits of one stranger before",
            Self::Twins => "two people 0.3 apart",
            Self::StrangersOfOneFamily => "strangers all of one family",
        }
    }
}

/// The empty table.
pub(super) fn table() -> Table {
    let mut table = Table::new(
        "Derived thresholds where something is wrong, target 0.001",
        &[
            "encodings",
            "what",
            "measured people",
            "enrolled",
            "draws",
            "over, %",
            "95 % interval",
            "shown over, %",
            "no threshold, %",
            "FPIR / target",
            "FNIR, %",
            "threshold",
        ],
    );
    table.notes.push(
        "the calibration is measured on people who are not drawn; a wrong model name has none".to_owned(),
    );
    table.notes.push("one family: the 40 people nearest to a random one; one accepted face of about 100 exceeds the target".to_owned());
    table
}

/// Measured and drawn people of one split, with calibrations by metric.
struct Division<'a> {
    people: &'a People,
    parts: Parts,
    measured: HashMap<&'static str, Arc<Measured>>,
}

/// Adds the rows of a set.
pub(super) fn run(set: &EncodingSet, people: &People, table: &mut Table) -> Result<()> {
    for enrolled in ENROLLED {
        let Some(split @ Split::OneOf(part)) = people.split_for(enrolled, SAMPLES) else { continue };
        let mut outcomes: Vec<Vec<Outcome>> = vec![Vec::new(); Mishap::ALL.len()];
        for seed in 0..SPLITS {
            let mut random = Rng::with_seed(seed);
            let parts = people.parts(split, &mut random);
            let mut division = Division { people, parts, measured: HashMap::new() };
            for (mishap, outcomes) in Mishap::ALL.into_iter().zip(&mut outcomes) {
                for _ in 0..DRAWS_PER_SPLIT {
                    outcomes.extend(division.draw(mishap, set, enrolled, &mut random)?);
                }
            }
        }
        for (mishap, outcomes) in Mishap::ALL.into_iter().zip(&outcomes).filter(|(_, list)| !list.is_empty())
        {
            let mean =
                |of: &dyn Fn(&Outcome) -> f64| outcomes.iter().map(of).sum::<f64>() / outcomes.len() as f64;
            let share =
                |is: &dyn Fn(&Outcome) -> bool| 100.0 * mean(&|outcome| f64::from(u8::from(is(outcome))));
            let over = outcomes.iter().filter(|outcome| outcome.faces > TARGET).count();
            table.rows.push(vec![
                json!(set.name()),
                json!(mishap.name()),
                json!(people.count() / part),
                json!(enrolled),
                json!(outcomes.len()),
                json!(share(&|outcome| outcome.faces > TARGET)),
                json!(interval(over, outcomes.len())),
                json!(share(&|outcome| outcome.is_shown_over)),
                json!(share(&|outcome| outcome.is_closed)),
                json!(mean(&|outcome| outcome.faces / TARGET)),
                json!(100.0 * mean(&|outcome| outcome.missed)),
                json!(format!("{:.3}", mean(&|outcome| f64::from(outcome.threshold)))),
            ]);
        }
    }
    Ok(())
}

impl Division<'_> {
    fn draw(
        &mut self,
        mishap: Mishap,
        set: &EncodingSet,
        enrolled: usize,
        random: &mut Rng,
    ) -> Result<Option<Outcome>> {
        let mut set = set.clone();
        let scaled;
        let mut people = self.people;
        match mishap {
            Mishap::OtherName => set.model = "another-model".to_owned(),
            Mishap::OtherMetric => {
                set.metric = if set.metric == Metric::Cosine { Metric::Euclidean } else { Metric::Cosine };
            }
            Mishap::UnitNorm => {
                let unit = |face: &Encoding| changed(face, |_, x| x / norm(face));
                let faces = (0..people.count()).map(|person| people.faces(person).iter().map(unit).collect());
                scaled = People::new(faces.collect(), people.dimensions());
                people = &scaled;
            }
            _ => {}
        }
        let case = Case { enrolled, samples: SAMPLES };
        let Some(mut house) = House::draw(&set, people, &self.parts.drawn, case, random)? else {
            return Ok(None);
        };
        // A model without a built-in calibration stays without one.
        let mut set_aside_below = 0.0;
        if house.gallery.thresholds().calibration().is_some() {
            let measured = self.measured(&set)?;
            set_aside_below = measured.set_aside_below;
            house.gallery.thresholds().calibrate(Some(Arc::new(measured.calibration.clone())))?;
        }
        house.gallery.thresholds().follow(Some(TARGET));
        match mishap {
            Mishap::EnrolledTwice => house.enroll_twice(random),
            Mishap::Twins => house.enroll_twin(people.dimensions()),
            Mishap::OneStrangerOften => return Ok(house.one_stranger_often(random).pop()),
            Mishap::StrangersOfOneFamily => house.keep_one_family(people, random),
            _ => {}
        }
        Ok(house.outcomes(&[TARGET], set_aside_below).pop())
    }

    /// The calibration of the measured people, in the metric of the settings.
    fn measured(&mut self, set: &EncodingSet) -> Result<Arc<Measured>> {
        let metric = metric_name(set.metric);
        if let Some(measured) = self.measured.get(metric) {
            return Ok(measured.clone());
        }
        let measured = Arc::new(self.people.calibrate(set, &self.parts.measured)?);
        self.measured.insert(metric, measured.clone());
        Ok(measured)
    }
}

impl House {
    /// Enrolls other faces of the first person under another name.
    fn enroll_twice(&mut self, random: &mut Rng) {
        if let Some(faces) = self.rest.first_mut() {
            random.shuffle(faces);
            let others = faces.split_off(faces.len() / 2);
            self.gallery.add(key(1_000_000), &others);
        }
    }

    /// Enrolls a second person, whose faces are at the distance of twins from those of the first.
    fn enroll_twin(&mut self, dimensions: usize) {
        let step = TWIN_DISTANCE / (dimensions as f32).sqrt();
        let faces = self.rest.first().into_iter().flatten().take(SAMPLES);
        let twins: Vec<Encoding> =
            faces.map(|face| changed(face, |at, x| if at % 2 == 0 { x + step } else { x - step })).collect();
        self.gallery.add(key(1_000_000), &twins);
    }

    /// Visits of one stranger, one per day, then all strangers.
    fn one_stranger_often(&self, random: &mut Rng) -> Vec<Outcome> {
        let probe = &self.strangers[random.usize(..self.strangers.len())];
        let answer = self.gallery.identify(&door(), &probe.face, None);
        let seen = |day: usize| StrangerFace {
            camera: door(),
            at_s: day as i64 * 86_400,
            people: u32::try_from(self.gallery.people()).unwrap_or(u32::MAX),
            distance: answer.distance.unwrap_or(1.0),
        };
        let visits: Vec<StrangerFace> = (0..VISITS).map(seen).collect();
        self.gallery.thresholds().derive(visits.iter());
        let derived = self.gallery.thresholds().derived(Some("door"));
        let threshold = self.threshold().map(|_| derived.threshold);
        self.outcomes_at(&[TARGET], &[threshold], 0.0)
    }

    /// Keeps only the strangers who are nearest to a random one of them.
    fn keep_one_family(&mut self, people: &People, random: &mut Rng) {
        let anchor = self.strangers[random.usize(..self.strangers.len())].person;
        let first = |person: usize| people.faces(person)[0].as_slice().to_vec();
        let of = first(anchor);
        let mut persons: Vec<usize> = self.strangers.iter().map(|probe| probe.person).collect();
        persons.dedup();
        let distance =
            |person: &usize| of.iter().zip(first(*person)).map(|(a, b)| (a - b).powi(2)).sum::<f32>();
        persons.sort_by(|a, b| distance(a).total_cmp(&distance(b)));
        persons.truncate(FAMILY);
        self.strangers.retain(|probe| persons.contains(&probe.person));
    }
}

fn norm(face: &Encoding) -> f32 {
    face.as_slice().iter().map(|x| x * x).sum::<f32>().sqrt()
}

fn changed(face: &Encoding, change: impl Fn(usize, f32) -> f32) -> Encoding {
    let numbers: Vec<f32> = face.as_slice().iter().enumerate().map(|(at, x)| change(at, *x)).collect();
    let count = numbers.len();
    Encoding::new(numbers, count).unwrap_or_else(|_| face.clone())
}
