use std::collections::HashSet;

use super::*;
use crate::tests::synthetic::People;

/// At this threshold, two samples of a synthetic person mostly match, and samples of two people never do.
const T: f32 = 0.5;
const EUCLIDEAN: MatchRule = MatchRule { metric: Metric::Euclidean, threshold: T };

struct Clock {
    day: i32,
    at: Instant,
}

impl Clock {
    fn new() -> Self {
        Self { day: 7, at: Instant::now() }
    }

    fn now(&self) -> Moment {
        Moment { day: self.day, at: self.at }
    }

    fn wait(&mut self, time: Duration) {
        self.at += time;
    }
}

fn on() -> Strangers {
    let mut strangers = Strangers::default();
    strangers.switch(true);
    strangers
}

fn face(components: [f32; 4]) -> Encoding {
    Encoding::new(components.to_vec(), 4).unwrap()
}

fn visit(strangers: &mut Strangers, face: &Encoding, clock: &Clock) -> Option<StrangerMark> {
    strangers.visit(face, EUCLIDEAN, clock.now(), true)
}

#[test]
fn a_stranger_keeps_the_label_and_visits_are_counted_not_events() {
    let (mut strangers, mut clock) = (on(), Clock::new());
    let visitor = face([1.0, 0.0, 0.0, 0.0]);
    let first = visit(&mut strangers, &visitor, &clock).unwrap();
    assert!(first.stranger_label.starts_with("stranger-") && first.stranger_label.len() == 13);
    assert_eq!(first.stranger_visits, 1);
    clock.wait(Duration::from_secs(5));
    assert_eq!(
        visit(&mut strangers, &face([1.0, 0.1, 0.0, 0.0]), &clock).unwrap(),
        first,
        "one visit, two events"
    );
    for visits in [2, 3] {
        clock.wait(SAME_VISIT_WINDOW);
        let again = visit(&mut strangers, &visitor, &clock).unwrap();
        assert_eq!((again.stranger_label, again.stranger_visits), (first.stranger_label.clone(), visits));
    }
    let other = visit(&mut strangers, &face([0.0, 1.0, 0.0, 0.0]), &clock).unwrap();
    assert_ne!(other.stranger_label, first.stranger_label);
    assert_eq!(other.stranger_visits, 1);
}

#[test]
fn key_labels_and_encodings_are_wiped_at_midnight_without_a_visit() {
    let (mut strangers, mut clock) = (on(), Clock::new());
    let faces: Vec<_> =
        (0..4).map(|at| face(std::array::from_fn(|i| if i == at { 1.0 } else { 0.0 }))).collect();
    let labels = |strangers: &mut Strangers, clock: &Clock| -> Vec<String> {
        faces.iter().map(|face| visit(strangers, face, clock).unwrap().stranger_label).collect()
    };
    let today = labels(&mut strangers, &clock);
    clock.wait(SAME_VISIT_WINDOW);
    strangers.sweep(clock.now());
    assert!(strangers.today.is_some(), "the day is not over");
    clock.day += 1;
    strangers.sweep(clock.now());
    assert!(strangers.today.is_none());
    let tomorrow = labels(&mut strangers, &clock);
    assert_ne!(today, tomorrow, "four labels of 16 bits are not drawn twice");
    assert!(faces.iter().all(|face| visit(&mut strangers, face, &clock).unwrap().stranger_visits == 1));
    clock.day -= 5;
    assert_eq!(
        visit(&mut strangers, &faces[0], &clock).unwrap().stranger_visits,
        1,
        "a clock that was set back"
    );
    assert_eq!(strangers.today.as_ref().unwrap().visitors.len(), 1);
}

#[test]
fn switched_off_no_stranger_is_stored() {
    let clock = Clock::new();
    let visitor = face([1.0, 0.0, 0.0, 0.0]);
    let mut strangers = Strangers::default();
    assert_eq!(visit(&mut strangers, &visitor, &clock), None);
    assert!(strangers.today.is_none());
    strangers.switch(true);
    assert!(visit(&mut strangers, &visitor, &clock).is_some());
    strangers.switch(false);
    assert!(strangers.today.is_none());
}

#[test]
fn a_late_message_is_looked_up_and_changes_nothing() {
    let (mut strangers, mut clock) = (on(), Clock::new());
    let visitor = face([1.0, 0.0, 0.0, 0.0]);
    assert_eq!(strangers.visit(&visitor, EUCLIDEAN, clock.now(), false), None);
    let first = visit(&mut strangers, &visitor, &clock).unwrap();
    clock.wait(SAME_VISIT_WINDOW * 2);
    assert_eq!(strangers.visit(&visitor, EUCLIDEAN, clock.now(), false).unwrap(), first);
}

#[test]
fn a_face_between_two_strangers_has_no_label() {
    let (mut strangers, clock) = (on(), Clock::new());
    visit(&mut strangers, &face([1.0, 0.3, 0.0, 0.0]), &clock).unwrap();
    visit(&mut strangers, &face([1.0, -0.3, 0.0, 0.0]), &clock).unwrap();
    assert_eq!(visit(&mut strangers, &face([1.0, 0.0, 0.0, 0.0]), &clock), None);
    assert_eq!(strangers.today.as_ref().unwrap().visitors.len(), 2);
}

#[test]
fn a_label_does_not_drift_to_another_face() {
    let (mut strangers, clock) = (on(), Clock::new());
    let first = visit(&mut strangers, &face([1.0, 0.0, 0.0, 0.0]), &clock).unwrap();
    for step in 1..=8_u8 {
        let next = face([1.0, f32::from(step) * 0.4, 0.0, 0.0]);
        let mark = visit(&mut strangers, &next, &clock);
        let is_near = f32::from(step) * 0.4 <= 2.0 * T;
        assert!(is_near || mark.is_none_or(|mark| mark != first), "{step} steps away is another face");
    }
}

#[test]
fn beyond_the_maximum_the_stranger_seen_least_recently_is_evicted() {
    let (mut strangers, mut clock) = (on(), Clock::new());
    let distinct_face = |number: usize| face([number as f32 * 10.0 + 1.0, 1.0, 0.0, 0.0]);
    let mut labels = HashSet::new();
    for number in 0..STRANGERS_MAX {
        clock.wait(Duration::from_secs(1));
        labels.insert(visit(&mut strangers, &distinct_face(number), &clock).unwrap().stranger_label);
    }
    assert_eq!(labels.len(), STRANGERS_MAX, "every stored stranger has its own label");
    clock.wait(SAME_VISIT_WINDOW);
    assert_eq!(visit(&mut strangers, &distinct_face(0), &clock).unwrap().stranger_visits, 2);
    visit(&mut strangers, &distinct_face(STRANGERS_MAX), &clock).unwrap();
    let visitors = &strangers.today.as_ref().unwrap().visitors;
    assert_eq!(visitors.len(), STRANGERS_MAX);
    clock.wait(SAME_VISIT_WINDOW);
    assert_eq!(visit(&mut strangers, &distinct_face(0), &clock).unwrap().stranger_visits, 3, "seen recently");
    assert_eq!(visit(&mut strangers, &distinct_face(1), &clock).unwrap().stranger_visits, 1, "was evicted");
}

#[test]
fn synthetic_strangers_keep_distinct_labels() {
    let (mut strangers, mut clock) = (on(), Clock::new());
    let mut people = People::new(128, 9);
    let visitors: Vec<_> = (0..60).map(|_| people.person()).collect();
    let mut seen: Vec<HashSet<String>> = vec![HashSet::new(); visitors.len()];
    for _ in 0..6 {
        clock.wait(SAME_VISIT_WINDOW);
        for (visitor, labels) in visitors.iter().zip(&mut seen) {
            let sample = people.sample(visitor);
            labels.extend(visit(&mut strangers, &sample, &clock).map(|mark| mark.stranger_label));
        }
    }
    let all: HashSet<_> = seen.iter().flatten().collect();
    let labels: usize = seen.iter().map(HashSet::len).sum();
    assert!(labels <= all.len() + 3, "{} labels are shared", labels - all.len());
    assert!(
        all.len() < 2 * visitors.len(),
        "{} labels for {} visitors of six visits",
        all.len(),
        visitors.len()
    );
}

#[test]
fn a_cosine_gallery_compares_directions() {
    let (mut strangers, clock) = (on(), Clock::new());
    let cosine = MatchRule { metric: Metric::Cosine, threshold: 0.05 };
    let mark = strangers.visit(&face([1.0, 0.0, 0.0, 0.0]), cosine, clock.now(), true).unwrap();
    assert_eq!(strangers.visit(&face([9.0, 0.5, 0.0, 0.0]), cosine, clock.now(), true).unwrap(), mark);
}

#[test]
fn a_mark_prints_nothing_of_itself() {
    let (mut strangers, clock) = (on(), Clock::new());
    let mark = visit(&mut strangers, &face([1.0, 0.0, 0.0, 0.0]), &clock).unwrap();
    assert!(!format!("{mark:?}").contains(&mark.stranger_label));
}
