//! A gallery with a key gives the same results as one without, and changes to another key during probes.

use std::sync::atomic::{AtomicBool, Ordering};

use gatehouse_model::random;
use gatehouse_vault::seal::DataKey;

use super::synthetic::People;
use super::*;
use crate::transform::{Protected, Transform};

fn transform() -> Arc<Transform> {
    Arc::new(Transform::of(&DataKey::from_secret(&random()).unwrap(), 128))
}

fn enrolled(people: usize, random: &mut People) -> Vec<(KeyId, Vec<Encoding>)> {
    let person = |_| {
        let centre = random.person();
        (KeyId::random(), (0..3).map(|_| random.sample(&centre)).collect())
    };
    (0..people).map(person).collect()
}

#[test]
fn a_protected_gallery_answers_as_a_plain_one_in_either_metric() {
    for metric in [Metric::Euclidean, Metric::Cosine] {
        let mut random = People::new(128, 31);
        let plain = Gallery::new(settings(metric, usize::MAX));
        let protected = Gallery::protected(settings(metric, usize::MAX), transform());
        let people = enrolled(60, &mut random);
        for (person, samples) in &people {
            plain.add(*person, samples);
            protected.add(*person, samples);
        }
        for (_, samples) in &people {
            for probe in [random.near(&samples[0]), random.stranger()] {
                let want = plain.identify(&door(), &probe, None);
                let have = protected.identify(&door(), &probe, None);
                assert_eq!((have.outcome, have.person), (want.outcome, want.person));
                let (have, want) = (have.distance.unwrap(), want.distance.unwrap());
                assert!((have - want).abs() <= 1e-4 * want, "{have} instead of {want}");
            }
        }
    }
}

#[test]
fn probes_see_the_old_or_the_new_key_as_a_whole() {
    // The plain scan, the graph, and the scan with sketches.
    for (count, limit, renewals) in [(60, usize::MAX, 30), (60, 50, 30), (400, usize::MAX, 4)] {
        let mut random = People::new(128, 32);
        let people = enrolled(count, &mut random);
        let mut now = transform();
        let gallery = Gallery::protected(settings(Metric::Euclidean, limit), Arc::clone(&now));
        let mut templates: Vec<(KeyId, Vec<Protected>)> = Vec::new();
        for (person, samples) in &people {
            templates.push((*person, samples.iter().map(|s| now.protect(s).unwrap()).collect()));
            gallery.load(*person, &templates.last().unwrap().1);
        }
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let probing = scope.spawn(|| {
                let mut probes = 0;
                // At least once, even if this thread is scheduled late.
                loop {
                    for (person, samples) in &people {
                        let face = gallery.identify(&door(), &samples[1], None);
                        assert_eq!(face.person, Some(*person));
                        assert!(face.distance.unwrap() < 1e-4);
                        probes += 1;
                    }
                    if done.load(Ordering::Relaxed) {
                        break probes;
                    }
                }
            });
            for _ in 0..renewals {
                let next = transform();
                for (_, samples) in &mut templates {
                    samples.iter_mut().for_each(|sample| *sample = now.rekey(sample, &next).unwrap());
                }
                gallery.rekey(Arc::clone(&next), |fresh| {
                    templates.iter().for_each(|(person, samples)| fresh.load(*person, samples));
                });
                now = next;
            }
            done.store(true, Ordering::Relaxed);
            assert!(probing.join().unwrap() > 0);
        });
        assert_eq!((gallery.people(), gallery.templates()), (count, 3 * count));
    }
}
