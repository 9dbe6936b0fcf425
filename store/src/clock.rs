//! What time it really was, on boards whose clock starts anywhere and jumps.
//!
//! A record's own time is what the wall clock said. Beside it the journal says how wall clock and uptime stand to
//! each other, whenever that changes ([`Reading`]), so that the uptime of every record is known without a byte in
//! it; and, once somebody knows it, which uptime was which true time ([`Truth`]). The fold of both ([`table`])
//! tells when a record really came, and how far that may be off. Order is never by time: it is by number.
//!
//! One rule: what is known gives an earliest and a latest moment, and a clock that lies between them was right.
//! Bounds come from a truth of the same boot, or, where it never learnt one, from the boots before and after it.

mod table;

use std::sync::OnceLock;
use std::time::Duration;

use gatehouse_model::Timestamp;
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

pub(crate) use table::{BOOTS_MAX, Boot, Clocks, Moment};

/// A change of wall clock against uptime from which on the clock has stepped. Two readings in a row may be so far
/// apart on a busy board; what is below it is in every uncertainty.
const STEP_MICROS: i64 = 100_000;
/// How wrong an uptime may go, in millionths: crystals of such boards go wrong by up to 100, a hot one by some more.
const DRIFT_PPM: i64 = 200;
/// 2024-01-01: no appliance is older, and a clock that says so was never set.
pub(crate) const PLAUSIBLE_FROM: Timestamp = Timestamp(1_704_067_200_000_000);
/// 2100-01-01: a clock chip that lost its battery may show anything.
const PLAUSIBLE_UNTIL: Timestamp = Timestamp(4_102_444_800_000_000);
/// How long ago a time server may have set the clock that is still called right: a daemon asks every 34 minutes at
/// most.
const SYNCHRONISED_MICROS: i64 = 2 * 2048 * 1_000_000;
/// How far a clock may be off that a time server has just set, in microseconds: half the way there and back on a
/// thin line.
const SYNCHRONISED_WITHIN_MICROS: i64 = 500_000;
/// Where systemd tells the boots of a machine apart: a unit that is confined does not see what the kernel says.
const BOOT_ID_OF_SYSTEMD: &str = "BOOT_ID";
/// Where the kernel does.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Names one run of the kernel.
pub type BootId = [u8; 16];

/// Wall clock and uptime at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reading {
    /// The boot of which the uptime is.
    pub boot: BootId,
    /// Microseconds since the boot, sleep included; nobody can set it.
    pub uptime: i64,
    /// What the wall clock says, right or wrong.
    pub wall: Timestamp,
}

/// Who knows what time it is. A later one is believed against an earlier one. S3 is none of them: it refuses what
/// is signed by a clock that is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClockSource {
    /// The central Postgres.
    Rows,
    /// The system: a time server keeps its clock right.
    System,
}

/// Which true time an uptime was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Truth {
    /// The boot of which the uptime is.
    pub boot: BootId,
    /// Microseconds since the boot.
    pub uptime: i64,
    /// The true time then.
    pub time: Timestamp,
    /// How far it may be off, in microseconds.
    pub uncertainty: i64,
    /// Who said so.
    pub source: ClockSource,
}

/// When something was, as far as it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// The best that is known.
    pub at: Timestamp,
    /// How far it may be off, in milliseconds; none where nobody knows.
    pub uncertainty_ms: Option<u64>,
}

impl Known {
    /// What a clock says of which nothing is known.
    pub fn unsure(at: Timestamp) -> Self {
        Self { at, uncertainty_ms: None }
    }
}

impl Reading {
    /// Both clocks now.
    pub fn now() -> Self {
        let before = uptime();
        let wall = Timestamp::now();
        Self { boot: boot_id(), uptime: before + (uptime() - before) / 2, wall }
    }

    /// The reading of what came so long ago and was told `wall` then.
    #[must_use]
    pub fn earlier(self, ago: Duration, wall: Timestamp) -> Self {
        Self { uptime: self.uptime.saturating_sub(micros(ago)), wall, ..self }
    }

    /// What the wall clock said at the beginning of the boot, as it is set now.
    fn offset(&self) -> i64 {
        self.wall.0.saturating_sub(self.uptime)
    }

    /// Whether the wall clock has not been set between the two.
    pub(crate) fn agrees(&self, other: &Self) -> bool {
        self.boot == other.boot && self.offset().abs_diff(other.offset()) <= STEP_MICROS.unsigned_abs()
    }
}

impl Truth {
    /// What was asked between two uptimes of this boot; none where it cannot be the time.
    pub fn asked(source: ClockSource, time: Timestamp, from: i64, to: i64) -> Option<Self> {
        let uncertainty = (to.saturating_sub(from) / 2).max(0);
        let uptime = from.saturating_add(uncertainty);
        is_plausible(time).then(|| Self { boot: boot_id(), uptime, time, uncertainty, source })
    }

    /// The wall clock, where a time server set it at `set`, by itself, and not too long ago.
    pub(crate) fn of_system(reading: &Reading, set: Timestamp) -> Option<Self> {
        let age = reading.wall.0.saturating_sub(set.0);
        let truth = Self {
            boot: reading.boot,
            uptime: reading.uptime,
            time: reading.wall,
            uncertainty: SYNCHRONISED_WITHIN_MICROS + age / 1_000_000 * DRIFT_PPM,
            source: ClockSource::System,
        };
        ((0..=SYNCHRONISED_MICROS).contains(&age) && is_plausible(reading.wall)).then_some(truth)
    }

    /// Earliest and latest true time at an uptime of its boot.
    fn bounds(&self, uptime: i64) -> Bounds {
        let at = self.time.0.saturating_add(uptime.saturating_sub(self.uptime));
        let off = self.uncertainty.saturating_add(self.drift(uptime)).saturating_add(STEP_MICROS);
        Bounds { from: Some(at.saturating_sub(off)), to: Some(at.saturating_add(off)) }
    }

    /// How far the crystal may have gone wrong until an uptime.
    fn drift(&self, uptime: i64) -> i64 {
        let distance = i64::try_from(self.uptime.abs_diff(uptime)).unwrap_or(i64::MAX);
        (distance / 1_000_000).saturating_mul(DRIFT_PPM)
    }

    /// Whether both cannot be true.
    fn contradicts(&self, other: &Self) -> bool {
        let told = other.time.0.saturating_sub(other.uptime);
        let apart = told.abs_diff(self.time.0.saturating_sub(self.uptime));
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
    /// The rule of the head of this file. `set_later` is what the clock would have said as it was set later in the
    /// boot.
    fn judge(self, told: Timestamp, set_later: Option<Timestamp>) -> Known {
        match (self.from, self.to) {
            (Some(from), Some(to)) if from <= to => {
                let middle = from + (to - from) / 2;
                let at = if (from..=to).contains(&told.0) { told.0 } else { middle };
                let off = at.abs_diff(from).max(to.abs_diff(at));
                Known { at: Timestamp(at), uncertainty_ms: Some(off.div_ceil(1000)) }
            }
            // Nobody can say how far it is off; a clock that cannot be right is not repeated where anything else is
            // known.
            (from, to) => {
                let fits = |at: &i64| from.is_none_or(|from| *at >= from) && to.is_none_or(|to| *at <= to);
                let known = Some(told).filter(|told| is_plausible(*told)).or(set_later);
                let known = known.map(|at| at.0).filter(fits).or(to).or(from);
                Known::unsure(known.map_or(told, Timestamp))
            }
        }
    }

    /// How wide it is; none where an end is not known.
    fn width(&self) -> Option<i64> {
        Some(self.to?.saturating_sub(self.from?))
    }
}

/// Whether an appliance of this program can have lived then.
pub(crate) fn is_plausible(at: Timestamp) -> bool {
    (PLAUSIBLE_FROM..PLAUSIBLE_UNTIL).contains(&at)
}

/// Microseconds since the boot, sleep included.
pub fn uptime() -> i64 {
    let now = clock_gettime(ClockId::Boottime);
    now.tv_sec.saturating_mul(1_000_000).saturating_add(now.tv_nsec / 1000)
}

/// The boot of this run; one of its own where the kernel does not name it, so that nothing is said of another run.
fn boot_id() -> BootId {
    static ID: OnceLock<BootId> = OnceLock::new();
    *ID.get_or_init(|| {
        let told = std::env::var(BOOT_ID_OF_SYSTEMD).or_else(|_| std::fs::read_to_string(BOOT_ID));
        let told = told.unwrap_or_default().replace('-', "");
        let mut id = fastrand::u128(..).to_le_bytes();
        // What cannot be read leaves the id of this run.
        let _ = hex::decode_to_slice(told.trim(), &mut id);
        id
    })
}

fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
