//! Whether a sample that is refused at enrollment is a wrong one.

use fastrand::Rng;
use gatehouse_gallery::{Encoding, Gallery, Verdict};
use serde_json::json;

use super::sets::{EncodingSet, People};
use super::{DRAWS, key};
use crate::bench::table::Table;

/// Samples of each person.
const SAMPLES: usize = 3;
/// People enrolled at most.
const PEOPLE: usize = 150;
/// Share of pictures that are taken to be wrong: one in a hundred.
const WRONG_SHARE: f64 = 0.01;

/// The empty table.
pub(super) fn table() -> Table {
    let mut table = Table::new(
        "The look at samples before they are enrolled, three of each person",
        &[
            "encodings",
            "people",
            "right people refused, %",
            "right samples refused, %",
            "right samples doubted, %",
            "wrong samples refused, %",
            "refusals that are right, %",
        ],
    );
    table.notes.push("wrong samples: one of another enrolled person among the three. Refusals that are right: where one picture in a hundred is wrong".to_owned());
    table
}

/// Adds the line of a set.
pub(super) fn run(set: &EncodingSet, people: &People, table: &mut Table) {
    let fit: Vec<usize> =
        (0..people.count()).filter(|person| people.faces(*person).len() > SAMPLES).collect();
    let enrolled = fit.len().min(PEOPLE);
    if enrolled < 3 {
        return;
    }
    let mut random = Rng::with_seed(1);
    let (mut persons, mut persons_refused, mut refused, mut doubted, mut caught) =
        (0.0_f64, 0.0, 0.0, 0.0, 0.0);
    for _ in 0..DRAWS {
        let gallery = Gallery::new(set.settings(people.dimensions()));
        let mut fit = fit.clone();
        random.shuffle(&mut fit);
        let mut before: Option<Encoding> = None;
        for (number, person) in fit.iter().take(enrolled).enumerate() {
            let mut faces = people.faces(*person).to_vec();
            random.shuffle(&mut faces);
            faces.truncate(SAMPLES + 1);
            let spare = faces.split_off(SAMPLES);
            let verdicts: Vec<Verdict> =
                gallery.review(None, &faces).iter().map(|review| review.verdict).collect();
            let count =
                |wanted: Verdict| verdicts.iter().filter(|verdict| **verdict == wanted).count() as f64;
            persons += 1.0;
            refused += count(Verdict::Foreign);
            doubted += count(Verdict::Doubtful);
            persons_refused += f64::from(u8::from(count(Verdict::Foreign) > 0.0));
            if let Some(wrong) = before.take() {
                let mixed = [faces[0].clone(), faces[1].clone(), wrong];
                let verdict = gallery.review(None, &mixed)[SAMPLES - 1].verdict;
                caught += f64::from(u8::from(verdict == Verdict::Foreign));
            }
            before = spare.into_iter().next();
            gallery.add(key(number), &faces);
        }
    }
    let samples = persons * SAMPLES as f64;
    let caught = caught / (persons - DRAWS as f64);
    let right = WRONG_SHARE * caught;
    let wrong = (1.0 - WRONG_SHARE) * refused / samples;
    table.rows.push(vec![
        json!(set.name()),
        json!(enrolled),
        json!(100.0 * persons_refused / persons),
        json!(100.0 * refused / samples),
        json!(100.0 * doubted / samples),
        json!(100.0 * caught),
        json!(100.0 * right / (right + wrong).max(f64::MIN_POSITIVE)),
    ]);
}
