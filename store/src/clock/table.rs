//! The fold: for each boot, how its wall clock stood from which record on, and which truths it learnt.

use std::time::Duration;

use gatehouse_journal::Position;
use gatehouse_model::Timestamp;
use serde::{Deserialize, Serialize};

use super::{BootId, Bounds, Known, Reading, Truth, is_plausible};

/// Boots that are remembered: with one a day the best part of a year, and few kilobytes.
pub(crate) const BOOTS_MAX: usize = 256;
/// Steps of a clock that are remembered of a boot, and truths: with both a boot is below what sled keeps in one
/// piece.
const MARKS_MAX: usize = 64;
const TRUTHS_MAX: usize = 64;
/// A truth is worth a record once what is known has become so uncertain, in microseconds, and twice as uncertain as
/// the new one: with [`super::DRIFT_PPM`] some 17 records a day.
const STALE_MICROS: i64 = 1_000_000;

/// Longest time, in microseconds, for which a record may wait before the journal has it.
const WAIT_MICROS: i64 = 600_000_000;

/// Within this, in microseconds, the journal has heard of a clock that was set.
const HEARD_MICROS: i64 = 60_000_000;

/// From the record behind this position on wall clock and uptime stand like that.
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
    /// Behind this position its records begin.
    lsn: u64,
    seq: u64,
    /// Oldest first, the latest ones.
    marks: Vec<Mark>,
    truths: Vec<Truth>,
}

impl Boot {
    pub(crate) fn new(at: Position, reading: &Reading) -> Self {
        let mut boot =
            Self { id: reading.boot, lsn: at.lsn, seq: at.seq, marks: Vec::new(), truths: Vec::new() };
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

    /// Somebody knows the time. Of two that contradict each other the more trusted one stays, else the later one.
    pub(crate) fn learn(&mut self, truth: Truth) {
        if self.knows_better(&truth) {
            return;
        }
        self.truths.retain(|known| !known.contradicts(&truth));
        if self.truths.len() >= TRUTHS_MAX {
            // Every second one goes, not the first: what is between two truths is known from both sides.
            let mut nth = 0;
            self.truths.retain(|_| {
                nth += 1;
                nth % 2 == 1
            });
        }
        self.truths.push(truth);
    }

    fn knows_better(&self, truth: &Truth) -> bool {
        self.truths.iter().any(|known| known.source > truth.source && known.contradicts(truth))
    }

    /// Whether a truth says more than what is known.
    pub(crate) fn would_learn(&self, truth: &Truth) -> bool {
        let (known, new) = (self.at(truth.uptime), truth.bounds(truth.uptime));
        let (Some(known), Some(new)) = (known.width(), new.width()) else { return true };
        let stale = known / 2 > STALE_MICROS && known > new.saturating_mul(2);
        !self.knows_better(truth) && (stale || self.truths.iter().any(|known| known.contradicts(truth)))
    }

    /// Whether the clock was set behind an uptime, as far as the journal has heard of it soon.
    pub(crate) fn was_set_after(&self, uptime: i64) -> bool {
        let behind = uptime.saturating_add(HEARD_MICROS);
        self.marks.iter().skip(1).any(|mark| mark.uptime > behind)
    }

    /// The clock as it was set last.
    pub(crate) fn stands(&self) -> Option<Reading> {
        let last = self.marks.last()?;
        let wall = Timestamp(last.offset.saturating_add(last.uptime));
        Some(Reading { boot: self.id, uptime: last.uptime, wall })
    }

    /// The truth that says most about an uptime.
    fn best(&self, uptime: i64) -> Option<&Truth> {
        self.truths.iter().min_by_key(|truth| truth.bounds(uptime).width())
    }

    /// Bounds of a moment, by truths of this boot.
    fn at(&self, uptime: i64) -> Bounds {
        self.best(uptime).map(|truth| truth.bounds(uptime)).unwrap_or_default()
    }

    /// Nothing of the boots after this one came before it.
    fn last_truth(&self) -> Option<i64> {
        let last = self.truths.last()?;
        last.bounds(last.uptime).from
    }

    /// What the clock of this boot would have said at an uptime, had it been set then as it was set at the end.
    fn set_later(&self, uptime: i64) -> Option<Timestamp> {
        let told = self.marks.last().map(|mark| Timestamp(mark.offset.saturating_add(uptime)));
        told.filter(|told| is_plausible(*told))
    }
}

/// A record, by what the fold knows it by.
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

/// Where a record lies in the fold.
struct Place {
    boot: usize,
    /// Its uptime twice, or between which two it lies where its own time does not tell.
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

    /// Whether nothing was ever noted: then a record's own time is all there is.
    pub(crate) fn is_empty(&self) -> bool {
        self.boots.is_empty()
    }

    /// Whether the journal says how the clock stood when a record came.
    pub(crate) fn knows(&self, moment: Moment) -> bool {
        self.boots.iter().any(|boot| moment.is_behind(boot.lsn, boot.seq))
    }

    /// The newest boot of this id.
    pub(crate) fn boot(&self, id: &BootId) -> Option<&Boot> {
        self.boots.iter().rev().find(|boot| boot.id == *id)
    }

    /// The clock as it was set last, by the newest boot.
    pub(crate) fn stands(&self) -> Option<Reading> {
        self.boots.last()?.stands()
    }

    /// When a record came that says `told` of itself.
    pub(crate) fn when(&self, moment: Moment, told: Timestamp) -> Known {
        let Some(place) = self.place(moment, told) else { return Known::unsure(told) };
        let set_later = self.boots[place.boot].set_later(place.from);
        self.bounds(&place).judge(told, set_later)
    }

    /// What time it is.
    pub(crate) fn now(&self, now: &Reading) -> Known {
        let known = self.boot(&now.boot).map(|boot| boot.at(now.uptime));
        known.unwrap_or_default().judge(now.wall, None)
    }

    /// Who said what time it is in this boot, the last.
    pub(crate) fn truth(&self, now: &Reading) -> Option<Truth> {
        self.boot(&now.boot)?.truths.last().copied()
    }

    /// How old a record is at least; a clock that jumps makes nothing older.
    pub(crate) fn least_age(&self, moment: Moment, told: Timestamp, now: &Reading) -> Duration {
        let Some(here) = self.boots.iter().rposition(|boot| boot.id == now.boot) else {
            return Duration::ZERO;
        };
        let place = self.place(moment, told);
        let uptime = match &place {
            Some(place) if place.boot == here => place.to.map_or(0, |to| now.uptime.saturating_sub(to)),
            // It came before this boot began, or before its first mark.
            _ => now.uptime.saturating_sub(self.boots[here].marks.first().map_or(0, |mark| mark.uptime)),
        };
        let latest = match &place {
            Some(place) => self.bounds(place).to,
            None => Some(told.0).filter(|_| is_plausible(told)),
        };
        let earliest_now = self.boots[here].at(now.uptime).from;
        let by_truth = earliest_now.zip(latest).map_or(0, |(now, then)| now.saturating_sub(then));
        Duration::from_micros(u64::try_from(uptime.max(by_truth)).unwrap_or(0))
    }

    fn place(&self, moment: Moment, told: Timestamp) -> Option<Place> {
        let boot = self.boots.iter().rposition(|boot| moment.is_behind(boot.lsn, boot.seq))?;
        let marks = &self.boots[boot].marks;
        let behind = marks.iter().take_while(|mark| moment.is_behind(mark.lsn, mark.seq)).count();
        let next = marks.get(behind).map(|mark| mark.uptime);
        let Some(mark) = behind.checked_sub(1).map(|last| &marks[last]) else {
            return Some(Place { boot, from: 0, to: next });
        };
        let uptime = told.0.saturating_sub(mark.offset);
        let (earliest, latest) =
            (mark.uptime.saturating_sub(WAIT_MICROS), next.map(|to| to.saturating_add(WAIT_MICROS)));
        match uptime >= earliest && latest.is_none_or(|latest| uptime <= latest) {
            true => Some(Place { boot, from: uptime, to: Some(uptime) }),
            // Its time was taken around a step of the clock, of which the journal says too late.
            false => Some(Place { boot, from: mark.uptime, to: next }),
        }
    }

    fn bounds(&self, place: &Place) -> Bounds {
        let boot = &self.boots[place.boot];
        if !boot.truths.is_empty() {
            return Bounds { from: boot.at(place.from).from, to: place.to.and_then(|to| boot.at(to).to) };
        }
        let before = self.boots[..place.boot].iter().rev().find_map(Boot::last_truth);
        // Nothing of this boot came after the next one began.
        let after = self.boots[place.boot + 1..].iter().find_map(|boot| boot.at(0).to);
        Bounds { from: before.map(|at| at.saturating_add(place.from.max(0))), to: after }
    }
}
