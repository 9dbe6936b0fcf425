//! The decision on a face from distances.

use gatehouse_model::Outcome;

/// Margin to the second person, as a share of the threshold, below which a match is ambiguous.
///
/// With common models, the second person of a true match is farther away by at least half of the threshold.
/// Twins, and two enrollments of one person, are within a few hundredths. An ambiguous match must not open a
/// door.
pub const AMBIGUITY_RATIO: f32 = 0.1;

/// The decision on one face, from the distances of the nearest and the second nearest person. A threshold of
/// 0 never matches, not even an identical encoding.
pub(super) fn decide(threshold: f32, best: Option<f32>, second: Option<f32>) -> Outcome {
    match (best, second) {
        _ if threshold <= 0.0 => Outcome::Stranger,
        (Some(best), _) if best > threshold => Outcome::Stranger,
        (Some(best), Some(second)) if second <= threshold && second - best < AMBIGUITY_RATIO * threshold => {
            Outcome::Ambiguous
        }
        (Some(_), _) => Outcome::Match,
        (None, _) => Outcome::Stranger,
    }
}

/// Whether distances may change by `near` without a change of the decision. An approximate search is trusted
/// only if this is true.
pub(super) fn is_clear(threshold: f32, best: Option<f32>, second: Option<f32>, near: f32) -> bool {
    let Some(best) = best else { return false };
    if best > threshold {
        return best > threshold + near;
    }
    let second_is_clear = second
        .is_none_or(|second| second > threshold + near || second - best > AMBIGUITY_RATIO * threshold + near);
    best < threshold - near && second_is_clear
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decision_follows_threshold_and_margin() {
        let t = 0.4;
        assert_eq!(decide(t, None, None), Outcome::Stranger);
        assert_eq!(decide(t, Some(0.41), None), Outcome::Stranger);
        assert_eq!(decide(t, Some(0.4), None), Outcome::Match);
        assert_eq!(decide(t, Some(0.3), Some(0.5)), Outcome::Match);
        assert_eq!(
            decide(t, Some(0.39), Some(0.401)),
            Outcome::Match,
            "the second is a stranger to this face"
        );
        assert_eq!(decide(t, Some(0.3), Some(0.33)), Outcome::Ambiguous);
        assert_eq!(decide(t, Some(0.3), Some(0.35)), Outcome::Match);
        assert_eq!(decide(0.0, Some(0.0), None), Outcome::Stranger, "no threshold");
        assert_eq!(decide(t, Some(0.0), Some(0.0)), Outcome::Ambiguous, "one face under two names");
    }

    #[test]
    fn distances_near_a_limit_are_not_clear() {
        let clear = |best, second| is_clear(0.4, Some(best), Some(second), 0.01);
        assert!(clear(0.3, 0.6) && clear(0.5, 0.6) && clear(0.2, 0.3));
        assert!(!clear(0.395, 0.6) && !clear(0.405, 0.6), "near the threshold");
        assert!(!clear(0.36, 0.395) && !clear(0.3, 0.345), "near an ambiguity");
        assert!(!is_clear(0.4, None, None, 0.01));
    }
}
