//! The exact engine with sketches: its results must equal those of a full scan.

use super::synthetic::People;
use super::*;

/// Enough templates for a lens, and for a second one after growth.
const MANY: usize = 16_000;

/// Probes of all kinds against the oracle.
fn compare(gallery: &Gallery, model: &Model, people: &mut People) {
    for number in 0..12 {
        let enrolled = &model.0[people.random.usize(..model.0.len())].1[0];
        let probe = match number % 3 {
            0 => enrolled.clone(),
            1 => people.near(enrolled),
            _ => people.stranger(),
        };
        assert_eq!(gallery.identify(&door(), &probe, None), model.identify(gallery, &probe));
    }
}

#[test]
fn answers_stay_exact_while_sketches_are_made_and_people_go() {
    let mut people = People::new(DIMENSIONS, 31);
    let gallery = Gallery::new(settings(Metric::Euclidean, usize::MAX));
    let mut model = Model::default();
    for number in 0..MANY / 4 {
        let person = people.person();
        let samples: Vec<Encoding> = (0..4).map(|_| people.sample(&person)).collect();
        gallery.add(key(number), &samples);
        model.0.push((key(number), samples));
        if number % 250 == 249 {
            compare(&gallery, &model, &mut people);
        }
    }
    settle(&gallery);
    assert_eq!(gallery.read().table.lenses().len(), 1, "all templates have one and the same lens");
    compare(&gallery, &model, &mut people);
    for _ in 0..200 {
        let (person, samples) = model.0.swap_remove(people.random.usize(..model.0.len()));
        assert_eq!(gallery.remove(&person), samples.len());
    }
    compare(&gallery, &model, &mut people);
}

#[test]
fn data_without_wide_directions_is_still_answered_exactly() {
    let mut random = fastrand::Rng::with_seed(32);
    let mut noise = || {
        let vector = (0..DIMENSIONS).map(|_| random.f32() - 0.5).collect();
        Encoding::new(vector, DIMENSIONS).unwrap()
    };
    let gallery = Gallery::new(settings(Metric::Cosine, usize::MAX));
    let mut model = Model::default();
    for number in 0..4_200 {
        let sample = noise();
        gallery.add(key(number), std::slice::from_ref(&sample));
        model.0.push((key(number), vec![sample]));
    }
    settle(&gallery);
    assert_eq!(gallery.read().table.lenses().len(), 1, "it has a lens all the same");
    for _ in 0..10 {
        let probe = noise();
        assert_eq!(gallery.identify(&door(), &probe, None), model.identify(&gallery, &probe));
    }
}
