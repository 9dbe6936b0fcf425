//! Concurrent enrollments, erasures and probes.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::synthetic::People;
use super::{DIMENSIONS, Encoding, Gallery, KeyId, Metric, Outcome, door, key, settings, settle};

const PEOPLE: usize = 120;
const PROBERS: usize = 3;

/// One enrolled person of the stress test.
struct Visitor {
    key: KeyId,
    sample: Encoding,
    /// Set once `remove` has returned.
    is_gone: AtomicBool,
    /// Cleared before `remove` is called: while it is set, the person must be found.
    is_here: AtomicBool,
}

/// Erases people one after another while other threads probe for all of them.
fn erase_under_fire(exact_limit: usize) {
    let mut people = People::new(DIMENSIONS, 11);
    let gallery = Gallery::new(settings(Metric::Euclidean, exact_limit));
    let visitors: Vec<Visitor> = (0..PEOPLE)
        .map(|number| {
            let sample = people.stranger();
            gallery.add(key(number), std::slice::from_ref(&sample));
            let (is_gone, is_here) = (AtomicBool::new(false), AtomicBool::new(true));
            Visitor { key: key(number), sample, is_gone, is_here }
        })
        .collect();
    let extra: Vec<Encoding> = (0..PEOPLE).map(|_| people.stranger()).collect();
    let (done, asked) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for prober in 0..PROBERS {
            let (gallery, visitors, done, asked) = (&gallery, &visitors, &done, &asked);
            scope.spawn(move || {
                let mut random = fastrand::Rng::with_seed(prober as u64);
                while !done.load(Ordering::Acquire) {
                    let visitor = &visitors[random.usize(..PEOPLE)];
                    let was_gone = visitor.is_gone.load(Ordering::Acquire);
                    let face = gallery.identify(&door(), &visitor.sample, None);
                    let is_here = visitor.is_here.load(Ordering::Acquire);
                    assert!(!was_gone || face.person != Some(visitor.key), "an erased person was answered");
                    assert!(!is_here || face.outcome != Outcome::Stranger, "an enrolled person was missed");
                    asked.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let begin = Instant::now();
        for (number, (visitor, newcomer)) in visitors.iter().zip(&extra).enumerate() {
            gallery.add(key(10_000 + number), std::slice::from_ref(newcomer));
            visitor.is_here.store(false, Ordering::Release);
            assert_eq!(gallery.remove(&visitor.key), 1);
            visitor.is_gone.store(true, Ordering::Release);
            std::thread::sleep(Duration::from_millis(2));
        }
        while asked.load(Ordering::Relaxed) < PROBERS * PEOPLE && begin.elapsed() < Duration::from_secs(30) {
            std::thread::yield_now();
        }
        done.store(true, Ordering::Release);
    });
    assert!(asked.load(Ordering::Relaxed) >= PROBERS * PEOPLE, "the probers hardly ran");
    assert_eq!(gallery.people(), PEOPLE);
}

#[test]
fn no_probe_returns_an_erased_person_with_the_exact_engine() {
    erase_under_fire(usize::MAX);
}

#[test]
fn no_probe_returns_an_erased_person_with_the_graph() {
    erase_under_fire(20);
}

#[test]
fn gallery_ends_at_once_while_its_graph_is_built() {
    let mut people = People::new(DIMENSIONS, 12);
    let samples: Vec<Encoding> = (0..1000).map(|_| people.stranger()).collect();
    let fill = || {
        let gallery = Gallery::new(settings(Metric::Euclidean, 10));
        for (number, sample) in samples.iter().enumerate() {
            gallery.add(key(number), std::slice::from_ref(sample));
        }
        (gallery, Instant::now())
    };
    let (gallery, begin) = fill();
    settle(&gallery);
    let whole = begin.elapsed();
    let (gallery, begin) = fill();
    drop(gallery);
    let end = begin.elapsed();
    assert!(end < whole, "{end:?}, as long as the whole graph takes: {whole:?}");
}
