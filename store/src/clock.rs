//! Timestamp correction for boards without a reliable clock.
//!
//! A record's own time is the wall clock of its arrival. The journal also records how wall clock and uptime
//! relate, whenever that changes ([`Reading`]). The uptime of every record therefore follows without a byte
//! in the record. The journal also records which uptime was which true time, once a source reports it
//! ([`ReferenceTime`]). The fold of both ([`table`]) gives the true arrival time of a record and
//! its uncertainty. Records are always ordered by number, never by time.
//!
//! One rule applies: the known bounds are an earliest and a latest moment, and a clock between them was
//! right. Bounds come from a reference time of the same boot. Without one, they come from the boots before
//! and after it.

mod table;

use std::sync::OnceLock;
use std::time::Duration;

use gatehouse_model::Timestamp;
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

pub(crate) use table::{BOOTS_MAX, Boot, Clocks, Moment};

/// A change of wall clock against uptime that counts as a clock step. On a busy board two consecutive
/// readings can differ by this much. Smaller differences are part of every uncertainty.
const STEP_MICROS: i64 = 100_000;
/// Largest drift of an uptime, in millionths. Crystals of such boards drift by up to 100, hot ones by more.
const DRIFT_PPM: i64 = 200;
/// 2024-01-01: no appliance is older, and an earlier clock was never set.
pub(crate) const PLAUSIBLE_FROM: Timestamp = Timestamp(1_704_067_200_000_000);
/// 2100-01-01: a clock chip that lost its battery may show anything.
const PLAUSIBLE_UNTIL: Timestamp = Timestamp(4_102_444_800_000_000);
/// Largest age, in microseconds, of a synchronization that still counts. A daemon polls every 34 minutes at
/// most.
const SYNC_AGE_MICROS_MAX: i64 = 2 * 2048 * 1_000_000;
/// Uncertainty of a clock that a time server has just set, in microseconds: half a round trip on a slow link.
const SYNC_UNCERTAINTY_MICROS: i64 = 500_000;
/// The boot id from systemd. A sandboxed unit cannot read the one of the kernel.
const BOOT_ID_VARIABLE: &str = "BOOT_ID";
/// The boot id from the kernel.
const BOOT_ID_PATH: &str = "/proc/sys/kernel/random/boot_id";

/// Identifies one boot of the kernel.
pub type BootId = [u8; 16];

/// Wall clock and uptime at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reading {
    /// The boot that the uptime belongs to.
    pub boot: BootId,
    /// Microseconds since the boot, including sleep. It cannot be set.
    pub uptime: i64,
    /// The reading of the wall clock, right or wrong.
    pub wall: Timestamp,
}

/// Sources of reference times, in ascending order of trust. S3 is not a source: it refuses requests that were
/// signed with a wrong clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClockSource {
    /// The central PostgreSQL.
    Rows,
    /// The system clock while a time server synchronizes it.
    System,
}

/// A reference time: the true time at one uptime.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReferenceTime {
    /// The boot that the uptime belongs to.
    pub boot: BootId,
    /// Microseconds since the boot.
    pub uptime: i64,
    /// The true time at that uptime.
    pub time: Timestamp,
    /// Uncertainty of the time, in microseconds.
    pub uncertainty: i64,
    /// The source of the time.
    pub source: ClockSource,
}

/// The best known time of something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// The best estimate.
    pub at: Timestamp,
    /// Uncertainty in milliseconds; none if it is unknown.
    pub uncertainty_ms: Option<u64>,
}

impl Known {
    /// A clock reading of unknown accuracy.
    pub fn unsure(at: Timestamp) -> Self {
        Self { at, uncertainty_ms: None }
    }
}

impl Reading {
    /// Reads both clocks now.
    pub fn now() -> Self {
        let before = uptime();
        let wall = Timestamp::now();
        Self { boot: boot_id(), uptime: before + (uptime() - before) / 2, wall }
    }

    /// The reading at an earlier arrival, for which the wall clock showed `wall`.
    #[must_use]
    pub fn earlier(self, ago: Duration, wall: Timestamp) -> Self {
        Self { uptime: self.uptime.saturating_sub(micros(ago)), wall, ..self }
    }

    /// The wall-clock time at the start of the boot, by the present setting of the clock.
    fn offset(&self) -> i64 {
        self.wall.0.saturating_sub(self.uptime)
    }

    /// Whether the wall clock was not set between the two readings.
    pub(crate) fn agrees(&self, other: &Self) -> bool {
        self.boot == other.boot && self.offset().abs_diff(other.offset()) <= STEP_MICROS.unsigned_abs()
    }
}

impl ReferenceTime {
    /// A time that was queried between two uptimes of this boot; none if it is implausible.
    pub fn asked(source: ClockSource, time: Timestamp, from: i64, to: i64) -> Option<Self> {
        let uncertainty = (to.saturating_sub(from) / 2).max(0);
        let uptime = from.saturating_add(uncertainty);
        is_plausible(time).then(|| Self { boot: boot_id(), uptime, time, uncertainty, source })
    }

    /// The wall clock as a reference time, if a time server set it at `set` and recently enough.
    pub(crate) fn of_system(reading: &Reading, set: Timestamp) -> Option<Self> {
        let age = reading.wall.0.saturating_sub(set.0);
        let reference = Self {
            boot: reading.boot,
            uptime: reading.uptime,
            time: reading.wall,
            uncertainty: SYNC_UNCERTAINTY_MICROS + age / 1_000_000 * DRIFT_PPM,
            source: ClockSource::System,
        };
        ((0..=SYNC_AGE_MICROS_MAX).contains(&age) && is_plausible(reading.wall)).then_some(reference)
    }

    /// Earliest and latest true time at an uptime of its boot.
    fn bounds(&self, uptime: i64) -> Bounds {
        let at = self.time.0.saturating_add(uptime.saturating_sub(self.uptime));
        let off = self.uncertainty.saturating_add(self.drift(uptime)).saturating_add(STEP_MICROS);
        Bounds { from: Some(at.saturating_sub(off)), to: Some(at.saturating_add(off)) }
    }

    /// Largest drift of the crystal up to an uptime.
    fn drift(&self, uptime: i64) -> i64 {
        let distance = i64::try_from(self.uptime.abs_diff(uptime)).unwrap_or(i64::MAX);
        (distance / 1_000_000).saturating_mul(DRIFT_PPM)
    }

    /// Whether the two reference times contradict each other.
    fn contradicts(&self, other: &Self) -> bool {
        let other_start = other.time.0.saturating_sub(other.uptime);
        let apart = other_start.abs_diff(self.time.0.saturating_sub(self.uptime));
        let off = self.uncertainty.saturating_add(other.uncertainty).saturating_add(self.drift(other.uptime));
        apart > off.saturating_add(STEP_MICROS).unsigned_abs()
    }
}

/// Earliest and latest moment, in microseconds since 1970.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Bounds {
    from: Option<i64>,
    to: Option<i64>,
}

impl Bounds {
    /// Applies the rule in the module documentation. `set_later` is the clock at this moment by the last
    /// setting of the clock in the boot.
    fn judge(self, recorded: Timestamp, set_later: Option<Timestamp>) -> Known {
        match (self.from, self.to) {
            (Some(from), Some(to)) if from <= to => {
                let middle = from + (to - from) / 2;
                let at = if (from..=to).contains(&recorded.0) { recorded.0 } else { middle };
                let off = at.abs_diff(from).max(to.abs_diff(at));
                Known { at: Timestamp(at), uncertainty_ms: Some(off.div_ceil(1000)) }
            }
            // The uncertainty is unknown. An implausible clock is not used if any other time is known.
            (from, to) => {
                let fits = |at: &i64| from.is_none_or(|from| *at >= from) && to.is_none_or(|to| *at <= to);
                let known = Some(recorded).filter(|recorded| is_plausible(*recorded)).or(set_later);
                let known = known.map(|at| at.0).filter(fits).or(to).or(from);
                Known::unsure(known.map_or(recorded, Timestamp))
            }
        }
    }

    /// The width; none if one end is unknown.
    fn width(&self) -> Option<i64> {
        Some(self.to?.saturating_sub(self.from?))
    }
}

/// Whether an appliance with this program can have existed at that time.
pub(crate) fn is_plausible(at: Timestamp) -> bool {
    (PLAUSIBLE_FROM..PLAUSIBLE_UNTIL).contains(&at)
}

/// Microseconds since the boot, including sleep.
pub fn uptime() -> i64 {
    let now = clock_gettime(ClockId::Boottime);
    now.tv_sec.saturating_mul(1_000_000).saturating_add(now.tv_nsec / 1000)
}

/// The id of the present boot. If it cannot be read, a random id is used, so that it cannot match another
/// boot.
fn boot_id() -> BootId {
    static ID: OnceLock<BootId> = OnceLock::new();
    *ID.get_or_init(|| {
        let text = std::env::var(BOOT_ID_VARIABLE).or_else(|_| std::fs::read_to_string(BOOT_ID_PATH));
        let text = text.unwrap_or_default().replace('-', "");
        let mut id = fastrand::u128(..).to_le_bytes();
        // If the id cannot be read, the random one stays.
        let _ = hex::decode_to_slice(text.trim(), &mut id);
        id
    })
}

fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
