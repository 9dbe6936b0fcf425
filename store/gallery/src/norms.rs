//! Norms of the model's encodings, learned from enrolled ones. Encodings with an implausible norm get no
//! decision.

use super::encoding::norm;

/// Templates from which on their norms are representative of the model.
const TEMPLATES_MIN: f64 = 32.0;
/// Standard deviations by which a face may differ from the mean norm. Of 12,812 dlib encodings, none exceeds
/// 3.5.
const DEVIATIONS: f64 = 5.0;
/// A model normalizes its encodings if mean norm and deviation are within this of 1 and 0.
const NORMALISED: f64 = 0.01;
/// Share by which a norm may then differ, for rounding.
const SHARE_NORMALISED: f64 = 0.05;
/// Least share otherwise: good pictures of dlib are within a fifth, and noise lengthens poor ones.
const SHARE_MIN: f64 = 0.4;
/// Largest share otherwise.
const SHARE_MAX: f64 = 0.9;

/// Sums over norms.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Norms {
    count: f64,
    sum: f64,
    squares: f64,
}

impl Norms {
    /// Of one encoding.
    pub(super) fn of(components: &[f32]) -> Self {
        let norm = norm(components);
        Self { count: 1.0, sum: norm, squares: norm * norm }
    }

    /// Subtracts `before` and adds `after`.
    pub(super) fn change(&mut self, before: Self, after: Self) {
        self.count += after.count - before.count;
        self.sum += after.sum - before.sum;
        self.squares += after.squares - before.squares;
    }

    /// Whether it has length 1, except for rounding.
    pub(super) fn is_unit(&self) -> bool {
        (self.sum - 1.0).abs() <= SHARE_NORMALISED
    }

    /// The mean norm; none without encodings.
    pub(super) fn mean(&self) -> Option<f64> {
        (self.count > 0.5).then(|| self.sum / self.count)
    }

    /// Whether a face can be of the model, as far as that is known; `normalised` if the model's encodings
    /// have length 1.
    pub(super) fn fits(&self, face: Self, normalised: bool) -> bool {
        if normalised {
            return face.is_unit();
        }
        let Some(mean) = self.mean().filter(|_| self.count >= TEMPLATES_MIN) else { return true };
        let deviation = (self.squares / self.count - mean * mean).max(0.0).sqrt();
        let share = match deviation / mean {
            deviation if deviation.max((mean - 1.0).abs()) < NORMALISED => SHARE_NORMALISED,
            deviation => (DEVIATIONS * deviation).clamp(SHARE_MIN, SHARE_MAX),
        };
        (face.sum - mean).abs() <= share * mean
    }
}

/// Sums over the norms of one person's templates, in `f32` to save memory.
#[derive(Clone, Copy, Default)]
pub(super) struct OwnNorms {
    sum: f32,
    squares: f32,
}

impl OwnNorms {
    /// The same with one more template.
    #[expect(clippy::cast_possible_truncation, reason = "rounded, and taken away as it was added")]
    #[must_use]
    pub(super) fn with(self, template: Norms) -> Self {
        let Norms { sum, squares, .. } = self.among(0);
        Self { sum: (sum + template.sum) as f32, squares: (squares + template.squares) as f32 }
    }

    /// As sums over so many templates.
    #[expect(clippy::cast_precision_loss, reason = "a person has few")]
    pub(super) fn among(self, templates: usize) -> Norms {
        Norms { count: templates as f64, sum: self.sum.into(), squares: self.squares.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn removed_templates_are_subtracted() {
        let (mut norms, mut own) = (Norms::of(&[1.5]), OwnNorms::default());
        for count in 0..32 {
            let more = own.with(Norms::of(&[0.1 + 0.3 * count as f32]));
            norms.change(own.among(count), more.among(count + 1));
            own = more;
        }
        assert!((norms.mean().unwrap() - 4.6515).abs() < 1e-3, "{norms:?}");
        norms.change(own.among(32), Norms::default());
        assert!((norms.mean().unwrap() - 1.5).abs() < 1e-9, "{norms:?}");
    }

    #[test]
    fn lengths_are_judged_once_enough_are_known() {
        let mut norms = Norms::default();
        for at in 0..31 {
            norms.change(Norms::default(), Norms::of(&[1.3 + 0.01 * at as f32]));
        }
        assert!(norms.fits(Norms::of(&[100.0]), false), "31 templates are too few");
        norms.change(Norms::default(), Norms::of(&[1.61]));
        assert!(norms.fits(Norms::of(&[1.1]), false) && norms.fits(Norms::of(&[-1.9]), false));
        assert!(!norms.fits(Norms::of(&[0.8]), false) && !norms.fits(Norms::of(&[2.1]), false));
        norms.change(Norms::of(&[1.61]), Norms::default());
        assert!(norms.fits(Norms::of(&[100.0]), false), "erased people are not counted");
    }

    #[test]
    fn normalised_models_allow_for_rounding_and_nothing_more() {
        let mut norms = Norms::default();
        (0..32).for_each(|_| norms.change(Norms::default(), Norms::of(&[0.6, 0.8])));
        assert!(
            norms.fits(Norms::of(&[0.61, 0.81]), false)
                && !norms.fits(Norms::of(&[1.2, 1.6]), false)
                && !norms.fits(Norms::of(&[0.5, 0.5]), false)
        );
        let unknown = Norms::default();
        assert!(unknown.fits(Norms::of(&[1.2, 1.6]), false) && unknown.fits(Norms::of(&[0.6, 0.81]), true));
        assert!(!unknown.fits(Norms::of(&[1.2, 1.6]), true), "it was said before anybody was enrolled");
    }
}
