//! The same unknown visitor, for one day.
//!
//! Constraints: everything here is in RAM and nothing of it is written anywhere, neither to the journal nor to a log.
//! A label is drawn with a key that is made at random for the day; at midnight key, labels and encodings are
//! wiped together, so that no label can be linked with a face or with a label of another day. Midnight is noticed
//! by the next visit, or by [`Strangers::sweep`] where nobody comes. Switched off it holds nothing.
//!
//! A stranger is recognised like a person: nearest sample within the threshold, and clearly nearer than those of
//! any other stranger; in between there is no label, since two visitors must not be told as one.

use std::fmt;
use std::time::{Duration, Instant};

use gatehouse_model::Outcome;
use gatehouse_model::random;
use gatehouse_vault::seal::DataKey;
use serde::Serialize;
use zeroize::Zeroizing;

use super::decide::decide;
use super::vector::{Probe, square_distance};
use super::{Encoding, Metric};

/// Strangers that are remembered: more than a busy door sees in a day, and at most 3 MB of 512-d encodings. Beyond it
/// the one who was not seen for longest is forgotten.
pub const STRANGERS_MAX: usize = 512;
/// Samples of one stranger. Two samples of one face lie farther apart than the threshold in half of the cases; with
/// four most later ones find one that is near enough.
const SAMPLES_MAX: usize = 4;
/// A stranger who comes back sooner has not left: cameras send several events of one visit.
pub const VISIT_GAP: Duration = Duration::from_secs(600);
/// Draws of a label. One in a hundred meets a label that is taken, so eight in a row happen never.
const DRAWS_MAX: u64 = 8;

/// When somebody came.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// The day of the wall clock on which labels depend.
    pub day: i32,
    /// For the time between visits.
    pub at: Instant,
}

/// What is told of a stranger.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct StrangerMark {
    /// `stranger-` and four hexadecimal digits; means nothing on another day.
    pub stranger_label: String,
    /// Visits of today, this one included.
    pub stranger_visits: u32,
}

impl fmt::Debug for StrangerMark {
    /// Tells nothing: a label is for the answer and never for a log.
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

/// A stranger's place and distance.
type Near = Option<(usize, f32)>;

/// The strangers of today. Off until it is switched on.
#[derive(Default)]
pub struct Strangers {
    on: bool,
    today: Option<Day>,
}

impl Strangers {
    /// Switches labels on or off. Off forgets everybody at once.
    pub fn switch(&mut self, on: bool) {
        self.on = on;
        if !on {
            self.forget();
        }
    }

    /// Forgets everybody; whoever comes next is a new stranger.
    pub fn forget(&mut self) {
        self.today = None;
    }

    /// Forgets everybody where the day is another one, later or earlier: a clock may be set.
    pub fn sweep(&mut self, now: Moment) {
        if self.today.as_ref().is_some_and(|day| day.number != now.day) {
            self.today = None;
        }
    }

    /// The mark of a stranger; none where labels are off or the face lies between two strangers. A visit that does
    /// not count is only looked up: who is new stays unknown.
    pub fn visit(
        &mut self,
        face: &Encoding,
        (metric, threshold): (Metric, f32),
        now: Moment,
        counts: bool,
    ) -> Option<StrangerMark> {
        self.sweep(now);
        // Without a threshold nothing says which faces are of one visitor.
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
        let told = decide(threshold, best.map(|near| near.1), second.map(|near| near.1));
        let at = match (told, best) {
            (Outcome::Match, Some((at, _))) => {
                if counts {
                    // Only what is near to the first sample is kept, so that a label does not wander from face to face.
                    let keep =
                        day.visitors[at].samples.first().is_some_and(|first| distance(first) <= threshold);
                    day.visitors[at].see(now.at, keep.then_some(probe));
                }
                at
            }
            (Outcome::Stranger, _) if counts => day.remember(probe, now.at)?,
            _ => return None,
        };
        let Visitor { label, visits, .. } = &day.visitors[at];
        Some(StrangerMark { stranger_label: format!("stranger-{label:04x}"), stranger_visits: *visits })
    }
}

impl Day {
    /// None where no key can be made; then nobody is labelled.
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

    /// Remembers somebody new; their place.
    fn remember(&mut self, probe: Probe, now: Instant) -> Option<usize> {
        let visitor = Visitor { label: self.draw()?, samples: vec![probe], visits: 1, seen: now };
        if self.visitors.len() < STRANGERS_MAX {
            self.visitors.push(visitor);
            return Some(self.visitors.len() - 1);
        }
        let oldest = (0..self.visitors.len()).min_by_key(|at| self.visitors[*at].seen)?;
        self.visitors[oldest] = visitor;
        Some(oldest)
    }

    /// A label that nobody has who is remembered.
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
        if now.saturating_duration_since(self.seen) >= VISIT_GAP {
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
