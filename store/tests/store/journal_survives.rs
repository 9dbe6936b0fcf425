//! The journal on failing disks, after power cuts and with damaged files. Acknowledged records must be there,
//! numbers must have no gap and no duplicate, and nothing may panic.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use gatehouse_journal::{
    Committed, Entry, Journal, JournalError, JournalOptions, OpenReport, Pending, Position, Reader,
};
use gatehouse_vault::disk::Disk;
use gatehouse_vault::keys::{KeyError, KeyKind, KeyTable, RootKey};
use gatehouse_vault::space::Space;

use crate::twin::{EIO, ENOSPC, Twin};

const FRAME_OVERHEAD: usize = 28 + 16;
const MARK: usize = 28;

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("journal")).unwrap();
    folder
}

fn keys(disk: &dyn Disk, folder: &Path) -> Result<KeyTable, KeyError> {
    KeyTable::open_on(disk, &folder.join("keys"), &RootKey::from_bytes([7; 32]))
}

fn open_on(
    disk: impl Disk + Clone + 'static,
    folder: &Path,
    segment_bytes: u64,
) -> Result<(Journal, OpenReport), JournalError> {
    let keys = Arc::new(keys(&disk, folder)?);
    let mut options = JournalOptions::new(folder.join("journal"));
    options.segment_bytes = segment_bytes;
    options.space = Arc::new(Space::with_retry_interval(Duration::from_micros(200)));
    Journal::open_on(Arc::new(disk), options, keys, Box::new(|_| {}))
}

fn open(folder: &Path) -> (Journal, OpenReport) {
    // The twin does not really sync, which makes many opens fast.
    open_on(Twin::well(), folder, 2000).unwrap()
}

fn entry(payload: &str) -> Entry {
    Entry { payload: payload.as_bytes().to_vec(), is_event: payload.len().is_multiple_of(2) }
}

fn append(journal: &Journal, payload: &str) -> Result<Position, JournalError> {
    journal.append_blocking(entry(payload))?.wait_blocking()
}

fn drain(reader: &mut Reader) -> Vec<Committed> {
    std::iter::from_fn(|| reader.next().unwrap()).collect()
}

fn segments(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> =
        std::fs::read_dir(folder.join("journal")).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    files
}

/// All records of an undamaged journal; checks that the numbers are 1, 2, 3, ...
fn whole(journal: &Journal) -> Vec<Committed> {
    let mut reader = journal.reader(0);
    let all = drain(&mut reader);
    assert_eq!(reader.damaged(), []);
    let mut position = Position::default();
    for record in &all {
        position.lsn += 1;
        position.seq += u64::from(record.is_event);
        assert_eq!(record.position, position);
    }
    assert_eq!(journal.head(), position);
    all
}

#[test]
fn a_failing_disk_poisons_the_journal_and_nothing_of_its_batch_is_acknowledged() {
    for sticky in [false, true] {
        for act in 0.. {
            let folder = folder();
            let disk = Twin::failing(act, EIO, sticky);
            let Ok((journal, _)) = open_on(disk.clone(), folder.path(), 300) else { continue };
            let before = disk.has_failed();
            let answers: Vec<_> = (0..12).map(|n| append(&journal, &format!("record {n}"))).collect();
            journal.close();
            drop(journal);
            let good = answers.iter().take_while(|a| a.is_ok()).count();
            if !disk.has_failed() {
                assert_eq!(good, 12);
                break;
            }
            if let Some(first) = answers.get(good).filter(|_| !before) {
                assert!(matches!(first, Err(JournalError::Io(_) | JournalError::Key(_))), "{first:?}");
            }
            assert!(answers.iter().skip(good + 1).all(|a| matches!(a, Err(JournalError::Poisoned))));
            let (journal, report) = open(folder.path());
            assert_eq!(report.damaged, []);
            if !sticky && good < 12 {
                // The failed batch was cut off, although the kernel had it and could have shown it again.
                assert_eq!(report.torn_bytes, 0);
            }
            let all = whole(&journal);
            assert!(all.len() >= good);
            assert!(all.iter().zip(0..).all(|(r, n)| r.payload == format!("record {n}").as_bytes()));
            assert_eq!(append(&journal, "after").unwrap().lsn, all.len() as u64 + 1);
        }
    }
}

#[test]
fn full_disk_is_waited_for_at_every_step_and_nothing_is_lost_or_duplicated() {
    for act in 0.. {
        let folder = folder();
        let disk = Twin::failing(act, ENOSPC, true);
        // If even the key table cannot be created, the program does not start and acknowledges nothing.
        let Ok((journal, _)) = open_on(disk.clone(), folder.path(), 300) else { continue };
        let mut was_full = false;
        let numbers = std::thread::scope(|scope| {
            let writes = scope.spawn(|| -> Vec<_> {
                (0..12).map(|n| append(&journal, &format!("record {n}")).unwrap().lsn).collect()
            });
            while !writes.is_finished() {
                if disk.has_failed() {
                    was_full = true;
                    // After some retries there is space again.
                    std::thread::sleep(Duration::from_millis(1));
                    disk.revive();
                }
                std::thread::yield_now();
            }
            writes.join().unwrap()
        });
        assert_eq!(numbers, (1..=12).collect::<Vec<_>>());
        journal.close();
        let (journal, report) = open(folder.path());
        assert_eq!((report.damaged, report.torn_bytes), (vec![], 0));
        let all = whole(&journal);
        assert_eq!(all.len(), 12);
        assert!(all.iter().zip(0..).all(|(r, n)| r.payload == format!("record {n}").as_bytes()));
        if !was_full {
            break;
        }
    }
}

#[test]
fn what_was_acknowledged_survives_every_power_cut_and_numbers_never_change() {
    for seed in 0..150 {
        let random = &mut fastrand::Rng::with_seed(seed);
        let folder = folder();
        let mut known: Vec<Committed> = Vec::new();
        for _ in 0..4 {
            let disk = Twin::failing(random.i64(0..60), EIO, true);
            let mut acknowledged = Vec::new();
            // Wide batches are sealed while the one before them is written.
            let by = if seed % 3 == 0 { 40 } else { 1 };
            let segment_bytes = by * random.u64(200..4000);
            if let Ok((journal, report)) = open_on(disk.clone(), folder.path(), segment_bytes) {
                assert_eq!(report.damaged, [], "seed {seed}");
                known = whole(&journal);
                acknowledged = write_until_it_fails(&journal, random, by);
            }
            if random.bool() {
                // The process dies first, and the next one sees the state of the kernel. Then the power is
                // cut.
                disk.revive();
                let (journal, report) = open_on(disk.clone(), folder.path(), 2000).unwrap();
                assert_eq!(report.damaged, [], "seed {seed}");
                known = whole(&journal);
            }
            disk.cut_power(random);
            let (journal, report) = open(folder.path());
            assert_eq!(report.damaged, [], "seed {seed}");
            let all = whole(&journal);
            assert!(all.starts_with(&known), "seed {seed}: a record that a reader saw is missing");
            for (position, payload) in acknowledged {
                let record = all.get(position.lsn as usize - 1);
                assert!(
                    record.is_some_and(|r| r.position == position && r.payload == payload),
                    "seed {seed}"
                );
            }
            known = all;
        }
    }
}

/// Appends from one thread with several records in flight, `by` times as many. Returns what was acknowledged.
fn write_until_it_fails(journal: &Journal, random: &mut fastrand::Rng, by: u64) -> Vec<(Position, Vec<u8>)> {
    let mut acknowledged = Vec::new();
    for _ in 0..60 {
        let entries: Vec<Entry> =
            (0..by * random.u64(1..12)).map(|_| entry(&"x".repeat(random.usize(0..700)))).collect();
        let pending: Vec<(Pending, Vec<u8>)> = entries
            .into_iter()
            .filter_map(|e| Some((journal.append_blocking(e.clone()).ok()?, e.payload)))
            .collect();
        let answers = pending.into_iter().map(|(p, payload)| Some((p.wait_blocking().ok()?, payload)));
        let before = acknowledged.len();
        acknowledged.extend(answers.flatten());
        if acknowledged.len() == before {
            break;
        }
    }
    acknowledged
}

#[test]
fn a_tail_torn_at_any_byte_loses_only_the_record_that_was_not_acknowledged() {
    let folder = folder();
    let (journal, _) = open(folder.path());
    for n in 0..3 {
        append(&journal, &format!("record {n}")).unwrap();
    }
    journal.close();
    let path = segments(folder.path()).pop().unwrap();
    let good = std::fs::read(&path).unwrap();
    let end = good.iter().rposition(|b| *b != 0).unwrap() + 1;
    assert!(good.len() - end < 8);
    let frame = FRAME_OVERHEAD + "record 2".len();
    // Marks follow the records where the writer was idle. The last mark is at the end.
    let last = good.len() - MARK - frame;
    for cut in last..good.len() - MARK {
        for fill in [None, Some(0), Some(0xff)] {
            let mut torn = good[..cut].to_vec();
            if let Some(byte) = fill {
                torn.resize(good.len() - MARK, byte);
                // The bytes that were cut off may have had this value: then nothing is torn.
                if torn == good[..torn.len()] {
                    continue;
                }
            }
            std::fs::write(&path, &torn).unwrap();
            let (journal, report) = open(folder.path());
            assert_eq!((report.head.lsn, report.damaged.len()), (2, 0));
            assert_eq!(report.torn_bytes, (torn.len() - last) as u64);
            assert_eq!(whole(&journal).len(), 2);
        }
    }
    let (journal, _) = open(folder.path());
    append(&journal, "instead").unwrap();
    assert_eq!(whole(&journal)[2].payload, b"instead");
}

#[test]
fn a_flipped_bit_anywhere_loses_at_most_the_record_it_hits() {
    let folder = folder();
    for run in 0..2 {
        let (journal, _) = open_on(Twin::well(), folder.path(), 500).unwrap();
        let pending: Vec<_> =
            (0..9).map(|n| journal.append_blocking(entry(&format!("{run} record {n}"))).unwrap()).collect();
        assert!(pending.into_iter().all(|p| p.wait_blocking().is_ok()));
        journal.close();
    }
    let (journal, _) = open(folder.path());
    let all = whole(&journal);
    drop(journal);
    for path in segments(folder.path()) {
        let good = std::fs::read(&path).unwrap();
        for byte in 0..good.len() {
            let mut bad = good.clone();
            bad[byte] ^= 1 << fastrand::u8(..8);
            std::fs::write(&path, &bad).unwrap();
            let (journal, report) = open(folder.path());
            let mut reader = journal.reader(0);
            let read = drain(&mut reader);
            let damage = reader.damaged();
            let lost: u64 = damage.iter().map(|d| d.lost).sum();
            assert!(lost <= 1 && read.len() as u64 + lost == all.len() as u64, "byte {byte} of {path:?}");
            assert!(read.iter().all(|record| all.contains(record)));
            // The numbers stay used: later records get the next ones.
            assert_eq!(report.head, all[all.len() - 1].position);
            assert!(report.damaged.iter().map(|d| d.lost).sum::<u64>() <= lost);
        }
        std::fs::write(&path, &good).unwrap();
    }
    assert_eq!(whole(&open(folder.path()).0), all);
}

#[test]
fn a_reader_goes_on_behind_garbage_of_any_length_and_says_how_much_was_lost() {
    let folder = folder();
    let (journal, _) = open_on(Twin::well(), folder.path(), 1 << 20).unwrap();
    for n in 0..300 {
        append(&journal, &format!("record {n:0500}")).unwrap();
    }
    let all = whole(&journal);
    journal.close();
    let path = segments(folder.path()).pop().unwrap();
    let good = std::fs::read(&path).unwrap();
    for seed in 0..40 {
        let random = &mut fastrand::Rng::with_seed(seed);
        let from = random.usize(..good.len());
        let to = random.usize(from..(from + 20_000).min(good.len()));
        let mut bad = good.clone();
        bad[from..to].fill_with(|| random.u8(..));
        std::fs::write(&path, &bad).unwrap();
        let (journal, report) = open(folder.path());
        let mut reader = journal.reader(0);
        let read = drain(&mut reader);
        let lost: u64 = reader.damaged().iter().map(|d| d.lost).sum();
        assert_eq!(read.len() as u64 + lost, report.head.lsn, "seed {seed}");
        let hit = |r: &Committed| {
            let start = r.location.offset as usize;
            start < to && from < start + FRAME_OVERHEAD + r.payload.len()
        };
        assert!(
            all.iter().all(|r| hit(r) != read.contains(r) || r.position.lsn > report.head.lsn),
            "seed {seed}"
        );
    }
}

#[test]
fn unreadable_sector_loses_only_its_own_records() {
    let folder = folder();
    let (journal, _) = open_on(Twin::well(), folder.path(), 1 << 20).unwrap();
    for n in 0..100 {
        append(&journal, &format!("record {n:0500}")).unwrap();
    }
    journal.close();
    let path = segments(folder.path()).pop().unwrap();
    for sector in [0, 3, 7] {
        let disk = Twin::well();
        disk.make_unreadable(&path, sector);
        let (journal, report) = open_on(disk, folder.path(), 1 << 20).unwrap();
        assert_eq!(report.head.lsn, 100);
        let mut reader = journal.reader(0);
        let read = drain(&mut reader).len() as u64;
        let lost: u64 = reader.damaged().iter().map(|d| d.lost).sum();
        assert_eq!(read + lost, 100);
        assert!((7..=9).contains(&lost), "{lost}");
    }
}

#[test]
fn a_beginning_that_is_forgotten_on_a_failing_disk_is_damage_at_no_step() {
    for act in 0.. {
        let folder = folder();
        let (journal, _) = open_on(Twin::well(), folder.path(), 300).unwrap();
        for n in 0..40 {
            append(&journal, &format!("record {n}")).unwrap();
        }
        journal.close();
        drop(journal);
        let stays: u64 = segments(folder.path())[5].file_stem().unwrap().to_str().unwrap().parse().unwrap();
        let disk = Twin::failing(act, EIO, true);
        let Ok((journal, _)) = open_on(disk.clone(), folder.path(), 300) else { continue };
        assert!(journal.forget_before(stays).is_ok() || disk.has_failed());
        drop(journal);
        // The second open is complete, whatever the first one left.
        for round in 0..2 {
            let (journal, report) = open(folder.path());
            assert_eq!((report.head.lsn, report.damaged.len()), (40, 0));
            let mut reader = journal.reader(0);
            let lsns: Vec<u64> = drain(&mut reader).iter().map(|record| record.position.lsn).collect();
            assert_eq!(reader.damaged(), [], "act {act}");
            assert_eq!(lsns, (lsns[0]..=40).collect::<Vec<_>>());
            assert!(lsns[0] <= stays && (round == 0 || lsns[0] == stays));
            let keys = keys(&Twin::well(), folder.path()).unwrap().ids(KeyKind::Journal).len();
            assert_eq!(keys, segments(folder.path()).len(), "no key is left, none is missing");
            journal.forget_before(stays).unwrap();
        }
        if !disk.has_failed() {
            break;
        }
    }
}

#[test]
fn a_key_table_on_a_failing_disk_keeps_every_acknowledged_key_and_forgets_every_destroyed_one() {
    for seed in 0..150 {
        let random = &mut fastrand::Rng::with_seed(seed);
        let folder = folder();
        let (mut live, mut dead) = (Vec::new(), Vec::new());
        for _ in 0..3 {
            let sticky = random.bool();
            let disk = Twin::failing(random.i64(0..120), if sticky { EIO } else { ENOSPC }, sticky);
            if let Ok(table) = keys(&disk, folder.path()) {
                for _ in 0..40 {
                    if random.u8(..4) > 0 || live.is_empty() {
                        live.extend(table.create(KeyKind::Media));
                    } else {
                        let id = live.swap_remove(random.usize(..live.len()));
                        if table.destroy(&id).is_ok() {
                            dead.push(id);
                        }
                    }
                }
            }
            disk.cut_power(random);
            let table = keys(&Twin::well(), folder.path()).unwrap();
            assert_eq!(table.damaged(), [], "seed {seed}");
            assert!(live.iter().all(|id| table.key(id).is_ok()), "seed {seed}");
            assert!(dead.iter().all(|id| table.key(id).is_err()), "seed {seed}");
        }
    }
}
