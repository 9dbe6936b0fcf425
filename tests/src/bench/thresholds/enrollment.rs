//! Whether samples that are refused at enrollment are of the wrong person.

use std::sync::Arc;

use anyhow::Result;
use fastrand::Rng;
use gatehouse_gallery::calibration::Measured;
use gatehouse_gallery::{Encoding, Gallery, Review, Verdict};
use serde_json::json;

use super::draw::key;
use super::sets::{EncodingSet, People, Split};
use crate::bench::table::Table;

/// Number of draws, each with different measured people.
const DRAWS: usize = 10;
/// Samples of each person.
const SAMPLES: usize = 3;
/// Maximum number of enrolled people.
const PEOPLE: usize = 150;
/// Minimum number of people with enough samples who remain for enrollment.
const MEASURED_PEOPLE_MIN: usize = 3;
/// Assumed share of wrong pictures: one in a hundred.
const WRONG_SHARE: f64 = 0.01;

/// The empty table.
pub(super) fn table() -> Table {
    let mut table = Table::new(
        "Review of samples before enrollment, three of each person",
        &[
            "encodings",
            "half",
            "measured people",
            "people",
            "right people refused, %",
            "right samples refused, %",
            "right samples doubted, %",
            "wrong samples refused, %",
            "refusals that are right, %",
            "without label errors, %",
        ],
    );
    table.notes.push("wrong samples: one of another enrolled person among the three. Refusals that are right: if one picture in a hundred is wrong. Right samples have the labels of the file, some of which are wrong".to_owned());
    table.notes.push("without label errors: refused right samples that are nearer to another person than the calibration's label error limit are excluded. The file has this person under two names".to_owned());
    table
}

/// Adds the row of a set, or of one half of it.
pub(super) fn run(set: &EncodingSet, half: &str, people: &People, table: &mut Table) -> Result<()> {
    let split = people.split_for(MEASURED_PEOPLE_MIN, SAMPLES).unwrap_or(Split::Program);
    let mut random = Rng::with_seed(1);
    let mut counts = Counts::default();
    let (mut enrolled, mut measured_people) = (0, 0);
    for _ in 0..DRAWS {
        let parts = people.parts(split, &mut random);
        let gallery = Gallery::new(set.settings(people.dimensions()));
        if !parts.measured.is_empty() {
            let Measured { calibration, set_aside_below, .. } = people.calibrate(set, &parts.measured)?;
            counts.set_aside_below = set_aside_below;
            gallery.thresholds().calibrate(Some(Arc::new(calibration)))?;
        }
        let mut fit: Vec<usize> =
            parts.drawn.into_iter().filter(|person| people.faces(*person).len() > SAMPLES).collect();
        random.shuffle(&mut fit);
        fit.truncate(PEOPLE);
        (enrolled, measured_people) = (fit.len(), parts.measured.len());
        counts.enroll(&gallery, people, &fit, &mut random);
    }
    let Counts { persons, persons_refused, refused, label_errors, doubted, mixed, caught, .. } = counts;
    let samples = persons * SAMPLES as f64;
    let caught = caught / mixed.max(1.0);
    let right_share = |refused: f64| {
        let right = WRONG_SHARE * caught;
        let wrong = (1.0 - WRONG_SHARE) * refused / samples;
        right / (right + wrong).max(f64::MIN_POSITIVE)
    };
    table.rows.push(vec![
        json!(set.name()),
        json!(half),
        if measured_people == 0 { json!("program's") } else { json!(measured_people) },
        json!(enrolled),
        json!(100.0 * persons_refused / persons),
        json!(100.0 * refused / samples),
        json!(100.0 * doubted / samples),
        json!(100.0 * caught),
        json!(100.0 * right_share(refused)),
        json!(100.0 * right_share(refused - label_errors)),
    ]);
    Ok(())
}

/// Results of the reviews, over all draws.
#[derive(Default)]
struct Counts {
    persons: f64,
    persons_refused: f64,
    refused: f64,
    /// Refused samples that the file probably has under two names.
    label_errors: f64,
    doubted: f64,
    /// Number of people with one wrong sample.
    mixed: f64,
    caught: f64,
    /// The distance below which two people are treated as one.
    set_aside_below: f64,
}

impl Counts {
    /// Enrolls people one by one, after a review of their samples.
    fn enroll(&mut self, gallery: &Gallery, people: &People, fit: &[usize], random: &mut Rng) {
        let mut before: Option<Encoding> = None;
        for (number, person) in fit.iter().enumerate() {
            let mut faces = people.faces(*person).to_vec();
            random.shuffle(&mut faces);
            faces.truncate(SAMPLES + 1);
            let spare = faces.split_off(SAMPLES);
            let reviews = gallery.review(None, &faces);
            let count =
                |wanted: Verdict| reviews.iter().filter(|review| review.verdict == wanted).count() as f64;
            let is_label_error = |review: &&Review| {
                let distance = review.other.map_or(f64::INFINITY, |(_, distance)| f64::from(distance));
                review.verdict == Verdict::Foreign && distance < self.set_aside_below
            };
            self.label_errors += reviews.iter().filter(is_label_error).count() as f64;
            self.persons += 1.0;
            self.refused += count(Verdict::Foreign);
            self.doubted += count(Verdict::Doubtful);
            self.persons_refused += f64::from(u8::from(count(Verdict::Foreign) > 0.0));
            if let Some(wrong) = before.take() {
                let mixed = [faces[0].clone(), faces[1].clone(), wrong];
                let verdict = gallery.review(None, &mixed)[SAMPLES - 1].verdict;
                self.mixed += 1.0;
                self.caught += f64::from(u8::from(verdict == Verdict::Foreign));
            }
            before = spare.into_iter().next();
            gallery.add(key(number), &faces);
        }
    }
}
