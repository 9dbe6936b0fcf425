//! Crash states: a disk that records unsynced writes fails at a random operation and loses a random part of them.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use fastrand::Rng;
use gatehouse_journal::{Committed, Entry, Journal, JournalError, JournalOptions, Position};
use gatehouse_testkit::folder::Folder;
use gatehouse_vault::disk::Disk;
use gatehouse_vault::keys::{KeyTable, RootKey};
use gatehouse_vault::space::Space;

use super::Outcome;
use super::twin::{EIO, ENOSPC, Twin};

/// Acts after which the disk dies at the latest.
const ACTS: i64 = 60;
/// Lives of a journal, each ended by a crash.
const LIVES: u64 = 4;
/// Records under way at once at most.
const FLYING: usize = 12;
/// So many times as many in every third life, which makes batches wide enough to overlap.
const WIDE: usize = 40;
/// Bytes of a record at most.
const BYTES: usize = 700;
/// Write attempts after which a run ends by itself.
const WRITES: usize = 60;
/// How long a full disk stays full.
const FULL_PERIOD: Duration = Duration::from_millis(1);

/// Power cuts at random acts, with a random subset of the unsynced sectors.
///
/// # Errors
/// If the folder for it cannot be made.
pub fn cuts(rounds: u64, seed: u64) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let mut random = Rng::with_seed(seed);
    while outcome.rounds < rounds {
        let folder = folder()?;
        let mut known: Vec<Committed> = Vec::new();
        for _ in 0..LIVES {
            let disk = Twin::failing(random.i64(0..ACTS), EIO, true);
            let mut acknowledged = Vec::new();
            // Where not even the key table could be made, nothing was promised.
            let by = if random.u8(..3) == 0 { WIDE } else { 1 };
            if let Ok(journal) = open(disk.clone(), folder.path(), by as u64 * random.u64(200..4000)) {
                acknowledged = write(&journal, &mut random, by);
            }
            disk.cut_power(&mut random);
            outcome.rounds += 1;
            outcome.acknowledged += acknowledged.len() as u64;
            let Ok(journal) = open(Twin::well(), folder.path(), 2000) else {
                outcome.refused += 1;
                break;
            };
            let all = read(&journal)?;
            let is_there = |(position, payload): &&(Position, Vec<u8>)| {
                let at = usize::try_from(position.lsn).unwrap_or(usize::MAX).saturating_sub(1);
                all.get(at).is_some_and(|r| r.position == *position && r.payload == *payload)
            };
            outcome.lost += acknowledged.iter().filter(|one| !is_there(one)).count() as u64;
            outcome.lost += known.iter().zip(&all).filter(|(known, now)| known != now).count() as u64;
            outcome.lost += known.len().saturating_sub(all.len()) as u64;
            outcome.doubles += (1..).zip(&all).filter(|(lsn, r)| r.position.lsn != *lsn).count() as u64;
            known = all;
        }
    }
    Ok(outcome)
}

/// A disk that is full from each act on, for a moment: one round per act of a short life.
///
/// # Errors
/// If the folder for it cannot be made.
pub fn full() -> Result<Outcome> {
    let mut outcome = Outcome::default();
    for act in 0.. {
        let folder = folder()?;
        let disk = Twin::failing(act, ENOSPC, true);
        let Ok(journal) = open(disk.clone(), folder.path(), 300) else { continue };
        let mut was_full = false;
        let done = std::thread::scope(|scope| {
            let writes = scope.spawn(|| (0..FLYING).filter_map(|n| append(&journal, vec![b'x'; n])).count());
            while !writes.is_finished() {
                if disk.has_failed() {
                    was_full = true;
                    std::thread::sleep(FULL_PERIOD);
                    disk.revive();
                }
                std::thread::yield_now();
            }
            writes.join().ok()
        });
        journal.close();
        drop(journal);
        outcome.rounds += 1;
        outcome.panics += u64::from(done.is_none());
        let done = done.unwrap_or(0);
        outcome.acknowledged += done as u64;
        match open(Twin::well(), folder.path(), 300) {
            Ok(journal) => {
                let all = read(&journal)?;
                outcome.lost += done.saturating_sub(all.len()) as u64;
                outcome.doubles += all.len().saturating_sub(FLYING) as u64;
            }
            Err(_) => outcome.refused += 1,
        }
        if !was_full {
            break;
        }
    }
    Ok(outcome)
}

fn folder() -> Result<Folder> {
    let folder = Folder::new("states")?;
    std::fs::create_dir(folder.path().join("journal"))?;
    Ok(folder)
}

fn open(
    disk: impl Disk + Clone + 'static,
    folder: &Path,
    segment_bytes: u64,
) -> Result<Journal, JournalError> {
    let keys = KeyTable::open_on(&disk, &folder.join("keys"), &RootKey::from_bytes([7; 32]))?;
    let mut options = JournalOptions::new(folder.join("journal"));
    options.segment_bytes = segment_bytes;
    options.space = Arc::new(Space::with_retry_interval(Duration::from_micros(200)));
    Ok(Journal::open_on(Arc::new(disk), options, Arc::new(keys), Box::new(|_| {}))?.0)
}

fn append(journal: &Journal, payload: Vec<u8>) -> Option<Position> {
    journal.append_blocking(Entry { payload, is_event: true }).ok()?.wait_blocking().ok()
}

/// Writes with several records under way, `by` times as many, until the disk dies; what was acknowledged.
fn write(journal: &Journal, random: &mut Rng, by: usize) -> Vec<(Position, Vec<u8>)> {
    let mut acknowledged = Vec::new();
    for _ in 0..WRITES {
        let payloads = (0..by * random.usize(1..FLYING)).map(|_| vec![random.u8(..); random.usize(0..BYTES)]);
        let payloads: Vec<Vec<u8>> = payloads.collect();
        let flying: Vec<_> = payloads
            .into_iter()
            .filter_map(|payload| {
                let entry = Entry { payload: payload.clone(), is_event: payload.len().is_multiple_of(2) };
                Some((journal.append_blocking(entry).ok()?, payload))
            })
            .collect();
        let before = acknowledged.len();
        let answers = flying.into_iter();
        acknowledged.extend(answers.filter_map(|(one, payload)| Some((one.wait_blocking().ok()?, payload))));
        if acknowledged.len() == before {
            break;
        }
    }
    acknowledged
}

fn read(journal: &Journal) -> Result<Vec<Committed>> {
    let mut reader = journal.reader(0);
    let mut all = Vec::new();
    while let Some(record) = reader.next().context("an undamaged journal must be readable")? {
        all.push(record);
    }
    Ok(all)
}
