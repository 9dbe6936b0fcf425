//! People with several samples: their mean, and the review of samples before enrollment.

use super::*;
use crate::{Review, Verdict};

fn vector(x: f32, y: f32) -> Encoding {
    let mut vector = vec![0.0; DIMENSIONS];
    (vector[0], vector[1], vector[2]) = (x, y, 1.0);
    Encoding::new(vector, DIMENSIONS).unwrap()
}

fn gallery() -> Gallery {
    Gallery::new(settings(Metric::Euclidean, usize::MAX))
}

fn distance(gallery: &Gallery, probe: &Encoding) -> f32 {
    gallery.identify(&door(), probe, None).distance.unwrap()
}

#[test]
fn a_person_is_as_near_as_their_mean_or_their_nearest_sample() {
    let gallery = gallery();
    gallery.add(key(1), &[vector(0.3, 0.0)]);
    assert!((distance(&gallery, &vector(0.0, 0.0)) - 0.3).abs() < 1e-6);
    gallery.add(key(1), &[vector(-0.3, 0.0)]);
    assert!(distance(&gallery, &vector(0.0, 0.0)) < 1e-5, "the mean is between the samples");
    assert!(distance(&gallery, &vector(0.3, 0.0)) < 1e-6, "a sample is still one");
    gallery.add(key(1), &[vector(0.3, 0.3)]);
    assert!((distance(&gallery, &vector(0.1, 0.1))) < 1e-4, "another sample moves the mean");
    gallery.remove(&key(1));
    assert_eq!(gallery.identify(&door(), &vector(0.0, 0.0), None).distance, None, "erased with the mean");
    gallery.add(key(2), &[vector(0.0, 0.2)]);
    assert!((distance(&gallery, &vector(0.0, 0.0)) - 0.2).abs() < 1e-6);
}

#[test]
fn samples_that_cancel_each_other_out_have_no_mean_direction() {
    let gallery = Gallery::new(settings(Metric::Cosine, usize::MAX));
    let at = |x: f32| {
        let mut vector = vec![0.0; DIMENSIONS];
        vector[0] = x;
        Encoding::new(vector, DIMENSIONS).unwrap()
    };
    gallery.add(key(1), &[at(1.0), at(-1.0)]);
    assert!(distance(&gallery, &at(0.5)) < 1e-6);
}

#[test]
fn repeated_samples_are_reported() {
    let gallery = gallery();
    gallery.add(key(1), &[vector(0.0, 0.0)]);
    let verdicts = |person: Option<&KeyId>, samples: &[Encoding]| -> Vec<Verdict> {
        gallery.review(person, samples).iter().map(|review| review.verdict).collect()
    };
    let samples = [vector(0.0, 0.0), vector(0.01, 0.0), vector(0.3, 0.0), vector(0.3, 0.01)];
    assert_eq!(
        verdicts(Some(&key(1)), &samples),
        [Verdict::Repeated, Verdict::Repeated, Verdict::Good, Verdict::Repeated]
    );
}

#[test]
fn samples_more_like_another_person_are_reported_with_that_person() {
    let gallery = gallery();
    gallery.add(key(1), &[vector(0.0, 0.0)]);
    let near = |result: Option<(KeyId, f32)>, key: KeyId, distance: f32| {
        result.is_some_and(|(who, far)| who == key && (far - distance).abs() < 1e-5)
    };
    // A new person with one sample: foreign if few strangers are so near to an enrolled person.
    let Review { verdict, own, other } = gallery.review(None, &[vector(0.4, 0.0)])[0];
    assert!(verdict == Verdict::Foreign && own.is_none() && near(other, key(1), 0.4));
    assert_eq!(gallery.review(None, &[vector(0.6, 0.0)])[0].verdict, Verdict::Good);
    // With other samples of the same enrollment: the clearly nearer person decides.
    let result = gallery.review(None, &[vector(0.1, 0.0), vector(1.0, 0.0), vector(1.2, 0.0)]);
    assert_eq!(
        result.iter().map(|r| r.verdict).collect::<Vec<_>>(),
        [Verdict::Foreign, Verdict::Good, Verdict::Good]
    );
    // Known samples of the person count as well.
    gallery.add(key(2), &[vector(0.3, 0.0)]);
    assert_eq!(gallery.review(Some(&key(2)), &[vector(0.2, 0.0)])[0].verdict, Verdict::Good);
    assert_eq!(gallery.review(Some(&key(2)), &[vector(0.14, 0.0)])[0].verdict, Verdict::Doubtful);
    assert_eq!(gallery.review(Some(&key(2)), &[vector(0.12, 0.0)])[0].verdict, Verdict::Foreign);
}
