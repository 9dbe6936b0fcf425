use std::collections::HashSet;

use super::*;
use crate::tests::synthetic::People;

/// A threshold at which two samples of a synthetic person are mostly near enough, and two people never.
const T: f32 = 0.5;
const EUCLIDEAN: (Metric, f32) = (Metric::Euclidean, T);

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

fn come(strangers: &mut Strangers, face: &Encoding, clock: &Clock) -> Option<StrangerMark> {
    strangers.visit(face, EUCLIDEAN, clock.now(), true)
}

#[test]
fn the_same_stranger_is_known_again_and_visits_are_counted_not_events() {
    let (mut strangers, mut clock) = (on(), Clock::new());
    let somebody = face([1.0, 0.0, 0.0, 0.0]);
    let first = come(&mut strangers, &somebody, &clock).unwrap();
    assert!(first.stranger_label.starts_with("stranger-") && first.stranger_label.len() == 13);
    assert_eq!(first.stranger_visits, 1);
    clock.wait(Duration::from_secs(5));
    assert_eq!(
        come(&mut strangers, &face([1.0, 0.1, 0.0, 0.0]), &clock).unwrap(),
        first,
        "one visit, two events"
    );
    for visits in [2, 3] {
        clock.wait(VISIT_GAP);
        let again = come(&mut strangers, &somebody, &clock).unwrap();
        assert_eq!((again.stranger_label, again.stranger_visits), (first.stranger_label.clone(), visits));
    }
    let other = come(&mut strangers, &face([0.0, 1.0, 0.0, 0.0]), &clock).unwrap();
    assert_ne!(other.stranger_label, first.stranger_label);
    assert_eq!(other.stranger_visits, 1);
}

#[test]
fn key_labels_and_encodings_die_at_midnight_even_where_nobody_comes() {
    let (mut strangers, mut clock) = (on(), Clock::new());
    let faces: Vec<_> =
        (0..4).map(|at| face(std::array::from_fn(|i| if i == at { 1.0 } else { 0.0 }))).collect();
    let labels = |strangers: &mut Strangers, clock: &Clock| -> Vec<String> {
        faces.iter().map(|face| come(strangers, face, clock).unwrap().stranger_label).collect()
    };
    let today = labels(&mut strangers, &clock);
    clock.wait(VISIT_GAP);
    strangers.sweep(clock.now());
    assert!(strangers.today.is_some(), "the day is not over");
    clock.day += 1;
    strangers.sweep(clock.now());
    assert!(strangers.today.is_none());
    let tomorrow = labels(&mut strangers, &clock);
    assert_ne!(today, tomorrow, "four labels of 16 bits are not drawn twice");
    assert!(faces.iter().all(|face| come(&mut strangers, face, &clock).unwrap().stranger_visits == 1));
    clock.day -= 5;
    assert_eq!(
        come(&mut strangers, &faces[0], &clock).unwrap().stranger_visits,
        1,
        "a clock that was set back"
    );
    assert_eq!(strangers.today.as_ref().unwrap().visitors.len(), 1);
}

#[test]
fn off_remembers_nobody_and_forgets_at_once() {
    let clock = Clock::new();
    let somebody = face([1.0, 0.0, 0.0, 0.0]);
    let mut strangers = Strangers::default();
    assert_eq!(come(&mut strangers, &somebody, &clock), None);
    assert!(strangers.today.is_none());
    strangers.switch(true);
    assert!(come(&mut strangers, &somebody, &clock).is_some());
    strangers.switch(false);
    assert!(strangers.today.is_none());
}

#[test]
fn a_late_message_is_looked_up_and_changes_nothing() {
    let (mut strangers, mut clock) = (on(), Clock::new());
    let somebody = face([1.0, 0.0, 0.0, 0.0]);
    assert_eq!(strangers.visit(&somebody, EUCLIDEAN, clock.now(), false), None);
    let first = come(&mut strangers, &somebody, &clock).unwrap();
    clock.wait(VISIT_GAP * 2);
    assert_eq!(strangers.visit(&somebody, EUCLIDEAN, clock.now(), false).unwrap(), first);
}

#[test]
fn a_face_between_two_strangers_has_no_label() {
    let (mut strangers, clock) = (on(), Clock::new());
    come(&mut strangers, &face([1.0, 0.3, 0.0, 0.0]), &clock).unwrap();
    come(&mut strangers, &face([1.0, -0.3, 0.0, 0.0]), &clock).unwrap();
    assert_eq!(come(&mut strangers, &face([1.0, 0.0, 0.0, 0.0]), &clock), None);
    assert_eq!(strangers.today.as_ref().unwrap().visitors.len(), 2);
}

#[test]
fn a_label_does_not_wander_from_face_to_face() {
    let (mut strangers, clock) = (on(), Clock::new());
    let first = come(&mut strangers, &face([1.0, 0.0, 0.0, 0.0]), &clock).unwrap();
    for step in 1..=8_u8 {
        let next = face([1.0, f32::from(step) * 0.4, 0.0, 0.0]);
        let mark = come(&mut strangers, &next, &clock);
        let is_near = f32::from(step) * 0.4 <= 2.0 * T;
        assert!(is_near || mark.is_none_or(|mark| mark != first), "{step} steps away is another face");
    }
}

#[test]
fn at_most_so_many_are_remembered_and_who_was_not_seen_for_longest_goes() {
    let (mut strangers, mut clock) = (on(), Clock::new());
    let nobody_near = |number: usize| face([number as f32 * 10.0 + 1.0, 1.0, 0.0, 0.0]);
    let mut labels = HashSet::new();
    for number in 0..STRANGERS_MAX {
        clock.wait(Duration::from_secs(1));
        labels.insert(come(&mut strangers, &nobody_near(number), &clock).unwrap().stranger_label);
    }
    assert_eq!(labels.len(), STRANGERS_MAX, "no two who are remembered share a label");
    clock.wait(VISIT_GAP);
    assert_eq!(come(&mut strangers, &nobody_near(0), &clock).unwrap().stranger_visits, 2);
    come(&mut strangers, &nobody_near(STRANGERS_MAX), &clock).unwrap();
    let visitors = &strangers.today.as_ref().unwrap().visitors;
    assert_eq!(visitors.len(), STRANGERS_MAX);
    clock.wait(VISIT_GAP);
    assert_eq!(come(&mut strangers, &nobody_near(0), &clock).unwrap().stranger_visits, 3, "seen lately");
    assert_eq!(come(&mut strangers, &nobody_near(1), &clock).unwrap().stranger_visits, 1, "was forgotten");
}

#[test]
fn synthetic_strangers_keep_their_labels_and_share_none() {
    let (mut strangers, mut clock) = (on(), Clock::new());
    let mut people = People::new(128, 9);
    let visitors: Vec<_> = (0..60).map(|_| people.person()).collect();
    let mut told: Vec<HashSet<String>> = vec![HashSet::new(); visitors.len()];
    for _ in 0..6 {
        clock.wait(VISIT_GAP);
        for (visitor, told) in visitors.iter().zip(&mut told) {
            let sample = people.sample(visitor);
            told.extend(come(&mut strangers, &sample, &clock).map(|mark| mark.stranger_label));
        }
    }
    let all: HashSet<_> = told.iter().flatten().collect();
    let labels: usize = told.iter().map(HashSet::len).sum();
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
    let cosine = (Metric::Cosine, 0.05);
    let mark = strangers.visit(&face([1.0, 0.0, 0.0, 0.0]), cosine, clock.now(), true).unwrap();
    assert_eq!(strangers.visit(&face([9.0, 0.5, 0.0, 0.0]), cosine, clock.now(), true).unwrap(), mark);
}

#[test]
fn a_mark_prints_nothing_of_itself() {
    let (mut strangers, clock) = (on(), Clock::new());
    let mark = come(&mut strangers, &face([1.0, 0.0, 0.0, 0.0]), &clock).unwrap();
    assert!(!format!("{mark:?}").contains(&mark.stranger_label));
}
