//! Timestamps of events on boards without a reliable clock; see [`crate::clock`].
//!
//! Order: where the clock was set since the last reading, the new reading is appended before the event.
//! `clock_lock` is held until the event is in the queue, so that no other reading is appended in between.

use std::sync::Arc;
use std::time::Duration;

use gatehouse_journal::Pending;
use gatehouse_model::{Event, Identification, Person, Timestamp};

use super::super::StoreError;
use super::super::core::{Core, blocking};
use super::Events;
use crate::clock::{Clocks, Known, Moment, Reading, ReferenceTime, is_plausible};
use crate::record::Record;

/// State of the clock at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockStatus {
    /// The corrected time.
    pub now: Known,
    /// The wall clock.
    pub wall: Timestamp,
    /// The last reference time of this boot; none where there is none.
    pub reference: Option<ReferenceTime>,
}

/// Ages of records, with clock correction.
pub(in crate::store) struct Ages {
    clocks: Clocks,
    now: Reading,
}

impl Ages {
    pub(in crate::store) fn read(core: &Core) -> Result<Self, StoreError> {
        Ok(Self { clocks: core.clocks()?, now: Reading::now() })
    }

    /// Whether a record's time is usable.
    pub(in crate::store) fn is_usable(&self, moment: Moment, recorded: Timestamp) -> bool {
        self.clocks.has_reading_for(moment) || is_plausible(recorded)
    }

    /// The minimum age; by the wall clock where no reading was ever recorded.
    pub(in crate::store) fn least(&self, moment: Moment, recorded: Timestamp) -> Duration {
        if self.clocks.is_empty() {
            let age = self.now.wall.0.saturating_sub(recorded.0);
            return Duration::from_micros(u64::try_from(age).unwrap_or(0));
        }
        self.clocks.least_age(moment, recorded, &self.now)
    }

    /// Whether the wall clock is right within the uncertainty; `believed` where no reading was ever recorded.
    pub(in crate::store) fn wall_is_right(&self, believed: bool) -> bool {
        let known = self.clocks.now(&self.now);
        let fits = |off| known.at.0.abs_diff(self.now.wall.0) / 1000 <= off;
        if self.clocks.is_empty() { believed } else { known.uncertainty_ms.is_some_and(fits) }
    }

    /// Whether a reference time of this boot is known.
    pub(in crate::store) fn has_reference(&self) -> bool {
        self.clocks.now(&self.now).uncertainty_ms.is_some()
    }
}

impl Events {
    /// Appends an event that was received at this clock reading; `wall` is the event's own time. Durable once
    /// the [`Pending`] resolves.
    ///
    /// # Errors
    /// As [`Events::record`].
    pub async fn record_arrival(
        &self,
        event: Event,
        answer: Identification<Person>,
        reading: Reading,
    ) -> Result<Pending, StoreError> {
        let mut last_reading = self.core.clock_lock.lock().await;
        self.set_clock(&mut last_reading, reading).await?;
        self.record(event, answer).await
    }

    /// Records a clock reading if the wall clock was set since the last one. Call it periodically.
    ///
    /// # Errors
    /// [`StoreError`] where the journal cannot accept it.
    pub async fn note_clock(&self, reading: Reading) -> Result<(), StoreError> {
        let mut last_reading = self.core.clock_lock.lock().await;
        self.set_clock(&mut last_reading, reading).await
    }

    async fn set_clock(
        &self,
        last_reading: &mut Option<Reading>,
        reading: Reading,
    ) -> Result<(), StoreError> {
        if !last_reading.is_some_and(|last_reading| last_reading.agrees(&reading)) {
            // No need to await: the journal is ordered, so a later durable record implies this one.
            drop(self.core.append(&Record::Clock(reading)).await?);
            *last_reading = Some(reading);
        }
        Ok(())
    }

    /// Records a reference time of this boot if it reduces the uncertainty. Afterwards all events of this
    /// boot and of adjacent boots have corrected timestamps. Returns whether it was recorded.
    ///
    /// # Errors
    /// [`StoreError`] where the views cannot be read or the journal cannot accept it.
    pub async fn learn_time(&self, reference: ReferenceTime) -> Result<bool, StoreError> {
        // A boot is known only after its first reading.
        let last_reading = *self.core.clock_lock.lock().await;
        if last_reading.is_none_or(|last_reading| last_reading.boot != reference.boot) {
            self.note_clock(Reading::now()).await?;
        }
        if !self.clocks_now().await?.boot(&reference.boot).is_some_and(|boot| boot.would_learn(&reference)) {
            return Ok(false);
        }
        self.core.change(&Record::ReferenceTime(reference)).await?;
        Ok(true)
    }

    /// Records that a time server set the wall clock, at `set` by that clock. It is ignored where the clock
    /// was set again since, or where it is too long ago. Returns whether it was recorded as a reference time.
    ///
    /// # Errors
    /// As [`Events::learn_time`].
    pub async fn clock_synchronized(&self, reading: Reading, set: Timestamp) -> Result<bool, StoreError> {
        let Some(reference) = ReferenceTime::of_system(&reading, set) else { return Ok(false) };
        let then = reading.uptime.saturating_sub(reading.wall.0.saturating_sub(set.0));
        // A step that was recorded just now counts, too.
        if self.clocks_now().await?.boot(&reading.boot).is_some_and(|boot| boot.was_set_after(then)) {
            return Ok(false);
        }
        self.learn_time(reference).await
    }

    /// The current state of the clock. Blocking, for microseconds.
    ///
    /// # Errors
    /// [`StoreError`] where the views cannot be read.
    pub fn clock(&self) -> Result<ClockStatus, StoreError> {
        let (clocks, now) = (self.core.clocks()?, Reading::now());
        Ok(ClockStatus { now: clocks.now(&now), wall: now.wall, reference: clocks.reference(&now) })
    }

    /// The corrected time; the wall clock where no correction is known.
    pub fn time(&self) -> Timestamp {
        self.core.time()
    }

    /// All clock records, including those that were appended just now.
    async fn clocks_now(&self) -> Result<Clocks, StoreError> {
        self.core.caught_up().await?;
        let core = Arc::clone(&self.core);
        blocking(move || core.clocks()).await
    }
}

#[cfg(test)]
mod tests;
