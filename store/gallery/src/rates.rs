//! Error rates with confidence bounds, from measured distances.
//!
//! Several measurements of one person are not independent. Therefore the variance of the rate between people
//! gives the effective number of independent measurements. Wilson's interval for that number is the 95 %
//! bound. Without any hit, every person counts once.

use serde::{Deserialize, Serialize};

/// Standard deviations on both sides of a 95 % bound.
const Z: f64 = 1.96;
/// Minimum number of independent measurements for a threshold: one person alone gives 1, two give 2.
const INDEPENDENT_MIN: f64 = 1.5;

/// A rate and its 95 % confidence interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The measured share.
    pub rate: f64,
    /// Lower bound.
    pub low: f64,
    /// Upper bound.
    pub high: f64,
}

/// A threshold that meets a target, and its 95 % confidence interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Threshold {
    /// The threshold.
    pub value: f32,
    /// Lower bound, at which the target is met almost certainly.
    pub low: f32,
    /// Upper bound.
    pub high: f32,
}

/// A measured distance of a person.
#[derive(Debug, Clone, Copy)]
pub struct Score {
    /// Number of the person.
    pub person: u32,
    /// Distance; infinite if another person was nearer.
    pub distance: f32,
}

/// Distances of many people, in order.
pub struct Scores {
    sorted: Vec<Score>,
    people: usize,
}

impl Scores {
    /// Takes the distances; person numbers are small.
    pub fn new(mut scores: Vec<Score>) -> Self {
        scores.sort_by(|a, b| a.distance.total_cmp(&b.distance));
        let mut people: Vec<u32> = scores.iter().map(|score| score.person).collect();
        people.sort_unstable();
        people.dedup();
        Self { sorted: scores, people: people.len() }
    }

    /// Number of measurements.
    pub fn len(&self) -> usize {
        self.sorted.len()
    }

    /// Whether there is no measurement.
    pub fn is_empty(&self) -> bool {
        self.sorted.is_empty()
    }

    /// Share of distances up to `threshold`.
    pub fn within(&self, threshold: f32) -> Estimate {
        let hits = self.sorted.partition_point(|score| score.distance <= threshold);
        wilson(ratio(hits, self.len()), self.worth(hits))
    }

    /// Effective number of independent measurements, for the rate at `threshold`.
    pub fn independent(&self, threshold: f32) -> f64 {
        self.worth(self.sorted.partition_point(|score| score.distance <= threshold))
    }

    /// Share of distances beyond `threshold`.
    pub fn beyond(&self, threshold: f32) -> Estimate {
        let Estimate { rate, low, high } = self.within(threshold);
        Estimate { rate: 1.0 - rate, low: 1.0 - high, high: 1.0 - low }
    }

    /// The largest threshold with at most `share` of the distances within it; none if there are too few.
    pub fn threshold(&self, share: f64) -> Option<Threshold> {
        let allowed = (share * self.len() as f64).floor() as usize;
        let worth = self.worth(allowed);
        // The number of people limits what many measurements of few people can show.
        if allowed == 0 || worth * share < INDEPENDENT_MIN {
            return None;
        }
        let bounds = wilson(share, worth);
        Some(Threshold {
            value: self.quantile(share),
            low: self.quantile(bounds.low),
            high: self.quantile(bounds.high),
        })
    }

    /// Just below the first distance that is too many.
    fn quantile(&self, share: f64) -> f32 {
        let allowed = (share * self.len() as f64).floor() as usize;
        self.sorted.get(allowed).map_or(f32::MAX, |score| score.distance.next_down().max(0.0))
    }

    /// Effective number of independent measurements, for the rate of the first `hits` of them.
    fn worth(&self, hits: usize) -> f64 {
        if self.sorted.is_empty() {
            return 0.0;
        }
        let (all, people) = (self.len() as f64, self.people as f64);
        let rate = ratio(hits, self.len());
        let highest = self.sorted.iter().map(|score| score.person as usize + 1).max().unwrap_or(0);
        let mut counts = vec![(0_u32, 0_u32); highest];
        for (at, score) in self.sorted.iter().enumerate() {
            let (hit, count) = &mut counts[score.person as usize];
            *hit += u32::from(at < hits);
            *count += 1;
        }
        let spread = |(hit, count): &(u32, u32)| (f64::from(*hit) - rate * f64::from(*count)).powi(2);
        let variance = counts.iter().map(spread).sum::<f64>() / (all * all);
        if variance <= 0.0 { people } else { (rate * (1.0 - rate) / variance).clamp(1.0, all) }
    }
}

fn ratio(part: usize, whole: usize) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// Wilson's 95 % interval of a rate from `n` independent measurements.
pub(crate) fn wilson(rate: f64, n: f64) -> Estimate {
    if n <= 0.0 {
        return Estimate { rate, low: 0.0, high: 1.0 };
    }
    let square = Z * Z / n;
    let middle = (rate + square / 2.0) / (1.0 + square);
    let half = Z * (rate * (1.0 - rate) / n + square / (4.0 * n)).sqrt() / (1.0 + square);
    Estimate { rate, low: (middle - half).clamp(0.0, rate), high: (middle + half).clamp(rate, 1.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scores(distances: impl IntoIterator<Item = (u32, f32)>) -> Scores {
        Scores::new(distances.into_iter().map(|(person, distance)| Score { person, distance }).collect())
    }

    #[test]
    fn rates_and_thresholds_fit_each_other() {
        let all = scores((0..1000).map(|n| (n, n as f32 / 1000.0)));
        let t = all.threshold(0.01).unwrap();
        assert!((t.value - 0.01).abs() < 1e-6 && t.low < t.value && t.value < t.high, "{t:?}");
        assert_eq!(all.within(t.value).rate, 0.01);
        assert_eq!(all.beyond(t.value).rate, 0.99);
        assert!(all.threshold(0.0009).is_none(), "a thousand strangers cannot show one in ten thousand");
        let repeated = scores((0..1000).map(|n| (n % 20, (n % 20) as f32 / 20.0)));
        assert!(repeated.threshold(0.01).is_none(), "twenty strangers cannot show one in a hundred");
    }

    #[test]
    fn bounds_are_those_of_the_textbook_for_independent_people() {
        // 10 of 100: Wilson's interval is 5.52 % to 17.44 %.
        let all = scores((0..100).map(|n| (n, if n < 10 { 0.1 } else { 0.9 })));
        let rate = all.within(0.5);
        assert!((rate.low - 0.0552).abs() < 2e-4 && (rate.high - 0.1744).abs() < 2e-4, "{rate:?}");
        let none = all.within(0.05);
        assert_eq!((none.rate, none.low), (0.0, 0.0));
        assert!((none.high - 0.037).abs() < 1e-3, "{none:?}");
    }

    #[test]
    fn few_measurements_give_no_threshold() {
        let none = scores([]);
        assert_eq!(none.within(0.5), Estimate { rate: 0.0, low: 0.0, high: 1.0 });
        assert!(none.threshold(0.5).is_none());
        let one = scores([(0, 0.2)]);
        assert!(one.within(0.5).low < 0.3 && one.threshold(0.01).is_none());
    }

    #[test]
    fn many_samples_of_one_person_are_worth_one_person() {
        let few = scores((0..100).map(|n| (n, if n < 10 { 0.1 } else { 0.9 })));
        let many = scores((0..100).flat_map(|n| (0..50).map(move |_| (n, if n < 10 { 0.1 } else { 0.9 }))));
        assert!((few.within(0.5).high - many.within(0.5).high).abs() < 1e-3);
    }
}
