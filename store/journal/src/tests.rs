use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

use gatehouse_vault::keys::{KeyKind, RootKey};

use super::*;

type Seen = Arc<Mutex<Vec<Committed>>>;

struct Bench {
    folder: tempfile::TempDir,
    segment_bytes: u64,
}

impl Bench {
    fn new(segment_bytes: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("journal")).unwrap();
        Self { folder, segment_bytes }
    }

    fn keys(&self) -> Arc<KeyTable> {
        Arc::new(KeyTable::open(&self.folder.path().join("keys"), &RootKey::from_bytes([7; 32])).unwrap())
    }

    fn open(&self) -> (Journal, OpenReport, Seen) {
        let seen = Seen::default();
        let sink = Arc::clone(&seen);
        let options = JournalOptions {
            directory: self.folder.path().join("journal"),
            segment_bytes: self.segment_bytes,
            floor: Position::default(),
            space: Arc::default(),
        };
        let on_commit = Box::new(move |batch| locked(&sink).extend(batch));
        let (journal, report) = Journal::open(options, self.keys(), on_commit).unwrap();
        (journal, report, seen)
    }

    fn files(&self) -> Vec<std::path::PathBuf> {
        let folder = std::fs::read_dir(self.folder.path().join("journal")).unwrap();
        let mut files: Vec<_> = folder.map(|e| e.unwrap().path()).collect();
        files.sort();
        files
    }
}

fn entry(n: u64) -> Entry {
    Entry {
        payload: format!("the payload of record {n}, plain and readable").into_bytes(),
        is_event: !n.is_multiple_of(3),
    }
}

fn append(journal: &Journal, n: u64) -> Position {
    journal.append_blocking(entry(n)).unwrap().wait_blocking().unwrap()
}

fn append_all(journal: &Journal, numbers: std::ops::RangeInclusive<u64>) {
    for n in numbers {
        append(journal, n);
    }
}

fn drain(reader: &mut Reader) -> Vec<Committed> {
    std::iter::from_fn(|| reader.next().unwrap()).collect()
}

#[test]
fn numbers_have_no_hole_over_many_openings() {
    let bench = Bench::new(400);
    let mut n = 0;
    let mut seq = 0;
    for round in 0..20 {
        let (journal, report, seen) = bench.open();
        assert_eq!(report, OpenReport { head: Position { lsn: n, seq }, ..OpenReport::default() });
        for _ in 0..round % 4 {
            n += 1;
            seq += u64::from(entry(n).is_event);
            assert_eq!(append(&journal, n), Position { lsn: n, seq });
        }
        assert_eq!(journal.head(), Position { lsn: n, seq });
        journal.close();
        assert_eq!(locked(&seen).len(), round % 4);
    }
    let (journal, ..) = bench.open();
    let mut reader = journal.reader(0);
    let all = drain(&mut reader);
    assert!(reader.damaged().is_empty());
    assert_eq!(all.len() as u64, n);
    for (n, record) in (1..).zip(&all) {
        assert_eq!((record.position.lsn, &record.payload), (n, &entry(n).payload));
        assert_eq!(record.is_event, entry(n).is_event);
        assert_eq!(&journal.read_at(record.location).unwrap(), record);
    }
    assert_eq!(drain(&mut journal.reader(n - 3)), all[all.len() - 3..]);
}

#[test]
fn space_of_a_segment_is_reserved_and_the_rest_released_also_after_a_crash() {
    use std::os::unix::fs::MetadataExt;
    const BYTES: u64 = 1024 * 1024;
    let bench = Bench::new(BYTES);
    let taken = |file: &Path| file.metadata().unwrap().blocks() * 512;
    let (journal, ..) = bench.open();
    append(&journal, 1);
    let file = bench.files().remove(0);
    if taken(&file) < BYTES {
        eprintln!("this file system reserves no space: nothing to test here");
        return;
    }
    assert!(file.metadata().unwrap().len() < 1000, "what can be read is what was written");
    journal.close();
    assert!(taken(&file) < BYTES / 2, "{} bytes are kept", taken(&file));
    // As a killed process leaves it.
    gatehouse_vault::disk::Disk::open(&RealDisk, &file).unwrap().reserve(BYTES).unwrap();
    let (journal, report, _) = bench.open();
    assert_eq!((report.head.lsn, report.torn_bytes), (1, 0));
    assert!(taken(&file) < BYTES / 2, "{} bytes are kept", taken(&file));
    let large = || Entry { payload: vec![7; 200_000], is_event: true };
    for _ in 0..12 {
        journal.append_blocking(large()).unwrap().wait_blocking().unwrap();
    }
    let mut files = bench.files();
    files.pop();
    assert!(files.len() > 1);
    for file in files {
        let spare = taken(&file).saturating_sub(file.metadata().unwrap().len());
        assert!(spare < BYTES / 8, "{}: {spare} bytes are kept", file.display());
    }
}

#[test]
fn many_threads_share_their_syncs_and_each_gets_its_own_number() {
    let bench = Bench::new(SEGMENT_BYTES);
    let (journal, _, seen) = bench.open();
    let numbers: Vec<u64> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|t| {
                let journal = &journal;
                scope.spawn(move || {
                    let pending: Vec<_> =
                        (0..500).map(|n| journal.append_blocking(entry(t * 500 + n)).unwrap()).collect();
                    pending.into_iter().map(|p| p.wait_blocking().unwrap().lsn).collect::<Vec<_>>()
                })
            })
            .collect();
        threads.into_iter().flat_map(|t| t.join().unwrap()).collect()
    });
    assert_eq!(numbers.iter().copied().collect::<HashSet<_>>(), (1..=4000).collect());
    assert!(locked(&seen).iter().map(|c| c.position.lsn).eq(1..=4000));
    assert_eq!(drain(&mut journal.reader(0)), *locked(&seen));
}

#[tokio::test]
async fn tasks_wait_for_their_records_and_watch_receives_the_head() {
    let bench = Bench::new(2000);
    let (journal, ..) = bench.open();
    let journal = Arc::new(journal);
    let mut watch = journal.watch();
    let tasks: Vec<_> = (0..200)
        .map(|n| {
            let journal = Arc::clone(&journal);
            tokio::spawn(async move { journal.append(entry(n)).await.unwrap().await.unwrap() })
        })
        .collect();
    for task in tasks {
        let position = task.await.unwrap();
        assert!(journal.head() >= position);
    }
    watch.wait_for(|head| head.lsn == 200).await.unwrap();
    journal.ping().await.unwrap();
    journal.close();
    journal.close();
    assert!(matches!(journal.append(entry(0)).await, Err(JournalError::Closed)));
    assert!(matches!(journal.ping().await, Err(JournalError::Closed)));
}

#[test]
fn a_reader_follows_the_writer_live_through_segments() {
    let bench = Bench::new(3000);
    let (journal, ..) = bench.open();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let pending: Vec<_> = (1..=2000).map(|n| journal.append_blocking(entry(n)).unwrap()).collect();
            assert!(pending.into_iter().all(|p| p.wait_blocking().is_ok()));
        });
        let mut reader = journal.reader(0);
        let mut last = 0;
        while last < 2000 {
            match reader.next().unwrap() {
                Some(record) => {
                    last += 1;
                    assert_eq!((record.position.lsn, record.payload), (last, entry(last).payload));
                }
                None => std::thread::sleep(Duration::from_millis(1)),
            }
        }
        assert!(reader.damaged().is_empty());
        assert_eq!(reader.next().unwrap(), None);
    });
    assert!(bench.files().len() > 20);
}

#[test]
fn files_contain_no_plaintext() {
    let bench = Bench::new(SEGMENT_BYTES);
    let (journal, ..) = bench.open();
    append_all(&journal, 0..=99);
    journal.close();
    for path in bench.files() {
        let bytes = std::fs::read(path).unwrap();
        assert!(!bytes.windows(7).any(|w| w == b"payload" || w == b"readabl"));
    }
}

#[test]
fn a_number_meets_a_key_once_because_every_opening_that_writes_starts_a_new_segment() {
    let bench = Bench::new(SEGMENT_BYTES);
    for round in 1..=4 {
        let (journal, ..) = bench.open();
        assert_eq!(bench.files().len(), round - 1);
        append(&journal, 1);
        append(&journal, 2);
        journal.close();
        assert_eq!(bench.files().len(), round);
        assert_eq!(bench.keys().ids(KeyKind::Journal).len(), round);
    }
    let header = |path: &Path| std::fs::read(path).unwrap()[16..32].to_vec();
    let keys: HashSet<_> = bench.files().iter().map(|p| header(p)).collect();
    assert_eq!(keys.len(), 4);
}

#[test]
fn an_unfinished_first_batch_leaves_a_segment_that_the_next_one_replaces_with_a_new_key() {
    let bench = Bench::new(SEGMENT_BYTES);
    let (journal, ..) = bench.open();
    append(&journal, 1);
    journal.close();
    drop(journal);
    let (journal, ..) = bench.open();
    append(&journal, 2);
    journal.close();
    drop(journal);
    let path = bench.files().pop().unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let torn = bytes.len() - segment::HEADER_BYTES - 30;
    std::fs::write(&path, &bytes[..bytes.len() - 30]).unwrap();
    let (journal, report, _) = bench.open();
    assert_eq!((report.head.lsn, report.torn_bytes, report.damaged.len()), (1, torn as u64, 0));
    assert_eq!(append(&journal, 3).lsn, 2);
    journal.close();
    assert_ne!(std::fs::read(&path).unwrap()[16..32], bytes[16..32]);
    assert_eq!(bench.keys().ids(KeyKind::Journal).len(), 2);
    let payloads: Vec<_> = drain(&mut journal.reader(0)).into_iter().map(|r| r.payload).collect();
    assert_eq!(payloads, [entry(1).payload, entry(3).payload]);
}

#[test]
fn a_journal_may_begin_anywhere_and_goes_on_where_it_ended() {
    let bench = Bench::new(300);
    let (journal, ..) = bench.open();
    append_all(&journal, 1..=20);
    journal.close();
    drop(journal);
    let files = bench.files();
    for path in &files[..files.len() - 1] {
        std::fs::remove_file(path).unwrap();
    }
    let first = segment::first_of(files.last().unwrap()).unwrap();
    let (journal, report, _) = bench.open();
    assert_eq!(report.head.lsn, 20);
    let mut reader = journal.reader(0);
    assert!(drain(&mut reader).iter().map(|r| r.position.lsn).eq(first..=20));
    assert!(reader.damaged().is_empty());
    assert_eq!(append(&journal, 21), Position { lsn: 21, seq: 14 });
}

#[test]
fn a_segment_whose_key_is_destroyed_is_forgotten_and_the_rest_is_read() {
    let bench = Bench::new(300);
    let (journal, ..) = bench.open();
    append_all(&journal, 1..=20);
    let all = drain(&mut journal.reader(0));
    let middle = all[8].location.segment;
    let path = segment::path(&bench.folder.path().join("journal"), middle);
    let key = segment::Header::read(std::fs::read(path).unwrap()[..64].try_into().unwrap()).unwrap().key;
    journal.close();
    drop(journal);
    bench.keys().destroy(&key).unwrap();
    let (journal, ..) = bench.open();
    let mut reader = journal.reader(0);
    let rest = drain(&mut reader);
    let expected: Vec<_> = all.iter().filter(|r| r.location.segment != middle).cloned().collect();
    assert_eq!(rest, expected);
    let damage = reader.damaged();
    assert_eq!((damage.len(), damage[0].lost as usize), (1, all.len() - rest.len()));
    assert!(matches!(journal.read_at(all[8].location), Err(JournalError::Damaged { .. })));
}

#[test]
fn what_is_too_large_is_refused_and_the_largest_is_kept() {
    let bench = Bench::new(SEGMENT_BYTES);
    let (journal, ..) = bench.open();
    let large = |bytes| Entry { payload: vec![9; bytes], is_event: false };
    assert!(matches!(journal.append_blocking(large(RECORD_BYTES_MAX + 1)), Err(JournalError::TooLarge(_))));
    let pending: Vec<_> =
        (0..20).map(|_| journal.append_blocking(large(RECORD_BYTES_MAX)).unwrap()).collect();
    assert!(pending.into_iter().all(|p| p.wait_blocking().is_ok()));
    assert_eq!(append(&journal, 1).lsn, 21);
    let all = drain(&mut journal.reader(0));
    assert!(all[..20].iter().all(|r| r.payload == large(RECORD_BYTES_MAX).payload));
    assert_eq!(journal.read_at(all[3].location).unwrap().position.lsn, 4);
}

#[test]
fn a_place_that_is_no_record_is_said_to_be_damaged() {
    let bench = Bench::new(SEGMENT_BYTES);
    let (journal, ..) = bench.open();
    append(&journal, 1);
    for (segment, offset) in [(1, 0), (1, 65), (1, 5000), (1, u32::MAX), (2, 64)] {
        let error = journal.read_at(Location { segment, offset }).unwrap_err();
        assert!(matches!(error, JournalError::Damaged { .. }));
    }
}

#[test]
fn panic_in_on_commit_ends_all_waits() {
    let bench = Bench::new(SEGMENT_BYTES);
    let options = JournalOptions::new(bench.folder.path().join("journal"));
    let on_commit: OnCommit = Box::new(|_| panic!("for the test"));
    let (journal, _) = Journal::open(options, bench.keys(), on_commit).unwrap();
    let pending = journal.append_blocking(entry(1)).unwrap();
    assert!(matches!(pending.wait_blocking(), Err(JournalError::Poisoned)));
    assert!(matches!(journal.append_blocking(entry(1)), Err(JournalError::Poisoned)));
    journal.close();
}

mod overlap;
