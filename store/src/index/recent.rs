//! The fingerprints of recent events in RAM. They answer the duplicate check first.
//!
//! They are generations of a hash set: when the newest one is full, the oldest one is removed as a whole. So
//! at least `(GENERATIONS - 1) * GENERATION_IDS` events are remembered, and memory is limited to about 19 MB.

use std::collections::{HashSet, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};

use gatehouse_model::EventKey;

/// Number of sets.
const GENERATIONS: usize = 4;
/// Ids of one generation: seven eighths of 2^19, where the table of the set is full.
const GENERATION_IDS: usize = 458_752;

/// The 64-bit fingerprint of an event key; a hit is confirmed against the full key by the caller.
pub(super) fn fingerprint(key: &EventKey) -> u64 {
    let mut first = [0; 8];
    first.copy_from_slice(&key.digest()[..8]);
    u64::from_le_bytes(first)
}

/// See the module.
#[derive(Default)]
pub(super) struct Recent {
    forgot: bool,
    generations: VecDeque<HashSet<u64, BuildHasherDefault<Fingerprint>>>,
}

impl Recent {
    /// Number of newest events that are loaded at start.
    pub(super) const CAPACITY: usize = (GENERATIONS - 1) * GENERATION_IDS;

    /// Whether some events are not remembered. Then a miss does not prove that an event is new.
    pub(super) fn forgot(&self) -> bool {
        self.forgot
    }

    /// Records that some earlier events are not remembered.
    pub(super) fn forget(&mut self) {
        self.forgot = true;
    }

    /// Whether the fingerprint is among the recent ones.
    pub(super) fn contains(&self, fingerprint: u64) -> bool {
        self.generations.iter().any(|ids| ids.contains(&fingerprint))
    }

    /// Remembers a fingerprint.
    pub(super) fn insert(&mut self, fingerprint: u64) {
        let full = self.generations.front().is_none_or(|newest| newest.len() >= GENERATION_IDS);
        if full {
            self.forgot |= self.generations.len() == GENERATIONS;
            self.generations.truncate(GENERATIONS - 1);
            self.generations.push_front(HashSet::default());
        }
        if let Some(newest) = self.generations.front_mut() {
            newest.insert(fingerprint);
        }
    }
}

/// Fingerprints are parts of a SHA-256 digest, so they need no further hashing.
#[derive(Default)]
struct Fingerprint(u64);

impl Hasher for Fingerprint {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(byte);
        }
    }
    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_million_are_remembered_and_the_oldest_forgotten() {
        let mut recent = Recent::default();
        let total = (GENERATIONS * GENERATION_IDS + 10) as u64;
        let spread = |n: u64| n.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        for n in 0..total {
            recent.insert(spread(n));
        }
        assert!(!recent.contains(spread(0)) && recent.forgot());
        assert!((total - 1_000_000..total).all(|n| recent.contains(spread(n))));
    }
}
