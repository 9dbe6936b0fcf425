//! The gallery compared with a full scan, under random changes, with realistic encodings.

mod adaptive_threshold;
mod people;
mod rekey;
mod sketches;
mod stress;
pub(super) mod synthetic;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::*;
use synthetic::People;

const DIMENSIONS: usize = 128;
const T: f32 = 0.45;

fn settings(metric: Metric, exact_limit: usize) -> GallerySettings {
    GallerySettings {
        model: "dlib-128".to_owned(),
        dimensions: DIMENSIONS,
        metric,
        normalised: false,
        threshold: if metric == Metric::Cosine { 0.05 } else { T },
        camera_thresholds: HashMap::from([("back".to_owned(), 0.1)]),
        minimum_quality: 0.2,
        exact_limit,
    }
}

fn door() -> CameraName {
    "door".try_into().unwrap()
}

fn key(number: usize) -> KeyId {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&(number as u64).to_le_bytes());
    KeyId::from_bytes(bytes)
}

/// Waits until the index thread is idle.
fn settle(gallery: &Gallery) {
    let start = Instant::now();
    while !gallery.is_indexed() {
        assert!(start.elapsed() < Duration::from_secs(60), "the index thread does not become idle");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The oracle: all templates of all people, compared one by one.
#[derive(Default)]
struct Model(Vec<(KeyId, Vec<Encoding>)>);

impl Model {
    fn identify(&self, gallery: &Gallery, probe: &Encoding) -> Face<KeyId> {
        let settings = gallery.read().settings.clone();
        let prepare = |encoding| gallery.prepare(&gallery.read().transform, encoding).unwrap();
        let probe = prepare(probe);
        let mut people: Vec<(f32, KeyId)> = Vec::new();
        for (person, samples) in &self.0 {
            let samples: Vec<Probe> = samples.iter().map(prepare).collect();
            let mut mean = vec![0.0_f32; settings.dimensions];
            samples.iter().for_each(|s| mean.iter_mut().zip(s.fine.iter()).for_each(|(sum, x)| *sum += x));
            mean.iter_mut().for_each(|sum| *sum /= samples.len() as f32);
            let mean =
                (samples.len() > 1).then(|| Probe::new(&mean, settings.metric == Metric::Cosine).rounded());
            let squares = samples.iter().chain(&mean).map(|s| square_distance(&probe.fine, &s.fine));
            if let Some(nearest) = squares.min_by(f32::total_cmp) {
                people.push((settings.metric.distance(nearest), *person));
            }
        }
        people.sort_by(|a, b| a.0.total_cmp(&b.0));
        let best = people.first().map(|p| p.0);
        let second = people.get(1).map(|p| p.0);
        let outcome = decide::decide(settings.threshold, best, second);
        Face {
            outcome,
            person: people.first().map(|p| p.1).filter(|_| outcome == Outcome::Match),
            distance: best,
            threshold: settings.threshold,
            margin: best.zip(second).map(|(best, second)| second - best),
            quality: None,
        }
    }
}

/// Random enrollments, additional samples, erasures and probes. Returns the share of probes with equal
/// results.
fn agreement(gallery: &Gallery, seed: u64, rounds: usize, is_settled: bool) -> f64 {
    let mut people = People::new(DIMENSIONS, seed);
    let mut model = Model::default();
    let (mut same, mut asked) = (0_u32, 0_u32);
    for round in 0..rounds {
        for number in 0..20 {
            let person = people.person();
            let samples: Vec<Encoding> = (0..1 + number % 5).map(|_| people.sample(&person)).collect();
            gallery.add(key(round * 100 + number), &samples);
            model.0.push((key(round * 100 + number), samples));
        }
        for _ in 0..people.random.usize(..8) {
            let (person, samples) = model.0.swap_remove(people.random.usize(..model.0.len()));
            assert_eq!(gallery.remove(&person), samples.len());
            assert_eq!(gallery.remove(&person), 0);
        }
        if is_settled {
            settle(gallery);
        }
        for number in 0..20 {
            let probe = match number % 4 {
                0 => people.stranger(),
                1 => model.0[people.random.usize(..model.0.len())].1[0].clone(),
                _ => {
                    let enrolled = &model.0[people.random.usize(..model.0.len())].1[0];
                    people.near(enrolled)
                }
            };
            asked += 1;
            same += u32::from(gallery.identify(&door(), &probe, None) == model.identify(gallery, &probe));
        }
        assert_eq!(gallery.people(), model.0.len());
        assert_eq!(gallery.templates(), model.0.iter().map(|(_, samples)| samples.len()).sum::<usize>());
    }
    f64::from(same) / f64::from(asked)
}

#[test]
fn exact_engine_answers_to_the_bit_as_a_scan_over_everything() {
    for (metric, seed) in [(Metric::Euclidean, 1), (Metric::Cosine, 2)] {
        let gallery = Gallery::new(settings(metric, usize::MAX));
        assert!(agreement(&gallery, seed, 30, true) == 1.0, "{metric:?}");
        assert_eq!(gallery.engine(), EngineName::Exact);
    }
}

#[test]
fn exact_engine_is_exact_for_data_that_quantises_badly() {
    let mut random = fastrand::Rng::with_seed(3);
    let gallery = Gallery::new(settings(Metric::Euclidean, usize::MAX));
    let mut model = Model::default();
    let wild = |random: &mut fastrand::Rng| {
        // With one huge component, eight bits cannot represent the others; the scales of these differ widely.
        let scale = 10.0_f32.powi(random.i32(-3..3));
        let mut vector: Vec<f32> = (0..DIMENSIONS).map(|_| (random.f32() - 0.5) * scale).collect();
        vector[random.usize(..DIMENSIONS)] = 200.0;
        Encoding::new(vector, DIMENSIONS).unwrap()
    };
    for number in 0..400 {
        let samples = [wild(&mut random), wild(&mut random)];
        gallery.add(key(number), &samples);
        model.0.push((key(number), samples.to_vec()));
    }
    for _ in 0..200 {
        let probe = wild(&mut random);
        assert_eq!(gallery.identify(&door(), &probe, None), model.identify(&gallery, &probe));
    }
}

#[test]
fn graph_decides_as_a_full_scan_during_enrollments_and_erasures() {
    let gallery = Gallery::new(settings(Metric::Euclidean, 50));
    let settled = agreement(&gallery, 4, 25, true);
    assert_eq!(gallery.engine(), EngineName::Hnsw);
    assert!(settled >= 0.999, "settled: {settled}");
    // Also while the graph is built and extended.
    let gallery = Gallery::new(settings(Metric::Cosine, 50));
    let unsettled = agreement(&gallery, 5, 25, false);
    assert!(unsettled >= 0.999, "unsettled: {unsettled}");
}

#[test]
fn one_face_under_many_names_is_ambiguous_and_hides_no_other() {
    let mut people = People::new(DIMENSIONS, 6);
    for limit in [usize::MAX, 10] {
        let gallery = Gallery::new(settings(Metric::Euclidean, limit));
        let (shared, other) = (people.stranger(), people.stranger());
        (0..300).for_each(|number| {
            gallery.add(key(number), std::slice::from_ref(&shared));
        });
        gallery.add(key(1000), std::slice::from_ref(&other));
        settle(&gallery);
        let face = gallery.identify(&door(), &shared, None);
        assert_eq!((face.outcome, face.person, face.margin), (Outcome::Ambiguous, None, Some(0.0)));
        let face = gallery.identify(&door(), &other, None);
        assert_eq!((face.outcome, face.person), (Outcome::Match, Some(key(1000))));
        // The first slot identifies the point of the graph; the other slots remain after its removal.
        (0..299).for_each(|number| {
            gallery.remove(&key(number));
        });
        let face = gallery.identify(&door(), &shared, None);
        assert_eq!((face.outcome, face.person), (Outcome::Match, Some(key(299))));
    }
}

#[test]
fn gallery_that_shrinks_uses_the_exact_engine_again() {
    let mut people = People::new(DIMENSIONS, 7);
    let gallery = Gallery::new(settings(Metric::Euclidean, 100));
    let add = |people: &mut People, from: usize, to: usize| {
        (from..to).for_each(|number| {
            gallery.add(key(number), &[people.stranger()]);
        });
        settle(&gallery);
    };
    add(&mut people, 0, 100);
    assert_eq!(gallery.engine(), EngineName::Exact);
    add(&mut people, 100, 150);
    assert_eq!(gallery.engine(), EngineName::Hnsw);
    (0..100).for_each(|number| {
        gallery.remove(&key(number));
    });
    assert_eq!(gallery.engine(), EngineName::Exact);
    gallery.apply(settings(Metric::Euclidean, 10));
    settle(&gallery);
    assert_eq!(gallery.engine(), EngineName::Hnsw, "a lower limit counts at once");
}

#[test]
fn face_is_judged_by_camera_threshold_and_quality() {
    let mut people = People::new(DIMENSIONS, 8);
    let gallery = Gallery::new(settings(Metric::Euclidean, usize::MAX));
    let probe = people.stranger();
    let empty = gallery.identify(&door(), &probe, None);
    assert_eq!((empty.outcome, empty.distance, empty.margin), (Outcome::Stranger, None, None));

    let mut near = probe.as_slice().to_vec();
    near[0] += 0.2;
    gallery.add(key(1), &[Encoding::new(near, DIMENSIONS).unwrap()]);
    let face = gallery.identify(&door(), &probe, Some(0.9));
    assert_eq!((face.outcome, face.threshold, face.quality), (Outcome::Match, T, Some(0.9)));
    assert!((face.distance.unwrap() - 0.2).abs() < 1e-5);
    let face = gallery.identify(&"back".try_into().unwrap(), &probe, None);
    assert_eq!((face.outcome, face.person, face.threshold), (Outcome::Stranger, None, 0.1));
    for poor in [0.1, f32::NAN] {
        let face = gallery.identify(&door(), &probe, Some(poor));
        assert_eq!((face.outcome, face.person, face.distance), (Outcome::Unusable, None, None));
    }
}

#[test]
fn encoding_of_another_model_is_neither_added_nor_judged() {
    let gallery = Gallery::new(settings(Metric::Euclidean, usize::MAX));
    let foreign = Encoding::new(vec![0.1; 64], 64).unwrap();
    assert_eq!(gallery.add(key(1), std::slice::from_ref(&foreign)), 0);
    assert_eq!((gallery.people(), gallery.templates()), (0, 0));
    assert_eq!(gallery.identify(&door(), &foreign, None).outcome, Outcome::Unusable);
}
