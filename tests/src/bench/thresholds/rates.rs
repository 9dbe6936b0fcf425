//! Confidence intervals of shares from few draws.

/// Probability on each side of an interval.
const SIDE: f64 = 0.025;
/// Significance level: below this probability, the number of accepted strangers shows a rate above the
/// target.
const SHOWN_BELOW: f64 = 0.05;

/// The 95 % interval of a share, in percent (Clopper and Pearson, 1934).
pub(super) fn interval(part: usize, whole: usize) -> String {
    let low = if part == 0 { 0.0 } else { at(|rate| at_least(part, whole, rate) >= SIDE) };
    let high = if part == whole { 1.0 } else { at(|rate| 1.0 - at_least(part + 1, whole, rate) <= SIDE) };
    format!("{:.1}-{:.1}", 100.0 * low, 100.0 * high)
}

/// Whether the number of accepted strangers is improbable if each is accepted with the probability `rate`.
pub(super) fn is_shown_over(accepted: usize, strangers: usize, rate: f64) -> bool {
    accepted > 0 && at_least(accepted, strangers, rate) < SHOWN_BELOW
}

/// Probability of at least `part` hits of `whole`.
fn at_least(part: usize, whole: usize, rate: f64) -> f64 {
    let mut probability = (whole as f64 * (-rate).ln_1p()).exp();
    let mut fewer = 0.0;
    for number in 0..part {
        fewer += probability;
        probability *= (whole - number) as f64 / (number + 1) as f64 * rate / (1.0 - rate);
    }
    1.0 - fewer
}

/// The smallest rate at which a monotonic condition holds.
fn at(holds: impl Fn(f64) -> bool) -> f64 {
    const STEPS: usize = 40;
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..STEPS {
        let middle = f64::midpoint(low, high);
        if holds(middle) { high = middle } else { low = middle }
    }
    high
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_those_of_the_textbook() {
        assert_eq!(interval(0, 100), "0.0-3.6");
        assert_eq!(interval(5, 100), "1.6-11.3");
        assert_eq!(interval(3, 20), "3.2-37.9");
        assert_eq!(interval(20, 20), "83.2-100.0");
    }

    #[test]
    fn one_stranger_of_a_thousand_shows_nothing_and_four_do() {
        assert!(!is_shown_over(0, 1000, 0.001) && !is_shown_over(1, 1000, 0.001));
        assert!(is_shown_over(4, 1000, 0.001) && is_shown_over(1, 40, 0.001));
    }
}
