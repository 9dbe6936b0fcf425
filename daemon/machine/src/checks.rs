//! Checks of the machine that both programs make: the daemon for `gatehouse doctor`, and the command itself where the
//! daemon does not run.

use std::path::Path;

use chrono::{DateTime, Utc};
use gatehouse_control::answers::Finding;

/// No appliance of this version can run before this instant (2026-01-01); an earlier clock was never set.
const CLOCK_FLOOR_SECONDS: i64 = 1_767_225_600;
/// Nor after this one (2100-01-01): a clock chip that lost its battery may show any time.
const CLOCK_CEILING_SECONDS: i64 = 4_102_444_800;

/// Bytes that an ordinary user can still write to the disk of `path`; none where the system does not say.
pub fn free_bytes(path: &Path) -> Option<u64> {
    rustix::fs::statvfs(path).ok().map(|disk| disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// Whether the disk has enough free space.
pub fn free_space(free: Option<u64>, reserve: u64) -> Finding {
    let Some(free) = free else {
        return Finding::note("free space", "the system does not report it", "look with df");
    };
    let words = format!("{} MB free, {} MB are kept in reserve", free / 1_000_000, reserve / 1_000_000);
    match free {
        _ if free < reserve => Finding::wrong("free space", words, "free space, or lower media.quota_bytes"),
        _ if free / 2 < reserve => {
            Finding::note("free space", words, "soon pictures will be given up for space")
        }
        _ => Finding::ok("free space", words),
    }
}

/// Whether the wall clock of the machine can be right at all.
pub fn clock(now: DateTime<Utc>) -> Finding {
    let words = now.format("%Y-%m-%d %H:%M:%S UTC").to_string();
    match (CLOCK_FLOOR_SECONDS..CLOCK_CEILING_SECONDS).contains(&now.timestamp()) {
        true => Finding::ok("clock", words),
        false => Finding::wrong(
            "clock",
            format!("it says {words}"),
            "set it, or let it be set: timedatectl set-ntp true",
        ),
    }
}

#[cfg(test)]
mod tests {
    use gatehouse_control::answers::Grade;

    use super::*;

    #[test]
    fn a_clock_that_was_never_set_is_found() {
        assert_eq!(clock(DateTime::UNIX_EPOCH).grade, Grade::Wrong);
        assert_eq!(clock(DateTime::from_timestamp(1_800_000_000, 0).unwrap()).grade, Grade::Ok);
    }

    #[test]
    fn less_space_than_the_reserve_is_wrong_and_little_more_is_a_note() {
        assert_eq!(free_space(Some(99), 100).grade, Grade::Wrong);
        assert_eq!(free_space(Some(150), 100).grade, Grade::Note);
        assert_eq!(free_space(Some(1000), 100).grade, Grade::Ok);
    }
}
