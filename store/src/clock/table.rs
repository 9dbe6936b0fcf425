//! The fold: for each boot, how its wall clock was set from which record on, and its reference times.

use std::time::Duration;

use gatehouse_journal::Position;
use gatehouse_model::Timestamp;
use serde::{Deserialize, Serialize};

use super::{BootId, Bounds, Known, Reading, ReferenceTime, is_plausible};

/// Boots that are remembered: most of a year with one boot a day, in a few kilobytes.
pub(crate) const BOOTS_MAX: usize = 256;
/// Clock steps and reference times that are remembered for each boot. With both, a boot stays below the size
/// that sled stores in one piece.
const MARKS_MAX: usize = 64;
const REFERENCES_MAX: usize = 64;
/// Record a reference time only when the known uncertainty exceeds this, in microseconds, and twice the new
/// one. With [`super::DRIFT_PPM`] this gives about 17 records a day.
const STALE_UNCERTAINTY_MICROS: i64 = 1_000_000;

/// Longest delay, in microseconds, between the arrival of a record and its append to the journal.
const RECORD_DELAY_MICROS_MAX: i64 = 600_000_000;

/// Longest delay, in microseconds, until the journal records that the clock was set.
const STEP_REPORT_MICROS_MAX: i64 = 60_000_000;

/// The relation of wall clock and uptime, from the record after this position on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Mark {
    lsn: u64,
    seq: u64,
    uptime: i64,
    offset: i64,
}

/// What is known of one boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Boot {
    pub(crate) id: BootId,
    /// Its records begin after this position.
    lsn: u64,
    seq: u64,
    /// The latest ones, oldest first.
    marks: Vec<Mark>,
    references: Vec<ReferenceTime>,
}

impl Boot {
    pub(crate) fn new(at: Position, reading: &Reading) -> Self {
        let mut boot =
            Self { id: reading.boot, lsn: at.lsn, seq: at.seq, marks: Vec::new(), references: Vec::new() };
        boot.mark(at, reading);
        boot
    }

    /// The clock was set.
    pub(crate) fn mark(&mut self, at: Position, reading: &Reading) {
        if self.marks.len() >= MARKS_MAX {
            self.marks.remove(0);
        }
        let (uptime, offset) = (reading.uptime, reading.offset());
        self.marks.push(Mark { lsn: at.lsn, seq: at.seq, uptime, offset });
    }

    /// Takes a reference time. If two contradict each other, the more trusted one is kept. With equal trust,
    /// the later one is kept.
    pub(crate) fn learn(&mut self, reference: ReferenceTime) {
        if self.is_refuted(&reference) {
            return;
        }
        self.references.retain(|known| !known.contradicts(&reference));
        if self.references.len() >= REFERENCES_MAX {
            // Every second one is removed instead of the oldest: times between two reference times are
            // bounded on both sides.
            let mut nth = 0;
            self.references.retain(|_| {
                nth += 1;
                nth % 2 == 1
            });
        }
        self.references.push(reference);
    }

    fn is_refuted(&self, reference: &ReferenceTime) -> bool {
        self.references.iter().any(|known| known.source > reference.source && known.contradicts(reference))
    }

    /// Whether a reference time improves the known bounds.
    pub(crate) fn would_learn(&self, reference: &ReferenceTime) -> bool {
        let (known, new) = (self.at(reference.uptime), reference.bounds(reference.uptime));
        let (Some(known), Some(new)) = (known.width(), new.width()) else { return true };
        let stale = known / 2 > STALE_UNCERTAINTY_MICROS && known > new.saturating_mul(2);
        !self.is_refuted(reference)
            && (stale || self.references.iter().any(|known| known.contradicts(reference)))
    }

    /// Whether the clock was set after an uptime, if the journal recorded it in time.
    pub(crate) fn was_set_after(&self, uptime: i64) -> bool {
        let behind = uptime.saturating_add(STEP_REPORT_MICROS_MAX);
        self.marks.iter().skip(1).any(|mark| mark.uptime > behind)
    }

    /// The clock by its last setting.
    pub(crate) fn last_reading(&self) -> Option<Reading> {
        let last = self.marks.last()?;
        let wall = Timestamp(last.offset.saturating_add(last.uptime));
        Some(Reading { boot: self.id, uptime: last.uptime, wall })
    }

    /// The reference time with the narrowest bounds for an uptime.
    fn best(&self, uptime: i64) -> Option<&ReferenceTime> {
        self.references.iter().min_by_key(|reference| reference.bounds(uptime).width())
    }

    /// Bounds of a moment, by the reference times of this boot.
    fn at(&self, uptime: i64) -> Bounds {
        self.best(uptime).map(|reference| reference.bounds(uptime)).unwrap_or_default()
    }

    /// Lower bound of the last reference time: nothing of a later boot can be older.
    fn last_reference(&self) -> Option<i64> {
        let last = self.references.last()?;
        last.bounds(last.uptime).from
    }

    /// The clock of this boot at an uptime, by the last setting in the boot.
    fn set_later(&self, uptime: i64) -> Option<Timestamp> {
        let wall = self.marks.last().map(|mark| Timestamp(mark.offset.saturating_add(uptime)));
        wall.filter(|wall| is_plausible(*wall))
    }
}

/// A record, by its number or position in the fold.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Moment {
    /// An event, by its number.
    Event(u64),
    /// Any record, by its position.
    Record(u64),
}

impl Moment {
    fn is_behind(self, lsn: u64, seq: u64) -> bool {
        match self {
            Self::Event(number) => seq < number,
            Self::Record(position) => lsn < position,
        }
    }
}

/// The place of a record in the fold.
struct Place {
    boot: usize,
    /// Bounds of its uptime. Both are the same if its own time gives the uptime.
    from: i64,
    to: Option<i64>,
}

/// All boots that are remembered, oldest first.
#[derive(Debug, Clone, Default)]
pub(crate) struct Clocks {
    boots: Vec<Boot>,
}

impl Clocks {
    pub(crate) fn new(boots: Vec<Boot>) -> Self {
        Self { boots }
    }

    /// Whether no reading was ever recorded. Then only a record's own time is known.
    pub(crate) fn is_empty(&self) -> bool {
        self.boots.is_empty()
    }

    /// Whether the journal has a clock reading for the time when a record arrived.
    pub(crate) fn has_reading_for(&self, moment: Moment) -> bool {
        self.boots.iter().any(|boot| moment.is_behind(boot.lsn, boot.seq))
    }

    /// The newest boot of this id.
    pub(crate) fn boot(&self, id: &BootId) -> Option<&Boot> {
        self.boots.iter().rev().find(|boot| boot.id == *id)
    }

    /// The clock of the newest boot, by its last setting.
    pub(crate) fn last_reading(&self) -> Option<Reading> {
        self.boots.last()?.last_reading()
    }

    /// The arrival time of a record whose own time is `recorded`.
    pub(crate) fn when(&self, moment: Moment, recorded: Timestamp) -> Known {
        let Some(place) = self.place(moment, recorded) else { return Known::unsure(recorded) };
        let set_later = self.boots[place.boot].set_later(place.from);
        self.bounds(&place).judge(recorded, set_later)
    }

    /// The present time.
    pub(crate) fn now(&self, now: &Reading) -> Known {
        let known = self.boot(&now.boot).map(|boot| boot.at(now.uptime));
        known.unwrap_or_default().judge(now.wall, None)
    }

    /// The last reference time of this boot.
    pub(crate) fn reference(&self, now: &Reading) -> Option<ReferenceTime> {
        self.boot(&now.boot)?.references.last().copied()
    }

    /// The minimum age of a record. A clock step never makes a record older.
    pub(crate) fn least_age(&self, moment: Moment, recorded: Timestamp, now: &Reading) -> Duration {
        let Some(here) = self.boots.iter().rposition(|boot| boot.id == now.boot) else {
            return Duration::ZERO;
        };
        let place = self.place(moment, recorded);
        let uptime = match &place {
            Some(place) if place.boot == here => place.to.map_or(0, |to| now.uptime.saturating_sub(to)),
            // The record is from before this boot, or from before its first mark.
            _ => now.uptime.saturating_sub(self.boots[here].marks.first().map_or(0, |mark| mark.uptime)),
        };
        let latest = match &place {
            Some(place) => self.bounds(place).to,
            None => Some(recorded.0).filter(|_| is_plausible(recorded)),
        };
        let earliest_now = self.boots[here].at(now.uptime).from;
        let by_reference = earliest_now.zip(latest).map_or(0, |(now, then)| now.saturating_sub(then));
        Duration::from_micros(u64::try_from(uptime.max(by_reference)).unwrap_or(0))
    }

    fn place(&self, moment: Moment, recorded: Timestamp) -> Option<Place> {
        let boot = self.boots.iter().rposition(|boot| moment.is_behind(boot.lsn, boot.seq))?;
        let marks = &self.boots[boot].marks;
        let behind = marks.iter().take_while(|mark| moment.is_behind(mark.lsn, mark.seq)).count();
        let next = marks.get(behind).map(|mark| mark.uptime);
        let Some(mark) = behind.checked_sub(1).map(|last| &marks[last]) else {
            return Some(Place { boot, from: 0, to: next });
        };
        let uptime = recorded.0.saturating_sub(mark.offset);
        let earliest = mark.uptime.saturating_sub(RECORD_DELAY_MICROS_MAX);
        let latest = next.map(|to| to.saturating_add(RECORD_DELAY_MICROS_MAX));
        match uptime >= earliest && latest.is_none_or(|latest| uptime <= latest) {
            true => Some(Place { boot, from: uptime, to: Some(uptime) }),
            // Its time was taken near a clock step that the journal recorded too late.
            false => Some(Place { boot, from: mark.uptime, to: next }),
        }
    }

    fn bounds(&self, place: &Place) -> Bounds {
        let boot = &self.boots[place.boot];
        if !boot.references.is_empty() {
            return Bounds { from: boot.at(place.from).from, to: place.to.and_then(|to| boot.at(to).to) };
        }
        let before = self.boots[..place.boot].iter().rev().find_map(Boot::last_reference);
        // Nothing of this boot is younger than the start of the next one.
        let after = self.boots[place.boot + 1..].iter().find_map(|boot| boot.at(0).to);
        Bounds { from: before.map(|at| at.saturating_add(place.from.max(0))), to: after }
    }
}
