//! Wrong settings and odd people: the target must hold, or the door must stay shut.

use anyhow::Result;
use fastrand::Rng;
use gatehouse_gallery::{Basis, Encoding, StrangerFace};
use gatehouse_model::Metric;
use serde_json::json;

use super::sets::{EncodingSet, People};
use super::{Case, DRAWS, House, Outcome, door, key};
use crate::bench::table::Table;

/// Samples of each enrolled person.
const SAMPLES: usize = 3;
/// Share of strangers that may be accepted.
const TARGET: f64 = 0.001;
/// People enrolled.
const ENROLLED: [usize; 2] = [10, 60];
/// Visits of one stranger.
const VISITS: usize = 500;
/// Distance between two people who look alike.
const TWIN_DISTANCE: f32 = 0.3;
/// People of a family of strangers.
const FAMILY: usize = 40;

/// What is wrong.
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
            "enrolled",
            "draws over, %",
            "door shut, %",
            "FPIR / target",
            "FNIR, %",
            "threshold",
        ],
    );
    table.notes.push("door shut: there is no threshold, and the report says why".to_owned());
    table
}

/// Adds the lines of a set.
pub(super) fn run(set: &EncodingSet, people: &People, table: &mut Table) -> Result<()> {
    for mishap in Mishap::ALL {
        for enrolled in ENROLLED {
            let mut random = Rng::with_seed(enrolled as u64);
            let mut outcomes: Vec<Outcome> = Vec::new();
            for _ in 0..DRAWS {
                outcomes.extend(draw(mishap, set, people, enrolled, &mut random)?);
            }
            if outcomes.is_empty() {
                continue;
            }
            let mean =
                |of: &dyn Fn(&Outcome) -> f64| outcomes.iter().map(of).sum::<f64>() / outcomes.len() as f64;
            table.rows.push(vec![
                json!(set.name()),
                json!(mishap.name()),
                json!(enrolled),
                json!(100.0 * mean(&|outcome| f64::from(u8::from(outcome.accepted > TARGET)))),
                json!(100.0 * mean(&|outcome| f64::from(u8::from(outcome.is_closed)))),
                json!(mean(&|outcome| outcome.accepted / TARGET)),
                json!(100.0 * mean(&|outcome| outcome.missed)),
                json!(format!("{:.3}", mean(&|outcome| outcome.threshold))),
            ]);
        }
    }
    Ok(())
}

fn draw(
    mishap: Mishap,
    set: &EncodingSet,
    people: &People,
    enrolled: usize,
    random: &mut Rng,
) -> Result<Option<Outcome>> {
    let mut set = set.clone();
    let all: Vec<usize> = (0..people.count()).collect();
    let scaled;
    let mut people = people;
    match mishap {
        Mishap::OtherName => set.model = "another-model".to_owned(),
        Mishap::OtherMetric => {
            set.metric = if set.metric == Metric::Cosine { Metric::Euclidean } else { Metric::Cosine };
        }
        Mishap::UnitNorm => {
            let unit = |face: &Encoding| changed(face, |_, x| x / norm(face));
            let faces = all.iter().map(|person| people.faces(*person).iter().map(unit).collect());
            scaled = People::new(faces.collect(), people.dimensions());
            people = &scaled;
        }
        _ => {}
    }
    let case = Case { enrolled, samples: SAMPLES };
    let Some(mut house) = House::draw(&set, people, &all, case, random)? else {
        return Ok(None);
    };
    house.gallery.thresholds().follow(Some(TARGET));
    match mishap {
        Mishap::EnrolledTwice => house.enroll_twice(random),
        Mishap::Twins => house.enroll_twin(people.dimensions()),
        Mishap::OneStrangerOften => return Ok(Some(house.one_stranger_often(random))),
        Mishap::StrangersOfOneFamily => house.keep_one_family(people, random),
        _ => {}
    }
    Ok(Some(house.outcome(TARGET)))
}

impl House {
    /// The first person's other faces, under another name.
    fn enroll_twice(&mut self, random: &mut Rng) {
        if let Some(faces) = self.rest.first_mut() {
            random.shuffle(faces);
            let others = faces.split_off(faces.len() / 2);
            self.gallery.add(key(1_000_000), &others);
        }
    }

    /// A second person whose faces are as far from those of the first as twins are.
    fn enroll_twin(&mut self, dimensions: usize) {
        let step = TWIN_DISTANCE / (dimensions as f32).sqrt();
        let faces = self.rest.first().into_iter().flatten().take(SAMPLES);
        let twins: Vec<Encoding> =
            faces.map(|face| changed(face, |at, x| if at % 2 == 0 { x + step } else { x - step })).collect();
        self.gallery.add(key(1_000_000), &twins);
    }

    /// Visits of one stranger on as many days, then all strangers.
    fn one_stranger_often(&self, random: &mut Rng) -> Outcome {
        let (_, face) = &self.strangers[random.usize(..self.strangers.len())];
        let answer = self.gallery.identify(&door(), face, None);
        let seen = |day: usize| StrangerFace {
            camera: door(),
            at_s: day as i64 * 86_400,
            people: u32::try_from(self.gallery.people()).unwrap_or(u32::MAX),
            distance: answer.distance.unwrap_or(1.0),
        };
        let visits: Vec<StrangerFace> = (0..VISITS).map(seen).collect();
        self.gallery.thresholds().derive(visits.iter());
        let is_shut = self.gallery.thresholds().derived(None).basis == Basis::Unknown;
        let camera = self.gallery.thresholds().derived(Some("door")).threshold;
        Outcome { is_closed: is_shut, threshold: f64::from(camera), ..self.outcome_as_is(TARGET) }
    }

    /// Keeps only the strangers who are nearest to one of them.
    fn keep_one_family(&mut self, people: &People, random: &mut Rng) {
        let (anchor, _) = self.strangers[random.usize(..self.strangers.len())];
        let first = |person: usize| people.faces(person)[0].as_slice().to_vec();
        let of = first(anchor);
        let mut persons: Vec<usize> = self.strangers.iter().map(|(person, _)| *person).collect();
        persons.dedup();
        let distance =
            |person: &usize| of.iter().zip(first(*person)).map(|(a, b)| (a - b).powi(2)).sum::<f32>();
        persons.sort_by(|a, b| distance(a).total_cmp(&distance(b)));
        persons.truncate(FAMILY);
        self.strangers.retain(|(person, _)| persons.contains(person));
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
