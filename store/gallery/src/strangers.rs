//! Labels for unknown visitors, valid for one day.
//!
//! Constraints: all data is in RAM. None of it is written to the journal or to a log. A label is drawn with a
//! random key of the day. At midnight, key, labels and encodings are wiped together. So no label can be
//! linked with a face or with a label of another day. The next visit detects midnight; without a visit,
//! [`Strangers::sweep`] does. Nothing is stored while labels are off.
//!
//! A stranger is recognized like a person: by the nearest sample within the threshold, which must be clearly
//! nearer than those of any other stranger. Otherwise there is no label, because two visitors must never
//! share one.

use std::fmt;
use std::time::{Duration, Instant};

use gatehouse_model::Outcome;
use gatehouse_model::random;
use gatehouse_vault::seal::DataKey;
use serde::Serialize;
use zeroize::Zeroizing;

use super::decide::decide;
use super::vector::{Probe, square_distance};
use super::{Encoding, MatchRule, Metric};

/// Maximum number of stored strangers: more than a busy camera sees in a day, and at most 3 MB of 512-d
/// encodings. Beyond it, the stranger seen least recently is evicted.
pub const STRANGERS_MAX: usize = 512;
/// Maximum samples of one stranger. Two samples of one face are farther apart than the threshold in half of
/// the cases. With four samples, most later ones are near enough to one of them.
const SAMPLES_MAX: usize = 4;
/// Time since the last event within which an event belongs to the same visit: cameras send several per visit.
pub const SAME_VISIT_WINDOW: Duration = Duration::from_secs(600);
/// Attempts to draw a free label. At most one in a hundred fails, so eight failures in a row are negligible.
const DRAWS_MAX: u64 = 8;

/// Time of a visit.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// Day by the wall clock: labels are valid for one day.
    pub day: i32,
    /// Monotonic time, for the interval between events.
    pub at: Instant,
}

/// Label and visits of a stranger, as in the answer to a camera.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct StrangerMark {
    /// `stranger-` and four hexadecimal digits; valid for one day only.
    pub stranger_label: String,
    /// Visits today, including this one.
    pub stranger_visits: u32,
}

impl fmt::Debug for StrangerMark {
    /// Prints only the type name: a label must never be logged.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StrangerMark")
    }
}

/// One stranger of the day.
struct Visitor {
    label: u16,
    samples: Vec<Probe>,
    visits: u32,
    seen: Instant,
}

/// A day with its key; wiped on drop.
struct Day {
    number: i32,
    key: DataKey,
    drawn: u64,
    visitors: Vec<Visitor>,
}

/// Index and distance of a stranger.
type Near = Option<(usize, f32)>;

/// The strangers of today. Off by default.
#[derive(Default)]
pub struct Strangers {
    on: bool,
    today: Option<Day>,
}

impl Strangers {
    /// Switches labels on or off. Off removes all strangers at once.
    pub fn switch(&mut self, on: bool) {
        self.on = on;
        if !on {
            self.forget();
        }
    }

    /// Removes all strangers; the next visitor is a new stranger.
    pub fn forget(&mut self) {
        self.today = None;
    }

    /// Removes all strangers if the day differs, later or earlier: a clock may be set back.
    pub fn sweep(&mut self, now: Moment) {
        if self.today.as_ref().is_some_and(|day| day.number != now.day) {
            self.today = None;
        }
    }

    /// The mark of a stranger. None if labels are off or the face is between two strangers. With `counts`
    /// false, the face is only looked up: a new stranger is not stored.
    pub fn visit(
        &mut self,
        face: &Encoding,
        rule: MatchRule,
        now: Moment,
        counts: bool,
    ) -> Option<StrangerMark> {
        let MatchRule { metric, threshold } = rule;
        self.sweep(now);
        // Without a threshold, faces cannot be assigned to a visitor.
        if !self.on || threshold <= 0.0 {
            return None;
        }
        if self.today.is_none() {
            self.today = Day::begin(now.day);
        }
        let day = self.today.as_mut()?;
        let probe = Probe::new(face.as_slice(), metric == Metric::Cosine);
        let distance = |sample: &Probe| metric.distance(square_distance(&probe.fine, &sample.fine));
        let (best, second) = day.nearest(&distance);
        let outcome = decide(threshold, best.map(|near| near.1), second.map(|near| near.1));
        let at = match (outcome, best) {
            (Outcome::Match, Some((at, _))) => {
                if counts {
                    // A sample must be near the first one: otherwise a label could drift to another face.
                    let keep =
                        day.visitors[at].samples.first().is_some_and(|first| distance(first) <= threshold);
                    day.visitors[at].see(now.at, keep.then_some(probe));
                }
                at
            }
            (Outcome::Stranger, _) if counts => day.insert(probe, now.at)?,
            _ => return None,
        };
        let Visitor { label, visits, .. } = &day.visitors[at];
        Some(StrangerMark { stranger_label: format!("stranger-{label:04x}"), stranger_visits: *visits })
    }
}

impl Day {
    /// None if no key can be created; then strangers get no label.
    fn begin(number: i32) -> Option<Self> {
        let secret: Zeroizing<[u8; 32]> = Zeroizing::new(random());
        let key = DataKey::from_secret(&secret).ok()?;
        Some(Self { number, key, drawn: 0, visitors: Vec::new() })
    }

    /// The two nearest strangers, each by the nearest of their samples.
    fn nearest(&self, distance: &impl Fn(&Probe) -> f32) -> (Near, Near) {
        let (mut best, mut second): (Near, Near) = (None, None);
        for (at, visitor) in self.visitors.iter().enumerate() {
            let Some(near) = visitor.samples.iter().map(distance).min_by(f32::total_cmp) else { continue };
            if best.is_none_or(|best| near < best.1) {
                second = best.replace((at, near));
            } else if second.is_none_or(|second| near < second.1) {
                second = Some((at, near));
            }
        }
        (best, second)
    }

    /// Stores a new stranger and returns its index.
    fn insert(&mut self, probe: Probe, now: Instant) -> Option<usize> {
        let visitor = Visitor { label: self.draw()?, samples: vec![probe], visits: 1, seen: now };
        if self.visitors.len() < STRANGERS_MAX {
            self.visitors.push(visitor);
            return Some(self.visitors.len() - 1);
        }
        let oldest = (0..self.visitors.len()).min_by_key(|at| self.visitors[*at].seen)?;
        self.visitors[oldest] = visitor;
        Some(oldest)
    }

    /// A label that no stored stranger has.
    fn draw(&mut self) -> Option<u16> {
        (0..DRAWS_MAX).find_map(|_| {
            self.drawn += 1;
            let tag = self.key.tag("stranger label", &self.drawn.to_le_bytes());
            let label = u16::from_be_bytes([tag[0], tag[1]]);
            self.visitors.iter().all(|visitor| visitor.label != label).then_some(label)
        })
    }
}

impl Visitor {
    fn see(&mut self, now: Instant, sample: Option<Probe>) {
        if now.saturating_duration_since(self.seen) >= SAME_VISIT_WINDOW {
            self.visits = self.visits.saturating_add(1);
        }
        self.seen = self.seen.max(now);
        if self.samples.len() < SAMPLES_MAX {
            self.samples.extend(sample);
        }
    }
}

#[cfg(test)]
mod tests;
