//! Derived thresholds: the share of accepted strangers, and the cases without a threshold.

use super::synthetic::People;
use super::*;
use crate::calibration::{Contradiction, smallest_target};
use crate::{Basis, NoThreshold, StrangerFace};

/// The share of strangers that may be accepted.
const TARGET: f64 = 0.001;
/// A share that a few dozen people cover.
const LARGE_TARGET: f64 = 0.1;
/// Samples of each person.
const SAMPLES: usize = 5;
/// Seconds between two visits.
const GAP_S: i64 = 3600;

fn of_model(model: &str) -> GallerySettings {
    GallerySettings { model: model.to_owned(), ..settings(Metric::Euclidean, usize::MAX) }
}

/// A gallery with a number of people, and these people.
fn house(model: &str, crowd: &mut People, people: usize) -> (Gallery, Vec<Vec<f32>>) {
    let gallery = Gallery::new(of_model(model));
    gallery.thresholds().follow(Some(TARGET));
    let centres: Vec<Vec<f32>> = (0..people).map(|_| crowd.person()).collect();
    for (at, centre) in centres.iter().enumerate() {
        let samples: Vec<Encoding> = (0..SAMPLES).map(|_| crowd.sample(centre)).collect();
        gallery.add(key(at), &samples);
    }
    (gallery, centres)
}

/// Strangers' faces, an hour apart; `factor` scales their distances.
fn strangers(
    gallery: &Gallery,
    crowd: &mut People,
    camera: &str,
    count: i64,
    factor: f32,
) -> Vec<StrangerFace> {
    let camera = CameraName::try_from(camera).unwrap();
    let people = gallery.people() as u32;
    let mut face = |at: i64| {
        let distance = gallery.identify(&camera, &crowd.stranger(), None).distance.unwrap();
        StrangerFace { camera: camera.clone(), at_s: at * GAP_S, people, distance: distance * factor }
    };
    (0..count).map(&mut face).collect()
}

/// Strangers accepted and enrolled people missed, over several galleries.
fn rates(model: &str, people: usize, galleries: u64) -> (f64, f64) {
    let (mut accepted, mut missed, mut probes, mut visits) = (0, 0, 0, 0);
    for seed in 0..galleries {
        let mut crowd = People::new(128, 7000 + seed);
        let (gallery, centres) = house(model, &mut crowd, people);
        gallery.thresholds().derive([].iter());
        for _ in 0..20_000 / galleries {
            let face = gallery.identify(&door(), &crowd.stranger(), None);
            accepted += u32::from(face.distance.unwrap() <= face.threshold);
            probes += 1;
        }
        for (at, centre) in centres.iter().enumerate().take(400) {
            let face = gallery.identify(&door(), &crowd.sample(centre), None);
            missed += u32::from(face.person != Some(key(at)));
            visits += 1;
        }
    }
    (f64::from(accepted) / f64::from(probes), f64::from(missed) / f64::from(visits))
}

#[test]
fn strangers_are_accepted_no_more_than_asked_for_and_people_found_at_every_size() {
    for (people, galleries, missed) in [(10, 20, 0.4), (50, 8, 0.5), (120, 4, 0.8)] {
        let (fpir, fnir) = rates("dlib-128", people, galleries);
        println!("{people} people: FPIR {fpir:.5}, FNIR {fnir:.3}");
        assert!(fpir <= TARGET, "{people} people: FPIR {fpir}");
        assert!(fnir <= missed, "{people} people: FNIR {fnir}");
    }
}

#[test]
fn an_unknown_model_accepts_no_face() {
    let mut crowd = People::new(128, 11);
    let (gallery, centres) = house("dlib-129", &mut crowd, 10);
    gallery.thresholds().derive([].iter());
    let derived = gallery.thresholds().derived(None);
    assert_eq!((derived.basis, derived.threshold), (Basis::Unknown, 0.0), "{derived:?}");
    let words = derived.no_threshold.unwrap().to_string();
    for part in ["dlib-129", "did you mean dlib-128", "gallery calibrate", "gallery.threshold"] {
        assert!(words.contains(part), "{part}: {words}");
    }
    assert!(!words.contains("enroll"), "no number of people is enough for this target: {words}");
    let enrolled = crowd.sample(&centres[0]);
    gallery.add(key(0), std::slice::from_ref(&enrolled));
    assert_eq!(
        gallery.identify(&door(), &enrolled, None).outcome,
        Outcome::Stranger,
        "not even the same numbers"
    );
    gallery.thresholds().follow(Some(LARGE_TARGET));
    let words = gallery.thresholds().derived(None).no_threshold.unwrap().to_string();
    assert!(words.contains("enroll 58 people (now 10)"), "{words}");
}

#[test]
fn an_unknown_model_is_measured_on_its_own_people_for_a_target_that_they_cover() {
    let mut crowd = People::new(128, 13);
    let (gallery, centres) = house("dlib-129", &mut crowd, 70);
    gallery.thresholds().derive([].iter());
    let cause = gallery.thresholds().derived(None).no_threshold.unwrap();
    assert!(matches!(cause, NoThreshold::TargetTooSmall { people: 70, enrolled: 70, .. }), "{cause:?}");
    assert!(cause.to_string().contains("raise gallery.target_fpir to at least 0.084"), "{cause}");
    gallery.thresholds().follow(Some(LARGE_TARGET));
    gallery.thresholds().derive([].iter());
    assert_eq!(gallery.thresholds().derived(None).basis, Basis::Gallery);
    let accepted = (0..2000).filter(|_| {
        let face = gallery.identify(&door(), &crowd.stranger(), None);
        face.distance.unwrap() <= face.threshold
    });
    let accepted = accepted.count();
    assert!(accepted <= 200, "{accepted} of 2,000 strangers");
    let is_missed =
        |at: usize, sample: &Encoding| gallery.identify(&door(), sample, None).person != Some(key(at));
    let samples: Vec<Encoding> = centres.iter().map(|centre| crowd.sample(centre)).collect();
    let missed = samples.iter().enumerate().filter(|(at, sample)| is_missed(*at, sample)).count();
    assert!(missed <= 35, "{missed} of 70 people missed");
}

#[test]
fn statistics_of_few_people_cover_only_large_targets() {
    // One of all measured people, and three of all measured pairs.
    assert_eq!(smallest_target(1000, 1), 0.001);
    let of_pairs = smallest_target(1000, 600);
    assert!((of_pairs - 600.0 * 3.0 / 499_500.0).abs() < 1e-5, "{of_pairs}");
    // Only the first thousand people are compared with all.
    let of_pairs = smallest_target(3000, 3000);
    assert!((of_pairs - 3000.0 * 3.0 / 2_499_500.0).abs() < 1e-5, "{of_pairs}");
    // Ten people have 45 pairs: no target that the settings allow.
    assert!(smallest_target(10, 2) > 0.1);
    assert_eq!((smallest_target(1, 5), smallest_target(0, 0)), (1.0, 1.0));

    let settings = GallerySettings {
        model: "facenet-512".to_owned(),
        dimensions: 512,
        ..settings(Metric::Euclidean, usize::MAX)
    };
    let gallery = Gallery::new(settings);
    gallery.thresholds().follow(Some(0.1));
    let components: Vec<f32> = (0..512).map(|at| if at % 2 == 0 { 0.0442 } else { -0.0442 }).collect();
    let one = Encoding::new(components.clone(), 512).unwrap();
    let other = Encoding::new(components.iter().map(|x| x.abs()).collect(), 512).unwrap();
    gallery.add(key(0), &[one]);
    gallery.add(key(1), &[other]);
    let cause = gallery.thresholds().derived(None).no_threshold;
    assert!(matches!(cause, Some(NoThreshold::TargetTooSmall { people: 10, .. })), "{cause:?}");
    assert!(!cause.unwrap().to_string().contains("target_fpir"), "no target is large enough");
}

#[test]
fn a_contradiction_of_the_model_removes_the_threshold_at_once() {
    let mut crowd = People::new(128, 12);
    let gallery = Gallery::new(of_model("dlib-128"));
    gallery.thresholds().follow(Some(TARGET));
    let centre = crowd.person();
    let sample = crowd.sample(&centre);
    let unit = norm(sample.as_slice());
    let scaled = Encoding::new(sample.as_slice().iter().map(|x| x / unit).collect(), 128).unwrap();
    gallery.add(key(0), std::slice::from_ref(&scaled));
    let Some(NoThreshold::Contradicted { by: Contradiction::Norm { have, .. }, .. }) =
        gallery.thresholds().derived(None).no_threshold
    else {
        panic!("{:?}", gallery.thresholds().derived(None))
    };
    assert!((have - 1.0).abs() < 1e-3, "{have}");
    assert_eq!(gallery.identify(&door(), &scaled, None).outcome, Outcome::Stranger);

    // The norm is correct, but all people are near to each other, as with another model than the named one.
    let gallery = Gallery::new(of_model("dlib-128"));
    gallery.thresholds().follow(Some(TARGET));
    let centre = crowd.person();
    for at in 0..20 {
        gallery.add(key(at), &[crowd.sample(&centre)]);
    }
    gallery.thresholds().derive([].iter());
    let cause = gallery.thresholds().derived(None).no_threshold;
    assert!(
        matches!(cause, Some(NoThreshold::Contradicted { by: Contradiction::Distance { .. }, .. })),
        "{cause:?}"
    );
}

#[test]
fn strangers_at_a_camera_lower_its_threshold_and_never_raise_one() {
    let mut crowd = People::new(128, 5);
    let (gallery, _) = house("dlib-128", &mut crowd, 20);
    gallery.thresholds().derive([].iter());
    let before = gallery.threshold();
    // At one camera all people look alike; at the other, strangers are farther than usual.
    let mut all = strangers(&gallery, &mut crowd, "door", 600, 0.9);
    all.extend(strangers(&gallery, &mut crowd, "yard", 600, 1.3));
    all.extend(strangers(&gallery, &mut crowd, "garage", 20, 0.7));
    gallery.thresholds().derive(all.iter());
    let (door, yard) =
        (gallery.thresholds().derived(Some("door")), gallery.thresholds().derived(Some("yard")));
    assert_eq!((door.basis, yard.basis), (Basis::Camera, Basis::Camera));
    assert!(door.threshold < 0.97 * before, "{door:?}, before {before}");
    assert!(yard.threshold <= before, "{yard:?}, before {before}");
    assert_eq!(gallery.thresholds().derived(Some("garage")).basis, Basis::Model, "20 visits are too few");
    assert_eq!(gallery.identify(&self::door(), &crowd.stranger(), None).threshold, door.threshold);
    assert_eq!(gallery.thresholds().derived(Some("back")).threshold, 0.1);
    assert_eq!(gallery.thresholds().cameras_apart(), ["back", "door", "yard"]);
    gallery.thresholds().follow(None);
    assert_eq!((gallery.threshold(), gallery.thresholds().derived(Some("door")).basis), (T, Basis::Fixed));
}

#[test]
fn one_visit_counts_once_and_missed_people_do_not_count() {
    let mut crowd = People::new(128, 99);
    let (gallery, _) = house("dlib-128", &mut crowd, 20);
    gallery.thresholds().derive([].iter());
    let before = gallery.threshold();
    let camera = door();
    let face = |at_s: i64, distance: f32| StrangerFace { camera: camera.clone(), at_s, people: 20, distance };
    // Five thousand faces within one visit of a quarter of an hour.
    let crowd_of_one: Vec<StrangerFace> = (0..5000).map(|at| face(at / 6, 0.59)).collect();
    gallery.thresholds().derive(crowd_of_one.iter());
    assert_eq!(gallery.threshold(), before);
    // The enrolled people, each missed repeatedly, slightly beyond the threshold.
    let missed: Vec<StrangerFace> = (0..5000).map(|at| face(at * GAP_S, 0.5)).collect();
    gallery.thresholds().derive(missed.iter());
    assert_eq!((gallery.threshold(), gallery.thresholds().derived(None).visits), (before, 0.0));
    // One visitor on five hundred days must not make enrolled people unrecognizable.
    let often: Vec<StrangerFace> = (0..500).map(|at| face(at * 24 * GAP_S, 0.59)).collect();
    gallery.thresholds().derive(often.iter());
    assert!(gallery.threshold() >= 0.79 * before, "{} is less than 0.79 times {before}", gallery.threshold());
}

#[test]
fn look_alikes_among_the_enrolled_lower_the_threshold_but_one_pair_does_not() {
    let mut crowd = People::new(128, 21);
    let (gallery, _) = house("dlib-128", &mut crowd, 20);
    gallery.thresholds().derive([].iter());
    let before = gallery.threshold();
    let twins = |gallery: &Gallery, crowd: &mut People, from: usize| {
        let centre = crowd.person();
        for at in from..from + 2 {
            let sample = crowd.sample(&centre);
            gallery.add(key(at), &[crowd.near(&sample)]);
        }
    };
    twins(&gallery, &mut crowd, 100);
    gallery.thresholds().derive([].iter());
    assert!(gallery.threshold() > 0.9 * before, "one person enrolled twice is no evidence on strangers");
    for pair in 0..5 {
        let centre = crowd.person();
        let sample = crowd.sample(&centre);
        let almost = Encoding::new(sample.as_slice().iter().map(|x| x + 0.02).collect(), 128).unwrap();
        gallery.add(key(200 + pair), &[sample]);
        gallery.add(key(300 + pair), &[almost]);
    }
    gallery.thresholds().derive([].iter());
    assert!(gallery.threshold() < 0.3, "{} with five pairs 0.23 apart", gallery.threshold());
}

#[test]
fn more_people_lower_the_threshold_at_once_and_erasure_raises_it() {
    let mut crowd = People::new(128, 6);
    let (gallery, _) = house("dlib-128", &mut crowd, 12);
    gallery.thresholds().derive([].iter());
    let before = gallery.threshold();
    let centre = crowd.person();
    gallery.add(key(100), &(0..SAMPLES).map(|_| crowd.sample(&centre)).collect::<Vec<_>>());
    assert!(gallery.threshold() < before);
    gallery.remove(&key(100));
    assert_eq!(gallery.threshold(), before);
}

#[test]
fn a_target_that_the_statistics_do_not_reach_gives_no_threshold() {
    let mut crowd = People::new(128, 7);
    let (gallery, _) = house("dlib-128", &mut crowd, 200);
    gallery.thresholds().follow(Some(1e-6));
    let cause = gallery.thresholds().derived(None).no_threshold;
    assert!(matches!(cause, Some(NoThreshold::TargetTooSmall { people, .. }) if people > 1000), "{cause:?}");
}

#[test]
fn a_face_that_no_such_model_gives_is_not_judged() {
    let mut crowd = People::new(128, 8);
    let (gallery, _) = house("dlib-128", &mut crowd, 8);
    let face = crowd.stranger();
    let scaled = |by: f32| Encoding::new(face.as_slice().iter().map(|x| x * by).collect(), 128).unwrap();
    let outcome = |by| gallery.identify(&door(), &scaled(by), None).outcome;
    assert_eq!(
        (outcome(1.0), outcome(0.5), outcome(2.0)),
        (Outcome::Stranger, Outcome::Unusable, Outcome::Unusable)
    );
}

fn norm(components: &[f32]) -> f32 {
    components.iter().map(|x| x * x).sum::<f32>().sqrt()
}
