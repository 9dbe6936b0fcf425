//! The table slots of one person's templates.
//!
//! Most people have few samples: a vector would take more memory than its content.

/// Slots that are stored inline.
const FEW: usize = 5;

/// Slots of the table, in the order of enrollment.
pub(super) enum Slots {
    /// Number of slots in use, and the slots.
    Few(u8, [u32; FEW]),
    /// More slots, without the spare capacity of a vector.
    Many(Box<[u32]>),
}

impl Default for Slots {
    fn default() -> Self {
        Self::Few(0, [0; FEW])
    }
}

impl Slots {
    /// All slots.
    pub(super) fn as_slice(&self) -> &[u32] {
        match self {
            Self::Few(count, slots) => slots.get(..usize::from(*count)).unwrap_or_default(),
            Self::Many(slots) => slots,
        }
    }

    /// Appends a slot.
    pub(super) fn push(&mut self, slot: u32) {
        match self {
            Self::Few(count, slots) => match slots.get_mut(usize::from(*count)) {
                Some(free) => {
                    *free = slot;
                    *count += 1;
                }
                None => *self = Self::Many(more(slots, slot)),
            },
            Self::Many(slots) => *slots = more(slots, slot),
        }
    }
}

/// The slots and one more.
fn more(slots: &[u32], slot: u32) -> Box<[u32]> {
    slots.iter().copied().chain([slot]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_stay_in_order_however_many_there_are() {
        let mut slots = Slots::default();
        for count in 0..3 * FEW as u32 {
            assert_eq!(slots.as_slice(), (0..count).collect::<Vec<_>>());
            slots.push(count);
        }
    }
}
