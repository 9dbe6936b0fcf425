//! The interface of the search methods.

use super::table::Table;
use super::vector::Probe;

/// The nearest template of a person in a search so far.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Near {
    /// Index of the person in the list of people.
    pub owner: u32,
    /// Squared Euclidean distance, computed in `f32` from the template itself.
    pub square: f32,
}

/// The nearest and the second nearest person: the input of a decision.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Nearest {
    /// The nearest person.
    pub best: Option<Near>,
    /// The second nearest person.
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

    /// Merges the result of another search. For each person, the nearer template is used.
    pub(super) fn merge(&mut self, other: Self) {
        for near in [other.best, other.second].into_iter().flatten() {
            self.offer(near.owner, near.square);
        }
    }

    /// Squared distance from which on a template cannot change the result.
    #[inline]
    pub(super) fn bound(&self) -> f32 {
        self.second.map_or(f32::INFINITY, |second| second.square)
    }
}

/// A search over the templates of a table.
///
/// An engine has at most an index. Templates, owners and distances come from the table, so that no engine can
/// return a removed template.
pub(super) trait Engine {
    /// The two nearest people; none if this engine has no reliable result and the exact engine must search.
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
