//! Faults of the central services and of the connection to them. In the end all rows must be there once and all objects
//! byte for byte, and meanwhile the status must name the fault.
//!
//! One daemon goes through all of it. Each fault lasts until `gatehouse sync status` names it; then it ends, and what
//! waited must arrive.

use std::time::Duration;

use anyhow::{Context, Result};
use gatehouse_testkit::proxy::Faults;
use gatehouse_testkit::s3::Manner;
use gatehouse_testkit::wait;

use super::Outcome;
use database::Trouble;
use names::Names;
use site::{Load, Site};
use wrong::Wrong;

mod database;
mod names;
pub(super) mod site;
mod wrong;

/// Until what is wrong is said, and until it is over.
const TIMEOUT: Duration = Duration::from_secs(180);
/// Enough events that a page of the database is full.
const EVENTS: usize = 40;
/// 64 kbit/s.
const SLOW_LINE: u64 = 8_000;
/// Within the first part of a clip.
const MID_PART: u64 = 3 * 1024 * 1024;

/// A fault, and what is said of it.
struct Fault {
    name: &'static str,
    wrong: Wrong,
    load: Load,
    /// Of which sink, and a word that it must say. None where nothing is wrong, only slow.
    says: &'static [(&'static str, &'static str)],
    /// Takes minutes: not for every change.
    slow: bool,
}

const fn fault(
    name: &'static str,
    wrong: Wrong,
    load: Load,
    says: &'static [(&'static str, &'static str)],
) -> Fault {
    Fault { name, wrong, load, says, slow: false }
}

/// All of them, in this order: after the last one the first database server is gone.
const FAULTS: &[Fault] = &[
    fault("S3: 500", refuses(500, "InternalError"), Load::Picture, &[("objects", "cannot serve")]),
    fault("S3: 503", refuses(503, "ServiceUnavailable"), Load::Picture, &[("objects", "cannot serve")]),
    fault("S3: SlowDown", refuses(503, "SlowDown"), Load::Picture, &[("objects", "too much")]),
    fault("S3: keys expired", refuses(400, "ExpiredToken"), Load::Picture, &[("objects", "expired")]),
    fault("S3: disk full", refuses(507, "XMinioStorageFull"), Load::Picture, &[("objects", "full")]),
    fault("S3: quota", refuses(403, "QuotaExceeded"), Load::Picture, &[("objects", "quota")]),
    fault("S3: other ETag", Wrong::Server(Manner::OtherEtag), Load::Clip, &[]),
    fault(
        "S3: 200, then an error",
        Wrong::Server(Manner::FailsLate),
        Load::Clip,
        &[("objects", "put them together")],
    ),
    fault("S3: 200, and nothing", Wrong::Server(Manner::Forgets), Load::Picture, &[("objects", "not there")]),
    fault("S3: reset in a part", Wrong::ObjectsLine(mid_part), Load::Clip, &[("objects", "connection")]),
    fault("S3: captive portal", Wrong::ObjectsLine(portal), Load::Picture, &[("objects", "captive portal")]),
    fault(
        "database: captive portal",
        Wrong::RowsLine(portal),
        Load::Event,
        &[("database", "captive portal")],
    ),
    fault("database: crashed", Wrong::Database(Trouble::Stopped), Load::Event, &[("database", "connection")]),
    fault(
        "database: read-only",
        Wrong::Database(Trouble::ReadOnly),
        Load::Event,
        &[("database", "read-only")],
    ),
    fault("database: deadlock", Wrong::Database(Trouble::Deadlock), Load::Event, &[("database", "deadlock")]),
    fault(
        "database: serialization failure",
        Wrong::Database(Trouble::Serialization),
        Load::Event,
        &[("database", "at the same time")],
    ),
    fault("database: disk full", Wrong::Database(Trouble::DiskFull), Load::Event, &[("database", "full")]),
    fault(
        "database: password expired",
        Wrong::Database(Trouble::Expired),
        Load::Event,
        &[("database", "password")],
    ),
    fault(
        "DNS gone",
        Wrong::Names(Names::NoDns),
        Load::Picture,
        &[("database", "name"), ("objects", "name")],
    ),
    fault(
        "certificates expired",
        Wrong::Names(Names::Expired),
        Load::Picture,
        &[("database", "certificate"), ("objects", "certificate")],
    ),
    fault("64 kbit/s", Wrong::Lines(slow_line), Load::Picture, &[]),
    Fault { slow: true, ..fault("2 s late", Wrong::Lines(late), Load::Picture, &[]) },
    Fault {
        slow: true,
        ..fault(
            "stalled",
            Wrong::Lines(stall),
            Load::Picture,
            &[("database", "no answer"), ("objects", "no answer")],
        )
    },
    fault(
        "database: failover",
        Wrong::Database(Trouble::Failover),
        Load::Event,
        &[("database", "read-only")],
    ),
];

const fn refuses(status: u16, code: &'static str) -> Wrong {
    Wrong::Server(Manner::Refuses(status, code))
}

fn mid_part() -> Faults {
    Faults { cut_after: Some(MID_PART), ..Faults::default() }
}

fn portal() -> Faults {
    Faults { portal: true, ..Faults::default() }
}

fn slow_line() -> Faults {
    Faults { rate: Some(SLOW_LINE), ..Faults::default() }
}

fn late() -> Faults {
    Faults { latency: Duration::from_secs(2), ..Faults::default() }
}

fn stall() -> Faults {
    Faults { stall: true, ..Faults::default() }
}

/// Goes through all faults so often, each with its line; the slow ones where that is asked for.
///
/// # Errors
/// If a service or the daemon does not work at all.
pub async fn run(rounds: u64, slow: bool, seed: u64) -> Result<Vec<(&'static str, Outcome, f64)>> {
    let mut lines: Vec<_> = FAULTS.iter().map(|fault| (fault.name, Outcome::default(), 0.0)).collect();
    for round in 0..rounds {
        let mut site = Site::build(seed.wrapping_add(round)).await?;
        site.send_all(Load::Picture, 1).await?;
        for (fault, (name, outcome, seconds)) in FAULTS.iter().zip(&mut lines) {
            if fault.slow && !slow {
                continue;
            }
            let begin = std::time::Instant::now();
            happens(fault, &mut site, outcome)
                .await
                .with_context(|| format!("{name}:\n{}", site.setup.daemon.log_tail()))?;
            *seconds += begin.elapsed().as_secs_f64();
        }
        let log = std::fs::read_to_string(site.setup.daemon.log_file())?;
        lines[0].1.panics += log.matches("panicked at").count() as u64;
    }
    lines.retain(|(_, outcome, _)| outcome.rounds > 0 || !outcome.notes.is_empty());
    Ok(lines)
}

async fn happens(fault: &Fault, site: &mut Site, outcome: &mut Outcome) -> Result<()> {
    let Some(held) = fault.wrong.begin(site).await? else {
        outcome.notes.push("left out: it takes root".to_owned());
        return Ok(());
    };
    outcome.rounds += 1;
    let times = if fault.load == Load::Event { EVENTS } else { 1 };
    site.send_all(fault.load, times).await?;
    for (sink, word) in fault.says {
        let said = || async { site.says(sink).to_lowercase().contains(word) };
        if wait::until_async(word, TIMEOUT, said).await.is_err() {
            outcome.unsaid(&format!("`{word}` was not said, but: {}", site.says(sink)));
        }
    }
    if fault.says.is_empty() {
        // It must get through while it lasts.
        site.count(outcome).await?;
    }
    fault.wrong.end(site, held).await?;
    site.count(outcome).await
}
