//! The evaluation of synthetic people with known error rates.

use super::*;
use crate::Encoding;
use crate::tests::synthetic::People;

/// Few dimensions keep a debug build fast.
const DIMENSIONS: usize = 40;

fn population(people: usize, samples: usize) -> Samples {
    let mut source = People::new(DIMENSIONS, 11);
    let mut all = Samples::default();
    for number in 0..people {
        let person = source.person();
        for _ in 0..samples {
            all.push(&number.to_string(), source.sample(&person));
        }
    }
    all
}

fn plan() -> Plan {
    Plan { metric: Metric::Euclidean, thresholds: vec![0.5], people: None, samples: None, seed: 1 }
}

#[test]
fn well_separated_people_are_found_and_strangers_are_not() {
    let all = population(60, 3);
    let evaluation = evaluate(&all, &plan()).unwrap();
    assert_eq!((evaluation.people, evaluation.people_with_several, evaluation.encodings), (60, 60, 180));
    assert!((1.3..1.6).contains(&evaluation.norms.mean), "{:?}", evaluation.norms);
    assert!(evaluation.closed.rank1.iter().all(|rank1| rank1.rate > 0.95), "{:?}", evaluation.closed);
    assert_eq!((evaluation.closed.probes, evaluation.closed.twins), (180, 0));
    assert_eq!((evaluation.open.people, evaluation.open.trials), (48, 4000 / (48 * 3)));
    assert_eq!(
        (evaluation.open.stranger_probes, evaluation.open.enrolled_probes),
        (27 * 12 * 3, 27 * 48 * 3)
    );
    for point in &evaluation.open.points {
        assert!(point.fpir.low <= point.fpir.rate && point.fpir.rate <= point.fpir.high);
        assert!(point.fpir.rate < 0.2 && point.fnir.rate < 0.2, "{point:?}");
    }
    for target in &evaluation.open.targets {
        let keeps = target.point.as_ref().is_none_or(|point| point.fpir.rate <= target.fpir);
        assert!(keeps && target.point.is_some() == target.threshold.is_some(), "{target:?}");
    }
}

#[test]
fn a_trial_enrols_as_many_people_and_samples_as_asked() {
    let all = population(20, 3);
    let evaluation = evaluate(&all, &Plan { people: Some(10), samples: Some(2), ..plan() }).unwrap();
    assert_eq!((evaluation.open.people, evaluation.open.samples, evaluation.open.trials), (10, 2, 133));
    assert_eq!(evaluation.open.enrolled_probes, 133 * 10 * 3);
    assert_eq!(evaluation.open.stranger_probes, 133 * 10 * 3);
    let error = evaluate(&all, &Plan { samples: Some(3), ..plan() }).unwrap_err();
    assert_eq!(error, EvaluateError::Samples(3));
    let error = evaluate(&all, &Plan { people: Some(20), ..plan() }).unwrap_err();
    assert_eq!(error, EvaluateError::Gallery { asked: 20, fit: 20 });
    assert_eq!(evaluate(&population(2, 3), &plan()).unwrap_err(), EvaluateError::People(2));
    assert_eq!(evaluate(&population(5, 1), &plan()).unwrap_err(), EvaluateError::Samples(1));
}

#[test]
fn distances_are_those_of_the_definition() {
    // Points on a line: a at 0 and 1, b at 3 and 3.5, c at 10. The second component avoids the zero vector.
    let mut all = Samples::default();
    for (person, x) in [("a", 0.0), ("a", 1.0), ("b", 3.0), ("b", 3.5), ("c", 10.0)] {
        all.push(person, Encoding::new(vec![x, 5.0], 2).unwrap());
    }
    let prepared = Prepared::new(&all, Metric::Euclidean);
    let found = prepared.trials(Rule { people: 3, samples: 9, is_strict: false }, &[1]);
    let distances = |method: Method| {
        let list = &found.enrolled[method as usize];
        // Means are stored with sixteen bits per component.
        let thousandths = |distance: f32| (distance * 1000.0).round() / 1000.0;
        list.iter().map(|score| (score.person, thousandths(score.distance))).collect::<Vec<_>>()
    };
    // Person c has no other sample and is therefore not a probe. There are no strangers.
    assert_eq!(distances(Method::Nearest), [(0, 1.0), (0, 1.0), (1, 0.5), (1, 0.5)]);
    assert_eq!(distances(Method::Mean), [(0, 1.0), (0, 1.0), (1, 0.5), (1, 0.5)]);
    assert!(found.strangers.iter().all(Vec::is_empty));
}

#[test]
fn the_same_vector_under_two_names_is_counted_and_never_identified() {
    let mut all = population(20, 3);
    let twin = all.list()[0].1.clone();
    all.push("19", twin);
    let evaluation = evaluate(&all, &plan()).unwrap();
    assert_eq!(evaluation.closed.twins, 2);
    assert!(evaluation.closed.rank1[0].rate <= 59.0 / 61.0);
}

#[test]
fn an_evaluation_can_be_repeated() {
    let all = population(12, 3);
    let plan = Plan { thresholds: vec![0.7], ..plan() };
    let evaluation = evaluate(&all, &plan).unwrap();
    assert_eq!(evaluation, evaluate(&all, &plan).unwrap());
    assert_ne!(evaluation, evaluate(&all, &Plan { seed: 2, ..plan }).unwrap());
}
