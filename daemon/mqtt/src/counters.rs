//! Counters of the publisher since the start of the program.

use std::sync::atomic::{AtomicU64, Ordering};

/// A number that several tasks update.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Increases it.
    pub fn add(&self, by: u64) {
        self.0.fetch_add(by, Ordering::Relaxed);
    }

    /// Replaces it.
    pub fn set(&self, to: u64) {
        self.0.store(to, Ordering::Relaxed);
    }

    /// Its value.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What the publisher counts.
#[derive(Debug, Default)]
pub struct AnswerCounters {
    /// Written to the connection; an answer that was written again counts twice.
    pub sent: Counter,
    /// Refused by the broker.
    pub refused: Counter,
    /// Not written in time.
    pub given_up: Counter,
    /// Not confirmed by the broker yet.
    pub waiting: Counter,
}
