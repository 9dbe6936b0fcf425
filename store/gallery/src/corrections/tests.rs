use gatehouse_model::{CameraName, Face, Outcome};

use super::*;
use crate::tests::synthetic::People;
use crate::transform::Transform;
use crate::{Encoding, Gallery, GallerySettings};

/// Threshold of the synthetic galleries: about 1 in 100 strangers is identified as one of 200 people.
const T: f32 = 0.42;

fn gallery(dimensions: usize, metric: Metric, threshold: f32) -> Gallery {
    Gallery::new(GallerySettings {
        model: "m".to_owned(),
        dimensions,
        metric,
        normalised: false,
        threshold,
        camera_thresholds: HashMap::new(),
        minimum_quality: 0.0,
        exact_limit: 1000,
    })
}

fn key(number: u8) -> KeyId {
    KeyId::from_bytes([number; 16])
}

fn ask(gallery: &Gallery, probe: &Encoding) -> Face<KeyId> {
    let door: CameraName = "door".try_into().unwrap();
    gallery.identify(&door, probe, None)
}

fn correct(gallery: &Gallery, person: KeyId, face: &Encoding) {
    let plain = Transform::identity(face.as_slice().len()).protect(face).unwrap();
    gallery.correct(person, &[plain]);
}

/// Shares of matches with the enrolled person before and after one correction, for the look-alike and the
/// person.
struct Shares {
    look_alike: (f64, f64),
    genuine: (f64, f64),
}

fn measure(samples: usize, look_alikes: usize) -> Shares {
    const PROBES: usize = 40;
    let mut people = People::new(128, 4);
    let (mut wrong, mut right) = ([0_usize; 2], [0_usize; 2]);
    let mut found = 0;
    while found < look_alikes {
        let person = people.person();
        let gallery = gallery(128, Metric::Euclidean, T);
        let enrolled: Vec<_> = (0..samples).map(|_| people.sample(&person)).collect();
        gallery.add(key(1), &enrolled);
        // A rare look-alike who is matched with the person, about one in thousands.
        let stranger = people.person();
        let other: Vec<f32> = person.iter().zip(&stranger).map(|(p, s)| (p + s) / 2.0).collect();
        let mistaken = (0..100).find_map(|_| {
            let probe = people.sample(&other);
            (ask(&gallery, &probe).outcome == Outcome::Match).then_some(probe)
        });
        let Some(mistaken) = mistaken else { continue };
        found += 1;
        let theirs: Vec<_> = (0..PROBES).map(|_| people.sample(&other)).collect();
        let own: Vec<_> = (0..PROBES).map(|_| people.sample(&person)).collect();
        for after in 0..2 {
            let matches = |probes: &[Encoding]| {
                probes.iter().filter(|probe| ask(&gallery, probe).outcome == Outcome::Match).count()
            };
            wrong[after] += matches(&theirs);
            right[after] += matches(&own);
            correct(&gallery, key(1), &mistaken);
        }
    }
    let share = |count: usize| count as f64 / (look_alikes * PROBES) as f64;
    Shares { look_alike: (share(wrong[0]), share(wrong[1])), genuine: (share(right[0]), share(right[1])) }
}

#[test]
fn a_correction_takes_a_look_alike_away_and_hardly_touches_the_person() {
    for samples in [1, 5] {
        let Shares { look_alike, genuine } = measure(samples, 12);
        let words = format!("{samples} samples: look-alike {look_alike:.3?}, genuine {genuine:.3?}");
        assert!(look_alike.0 > 0.0 && look_alike.1 <= 0.5 * look_alike.0, "{words}");
        assert!(genuine.1 >= genuine.0 - 0.03, "{words}");
    }
}

fn face(components: [f32; 4]) -> Encoding {
    Encoding::new(components.to_vec(), 4).unwrap()
}

#[test]
fn the_rule_is_nearer_to_the_wrong_face_or_within_half_of_the_threshold() {
    let gallery = gallery(4, Metric::Euclidean, 1.0);
    gallery.add(key(1), &[face([0.0, 0.0, 0.0, 5.0])]);
    let at = |x: f32| ask(&gallery, &face([x, 0.0, 0.0, 5.0])).outcome;
    assert_eq!([at(0.0), at(0.9)], [Outcome::Match; 2]);
    correct(&gallery, key(1), &face([0.9, 0.0, 0.0, 5.0]));
    assert_eq!(gallery.corrections(&key(1)), 1);
    assert_eq!([at(0.9), at(0.5)], [Outcome::Stranger; 2], "nearer to the wrong face");
    assert_eq!(
        at(0.41),
        Outcome::Stranger,
        "nearer to the person, but within half of the threshold of the wrong face"
    );
    assert_eq!([at(0.39), at(0.0), at(-0.9)], [Outcome::Match; 3]);
    gallery.remove(&key(1));
    gallery.add(key(1), &[face([0.0, 0.0, 0.0, 5.0])]);
    assert_eq!(gallery.corrections(&key(1)), 0, "corrections go with the person");
    assert_eq!(at(0.9), Outcome::Match);
}

#[test]
fn the_decision_is_made_as_if_the_person_were_not_enrolled() {
    let gallery = gallery(4, Metric::Euclidean, 1.0);
    for (person, x) in [(1, 0.0), (2, 0.5), (3, 0.97), (4, 3.0)] {
        gallery.add(key(person), &[face([x, 0.0, 0.0, 5.0])]);
    }
    let probe = face([0.2, 0.0, 0.0, 5.0]);
    assert_eq!(ask(&gallery, &probe).person, Some(key(1)));
    correct(&gallery, key(1), &probe);
    let next = ask(&gallery, &probe);
    assert_eq!((next.outcome, next.person), (Outcome::Match, Some(key(2))));
    assert!((next.distance.unwrap() - 0.3).abs() < 1e-5 && (next.margin.unwrap() - 0.47).abs() < 1e-5);
    correct(&gallery, key(2), &probe);
    assert_eq!(ask(&gallery, &probe).person, Some(key(3)), "the next person may be excluded as well");
    correct(&gallery, key(3), &probe);
    let no_match = ask(&gallery, &probe);
    assert_eq!((no_match.outcome, no_match.person), (Outcome::Stranger, None));
    assert!(no_match.distance.unwrap() > 2.0);
}

#[test]
fn an_excluded_person_makes_no_match_ambiguous() {
    let gallery = gallery(4, Metric::Euclidean, 1.0);
    gallery.add(key(1), &[face([0.0, 0.0, 0.0, 5.0])]);
    gallery.add(key(2), &[face([0.75, 0.0, 0.0, 5.0])]);
    let probe = face([0.39, 0.0, 0.0, 5.0]);
    assert_eq!(ask(&gallery, &probe).outcome, Outcome::Ambiguous);
    correct(&gallery, key(1), &face([0.5, 0.0, 0.0, 5.0]));
    let restored = ask(&gallery, &probe);
    assert_eq!((restored.outcome, restored.person), (Outcome::Match, Some(key(2))));
}

#[test]
fn a_cosine_gallery_is_corrected_alike() {
    let gallery = gallery(4, Metric::Cosine, 0.1);
    gallery.add(key(1), &[face([1.0, 0.0, 0.0, 0.0])]);
    let wrong = face([5.0, 2.0, 0.0, 0.0]);
    assert_eq!(ask(&gallery, &wrong).outcome, Outcome::Match);
    correct(&gallery, key(1), &wrong);
    assert_eq!(ask(&gallery, &wrong).outcome, Outcome::Stranger);
    assert_eq!(ask(&gallery, &face([5.0, -2.0, 0.0, 0.0])).outcome, Outcome::Match);
}
