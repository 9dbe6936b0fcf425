//! Tests of label errors, and of bounds from few people.

use super::bounds::widening;
use super::*;
use crate::calibration::BoundFactor;
use crate::encoding::Encoding;
use crate::tests::synthetic::People;

const DIMENSIONS: usize = 128;
/// Crowd of the tests.
const PEOPLE: usize = 300;

/// People with three encodings each. `wrong` is the number of people who also have an encoding of the next
/// person.
fn crowd(wrong: usize) -> Vec<Vec<Encoding>> {
    let mut source = People::new(DIMENSIONS, 5);
    let centres: Vec<Vec<f32>> = (0..PEOPLE).map(|_| source.person()).collect();
    let mut people: Vec<Vec<Encoding>> =
        centres.iter().map(|centre| (0..3).map(|_| source.sample(centre)).collect()).collect();
    for number in 0..wrong {
        let (one, other) = (2 * number, 2 * number + 1);
        // The next frame of a video: far beyond a repeated picture, far nearer than two pictures.
        let shift = 0.12 / (DIMENSIONS as f32).sqrt();
        let moved = people[other][0].as_slice().iter().map(|x| x + shift).collect();
        people[one].push(Encoding::new(moved, DIMENSIONS).unwrap());
    }
    people
}

fn measured(people: &[Vec<Encoding>]) -> Measured {
    let slices = people.iter().map(|encodings| encodings.iter().map(Encoding::as_slice).collect());
    let title = CalibrationTitle { model: "m".to_owned(), source: "made up".to_owned() };
    Faces::new(Metric::Euclidean, DIMENSIONS, slices).measure(title, 1).unwrap()
}

fn factor(measured: &Measured, people: usize, target: f64) -> f64 {
    let is_row = |row: &&BoundFactor| row.people == people && row.target.total_cmp(&target).is_eq();
    measured.calibration.bounds.iter().find(is_row).unwrap().factor
}

#[test]
fn label_errors_are_set_aside_where_people_decide_and_close_where_they_do_not() {
    let (right, wrong) = (measured(&crowd(0)), measured(&crowd(12)));
    assert_eq!(right.pairs_set_aside, 0, "people with right labels");
    // A pair is found only if its sample is in one of the columns; other pairs do not affect the bounds.
    assert!((4..=12).contains(&wrong.pairs_set_aside), "{}", wrong.pairs_set_aside);
    // Three of 300 people are more than one.
    let (without, with) = (factor(&right, 64, 0.01), factor(&wrong, 64, 0.01));
    assert!(with > without - 0.05, "{with} with label errors, {without} without");
    // One of 300 people is more than one in a thousand: a label error is a stranger who is accepted.
    assert_eq!(factor(&wrong, 64, 0.001), 0.0);
    assert!(factor(&right, 64, 0.001) > 0.5);
}

#[test]
fn look_alikes_stay_in_the_statistics() {
    let mut people = crowd(0);
    let plain = measured(&people);
    // As near as pictures of one person, for one in ten people.
    let mut source = People::new(DIMENSIONS, 6);
    for number in 0..PEOPLE / 20 {
        people[2 * number] = people[2 * number + 1].iter().map(|sample| source.near(sample)).collect();
    }
    let alike = measured(&people);
    // A few of them are even nearer than two pictures of one person usually are.
    assert!(alike.pairs_set_aside <= PEOPLE / 20 / 4, "{}", alike.pairs_set_aside);
    assert!(factor(&alike, 64, 0.01) < factor(&plain, 64, 0.01) - 0.05);
}

#[test]
fn bounds_are_widened_by_students_quantile() {
    // t(0.99; 9) = 2.821, t(0.99; 73) = 2.379.
    for (people, student) in [(10.0_f64, 2.821), (74.0, 2.379), (1e9, 2.326)] {
        let want = student / 2.326 * (1.0 + 1.0 / people).sqrt();
        // The expansion of the quantile is 0.005 too small for ten people.
        assert!((widening(people) - want).abs() < 0.005, "{people}: {}", widening(people));
    }
}
