//! How near strangers come: the lower tail of the distances between different people, and the threshold from it.
//!
//! Model: the Euclidean distance `d` of a stranger's face to one enrolled person (mean template or nearest sample) has
//! near its lower end the distribution function `F(d) = Phi((d - mu) / sigma)`. The distance to the nearest of `N`
//! people is the first order statistic of `N` such distances, `G(d) = 1 - (1 - F(d))^N` (David and Nagaraja, "Order
//! Statistics", 2003, section 2.1), so that the threshold for a share `p` of accepted strangers is
//!
//! **`T = mu + sigma * PhiInverse(1 - (1 - p)^(1/N))`.**
//!
//! People are not equally near to everybody; that makes the true share smaller than this one and never larger than
//! `N * F(T)` (the union bound). With real dlib encodings a normal tail through the distances of one in a hundred and
//! one in a thousand pairs lies within 0.01 of that of one in a hundred thousand.
//!
//! `mu` and `sigma` are fitted to nearest distances by maximum likelihood, with a prior of the model that counts as
//! much as a few dozen people and gives way to data. Distances enter through the bins of [`Prior::edges`], the
//! outermost without an end: what is absurdly near (one person under two names) or far (no face at all) counts as
//! just beyond, so that no single distance moves the threshold far. Of strangers at the door only those beyond
//! [`Prior::clear`] are used, with the likelihood of a truncated sample: below it lie enrolled people who were missed,
//! and strangers who were accepted are not among them.

use super::Metric;

/// Standard deviations from `mu` to the lowest edge: one pair of people in a hundred thousand is nearer.
const LOWEST: f64 = -4.25;
/// Width of a bin, in standard deviations of the prior.
const BIN: f64 = 0.125;
/// Bins; the last edge lies 1.25 standard deviations above `mu`.
const BINS: usize = 44;
/// Edges below [`Prior::clear`]: it lies 2.375 standard deviations below `mu`, where with dlib nineteen of twenty
/// faces of an enrolled person are nearer, and one stranger in a hundred to one enrolled person.
const EDGES_TO_CLEAR: usize = 15;
/// Share of strangers that must lie beyond [`Prior::clear`] for those to say anything of the tail. Beyond some 300
/// people it is less: then the enrolled people, who are many, are the better witnesses.
const CLEAR_SHARE_MIN: f64 = 0.05;
/// Distances, the nearest first, whose values count; of the others only that they are larger. People lie more or less
/// among others, and that spreads the middle of the distances more than their lower tail, which is asked for.
const TAIL: f64 = 30.0;
/// At most so large a share of them, where there are few.
const TAIL_SHARE: f64 = 0.2;
/// How far a fit may go from the prior, in standard deviations of the prior's doubt.
const REACH: f64 = 4.0;
/// Steps of the search along each parameter, and its rounds, each over a third of the range before.
const STEPS: i32 = 6;
const ROUNDS: i32 = 7;

/// What is known of a model before anybody is enrolled.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Prior {
    /// `mu` of the module, as a Euclidean distance.
    pub(crate) mu: f64,
    /// `sigma` of the module.
    pub(crate) sigma: f64,
    /// Standard deviation of `mu` from model to model and gallery to gallery.
    pub(crate) mu_doubt: f64,
    /// The same of the logarithm of `sigma`.
    pub(crate) sigma_doubt: f64,
}

impl Prior {
    /// dlib's ResNet of 128 components, people with several samples: from published distances of 5,525 people.
    const DLIB: Self = Self { mu: 0.828, sigma: 0.105, mu_doubt: 0.03, sigma_doubt: 0.1 };
    /// Encodings of unit length: FaceNet and its kin, whose equal error rate of about 2 % lies at 1.10.
    const UNIT: Self = Self { mu: 1.35, sigma: 0.12, mu_doubt: 0.06, sigma_doubt: 0.2 };

    /// The prior of a model. One that is not known by name is taken for a model of unit length; where it compares
    /// encodings by the Euclidean distance and they are of another length, scaled to it.
    pub(crate) fn of(model: &str, metric: Metric, norm: Option<f64>) -> Self {
        if metric == Metric::Euclidean && model.starts_with("dlib") {
            return Self::DLIB;
        }
        let scale = norm.filter(|_| metric == Metric::Euclidean).unwrap_or(1.0);
        let Self { mu, sigma, mu_doubt, sigma_doubt } = Self::UNIT;
        Self { mu: mu * scale, sigma: sigma * scale, mu_doubt: mu_doubt * scale, sigma_doubt }
    }

    /// The `BINS - 1` distances between the bins.
    fn edges(&self) -> impl Iterator<Item = f64> {
        let Self { mu, sigma, .. } = *self;
        (0..BINS - 1).map(move |at| mu + sigma * (LOWEST + BIN * at as f64))
    }

    fn bin(&self, distance: f64) -> usize {
        self.edges().take_while(|edge| distance > *edge).count()
    }

    /// Beyond this distance a face is clearly no enrolled person's.
    pub(crate) fn clear(&self) -> f64 {
        self.mu + self.sigma * (LOWEST + BIN * EDGES_TO_CLEAR as f64)
    }

    /// Whether strangers beyond [`Prior::clear`] say anything where so many people are enrolled.
    pub(crate) fn hears_strangers(&self, people: f64) -> bool {
        (people * (-phi((self.clear() - self.mu) / self.sigma)).ln_1p()).exp() >= CLEAR_SHARE_MIN
    }

    /// The prior as a fit to nothing.
    pub(crate) fn tail(&self) -> Tail {
        Tail {
            mu: self.mu,
            sigma: self.sigma,
            spread: [self.mu_doubt.powi(2), 0.0, (self.sigma_doubt * self.sigma).powi(2)],
        }
    }
}

/// Nearest distances among about equally many people, counted by bins.
pub(crate) struct Nearest {
    people: f64,
    is_truncated: bool,
    bins: [f64; BINS],
}

impl Nearest {
    /// Nothing yet. `is_truncated`: only distances beyond [`Prior::clear`] were kept.
    pub(crate) fn new(people: f64, is_truncated: bool) -> Self {
        Self { people: people.max(1.0), is_truncated, bins: [0.0; BINS] }
    }

    /// Counts a distance with its weight.
    pub(crate) fn add(&mut self, prior: &Prior, distance: f64, weight: f64) {
        self.bins[prior.bin(distance)] += weight;
    }

    /// The logarithm of the likelihood of all that was counted.
    fn likelihood(&self, prior: &Prior, mu: f64, sigma: f64) -> f64 {
        // Logarithm of the share of strangers beyond each edge; everybody lies beyond the first bin's lower end.
        let beyond: Vec<f64> =
            prior.edges().map(|edge| self.people * (-phi((edge - mu) / sigma)).ln_1p()).collect();
        let within = |at: usize| {
            let low = if at == 0 { 0.0 } else { beyond[at - 1] };
            // exp(low) - exp(high), without losing a small difference of two shares near one.
            match beyond.get(at) {
                Some(high) => low + (-(high - low).exp_m1()).max(f64::MIN_POSITIVE).ln(),
                None => low,
            }
        };
        let kept = if self.is_truncated { beyond[EDGES_TO_CLEAR] } else { 0.0 };
        let (near, far) = self.bins.split_at(self.censored());
        let far: f64 = far.iter().sum();
        let counted = near.iter().enumerate().filter(|(_, weight)| **weight > 0.0);
        let likelihood: f64 = counted.map(|(at, weight)| weight * (within(at) - kept)).sum();
        if far > 0.0 { likelihood + far * (beyond[near.len() - 1] - kept) } else { likelihood }
    }

    /// From which bin on all that counts is that a distance lies beyond.
    fn censored(&self) -> usize {
        let part = TAIL.min(TAIL_SHARE * self.bins.iter().sum::<f64>());
        let mut sum = 0.0;
        let reached = self.bins.iter().position(|weight| {
            sum += weight;
            sum >= part
        });
        reached.map_or(BINS, |at| at + 1)
    }
}

/// A fitted lower tail.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Tail {
    mu: f64,
    sigma: f64,
    /// Variance of `mu`, covariance, variance of `sigma`.
    spread: [f64; 3],
}

impl Tail {
    /// The most likely tail behind what was counted; see the module.
    pub(crate) fn fit(prior: &Prior, seen: &[Nearest]) -> Self {
        // Both parameters in units of the prior's doubt.
        let at =
            |a: f64, b: f64| (prior.mu + a * prior.mu_doubt, prior.sigma * (b * prior.sigma_doubt).exp());
        let score = |a: f64, b: f64| {
            let (mu, sigma) = at(a, b);
            seen.iter().map(|seen| seen.likelihood(prior, mu, sigma)).sum::<f64>() - (a * a + b * b) / 2.0
        };
        let (mut a, mut b) = (0.0, 0.0);
        for round in 0..ROUNDS {
            let step = REACH / f64::from(STEPS) / 3.0_f64.powi(round);
            let grid = (-STEPS..=STEPS).flat_map(|i| (-STEPS..=STEPS).map(move |j| (i, j)));
            let near = |middle: f64, steps: i32| (middle + f64::from(steps) * step).clamp(-REACH, REACH);
            let scored = grid.map(|(i, j)| (near(a, i), near(b, j))).map(|(a, b)| (a, b, score(a, b)));
            (a, b, _) = scored.max_by(|x, y| x.2.total_cmp(&y.2)).unwrap_or((a, b, 0.0));
        }
        let (mu, sigma) = at(a, b);
        Self { mu, sigma, spread: spread(prior, sigma, (a, b), score) }
    }

    /// The Euclidean threshold at which a share of strangers is taken for one of so many people.
    pub(crate) fn threshold(&self, share: f64, people: usize) -> f64 {
        self.mu + self.sigma * quantile(per_person(share, people))
    }

    /// The standard deviation of [`Tail::threshold`], as far as the fit does not know it.
    pub(crate) fn doubt(&self, share: f64, people: usize) -> f64 {
        let z = quantile(per_person(share, people));
        let [mu, both, sigma] = self.spread;
        (mu + 2.0 * z * both + z * z * sigma).max(0.0).sqrt()
    }

    /// The share of strangers that is taken for one of so many people within a Euclidean distance.
    pub(crate) fn share(&self, distance: f64, people: usize) -> f64 {
        -(people as f64 * (-phi((distance - self.mu) / self.sigma)).ln_1p()).exp_m1()
    }

    /// This tail as what is known before a camera's own strangers are heard.
    pub(crate) fn as_prior(&self, of: &Prior) -> Prior {
        Prior { mu: self.mu, sigma: self.sigma, ..*of }
    }
}

/// The share of strangers who may lie within the threshold of one person.
fn per_person(share: f64, people: usize) -> f64 {
    -((-share).ln_1p() / people.max(1) as f64).exp_m1()
}

/// Covariance of the parameters from the curvature of the score at its top (Laplace's approximation).
fn spread(prior: &Prior, sigma: f64, (a, b): (f64, f64), score: impl Fn(f64, f64) -> f64) -> [f64; 3] {
    const H: f64 = 0.02;
    let top = score(a, b);
    let aa = (score(a + H, b) + score(a - H, b) - 2.0 * top) / (H * H);
    let bb = (score(a, b + H) + score(a, b - H) - 2.0 * top) / (H * H);
    let corners = [score(a + H, b + H), score(a - H, b - H), score(a + H, b - H), score(a - H, b + H)];
    let ab = (corners[0] + corners[1] - corners[2] - corners[3]) / (4.0 * H * H);
    // At least the prior's curvature: at a border of the search there may be no top.
    let (aa, bb) = ((-aa).max(1.0), (-bb).max(1.0));
    let determinant = (aa * bb - ab * ab).max(1.0);
    let (mu, sigma) = (prior.mu_doubt, sigma * prior.sigma_doubt);
    [mu * mu * bb / determinant, mu * sigma * ab / determinant, sigma * sigma * aa / determinant]
}

/// The normal distribution function, to seven digits of its value however small it is: the rational approximation of
/// Press and others, "Numerical Recipes in C" (1992), section 6.2.
fn phi(z: f64) -> f64 {
    let x = z.abs() / std::f64::consts::SQRT_2;
    let t = 1.0 / (1.0 + 0.5 * x);
    const TERMS: [f64; 10] = [
        0.17087277,
        -0.82215223,
        1.48851587,
        -1.13520398,
        0.27886807,
        -0.18628806,
        0.09678418,
        0.37409196,
        1.00002368,
        -1.26551223,
    ];
    let sum = TERMS.iter().fold(0.0, |sum, term| sum * t + term);
    let below = 0.5 * t * (sum - x * x).exp();
    if z < 0.0 { below } else { 1.0 - below }
}

/// Its inverse, for shares up to a half, by bisection.
fn quantile(share: f64) -> f64 {
    let (mut low, mut high) = (-12.0, 0.0);
    for _ in 0..40 {
        let middle = (low + high) / 2.0;
        if phi(middle) < share { low = middle } else { high = middle }
    }
    (low + high) / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRIOR: Prior = Prior::DLIB;

    #[test]
    fn the_normal_distribution_is_that_of_the_tables() {
        for (z, share) in [(-1.0, 0.158_655_25), (-3.0, 1.349_898e-3), (-4.753_424, 1e-6), (1.0, 0.841_344_7)]
        {
            assert!((phi(z) / share - 1.0).abs() < 1e-5, "{z}: {}", phi(z));
        }
        assert!((quantile(1e-6) + 4.753_424).abs() < 1e-4);
    }

    #[test]
    fn threshold_and_share_are_inverse_and_follow_the_number_of_people() {
        let tail = PRIOR.tail();
        let mut before = f64::INFINITY;
        for people in [1, 10, 50, 200, 1600, 100_000] {
            let threshold = tail.threshold(0.001, people);
            assert!((tail.share(threshold, people) / 0.001 - 1.0).abs() < 1e-3);
            assert!(threshold < before && tail.threshold(0.01, people) > threshold);
            before = threshold;
        }
    }

    fn drawn(random: &mut fastrand::Rng, mu: f64, sigma: f64, people: usize) -> f64 {
        let nearest = 1.0 - random.f64().powf(1.0 / people as f64);
        let distance = if nearest > 0.5 { -quantile(1.0 - nearest) } else { quantile(nearest) };
        mu + sigma * distance
    }

    #[test]
    fn a_fit_finds_the_tail_and_its_bounds_hold_it() {
        let mut random = fastrand::Rng::with_seed(1);
        let (mu, sigma) = (0.86, 0.095);
        let truth = Tail { mu, sigma, spread: [0.0; 3] };
        for is_truncated in [false, true] {
            let mut held = 0;
            for _ in 0..20 {
                let mut seen = Nearest::new(50.0, is_truncated);
                for _ in 0..2000 {
                    let distance = drawn(&mut random, mu, sigma, 50);
                    if !is_truncated || distance > PRIOR.clear() {
                        seen.add(&PRIOR, distance, 1.0);
                    }
                }
                let fit = Tail::fit(&PRIOR, &[seen]);
                let off = fit.threshold(0.001, 50) - truth.threshold(0.001, 50);
                assert!(off.abs() < 0.03, "{off} {fit:?}");
                held += u32::from(off.abs() < 1.96 * fit.doubt(0.001, 50));
            }
            assert!(held >= 16, "{held} of 20 intervals hold the truth");
        }
    }

    #[test]
    fn nothing_seen_is_the_prior_and_one_absurd_distance_moves_little() {
        let none = Tail::fit(&PRIOR, &[]);
        assert!((none.threshold(0.001, 10) - PRIOR.tail().threshold(0.001, 10)).abs() < 1e-6);
        assert!((none.doubt(0.001, 10) / PRIOR.tail().doubt(0.001, 10) - 1.0).abs() < 0.01);
        let mut seen = Nearest::new(10.0, false);
        seen.add(&PRIOR, 0.0, 1.0);
        let near = Tail::fit(&PRIOR, &[seen]);
        assert!((near.threshold(0.001, 10) - none.threshold(0.001, 10)).abs() < 0.1, "{near:?}");
    }
}
