//! The one interface behind which the searches stand.

use super::table::Table;
use super::vector::Probe;

/// A person's nearest template, as far as a search has seen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Near {
    /// The person's place in the list of people.
    pub owner: u32,
    /// Squared Euclidean distance, computed in `f32` from the template itself.
    pub square: f32,
}

/// The nearest person and the nearest other person: all that a decision needs.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Nearest {
    /// The nearest person.
    pub best: Option<Near>,
    /// The nearest of all others.
    pub second: Option<Near>,
}

impl Nearest {
    /// Takes one template into account.
    #[inline]
    pub(super) fn offer(&mut self, owner: u32, square: f32) {
        let near = Near { owner, square };
        match self.best {
            Some(best) if best.owner == owner => {
                if square < best.square {
                    self.best = Some(near);
                }
            }
            Some(best) if best.square <= square => {
                if self.second.is_none_or(|second| square < second.square) {
                    self.second = Some(near);
                }
            }
            earlier => {
                self.best = Some(near);
                self.second = earlier;
            }
        }
    }

    /// Takes what another search found into account: of each person the nearer counts.
    pub(super) fn merge(&mut self, other: Self) {
        for near in [other.best, other.second].into_iter().flatten() {
            self.offer(near.owner, near.square);
        }
    }

    /// Squared distance from which on a template cannot change the answer.
    #[inline]
    pub(super) fn bound(&self) -> f32 {
        self.second.map_or(f32::INFINITY, |second| second.square)
    }
}

/// A search over the templates of a table.
///
/// An engine holds at most an index; templates, owners and distances come from the table, so a template that is
/// no longer there cannot be answered by any engine.
pub(super) trait Engine {
    /// The two nearest people; none where this engine cannot tell and the exact one must.
    fn nearest(&self, table: &Table, probe: &Probe) -> Option<Nearest>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn second_is_always_another_person() {
        let mut nearest = Nearest::default();
        for (owner, square) in [(1, 0.5), (1, 0.4), (2, 0.6), (2, 0.3), (1, 0.35), (3, 0.9)] {
            nearest.offer(owner, square);
        }
        assert_eq!(nearest.best, Some(Near { owner: 2, square: 0.3 }));
        assert_eq!(nearest.second, Some(Near { owner: 1, square: 0.35 }));
    }
}
